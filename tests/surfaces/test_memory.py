"""From past results to a campaign that begins at their best point: three calls, each printed by the one before."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from experiment import WRITE, aggregate, make_repo, submit, watch

pytestmark = [
    pytest.mark.local,
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["local"], indirect=True),
]
LOSS = "python3 fit.py"
FIT = """import json, os
loss = (float(os.environ["LR"]) - 0.3) ** 2
json.dump({"loss": loss}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""


def interviewed(repo: Path, kind: str, **fields: object) -> None:
    made = {"at": "2026-01-31T12:00:00Z", "total_tasks": 1}
    (repo / "interview.json").write_text(
        json.dumps({"goal": "Which rate?", "task_kind": kind, "_materialized": made, **fields})
    )


def run_printed(run_cli, command: str, cwd: Path):
    program, *words = shlex.split(command)
    assert program == "hpc-agent"
    return run_cli(*words, cwd=cwd).data


def first_point(repo: Path, campaign_id: str):
    """The parameters of the first trial that a campaign asked for itself."""
    lines = (repo / ".hpc" / "campaigns" / campaign_id / "journal.jsonl").read_text().splitlines()
    asks = [event for event in map(json.loads, lines) if event["event"] == "ask" and event["iteration"] >= 0]
    return asks[0]["params"]


def test_three_calls_from_a_sweep_to_a_campaign_at_its_best(site, run_cli, tmp_path):
    repo = make_repo(
        tmp_path / "root" / "sweep",
        [{"lr": lr, "seed": seed, "m": "a"} for lr in (0.001, 0.25, 1.0) for seed in (3, 4)],
        **{"fit.py": FIT},
    )
    interviewed(repo, "rates")
    interviewed(make_repo(tmp_path / "root" / "other", [{"x": 1}]), "another")
    submit(run_cli, repo, LOSS)
    watch(run_cli, repo)
    aggregate(run_cli, repo)
    told = run_cli("recall", "--root", "root", "--task-kind", "rates", cwd=tmp_path).data  # first call
    best = told["starts"][0]
    assert (best["params"], best["metric"], best["direction"], best["repeats"]) == (
        {"lr": 0.25, "seed": 3, "m": "a"}, "loss", "minimize", 2,
    )  # fmt: skip
    assert best["value"] == pytest.approx(0.0025)
    assert [start["params"]["lr"] for start in told["starts"]] == [0.25, 0.001, 1.0]
    begun = run_printed(run_cli, told["next_command"], tmp_path)  # second call
    manifest = json.loads(Path(begun["manifest_path"]).read_text())
    assert manifest["space"]["lr"] == {
        "type": "float",
        "low": 0.001,
        "high": 1.0,
        "log": True,
        "step": None,
        "values": [],
    }
    assert manifest["space"]["seed"]["values"] == [3]
    assert manifest["budget"]["max_tasks"] == 10
    run_printed(run_cli, begun["next_command"], tmp_path)  # third call
    assert first_point(repo, begun["campaign_id"]) == best["params"]
    run_cli("aggregate", "--run-id", best["run_id"], "--over", "seed", cwd=repo)
    again = run_cli("recall", "--root", "root", cwd=tmp_path).data
    assert again["starts"] == told["starts"], "a table over seeds has the same points"
    assert f"--campaign-id {manifest['campaign_id'].rpartition('-')[0]}-3" in again["next_command"]


def test_an_earlier_campaign_is_the_seed_of_the_next(site, run_cli, tmp_path):
    """Nobody wrote an interview: the manifest is found, and three calls lead on, each printed by the one before."""
    repo = make_repo(tmp_path / "root" / "tuned", [{"lr": 1.0}], **{"fit.py": FIT})
    space = {"lr": {"type": "float", "low": 0.0, "high": 1.0}, "flag": {"type": "categorical", "values": [True, False]}}
    begin = ["campaign-init", "tune", "--space", json.dumps(space), "--metric", "loss", "--batch", "3", "--max-tasks", "3",
             "--submit", json.dumps({"cluster": "testbed", "executor": LOSS}), "--goal", "it's the best rate"]  # fmt: skip
    driver = run_cli(*begin, cwd=repo).data["next_command"]
    for _ in range(40):
        if run_printed(run_cli, driver, repo)["decision"].startswith("stop"):
            break
        watch(run_cli, repo)
    told = run_cli("recall", "--root", str(tmp_path / "root"), cwd=repo).data
    best = told["starts"][0]
    assert (best["campaign_id"], best["metric"]) == ("tune", "loss")
    assert told["campaigns"][0]["no_interview"]
    worst = run_cli("recall", "--root", "root", "--metric", "loss", "--direction", "max", cwd=tmp_path).data
    assert worst["starts"][0]["value"] == told["starts"][-1]["value"] > best["value"]
    assert '"direction": "maximize"' in worst["next_command"]
    assert "--seed-from tune " in told["next_command"], "in the repo of the campaign itself"
    elsewhere = make_repo(tmp_path / "next", [{"lr": 1.0}], **{"fit.py": FIT})
    told = run_cli("recall", "--root", str(tmp_path / "root"), "--metric", "loss", cwd=elsewhere).data
    begun = run_printed(run_cli, told["next_command"], elsewhere)
    assert [(source["campaign_id"], source["trials"]) for source in begun["seed_from"]] == [("tune", 3)]
    manifest = json.loads((elsewhere / ".hpc" / "campaigns" / "tune-2" / "manifest.json").read_text())
    assert (manifest["goal"], manifest["batch"], manifest["budget"]["max_tasks"]) == ("it's the best rate", 3, 3)
    run_printed(run_cli, begun["next_command"], elsewhere)
    assert first_point(elsewhere, "tune-2") == best["params"]


def test_what_is_no_start_is_said(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "root" / "a", [{"x": 1}, {"x": 2}])
    interviewed(repo, "k")
    submit(run_cli, repo, WRITE)
    watch(run_cli, repo)
    table = Path(aggregate(run_cli, repo)["table_csv"]).with_name("table.json")
    told = run_cli("recall", "--root", "root", cwd=tmp_path).data
    assert (told["starts"], told["next_command"]) == ([], "")
    assert "measured y: --metric and --direction say what is best" in told["notes"][0]
    chosen = run_cli("recall", "--root", "root", "--metric", "y", "--direction", "maximize", cwd=tmp_path).data
    assert [start["value"] for start in chosen["starts"]] == [2, 1]
    assert run_printed(run_cli, chosen["next_command"], tmp_path)["created"]
    without = run_cli("recall", "--root", "root", "--metric", "z", cwd=tmp_path).data
    assert without["starts"] == []
    table.write_text('{"run_id": "r", "rows": [[]], "metrics": ["loss"]}')
    manifest = repo / ".hpc" / "campaigns" / "torn" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    notes = " ".join(run_cli("recall", "--root", "root", cwd=tmp_path).data["notes"])
    assert f"{table} is no table of a run" in notes
    assert str(manifest) in notes
