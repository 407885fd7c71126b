"""The budget of a session: parallel submissions cannot pass it, and what was not submitted is given back."""

from __future__ import annotations

import threading

import anyio
import pytest
from experiment import WRITE, make_repo
from mcp_client import in_memory, session_in

from hpc_agent.errors import PreconditionFailed, SpecInvalid
from hpc_agent.mcp_server.budget import Budget, Charge, hours_of
from hpc_agent.world import World

PLAN = {"est_core_hours": None, "total_tasks": 10, "pack": 4, "segments": 2,
        "resources": {"walltime_sec": 1800, "cpus": 2}}  # fmt: skip


def test_hours_of_a_plan():
    assert hours_of(PLAN, False) == 3 * 1800 * 2 * 2 / 3600
    assert hours_of({**PLAN, "est_core_hours": 0.5}, False) == 0.5
    assert hours_of({**PLAN, "est_core_hours": 0.5}, True) == 6.0  # a guess of the request proves nothing


def test_a_spec_that_is_wrong_is_an_error_of_the_request():
    arguments = {"specs": [{"executor": "true"}, {"executer": "true"}], "common": {"cluster": "local"}}
    with pytest.raises(SpecInvalid, match="executer"), Budget(1.0).guard("submit-flow-batch", arguments, World()):
        pass


def test_threads_cannot_pass_the_limit():
    budget, accepted, together = Budget(10.0), [], threading.Barrier(16)

    def reserve(number):
        together.wait()
        try:
            budget.reserve([Charge(f"run-{number}", 3.0)])
        except PreconditionFailed:
            return
        accepted.append(number)

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 3
    assert budget.reserved == 9.0


def test_what_was_not_submitted_is_given_back():
    budget = Budget(5.0)
    charge = [Charge("a", 4.0)]
    budget.reserve(charge)
    with pytest.raises(PreconditionFailed, match=r"1\.00 of the session's 5 are left") as refused:
        budget.reserve([Charge("b", 2.0)])
    assert "--budget-core-hours 6" in refused.value.remediation
    budget.settle(charge, submitted=False)
    assert budget.reserved == 0
    budget.reserve([Charge("b", 2.0)])
    budget.reserve(charge := [Charge("b", 2.0)])  # the same run in two calls is charged once
    budget.settle(charge, submitted=True)
    budget.settle(charge, submitted=False)
    assert budget.reserved == 2.0
    budget.reserve([Charge("c", 3.0)])


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["local"], indirect=True)
class TestSubmissions:
    """Each of these runs needs two core hours: two tasks of one hour."""

    @pytest.fixture
    def repo(self, tmp_path):
        return make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])

    @staticmethod
    def request(name, **more):
        resources = {"mem_mb": 50, "walltime_sec": 3600}
        return {"cluster": "testbed", "executor": WRITE, "run_name": name, "resources": resources, **more}

    def test_parallel_submissions_cannot_pass_it(self, repo, world_home):
        session = session_in(repo, world_home.env, allow_submit=True, budget_core_hours=5.0)

        async def run(agent):
            answers = []

            async def submit(name):
                answers.append(await agent.call("submit", self.request(name)))

            async with anyio.create_task_group() as group:
                for name in ("a", "b", "c", "d"):
                    group.start_soon(submit, name)
            refused = [answer for answer in answers if "error" in answer]
            assert len(refused) == 2, answers
            for answer in refused:
                assert answer["error"]["error_code"] == "precondition_failed"
                assert answer["error"]["details"] == {"needed": 2.0, "left": 1.0, "limit": 5.0}
            listed = await agent.data("list-in-flight", {"all_states": True})
            assert listed["total_matching"] == 2
            sent = next(answer["data"]["run_id"] for answer in answers if "data" in answer)
            again = await agent.data("submit", self.request(sent.partition("-")[0]))
            assert (again["run_id"], again["deduped"]) == (sent, True)
            assert session.budget.reserved == 4.0
            plan = await agent.data("submit", self.request("e", dry_run=True))
            assert plan["total_tasks"] == 2

        in_memory(session, run)

    def test_a_failed_submission_gives_its_hours_back_and_unknown_hours_are_refused(self, repo, world_home):
        session = session_in(repo, world_home.env, allow_submit=True, budget_core_hours=3.0)

        async def run(agent):
            broken = await agent.call("submit", self.request("a", executor="python3 nothing.py --x $X"))
            assert broken["error"]["category"] == "user", broken
            assert session.budget.reserved == 0
            guessed = await agent.call(
                "submit", self.request("g", est_task_sec=1, pack=1, resources={"walltime_sec": 7200})
            )
            assert guessed["error"]["details"]["needed"] == 4.0
            await agent.data("submit", self.request("b"))
            for verb, arguments in [
                ("demo", {"experiment_dir": "demo"}),
                ("monitor-flow", {"auto_resubmit": True}),
                ("aggregate", {"as_job": True}),
            ]:
                answer = await agent.call("call", {"verb": verb, "arguments": arguments})
                assert answer["error"]["error_code"] == "precondition_failed", answer
                assert "budget" in answer["summary"]
            await agent.data("monitor-flow", {})
            await agent.data("aggregate", {})
            assert session.budget.reserved == 2.0

        in_memory(session, run)
