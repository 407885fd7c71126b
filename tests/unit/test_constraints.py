"""What waiting jobs ask for is changed: each of them, no running one, and the same after a kill."""

from __future__ import annotations

import tempfile
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger import Killed, make_folder, write_json

from hpc_agent.node.schedulers.base import Job, QueueRow
from hpc_agent.node.schedulers.sge.adapter import GridEngine
from hpc_agent.node.schedulers.slurm.adapter import Slurm
from hpc_agent.node.shared import run_folder
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import read_json
from hpc_agent.node.shared.ledger import Array, arrays_of, write_array
from hpc_agent.node.submission import constraints, submitter


class Queue:
    """Jobs by id with the elements that wait; ``refuses`` some, ``dies`` after so many changes."""

    def __init__(self, waiting, separator="&", whole=False, refuses=(), dies=None):
        self.waiting, self.constraint_separator, self.changes_whole_jobs = waiting, separator, whole
        self.refuses, self.dies, self.changes, self.found = refuses, dies, {}, {}
        self.command_timeout = 1.0

    def queue(self, jobs):
        rows = [QueueRow(job, elements, "pending") for job, elements in self.waiting.items() if elements]
        return [*rows, QueueRow("99", "0", "running")]

    def find(self, name, since):
        return self.found.get(name, [])

    def change_waiting(self, job, waiting, wanted, fields):
        if self.dies is not None and len(self.changes) >= self.dies:
            raise Killed
        if job in self.refuses:
            raise NodeError("scheduler_refused", "no such feature")
        self.changes[job] = (waiting, wanted.placement, wanted.resources, fields)


@pytest.fixture
def folder(tmp_path):
    return run_of(tmp_path / "runs" / "r")


def run_of(path):
    """A run of four arrays: one waits, one runs in part, one has ended, one is not submitted yet."""
    folder = run_folder.RunFolder(str(path))
    make_folder(folder.jobs)
    write_json(folder.document, {"run_id": "r", "task_count": 16, "constraints": {}, "plan": {"pack": 1}})
    for order, (name, job) in enumerate([("a0", "10"), ("a1", "11"), ("a2", "12"), ("a3", None)]):
        write_array(folder, Array(
            name, f"{order * 4}-{order * 4 + 3}", f"r.{name}", 4, order=order, state="submitted" if job else "planned",
            job_id=job, resources={"walltime_sec": 3600, "cpus": 2}, placement={"constraint": "intel"},
        ))  # fmt: skip
    return folder


WAITING = {"10": "0-3", "11": "2-3", "12": ""}


def constrain(folder, queue, **request):
    root, _, _ = folder.path.rpartition("/runs/")
    question = {"root": root, "run_id": "r", "owner": "me", "site": {}, "settle_sec": 0, **request}
    with (
        mock.patch.object(submitter, "load", return_value=queue),
        mock.patch.object(run_folder, "check_root", side_effect=lambda path: path),
        mock.patch.object(submitter, "read_run", return_value=mock.Mock(scheduler="slurm", constraints={})),
    ):
        return constraints.constrain(question)


def test_only_what_waits_is_changed(folder):
    queue = Queue(WAITING)
    answer = constrain(folder, queue, add_features=["avx", "intel"], walltime_sec=1800)
    assert {job: change[0] for job, change in queue.changes.items()} == {"10": "0-3", "11": "2-3"}
    assert queue.changes["10"][1:] == (
        {"constraint": "intel&avx"},
        {"walltime_sec": 1800, "cpus": 2},
        ["constraint", "walltime_sec"],
    )
    assert (answer["updated"], answer["failed"], answer["planned"]) == (["10", "11"], {}, ["a3"])
    assert answer["left"] == {"12": "none of its elements waits"}
    assert answer["constraints"] == {"a0": "intel&avx", "a1": "intel&avx", "a2": "intel", "a3": "intel&avx"}
    assert len(answer["run"]["plan"]["by_array"]) == 2, "the document says which arrays ask for what"
    before = [array.to_json() for array in arrays_of(folder)]
    constrain(folder, queue, add_features=["avx"])
    assert [array.to_json() for array in arrays_of(folder)] == before, "what is there is not added again"


def test_the_job_of_an_interrupted_submission_is_changed_too(folder):
    write_array(folder, arrays_of(folder)[3]._replace(state="intent", at=1.0, owner="killed"))
    queue = Queue(dict(WAITING, **{"13": "0-3"}))
    queue.found["r.a3"] = ["13"]
    answer = constrain(folder, queue, set_features=["avx"])
    assert "13" in queue.changes, "its job is in the queue with the old constraint"
    assert (answer["updated"], answer["planned"]) == (["10", "11", "13"], [])
    assert arrays_of(folder)[3].job_id == "13"


def test_whole_jobs_that_have_started_are_left_alone(folder):
    queue = Queue(WAITING, separator=",", whole=True)
    answer = constrain(folder, queue, set_features=["mem_free=2G", "avx"], partition="long.q")
    assert list(queue.changes) == ["10"]
    assert answer["left"]["11"].startswith("some of its elements have started")
    assert answer["constraints"]["a0"] == "mem_free=2G,avx"
    assert {array.array: array.placement.get("partition") for array in arrays_of(folder)} == {
        "a0": "long.q", "a1": None, "a2": None, "a3": "long.q",
    }  # fmt: skip


def test_what_the_scheduler_refuses_stays_as_it_was(folder):
    answer = constrain(folder, Queue(WAITING, refuses=("10",)), set_features=[])
    assert (answer["updated"], answer["failed"]) == (["11"], {"10": "no such feature"})
    assert answer["constraints"] == {"a0": "intel", "a1": None, "a2": "intel", "a3": None}


@pytest.mark.parametrize(
    ("request_", "before", "code"),
    [
        ({"walltime_sec": 3601}, "intel", "spec_invalid"),
        ({"add_features": ["x"]}, "a|b", "spec_invalid"),
        ({"add_features": ["x"]}, "[a*2&b]", "spec_invalid"),
    ],
)
def test_a_value_that_does_not_fit_changes_nothing(folder, request_, before, code):
    write_array(folder, arrays_of(folder)[3]._replace(placement={"constraint": before}))
    queue = Queue(WAITING)
    with pytest.raises(NodeError) as error:
        constrain(folder, queue, **request_)
    assert (error.value.code, queue.changes) == (code, {})
    assert "call again" in error.value.remediation


def test_a_scheduler_that_cannot(folder):
    with pytest.raises(NodeError) as error:
        constrain(folder, Queue(WAITING, separator=None), partition="x")
    assert error.value.code == "precondition_failed"


@given(dies=st.integers(0, 3), features=st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
@settings(max_examples=30)
def test_a_killed_call_is_repeated_with_the_same_effect(dies, features):
    with tempfile.TemporaryDirectory() as path:
        whole, killed = run_of(f"{path}/x/runs/r"), run_of(f"{path}/y/runs/r")
        constrain(whole, Queue(WAITING), add_features=features, partition="p")
        queue = Queue(WAITING, dies=dies)
        try:
            constrain(killed, queue, add_features=features, partition="p")
        except Killed:
            queue.dies = None
            constrain(killed, queue, add_features=features, partition="p")
        assert arrays_of(killed) == arrays_of(whole)
        assert read_json(killed.document) == read_json(whole.document)
        assert queue.changes.keys() == {"10", "11"}


JOB = Job(
    "r.a0", 4, "", "", "", resources={"walltime_sec": 90, "mem_mb": 200, "cpus": 2},
    placement={"constraint": "avx", "partition": "short", "extra_flags": ["-l", "license=1"]},
)  # fmt: skip


def test_the_commands_of_the_schedulers():
    fields = ["constraint", "partition", "walltime_sec"]
    assert Slurm().change_command("7", "0-1,3", JOB, fields) == [
        "scontrol", "update", "JobId=7_[0-1,3]", "NumTasks=1", "Features=avx", "Partition=short", "TimeLimit=00:02:00",
    ]  # fmt: skip
    alone = JOB._replace(placement={}, resources={"nodes": 2})
    assert Slurm().change_command("7", "0", alone, ["constraint"])[2:] == ["JobId=7_[0]", "NumTasks=2", "Features="]
    assert GridEngine().change_command("7", "0-3", JOB, fields) == [
        "qalter", "-l", "h_rt=90", "-l", "h_data=100M", "-q", "short", "-l", "avx", "-l", "license=1", "7",
    ]  # fmt: skip
    assert GridEngine().change_command("7", "0-3", JOB, ["partition"]) == ["qalter", "-q", "short", "7"]
