"""The plan of a run: no task is in two arrays, none in no array, whatever is asked for after a kill or a refusal."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger import ANSWERS, FakeScheduler, Killed, make_folder, write_json

from hpc_agent.node.shared import ledger, run_folder
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import read_json
from hpc_agent.node.shared.ledger import arrays_of, read_array
from hpc_agent.node.shared.ranges import decode_ranges, encode_ranges
from hpc_agent.node.submission import run_plan, run_submission, submitter

TASKS = 12


class Lock:
    def check(self):
        pass


def new_run(path):
    folder = run_folder.RunFolder(str(path))
    make_folder(folder.jobs)
    write_json(folder.document, {"run_id": "r", "task_count": TASKS, "constraints": {}, "plan": {"pack": 0}})
    return folder


def request(size, pack=1, canary=False, **resources):
    """A plan as ops/run/planned_run.py makes one: ``size`` elements an array, ``pack`` tasks an element."""
    parts = [range(first, min(first + size * pack, TASKS)) for first in range(int(canary), TASKS, size * pack)]
    arrays = [("c0", range(1), 1)] * canary + [(f"a{n}", part, pack) for n, part in enumerate(parts)]
    entries = [
        {"array": name, "tasks": encode_ranges(part), "name": f"r.{name}", "elements": -(-len(part) // pack), "pack": pack,
         "resources": resources, "placement": {}, **({"held": "canary"} if canary and name != "c0" else {})}
        for name, part, pack in arrays
    ]  # fmt: skip
    run = {"plan": {"pack": pack, "size": size}, "resources": resources, "canary": canary}
    return {"owner": "me", "settle_sec": 0.0, "arrays": entries, "run": run, "template": "t", "job_environment": {}}


def send(folder, scheduler, question):
    with mock.patch.object(submitter, "load", return_value=scheduler), mock.patch.object(submitter.time, "sleep"):
        return run_submission._submit_plan(folder, question, Lock())


def tasks_in_arrays(folder):
    return sorted(task for array in arrays_of(folder) for task in decode_ranges(array.tasks))


REQUESTS = st.builds(
    request, size=st.integers(1, 12), pack=st.integers(1, 4), canary=st.booleans(), mem_mb=st.integers(1, 3)
)


@given(
    st.lists(st.tuples(REQUESTS, st.integers(0, 20)), min_size=1, max_size=5),
    st.lists(st.sampled_from(ANSWERS), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_every_task_is_in_one_array_whatever_is_asked_for(requests, answers):
    with tempfile.TemporaryDirectory() as path:
        folder, scheduler = new_run(path), FakeScheduler()
        scheduler.answers = list(answers)
        honest, writes, kill_at = write_json, [0], [0]

        def dying(target, value, sync=True):
            writes[0] += 1
            if writes[0] == kill_at[0]:
                raise Killed
            honest(target, value, sync)

        with mock.patch.object(ledger, "write_json", dying), mock.patch.object(run_plan, "write_json", dying):
            for question, kill in requests:
                writes[0], kill_at[0] = 0, kill
                with suppress(Killed, NodeError):
                    send(folder, scheduler, question)
            kill_at[0], scheduler.answers = 0, []
            send(folder, scheduler, requests[-1][0])
        assert tasks_in_arrays(folder) == list(range(TASKS))
        names = [array.name for array in arrays_of(folder) if not array.held]
        assert sorted(scheduler.accepted) == sorted(names), "each array has one job, and no job is without its array"


def test_a_plan_of_which_an_array_is_out_stays(tmp_path):
    """Submitted with two elements an array, killed after the first; then asked for with another shape."""
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    scheduler.answers = ["ok", "killed before"]
    with pytest.raises(Killed):
        send(folder, scheduler, request(4, mem_mb=1, walltime_sec=600))
    answer = send(folder, scheduler, request(3, pack=2, mem_mb=2, walltime_sec=60))
    assert not answer["plan_holds"]
    assert tasks_in_arrays(folder) == list(range(TASKS))
    assert scheduler.accepted == ["r.a0", "r.a1", "r.a2"]
    wanted = [
        {"mem_mb": 1, "walltime_sec": 600},
        {"mem_mb": 2, "walltime_sec": 600},
        {"mem_mb": 2, "walltime_sec": 600},
    ]
    assert [read_array(folder, f"a{n}").resources for n in range(3)] == wanted, "a walltime for other packs is not cut"
    groups = answer["run"]["plan"]["by_array"]
    assert [(group["arrays"], group["resources"]["mem_mb"]) for group in groups] == [(["a0"], 1), (["a1", "a2"], 2)]


def test_a_plan_of_which_nothing_is_out_is_replaced(tmp_path):
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    scheduler.answers = ["refused"]
    with pytest.raises(NodeError):
        send(folder, scheduler, request(4, mem_mb=1))
    answer = send(folder, scheduler, request(12, mem_mb=2))
    assert (answer["plan_holds"], scheduler.accepted, tasks_in_arrays(folder)) == (True, ["r.a0"], list(range(TASKS)))
    assert read_json(folder.document)["plan"] == {"pack": 1, "size": 12}


def test_an_unknown_outcome_is_looked_up_before_the_plan_is_replaced(tmp_path):
    """The intent of the first request: its job is there, so that its plan holds; without a job the new plan holds."""
    for accepted in (True, False):
        folder, scheduler = new_run(tmp_path / str(accepted)), FakeScheduler()
        scheduler.answers = ["killed after" if accepted else "killed before"]
        with pytest.raises(Killed):
            send(folder, scheduler, request(4))
        answer = send(folder, scheduler, request(12))
        assert answer["plan_holds"] is not accepted
        assert answer["adopted"] == (["a0"] if accepted else [])
        assert (len(scheduler.accepted), tasks_in_arrays(folder)) == (3 if accepted else 1, list(range(TASKS)))


def test_the_arrays_behind_a_canary_may_be_cut_anew(tmp_path):
    """Task 0 is out, and the others are not: a smaller max_array_size is heeded."""
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    send(folder, scheduler, request(12, canary=True))
    answer = send(folder, scheduler, request(4, canary=True))
    assert (answer["plan_holds"], scheduler.accepted, len(arrays_of(folder))) == (True, ["r.c0"], 4)
    assert tasks_in_arrays(folder) == list(range(TASKS))


def test_a_scheduler_that_cannot_be_asked_leaves_the_plan_alone(tmp_path):
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    scheduler.answers = ["killed before"]
    with pytest.raises(Killed):
        send(folder, scheduler, request(4))
    before = arrays_of(folder)

    def down(name, since):
        raise NodeError("cluster_timeout", "down")

    scheduler.find = down
    with pytest.raises(NodeError) as caught:
        send(folder, scheduler, request(12))
    assert caught.value.code == "submission_unknown"
    assert arrays_of(folder) == before


def test_every_error_tells_the_arrays_and_the_run(tmp_path):
    """The client writes both into the sidecar, whose job ids an error without arrays would empty."""
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    send(folder, scheduler, request(12))
    with (
        mock.patch.object(run_submission, "apply_plan", side_effect=NodeError("precondition_failed", "lost the lock")),
        pytest.raises(NodeError) as caught,
    ):
        send(folder, scheduler, request(12))
    assert caught.value.details["arrays"]["a0"]["job_id"]
    assert caught.value.details["run"]["run_id"] == "r"


def test_a_resubmission_keeps_what_it_asks_for(tmp_path):
    """A failed task that was submitted again with more memory is no array of the plan."""
    folder, scheduler = new_run(tmp_path), FakeScheduler()
    send(folder, scheduler, request(4, mem_mb=1))
    again = ledger.Array("r2-0", "3", "r.r2-0", 1, generation=2, order=3, resources={"mem_mb": 8}, resubmit="x")
    ledger.write_array(folder, again)
    answer = send(folder, scheduler, request(12, mem_mb=1))
    assert read_array(folder, "r2-0").resources == {"mem_mb": 8}
    assert "by_array" not in answer["run"]["plan"]
