"""The Tasks extension: the watch of a run as a task, its cancellation, and a restart of the server."""

from __future__ import annotations

import json
from typing import Any, Literal

import anyio
import pytest
from experiment import WRITE, make_repo
from mcp.client import advertise
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_client import in_memory, session_in
from mcp_types import CallToolResult, Request, RequestParams, Result

EXTENSION = "io.modelcontextprotocol/tasks"
pytestmark = [pytest.mark.usefixtures("clusters_file"), pytest.mark.parametrize("site", ["local"], indirect=True)]


class Created(Result):
    result_type: Literal["task"]
    task_id: str
    status: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int


class State(Result):
    task_id: str
    status: str
    status_message: str = ""
    result: dict[str, Any] | None = None


class Ack(Result):
    pass


class Params(RequestParams):
    task_id: str
    input_responses: dict[str, Any] = {}


async def ask(session, method, task_id, kind):
    request = Request[Params, str](method=method, params=Params(task_id=task_id))
    return await session.send_request(request, kind)


class Tasks(ClientExtension):
    """A client that polls a task to its end, and keeps what it saw."""

    identifier = EXTENSION

    def __init__(self, polls: bool = True):
        self.seen: list[Any] = []
        self.polls = polls

    def claims(self):
        return [ResultClaim(result_type="task", model=Created, resolve=self.resolve)]

    async def resolve(self, created, context):
        self.seen.append(created)
        while self.polls:
            state = await ask(context.session, "tasks/get", created.task_id, State)
            self.seen.append(state)
            if state.status != "working":
                break
            await anyio.sleep(0.2)
        if not self.polls or state.result is None:
            empty = {"summary": "not waited for", "next": {}}
            text = {"type": "text", "text": json.dumps(empty)}
            return CallToolResult(content=[text], structured_content=empty)
        return CallToolResult.model_validate(state.result)


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "repo", [{"x": 1}])


def request(tmp_path):
    wait = f"for i in $(seq 600); do [ -e {tmp_path}/go ] && break; sleep 0.1; done; "
    return {"cluster": "testbed", "executor": wait + WRITE, "resources": {"mem_mb": 50}}


def test_a_watch_is_a_task_whose_id_is_the_run(repo, world_home, tmp_path):
    session, client = session_in(repo, world_home.env, allow_submit=True), Tasks()

    async def run(agent):
        assert EXTENSION in agent.client.server_capabilities.extensions
        sent = await agent.data("submit", request(tmp_path))
        async with anyio.create_task_group() as group:

            async def go():
                while len(client.seen) < 2:  # the first look of the client finds it at work
                    await anyio.sleep(0.1)
                (tmp_path / "go").touch()

            group.start_soon(go)
            ended = await agent.call("monitor-flow", {})
        created, *states = client.seen
        assert (created.task_id, created.status) == (sent["run_id"], "working")
        assert {state.status for state in states[:-1]} == {"working"}
        assert states[-1].status == "completed"
        assert ended["data"]["lifecycle_state"] == "complete"
        assert (await ask(agent.client.session, "tasks/get", sent["run_id"], State)).status == "completed"
        client.seen.clear()
        again = await agent.call("monitor-flow", {})  # ends at once: no task
        assert (again["data"]["lifecycle_state"], client.seen) == ("complete", [])

    in_memory(session, run, "auto", extensions=[client])

    async def after_restart(agent):
        state = await ask(agent.client.session, "tasks/get", run_ids[0], State)
        assert state.status == "completed"
        assert state.result["structuredContent"]["data"]["lifecycle_state"] == "complete"

    run_ids = [path.stem for path in (repo / ".hpc" / "runs").glob("*.json")]
    in_memory(session_in(tmp_path, world_home.env, allow_submit=True), after_restart, extensions=[client])


def test_cancelling_stops_the_watch_and_no_job(repo, world_home, tmp_path):
    client = Tasks(polls=False)
    known = []

    async def run(agent):
        sent = await agent.data("submit", request(tmp_path))
        await agent.call("monitor-flow", {})
        task = client.seen[0].task_id
        known.append(task)
        await ask(agent.client.session, "tasks/update", task, Ack)
        await ask(agent.client.session, "tasks/cancel", task, Ack)
        state = await ask(agent.client.session, "tasks/get", task, State)
        assert state.status == "cancelled"
        assert "jobs are never cancelled" in state.status_message
        status = await agent.data("status", {"run_id": sent["run_id"]})
        assert status["lifecycle_state"] == "in_flight"
        with pytest.raises(MCPError) as unknown:
            await ask(agent.client.session, "tasks/get", "no-such-run", State)
        assert unknown.value.error.code == -32602

    in_memory(session_in(repo, world_home.env, allow_submit=True), run, extensions=[client])

    async def after_restart(agent):
        state = await ask(agent.client.session, "tasks/get", known[0], State)
        assert state.status == "cancelled"

    in_memory(session_in(repo, world_home.env, allow_submit=True), after_restart, extensions=[advertise(EXTENSION)])
    (tmp_path / "go").touch()


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_a_client_that_does_not_declare_it_gets_a_handle(repo, world_home, tmp_path, mode):
    session = session_in(repo, world_home.env, allow_submit=True, answer_within=1.0)

    async def run(agent):
        await agent.data("submit", request(tmp_path))
        answer = await agent.call("monitor-flow", {})
        assert answer["work"]["state"] == "running"
        with pytest.raises(MCPError) as refused:
            await ask(agent.client.session, "tasks/get", "x", State)
        assert refused.value.error.code == -32021
        (tmp_path / "go").touch()
        while "work" in answer:
            answer = await agent.follow(answer)

    in_memory(session, run, mode)
