"""What one look tells of the ended tasks of many runs."""

import time

import pytest

from hpc_agent.node.look import run_status
from hpc_agent.node.look.ended_tasks import ended
from hpc_agent.node.look.usage import used_resources
from hpc_agent.node.schedulers.base import QueueRow
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_records import Records


class Queue:
    """A scheduler that has task 3 running and knows nothing else; asked once for all runs."""

    def __init__(self):
        self.asked = 0

    def queue(self, jobs):
        self.asked += 1
        return [QueueRow("7", "3", "running", "", "r.a0")]

    def accounting(self, jobs, since):
        return []


@pytest.fixture
def root(tmp_path, monkeypatch):
    queue = Queue()
    monkeypatch.setattr("hpc_agent.node.look.known_runs.load", lambda name, site: queue)
    root = tmp_path / "hpc-agent" / "repo-1"
    run = RunFolder(str(root / "runs" / "r"))
    for folder in (run.jobs, run.records("00000")):
        make_folder(folder)
    write_json(run.document, {"run_id": "r", "task_count": 4, "scheduler": "x", "resources": {"cpus": 2},
                              "early_stop": {"metric": "loss"}})  # fmt: skip
    array = {"array": "a0", "name": "r.a0", "tasks": "0-3", "elements": 4, "pack": 1, "generation": 1}
    write_json(run.job("a0"), {**array, "state": "submitted", "job_id": "7", "resources": {"cpus": 4}})
    complete = {"state": "complete", "seconds": 2.5, "metrics": {"loss": [1.0, 2.0], "other": 3}, "job": "7"}
    write_json(run.record(0), {"task": 0, **complete})
    early = {**complete, "metrics": {"loss": 9, "stopped_at": 2}, "history": [{"seconds": 10.0}]}
    write_json(run.record(1), {"task": 1, **early})
    failed = {"state": "failed", "cause": "exit", "message": "exit code 3", "exit_code": 3, "seconds": 1.0, "job": "7"}
    write_json(run.record(2), {"task": 2, "element": 2, **failed})
    return root, queue


def look(root, *runs):
    return ended({"runs": [{"root": str(root), **run} for run in runs], "metrics": ["loss"]})["runs"]


def test_the_ends_that_were_not_told(root):
    root, queue = root
    seen = look(root, {"run_id": "r"}, {"run_id": "gone"})
    assert queue.asked == 1
    assert (seen["gone"]["code"], seen["r"]["counts"]["running"], seen["r"]["stale"]) == ("run_not_found", 1, None)
    ends = seen["r"]["ended"]
    assert ends["0"] == {"state": "complete", "metrics": {"loss": 1.5}, "seconds": 2.5, "cpus": 4}
    assert ends["1"] == {"state": "stopped", "metrics": {"loss": 9, "stopped_at": 2}, "seconds": 12.5, "cpus": 4}
    assert ends["2"] == {"state": "failed", "why": "exit: exit code 3", "seconds": 1.0, "cpus": 4}
    assert look(root, {"run_id": "r", "known": "0-2"})["r"]["ended"] == {}
    assert list(look(root, {"run_id": "r", "known": "0,2"})["r"]["ended"]) == ["1"]


def test_a_task_without_the_metric_names_the_numbers_that_it_wrote(root):
    root, _ = root
    question = {"runs": [{"root": str(root), "run_id": "r"}], "metrics": ["los"]}
    ends = ended(question)["runs"]["r"]["ended"]
    assert (ends["0"]["wrote"], "wrote" in ends["2"]) == (["loss", "other"], False)
    assert "wrote" not in look(root, {"run_id": "r"})["r"]["ended"]["0"]
    many = {"task": 0, "state": "complete", "seconds": 1.0, "metrics": {f"m{n:02}": n for n in range(12)}, "job": "7"}
    write_json(RunFolder(str(root / "runs" / "r")).record(0), many)
    assert ended(question)["runs"]["r"]["ended"]["0"]["wrote"][9:] == ["m09", "and 2 more"]


def test_without_a_rule_stopped_at_is_a_metric_like_any_other(root):
    root, _ = root
    run = RunFolder(str(root / "runs" / "r"))
    [stopped] = [row for row in used_resources(Records(run, []), 4) if row["task"] == 1]
    assert stopped["seconds_at_least"] == 2.5
    write_json(run.document, {"run_id": "r", "task_count": 4, "scheduler": "x", "resources": {"cpus": 2}})
    assert look(root, {"run_id": "r"})["r"]["ended"]["1"]["state"] == "complete"
    [plain] = [row for row in used_resources(Records(run, []), 4) if row["task"] == 1]
    assert plain["seconds"] == 2.5


def test_a_failure_is_told_when_it_is_final(root):
    """A task that was killed may be put back into the queue; while nobody can ask, no failure is final."""
    root, queue = root
    run = RunFolder(str(root / "runs" / "r"))
    killed = {
        "state": "failed",
        "cause": "terminated",
        "seconds": 1.0,
        "job": "7",
        "element": 2,
        "ended_at": time.time(),
    }
    write_json(run.record(2), {"task": 2, **killed})
    assert list(look(root, {"run_id": "r"})["r"]["ended"]) == ["0", "1"]
    write_json(run.record(2), {"task": 2, **killed, "ended_at": time.time() - 60})
    assert list(look(root, {"run_id": "r"})["r"]["ended"]) == ["0", "1", "2"]

    def broken(jobs):
        raise NodeError("remote_command_failed", "squeue is ill")

    queue.queue = broken
    seen = look(root, {"run_id": "r"})["r"]
    assert (list(seen["ended"]), seen["stale"]) == (["0", "1"], "squeue is ill")


def test_a_record_that_cannot_be_read_now_is_told_later(root, monkeypatch):
    root, _ = root
    look(root, {"run_id": "r"})
    with monkeypatch.context() as patch:
        patch.setattr(Records, "read", lambda self, task: None)
        assert "0" not in look(root, {"run_id": "r"})["r"]["ended"]
    assert "0" in look(root, {"run_id": "r"})["r"]["ended"]


def test_tasks_without_a_trace_have_failed_after_an_hour(root, monkeypatch):
    root, queue = root
    queue.queue = lambda jobs: []
    assert "3" not in look(root, {"run_id": "r"})["r"]["ended"]
    monkeypatch.setattr(run_status.accounting, "settle_vanished", lambda *_: None)
    began = time.time()
    monkeypatch.setattr("time.time", lambda: began + 3500)
    seen = look(root, {"run_id": "r"})["r"]
    assert (seen["lifecycle_state"], "3" in seen["ended"]) == ("abandoned", False), "its record may come late"
    monkeypatch.setattr("time.time", lambda: began + 3700)
    end = look(root, {"run_id": "r"})["r"]["ended"]["3"]
    assert (end["state"], end["why"]) == ("failed", "lost: the task left no trace for an hour")
