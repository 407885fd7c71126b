"""Events of runs: received at least once, whatever is lost, and after a restart of the server too."""

from __future__ import annotations

import os
import signal
import time

import anyio
import pytest
from experiment import WRITE, make_repo
from mcp_client import MODES, in_memory, over_stdio, process, session_in

from hpc_agent.mcp_server.event_log import MOST_LINES, EventLog, changes

OPEN = {
    "run_id": "r",
    "lifecycle_state": "in_flight",
    "total": 8,
    "counts": {"complete": 0, "running": 0, "pending": 8},
    "failures_by_cause": {},
    "stuck": 0,
    "to_submit": 0,
}


def look(complete=0, running=0, **facts):
    return {**OPEN, "counts": {"complete": complete, "running": running, "pending": 8 - complete - running}, **facts}


def test_what_is_told_of_a_run():
    assert changes(None, OPEN) == []
    assert [event for event, _ in changes(OPEN, look(0, 2))] == ["started"]
    assert changes(look(0, 2), look(1, 2)) == []
    assert [event for event, _ in changes(look(1, 2), look(2, 2))] == ["progress"]
    failed = look(2, 2, failures_by_cause={"out_of_memory": 3})
    assert changes(look(2, 2), failed) == [("failures", "r: tasks failed (3 out_of_memory)")]
    assert changes(failed, look(2, 2, failures_by_cause={"out_of_memory": 4})) == []
    assert [event for event, _ in changes(OPEN, look(stuck=8))] == ["needs-person"]
    assert [event for event, _ in changes(OPEN, look(to_submit=1))] == ["held-back"]
    ended = look(8, lifecycle_state="complete")
    assert changes(look(7, 1), ended) == [("ended", "r is complete: 8 of 8 tasks complete")]
    assert changes(None, ended) == changes(look(7, 1), ended)
    assert changes(ended, ended) == []
    assert [event for event, _ in changes(look(lifecycle_state="failed"), look(0, 1))] == ["goes-on", "started"]


def log_in(folder):
    return EventLog(folder, time.time)


def test_lines_that_are_damaged_or_of_another_version_are_passed_over(tmp_path):
    log_in(tmp_path).saw(OPEN)
    log_in(tmp_path).saw(look(0, 2))
    later = (
        b'{"kind": "event", "id": 7, "at": "", "run_id": "r", "event": "ended", "text": "t", "since": "a later one"}'
    )
    odd = [b"[1]", b"[]", b"5", b"null", b"{", b"\xff\xfe", b"[" * 5000, b'{"kind": "event"}', b'{"kind": "event", "id": "x"}',
           b'{"kind": "event", "id": "x", "at": 1, "run_id": 2, "event": 3, "text": 4}', b'{"kind": "look"}',
           b'{"kind": "look", "run_id": "zz"}', b'{"kind": "ack"}', b'{"kind": "last_id"}',
           b'{"kind": "news", "id": 9}']  # fmt: skip
    with (tmp_path / "mcp-events.jsonl").open("ab") as file:
        file.write(b"".join(line + b"\n" for line in [*odd, later]))
    told = log_in(tmp_path).receive("me", None)
    assert [(event.id, event.event) for event in told] == [(1, "started"), (7, "ended")]
    assert list(log_in(tmp_path).looks()) == [look(0)["run_id"]]
    log_in(tmp_path).saw(look(4, 2))
    assert [event.id for event in log_in(tmp_path).receive("me", 7)] == [8]


def test_an_event_comes_until_it_is_acknowledged(tmp_path):
    log_in(tmp_path).saw(OPEN)
    log_in(tmp_path).saw(look(0, 2))
    log_in(tmp_path).saw(look(4, 2))
    for _ in range(2):  # the first answer was lost, and the server restarted
        assert [event.event for event in log_in(tmp_path).receive("me", None)] == ["started", "progress"]
    assert [event.id for event in log_in(tmp_path).receive("me", 1)] == [2]
    assert [event.id for event in log_in(tmp_path).receive("other", None)] == [1, 2]
    assert log_in(tmp_path).receive("me", 2) == []
    assert log_in(tmp_path).receive("me", 1) == []  # an old acknowledgement takes nothing back
    assert log_in(tmp_path).receive("me", 99) == []  # one from the future takes nothing away
    log_in(tmp_path).saw(look(8, lifecycle_state="complete"))
    assert [event.id for event in log_in(tmp_path).receive("me", None)] == [3]


def test_a_torn_line_loses_nothing_that_was_told(tmp_path):
    log_in(tmp_path).saw(look(0, 2))
    with (tmp_path / "mcp-events.jsonl").open("ab") as file:
        file.write(b'{"kind": "look", "run_id"')
    assert [event.event for event in log_in(tmp_path).receive("me", None)] == ["started"]
    log_in(tmp_path).saw(look(8, lifecycle_state="complete"))
    assert [event.event for event in log_in(tmp_path).receive("me", None)] == ["started", "ended"]


def test_the_file_stays_small_and_ids_grow(tmp_path):
    log = log_in(tmp_path)
    path = tmp_path / "mcp-events.jsonl"
    log.saw(look(0, 1))
    with path.open("a") as file:
        file.write('{"kind": "ack", "consumer": "me", "id": 0}\n' * MOST_LINES)
    assert [event.id for event in log.receive("me", None)] == [1]
    assert len(path.read_text().splitlines()) < 10
    assert log.receive("me", 1) == []
    log.saw(look(8, lifecycle_state="complete"))
    assert [event.id for event in log.receive("me", None)] == [2]


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["local"], indirect=True)
class TestOnTheLocalScheduler:
    """Runs whose tasks wait for a file."""

    @pytest.fixture
    def repo(self, tmp_path):
        return make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])

    @staticmethod
    def request(tmp_path):
        wait = f"for i in $(seq 600); do [ -e {tmp_path}/go ] && break; sleep 0.1; done; "
        return {"cluster": "testbed", "executor": wait + WRITE, "resources": {"mem_mb": 50}}

    @pytest.mark.parametrize("mode", MODES)
    def test_lost_answers_come_again(self, repo, world_home, tmp_path, mode):
        session = session_in(repo, world_home.env, allow_submit=True)

        async def run(agent):
            await agent.data("submit", self.request(tmp_path))
            first = await agent.call("wait-for-events", {})
            assert [event["event"] for event in first["data"]["events"]] == ["started"]
            assert first["next"]["arguments"] == {"ack": first["data"]["last_id"]}
            again = await agent.call("wait-for-events", {})  # the answer was lost: nothing was acknowledged
            assert again["data"]["events"] == first["data"]["events"]
            empty = await agent.follow(again, wait_sec=0.5)
            assert (empty["data"]["events"], empty["data"]["last_id"]) == ([], None)
            assert empty["next"] == {"tool": "wait-for-events", "arguments": {"wait_sec": 0.5}}
            (tmp_path / "go").touch()
            answer, told = empty, []
            while "ended" not in told:  # each answer is acknowledged: an event that is not stands before all later ones
                answer = await agent.call(
                    "wait-for-events", {"ack": answer["data"]["last_id"] or first["data"]["last_id"]}
                )
                told = [event["event"] for event in answer["data"]["events"]]
            assert answer["next"]["tool"] == "aggregate"
            assert answer["next"]["ack"] == answer["data"]["last_id"]

        in_memory(session, run, mode)

    def test_a_wait_tells_how_long_it_has_waited(self, repo, world_home, tmp_path, monkeypatch):
        monkeypatch.setattr("hpc_agent.mcp_server.waiting.PROGRESS_SEC", 0.3)
        told = []

        async def note(progress, total, message):
            told.append((progress, message))

        async def run(agent):
            await agent.data("submit", self.request(tmp_path))
            started = await agent.call("wait-for-events", {})
            await agent.client.call_tool(
                "wait-for-events", {"wait_sec": 2, "ack": started["data"]["last_id"]}, progress_callback=note
            )

        in_memory(session_in(repo, world_home.env, allow_submit=True), run)
        (tmp_path / "go").touch()
        seconds = [progress for progress, _ in told]
        assert len(seconds) > 1
        assert seconds == sorted(set(seconds))
        assert {message for _, message in told} == {"1 run watched"}

    def test_a_killed_server_loses_no_event(self, repo, world_home, tmp_path):
        server = process(repo, world_home.env, "--allow-submit")
        pid_file = tmp_path / "pid"

        async def first():
            async with over_stdio(server) as agent:
                await agent.data("submit", self.request(tmp_path))
                pid = self.server_pid(repo)
                pid_file.write_text(str(pid))
                answer = await agent.call("wait-for-events", {})
                os.kill(pid, signal.SIGKILL)
                return answer["data"]["events"]

        async def second():
            async with over_stdio(server) as agent:
                return (await agent.call("wait-for-events", {"wait_sec": 1}))["data"]["events"]

        events = anyio.run(first)
        assert [event["event"] for event in events] == ["started"]
        assert anyio.run(second) == events
        (tmp_path / "go").touch()

    @staticmethod
    def server_pid(repo):
        """The process of the server in a folder."""
        for folder in os.scandir("/proc"):
            if folder.name.isdigit():
                try:
                    words = open(f"{folder.path}/cmdline", "rb").read().split(b"\0")
                    if b"mcp" in words and os.readlink(f"{folder.path}/cwd") == str(repo):
                        return int(folder.name)
                except OSError:
                    continue
        raise AssertionError("no server is there")
