"""Tasks that end themselves while no client runs: a rule of one run, and of a campaign."""

from __future__ import annotations

import json
import time

import pytest
from campaign import events, make_campaign
from experiment import aggregate, make_repo, submit

from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_records import Records

pytestmark = pytest.mark.usefixtures("clusters_file")
# Task x reports x at each step: of tasks that run one after the other in this order, 0 is the best.
LOOP = """import json, os
from hpc_agent.experiment_kit import report, should_stop
for step in range(1, 10):
    report(step, float(os.environ["X"]))
    if should_stop():
        break
if os.environ["X"] != "5":
    json.dump({"loss": float(os.environ["X"]), "steps": step}, open(os.environ["HPC_RESULT_DIR"] + "/out.json", "w"))
"""
RULE = {"metric": "loss", "min_step": 3, "reduction": 3}


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_tasks_of_a_run_end_themselves_with_the_client_off(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(6)], **{"loop.py": LOOP})
    words = ["--early-stop", json.dumps(RULE), "--metrics-file", "out.json", "--pack", "6"]
    sent = submit(run_cli, repo, "python3 loop.py", *words)
    assert not any("early_stop" in note for note in sent["notes"])
    end = time.monotonic() + 120
    folder = RunFolder(sent["remote_path"])
    while not all(records := [Records(folder).read(task) for task in range(6)]):
        assert time.monotonic() < end
        time.sleep(0.2)
    metrics = {record.task: record.metrics for record in records}
    expected = {0: None, 1: None, 2: 3, 3: 3, 4: 3, 5: 3}
    assert {task: found.get("stopped_at") for task, found in metrics.items()} == expected
    assert metrics[5] == {"loss": 5.0, "stopped_at": 3}  # it wrote no out.json
    status = run_cli("status", cwd=repo).data
    assert (status["lifecycle_state"], status["stopped_early"]) == ("complete", 4)
    table = aggregate(run_cli, repo)
    assert "4 tasks ended early" in " ".join(table["notes"])
    stops = {row["kwargs"]["x"]: row["metrics"].get("stopped_at", {}).get("mean") for row in table["rows"]}
    assert stops == expected
    kept = json.loads((repo / ".hpc/runtimes/testbed.json").read_text())
    assert (
        json.dumps(kept).count("seconds_at_least") == 4
    )  # the next plan leaves time for a task that does all of its work


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_rule_is_part_of_the_identity_only_where_it_is_given(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}], **{"plain.py": "import os\nprint(os.environ['X'])\n"})
    plain = submit(run_cli, repo, "python3 plain.py", "--dry-run")
    ruled = submit(run_cli, repo, "python3 plain.py", "--dry-run", "--early-stop", json.dumps(RULE))
    other = submit(run_cli, repo, "python3 plain.py", "--dry-run", "--early-stop", json.dumps({**RULE, "reduction": 2}))
    assert len({plain["run_id"], ruled["run_id"], other["run_id"]}) == 3
    said = submit(
        run_cli, repo, "python3 plain.py", "--dry-run", "--early-stop", json.dumps({**RULE, "direction": "min"})
    )
    assert said["run_id"] == ruled["run_id"], "the name says so, too"
    assert "early_stop has no effect" in " ".join(ruled["notes"])
    assert not any("early_stop" in text for text in plain["notes"])
    words = ("submit", "--cluster", "testbed", "--executor", "true", "--early-stop")
    wrong = run_cli(*words, '{"reduction": 1}', cwd=repo)
    assert (wrong.code, wrong.envelope["error_code"]) == (1, "spec_invalid")
    unknown = run_cli(*words, '{"metric": "quality"}', cwd=repo)
    assert (unknown.code, unknown.envelope["field"]) == (1, "early_stop.direction")


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_trials_of_a_campaign_are_compared_over_its_iterations(site, run_cli, tmp_path):
    fields = {
        "batch": 4,
        "budget": {"max_tasks": 8},
        "early_stop": RULE,
        "submit": {"pack": 4, "results": {"metrics_file": "out.json"}},
    }
    repo = make_campaign(tmp_path / "repo", tmp_path, "python3 loop.py", **fields)
    (repo / "loop.py").write_text(LOOP.replace('float(os.environ["X"])', '(float(os.environ["X"]) - 1) ** 2'))
    done = run_cli("campaign-driver", "--campaign-id", "study", "--loop", cwd=repo, timeout=150).data
    assert done["reason"] == "budget"
    tells = {line["trial"]: line for line in events(repo) if line["event"] == "tell"}
    losses = {trial: tells[trial]["values"]["loss"] for trial in sorted(tells)}
    rank = {trial: sum(losses[other] < losses[trial] for other in range(trial)) for trial in losses}
    on = {trial: trial < 2 or rank[trial] < (trial + 1) // 3 for trial in losses}  # one after the other
    assert {trial: line["state"] for trial, line in tells.items()} == {
        trial: "complete" if on[trial] else "stopped" for trial in range(8)
    }
    assert {line.get("stopped_at") for line in tells.values()} == {3, None}
    (rung,) = site.scratch.rglob("campaigns/study/rungs/3/00000")
    assert len(list(rung.iterdir())) == 8
