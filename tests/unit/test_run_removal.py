"""What keeps a run where it is, what a part is in each layout, and what a removal leaves in the journal."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest

from hpc_agent.node.look import holdings
from hpc_agent.node.schedulers.base import QueueRow
from hpc_agent.node.shared import run_folder
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, read_json, write_json
from hpc_agent.node.shared.ledger import Array, write_array
from hpc_agent.node.submission import removal
from hpc_agent.ops.recover.held_runs import Place, blocked
from hpc_agent.ops.recover.run_removal import Removal, remove
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.view.terminal.evidence import logs
from hpc_agent.view.terminal.holdings import prune_runs as view
from hpc_agent.view.terminal.layout import lines_of
from hpc_agent.world import World


class Scheduler:
    """One queue for all runs; counts how often it is asked."""

    def __init__(self, rows=(), error=None):
        self.rows, self.error, self.asked = list(rows), error, 0

    def accounting(self, *_):
        return []

    def queue(self, jobs):
        self.asked += 1
        if self.error:
            raise self.error
        return [row for row in self.rows if row.job in jobs]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "hpc-agent" / "repo-12345678"


def make_run(root, name, job="7", **array):
    folder = run_folder.run_folder(str(root), name)
    for path in (
        folder.jobs,
        folder.scheduler_logs,
        folder.results,
        folder.work + "/.hpc",
        folder.path + "/tasks/00000",
    ):
        make_folder(path)
    write_json(folder.document, {"run_id": name, "task_count": 2, "scheduler": "slurm", "wave_map": {"0": "0-1"}})
    write_array(folder, Array("a0", "0-1", f"{name}.a0", 2, **{"state": "submitted", "job_id": job, **array}))
    for path in ("results/0/a.txt", "logs/00000/0.g1.log", "work/train.py", "tasks/00000/0.json", "work/.hpc/x"):
        write(folder, path)
    return folder


def write(folder, path, text="x"):
    target = Path(folder.path, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def with_queue(scheduler):
    return mock.patch.object(holdings, "load", return_value=scheduler)


def asked(root, scheduler, runs, **more):
    with with_queue(scheduler):
        return removal.remove({"root": str(root), "owner": "me", "runs": runs, **more})


@pytest.mark.parametrize(
    ("scheduler", "array", "why"),
    [
        (Scheduler([QueueRow("7", "0-1", "running", name="r.a0")]), {}, "in flight: 2 of its elements"),
        (Scheduler([QueueRow("7", "1", "pending")]), {}, "in flight: 1 of its elements"),
        (
            Scheduler(error=NodeError("cluster_timeout", "squeue hangs")),
            {},
            "not known whether it has jobs: squeue hangs",
        ),
        (Scheduler(), {"state": "intent", "job_id": None}, "not known whether it has jobs: array a0"),
        (Scheduler(), {"state": "planned", "job_id": None}, "in flight: 1 of its arrays"),
    ],
)
def test_a_run_that_may_have_jobs_stays(root, scheduler, array, why):
    folder = make_run(root, "r", **array)
    before = sorted(Path(folder.path).rglob("*"))
    answer = asked(root, scheduler, {"r": ["all"]})
    assert answer["kept"]["r"].startswith(why)
    assert (answer["removed"], answer["files"]) == ({}, 0)
    assert sorted(Path(folder.path).rglob("*")) == before
    with with_queue(scheduler):
        facts = holdings.holdings({"root": str(root), "runs": None})["runs"]["r"]
    assert blocked(facts, RunRecord(run_id="r", status="in_flight"), time.time()).startswith(why)


def test_a_job_of_another_name_is_not_its_job_and_marked_arrays_are_never_sent(root):
    make_run(root, "r")
    make_run(root, "s", state="refused", job_id=None)
    queue = Scheduler([QueueRow("7", "0", "running", name="other.a0")])
    answer = asked(root, queue, {"r": ["all"], "s": ["all"]}, unsent_ok=["s"])
    assert (sorted(answer["removed"]), answer["kept"], queue.asked) == (["r", "s"], {}, 1)
    assert holdings.removed_runs(str(root)) == answer["removed"]


def test_a_damaged_ledger_is_not_known_and_a_held_lock_keeps_the_run(root):
    damaged, locked = make_run(root, "r"), make_run(root, "s")
    Path(damaged.job("a0")).write_text("{")
    with removal.RunLock(locked.lock, "another"), mock.patch.object(removal, "LOCK_WAIT_SEC", 0.1):
        answer = asked(root, Scheduler(), {"r": ["all"], "s": ["all"]})
    assert answer["kept"]["r"].startswith("not known whether it has jobs: the ledger")
    assert answer["kept"]["s"].startswith("another command works on the run, started by another")


def test_parts_go_and_the_rest_stays_in_both_layouts(root):
    folder = make_run(root, "r")
    for name in ("0.claim", "0.rec", "0.log", "0.1.log", "0.d0/file.log", "0.d0/7.log"):
        write(folder, f"elements/a0/00000/{name}")
    write(folder, "outputs/plots/a.png")
    with with_queue(Scheduler()):
        sizes = holdings.holdings({"root": str(root), "runs": None})["runs"]["r"]["sizes"]
    assert sizes["logs"][1] == 6  # logs, its two folders and file, and the two logs of the element
    assert sizes["work"][1] == 2, "the runtime in it stays"
    asked(root, Scheduler(), {"r": ["logs", "work", "outputs"]})
    rest = "0.claim 0.d0/7.log 0.d0/file.log 0.rec".split()
    left = sorted(str(p.relative_to(folder.path)) for p in Path(folder.path).rglob("*") if p.is_file())
    assert left == [
        *(f"elements/a0/00000/{name}" for name in rest),
        *("jobs/a0.json", "pruned.json", "results/0/a.txt", "run.json", "tasks/00000/0.json", "work/.hpc/x"),
    ]
    assert os.path.isdir(folder.scheduler_logs), "the scheduler writes there"
    assert Path(folder.path, "outputs/plots").is_dir(), "a link in the work folder leads there"
    assert sorted(read_json(folder.pruned)) == ["logs", "outputs", "work"]
    with with_queue(Scheduler()):
        sizes = holdings.holdings({"root": str(root), "runs": None})["runs"]["r"]["sizes"]
    assert {part: size[3] for part, size in sizes.items()} == {
        "logs": 0,
        "outputs": 0,
        "results": 1,
        "work": 0,
        "records": 9,
    }


def test_a_link_to_a_run_elsewhere_is_no_run(root, tmp_path):
    folder = make_run(root, "r")
    elsewhere = tmp_path / "big-disk"
    os.rename(folder.path, elsewhere)
    os.symlink(elsewhere, folder.path)
    assert holdings.runs_below(str(root)) == []
    assert asked(root, Scheduler(), {"r": ["all"]})["kept"] == {"r": "its folder is a link, or is not there"}
    assert (elsewhere / "run.json").exists()


def test_no_time_is_not_known_and_what_is_left_goes_later(root):
    make_run(root, "r")
    with with_queue(Scheduler()):
        found = holdings.holdings({"root": str(root), "runs": None, "measure_sec": -1.0})["runs"]["r"]
    assert found["sizes"] is None
    answer = asked(root, Scheduler(), {"r": ["all"]}, sweep_sec=-1.0)
    assert (sorted(answer["removed"]), answer["files"], answer["left"]) == (["r"], 0, 1)
    later = asked(root, Scheduler(), {})
    assert later["files"] > 10
    assert later["left"] == 0


def test_a_torn_line_of_the_removals_hides_no_other(root):
    for name in "rst":
        make_run(root, name)
    asked(root, Scheduler(), {"r": ["all"]})
    with open(holdings.removal_log(str(root)), "a") as log:
        log.write('{"run_id": "s", "at": 1')
    assert sorted(holdings.removed_runs(str(root))) == ["r"]
    asked(root, Scheduler(), {"t": ["all"]})
    assert sorted(holdings.removed_runs(str(root))) == ["r", "t"]
    make_run(root, "r")
    assert sorted(holdings.removed_runs(str(root))) == ["t"], "r is there again"


def test_the_journal_of_a_removal(tmp_path):
    world = World(cwd=tmp_path, env={"HOME": str(tmp_path)}, now=lambda: 100.0)
    journal = Journal(world, RepoLayout(tmp_path))
    journal.append("r", "submitting", run_name="r", cluster="c", total_tasks=3)
    journal.append("r", "submitted", job_ids=["7"], remote_path="/r")
    journal.append("r", "pruning", token="t", parts=["logs"])
    assert (journal.load("r").open_prune, journal.load("r").pruned) == ("t", {})
    journal.append("r", "pruned", parts=["logs"])
    record = journal.load("r")
    assert (record.open_prune, record.pruned, record.pruned_at, record.status) == (
        None,
        {"logs": 100.0},
        None,
        "in_flight",
    )
    journal.append("r", "pruned", parts=["all"], pruned_at=50.0)
    record = journal.load("r")
    assert (record.pruned_at, record.status) == (50.0, "abandoned")
    journal.keep_tombstone(record)
    kept = journal.load("r")
    assert (kept.pruned_at, kept.status, kept.job_ids, kept.total_tasks) == (50.0, "abandoned", ["7"], 3)
    assert RunRecord(run_id="x").pruned == {}, "runs share nothing"


def test_the_view_says_what_would_go_and_what_stays():
    amount = {"runs": 2, "bytes": 2048, "files": 5, "not_measured": 1}
    row = {"run_id": "r", "cluster": "c", "state": "complete", "bytes": None, "aggregated": True}
    data = {"removed": False, "held": amount, "chosen": amount, "blocked": 1, "more_runs": 3,
            "deleted": {"files": 0, "bytes": 0, "left": 0},
            "runs": [{**row, "action": "remove"}, {**row, "action": "blocked", "why": "in flight"}]}  # fmt: skip
    text = str(view(data))
    for words in ("Nothing was removed", "would go", "2 KiB", "1 run not measured in time", "in flight", "3 more runs"):
        assert words in text
    assert "deleted now" in str(view({**data, "removed": True}))


def test_the_view_is_a_table_on_a_terminal_of_80_columns():
    amount = {"runs": 2, "bytes": 2_400_000, "files": 640}
    row = {"cluster": "local", "state": "in_flight", "bytes": 2_400_000, "files": 1640, "last_change": 1e9}
    runs = [{**row, "run_id": "fork-b58dcbd7", "aggregated": True, "action": "remove"},
            {**row, "run_id": "warm-b58dcbd7", "aggregated": True, "pruned": ["logs"], "action": "remove"}]  # fmt: skip
    data = {"removed": True, "held": amount, "chosen": amount, "blocked": 0, "runs": runs,
            "deleted": {"files": 20, "bytes": 2_400_000, "left": 0}}  # fmt: skip
    lines = ["".join(cell.text for cell in line) for line in lines_of(view(data), 80)]
    assert any(line.split()[:3] == ["run", "state", "holds"] and line.endswith("action") for line in lines)
    assert any(line.startswith("fork-b58dcbd7") and line.endswith("remove") for line in lines)
    assert "logs" in "".join(lines)
    assert "20 files and folders" in "".join(lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("state", "words"),
    [("complete", "not on the cluster any more"), ("failed", "not on the cluster any more"), ("running", "no log yet")],
)
def test_the_view_of_a_log_that_is_gone_says_so(state, words):
    entry = {"task": 3, "state": state, "host": "n1", "content": "", "missing": True, "path": None, "size": None}
    text = "".join(cell.text for line in lines_of(logs({"run_id": "r", "logs": [entry]}), 80) for cell in line)
    assert words in text


class Node:
    """A cluster that deletes some files with each call, and of one folder nothing any more."""

    root, site = "/s/hpc-agent/r-12345678", {}

    def __init__(self, files):
        self.files, self.asked = list(files), 0

    def bootstrap(self, *_):
        self.asked += 1
        return {"files": self.files.pop(0) if self.files else 0, "bytes": 1, "left": 1, "removed": {}, "kept": {}}


def test_what_cannot_be_deleted_is_told_and_not_tried_for_ever(tmp_path):
    node = Node([5, 3, 2])
    place = Place("c", node, answer={"runs": {}, "unfinished": 1})
    world = World(cwd=tmp_path, env={"HOME": str(tmp_path)})
    deleted = remove(world, Journal(world, RepoLayout(tmp_path)), [place], [], Removal("t", ["all"], 60.0))
    assert (deleted, node.asked) == ({"files": 10, "bytes": 4, "left": 1}, 4)
