"""A reducer on the cluster, without a scheduler: what still runs, what it waits for, which files are its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from hpc_agent.node.fold import reduce as program
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import PLANNED, REFUSED, SUBMITTED, Array, read_array, write_array
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.submission import reduction
from hpc_agent.ops.aggregate.reduce import _remove_earlier

REQUEST = {"command": "true", "reducer": "", "code": "", "extra_env": {}, "files": [], "output_path": "", "cpus": 1,
           "timeout_sec": 60, "as_job": True, "force": False, "job_prefix": "r-", "key": "k", "run_id": "r", "owner": "me",
           "resources": {"mem_mb": 1}, "placement": {}}  # fmt: skip


def test_a_reducer_whose_caller_was_killed_before_its_first_line_is_not_started_twice(tmp_path):
    attempt = str(tmp_path)
    assert not program.may_run(attempt, 60), "killed before it was started"
    with program.running_here(attempt) as mark:
        pass
    assert not program.may_run(attempt, 60), "killed before it was started"
    with program.running_here(attempt) as mark:
        started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[mark])
    assert program.may_run(attempt, 60), "no claim yet, and the process is there"
    assert not program.may_run(attempt, -1), "its time is over"
    started.communicate(b"\n", timeout=30)
    assert not program.may_run(attempt, 60)
    (tmp_path / "runs_here").write_text(f"elsewhere {time.time():.0f}")
    assert program.may_run(attempt, 60), "on another host nobody knows"
    assert not program.may_run(attempt, -1)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(str(tmp_path / "runs" / "r"))
    for path in (folder.work, folder.results):
        make_folder(path)
    return folder


@pytest.mark.parametrize("state", [PLANNED, REFUSED])
def test_a_job_that_was_not_accepted_waits_for_the_jobs_of_now(run, monkeypatch, state):
    own = program.Reduction(run, "k")
    make_folder(own.jobs)
    array = Array("d1", "0", "r-d1-k", 1, generation=1, order=1, state=state, after_jobs=["7", "8"])
    write_array(own, array)
    make_folder(own.attempt(1))
    open_now = [Array("a0", "0-1", job_id="8"), Array("r2-0", "0", job_id="9"), Array("a1", "2", job_id="7")]
    call = reduction._Call.__new__(reduction._Call)
    call.reduction, call.request, call.lock, call.fresh = own, REQUEST, mock.MagicMock(), False
    call.complete, call.status = "2", SimpleNamespace(arrays=open_now, state=[0, 0, 3], total=3, stale=None)
    monkeypatch.setattr(reduction, "ranges_of", lambda states, *wanted: "")
    monkeypatch.setattr(reduction._Call, "_is_open", lambda self, one: one.array != "a1")
    sent = []

    class Submitter:
        def __init__(self, folder, request, check):
            job = SimpleNamespace(state="pending", reason="", name="r-d1-k")
            self.scheduler = mock.MagicMock(**{"queue.return_value": [job]})

        def submit_open_arrays(self):
            found = read_array(own, "d1")
            sent.append(found)
            write_array(own, found._replace(state=SUBMITTED, job_id="12"))
            return {"message": ""}

    monkeypatch.setattr(reduction, "_ReductionSubmitter", Submitter)
    told = call._await_job(1, array)
    assert (told["state"], told["job_id"]) == ("queued", "12")
    assert (sent[0].after_jobs, sent[0].resources) == (["8", "9"], {"mem_mb": 1})


def test_the_files_of_an_earlier_reducer_are_not_fetched(run, tmp_path):
    work, attempt = Path(run.work), tmp_path / "d2"
    attempt.mkdir()
    (work / "old.csv").write_text("of another")
    os.symlink(run.results, work / "results")
    Path(run.results, "of_a_task.csv").write_text("1")
    request = {**REQUEST, "files": ["*.csv"]}
    output = str(attempt / "aggregated.json")
    before = {
        path: program._stamp(path) for path in [output, *(p for _, p in program._matches(run.work, request["files"]))]
    }
    with pytest.raises(ValueError, match=r"old\.csv was there before this reducer"):
        program._collect(run, str(attempt), request, output, before)
    (work / "new.csv").write_text("own")
    found = program._collect(run, str(attempt), {**request, "files": ["*.csv", "results/*.csv"]}, output, before)
    assert found["files"] == [["files/new.csv", 3], ["files/results/of_a_task.csv", 1]]
    (work / "old.csv").write_text("written again")
    found = program._collect(run, str(attempt), request, output, before)
    assert [name for name, _ in found["files"]] == ["files/new.csv", "files/old.csv"]


def test_files_of_the_reduction_before_do_not_stay_beside_those_of_the_next(tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("aggregated.json", "files/a.csv", "files/b.csv", "notes.txt"):
        (tmp_path / name).write_text("1")
    _remove_earlier(tmp_path, {"files/b.csv"})
    assert (tmp_path / "files" / "a.csv").exists(), "nobody knows whose it is"
    (tmp_path.parent / "outside").write_text("1")
    document = {
        "files": [["aggregated.json", 1], ["files/a.csv", 1], ["files/b.csv", 1], ["../outside", 1], ["gone", 1]]
    }
    (tmp_path / "reduction.json").write_text(json.dumps(document))
    _remove_earlier(tmp_path, {"files/b.csv"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.csv", "files", "notes.txt", "reduction.json"]
    assert (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("wrong", [{"files": ["/etc/passwd"]}, {"files": ["a", "b/../../x"]}, {"output_path": "../x"}])
def test_a_path_outside_of_the_work_folder_is_refused_on_the_cluster_too(run, wrong):
    write_json(run.document, {"run_id": "r", "task_count": 1, "scheduler": "local"})
    root = os.path.dirname(os.path.dirname(run.path))
    with pytest.raises(NodeError, match="is not inside the run's work folder") as caught:
        reduction.reduce({**REQUEST, **wrong, "root": root})
    assert caught.value.code == "spec_invalid"
