"""A campaign whose tasks.py chooses from what earlier iterations measured; it is resolved again on the cluster."""

from __future__ import annotations

import json

import pytest
from experiment import write

TASKS = """
from pathlib import Path
from hpc_agent.experiment_kit import prior

HISTORY = prior(Path(__file__).resolve().parents[1], "zoom")
ROWS = [row for iteration in HISTORY for row in iteration["rows"]]
BEST = min((row["metrics"]["loss"], row["params"]["x"]) for row in ROWS)[1] if ROWS else 0.0
TASKS = [{"x": BEST + step / 3 ** len(HISTORY)} for step in (0.25, 0.5)]
total = lambda: len(TASKS)
resolve = lambda task_id: TASKS[task_id]
"""
LOSS = """
import json, os
x = float(os.environ["X"])
json.dump({"loss": (x - 0.3) ** 2}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""


pytestmark = pytest.mark.usefixtures("clusters_file")


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


@pytest.fixture
def call(run_cli, repo):
    return lambda *words, **options: run_cli(*words, cwd=repo, **options)


@pytest.mark.timeout(250)
@pytest.mark.parametrize("site", ["slurm-ssh", "local"], indirect=True)
def test_a_tasks_py_reads_the_history(site, call, repo):
    write(repo / ".hpc/tasks.py", TASKS)
    write(repo / "loss.py", LOSS)
    submit = ("submit", "--cluster", "testbed", "--executor", "python3 loss.py", "--campaign-id", "zoom")
    assert call("campaign-init", "zoom", "--metric", "loss", "--max-iters", "2").data["strategy"] == "own"
    first = call(*submit).data
    waiting = call("campaign-advance", "zoom").data
    assert (waiting["decision"], waiting["next_command"]) == (
        "wait_in_flight",
        f"hpc-agent status --run-id {first['run_id']}",
    )
    assert call("monitor-flow").data["lifecycle_state"] == "complete"
    ended = call("campaign-advance", "zoom").data
    assert (ended["decision"], ended["next_command"]) == (
        "wait_in_flight",
        f"hpc-agent aggregate --run-id {first['run_id']}",
    )
    call("aggregate")
    call("aggregate")
    more = call("campaign-advance", "zoom").data
    assert (more["decision"], more["status"]) == ("continue", {"iterations": 1, "complete": 2})
    assert more["next_command"].startswith("hpc-agent submit --cluster testbed")
    second = call(*submit).data
    assert second["run_id"] != first["run_id"]
    assert call(*submit).data["deduped"] is True, "before its results are known the iteration is the same run"
    assert call("monitor-flow").data["lifecycle_state"] == "complete"
    call("aggregate")
    prior = json.loads((repo / ".hpc/campaigns/zoom/prior.json").read_text())["iterations"]
    assert [one["run_id"] for one in prior] == [first["run_id"], second["run_id"]]
    xs = [[row["params"]["x"] for row in one["rows"]] for one in prior]
    assert xs[1] == [0.25 + 0.25 / 3, 0.25 + 0.5 / 3]
    status = call("campaign", "status", "zoom").data
    assert (status["decision"], status["reason"]) == ("stop_converged", "max_iters")
    assert status["best"]["params"] == {"x": 0.25 + 0.25 / 3}
    assert (status["spent"]["tasks"], status["spent"]["jobs"]) == (4, 2)
    assert call("campaign-health", "zoom").data["trials"] == {"complete": 4}
    write(
        repo / ".hpc/tasks.py",
        TASKS.replace("ROWS else 0.0", "False else 0.0")
        .replace("(0.25, 0.5)", "(0.25, 0.6)")
        .replace("** len(HISTORY)", "** 0"),
    )
    warned = call("validate-campaign", *submit[1:]).data
    [finding] = [one for one in warned["findings"] if one["code"] == "points_repeated"]
    assert finding["evidence"] == {"tasks": "0"}
