"""aggregate, combine-wave, verify-aggregation-complete and compare through the command line, on the embedded scheduler."""

from __future__ import annotations

import csv
import json
import shlex
import time
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

pytestmark = [pytest.mark.usefixtures("clusters_file"), pytest.mark.parametrize("site", ["local"], indirect=True)]
# y = alpha * 10 + seed + SHIFT; task 4 waits for a file, then fails unless a second file is there.
EXECUTOR = (
    'if [ "$ALPHA$SEED" = 21 ]; then while [ ! -e "$GO" ]; do sleep 0.1; done; [ -e "$GO/well" ] || exit 3; fi; '
    """echo "{\\"loss\\": $((ALPHA * 10 + SEED + SHIFT)), \\"part\\": {\\"a\\": 1}}" > "$HPC_RESULT_DIR/metrics.json\""""
)
TASKS = [{"alpha": alpha, "seed": seed} for alpha in (1, 2, 3) for seed in (0, 1)]
LIMITS = {"max_array_size": 2, "max_concurrent_jobs": 2, "est_spin_up": "1s"}


def start(run_cli, repo, go, shift=0, *flags):
    env = {"GO": str(go), "SHIFT": str(shift)}
    words = ["--env", json.dumps(env), "--expected-columns", "loss", "--pack", "1", *flags]
    return submit(run_cli, repo, EXECUTOR, *words)


def table_of(answer):
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def test_a_table_grows_from_part_to_whole_and_says_so(site, run_cli, tmp_path, clusters_file):
    clusters_file.write_text(site.clusters_yaml(constraints=LIMITS, local_cores=4))
    repo, go = make_repo(tmp_path / "repo", TASKS), tmp_path / "go"
    sent = start(run_cli, repo, go)
    assert sent["plan"]["n_waves"] == 2
    deadline = time.monotonic() + 60
    while run_cli("status", cwd=repo).data["last_status"]["complete"] < 5:
        assert time.monotonic() < deadline

    # While a task runs: a partial table, and the task that is not in it.
    part = run_cli("aggregate", "--over", "seed", "--sort", "loss", cwd=repo).data
    assert (part["complete"], part["missing_tasks"], part["missing_count"]) == (False, "3", 1)
    assert "failed_tasks" not in part
    assert part["next_step"] == f"hpc-agent monitor-flow --run-id {sent['run_id']}"
    rows = table_of(part)
    assert [(row["alpha"], row["tasks"], row["loss_mean"]) for row in rows] == [(1, 2, 10.5), (2, 1, 20), (3, 2, 30.5)]
    assert rows[0]["loss_ci95"] == pytest.approx(12.706 * 0.5, rel=1e-3)
    assert rows[1]["loss_ci95"] is None
    red = run_cli("verify-aggregation-complete", cwd=repo)
    assert (red.code, red.envelope["error_code"]) == (2, "outputs_missing")
    assert red.envelope["details"]["missing_tasks"] == "3"
    assert f"hpc-agent monitor-flow --run-id {sent['run_id']}" in red.envelope["remediation"]

    # The task fails: named as failed, in the table and by the check.
    go.write_text("")
    assert watch(run_cli, repo)["last_status"]["failed"] == 1
    part = run_cli("aggregate", "--over", "seed", cwd=repo).data
    assert (part["failed_tasks"], part["failed_count"], part["included_tasks"]) == ("3", 1, 5)
    red = run_cli("verify-aggregation-complete", cwd=repo).envelope
    assert "tasks 3 are missing (1 failed)" in red["message"]
    assert (red["details"]["failed_tasks"], red["details"]["all_waves_combined"]) == ("3", True)

    # It is run again, and the whole table is there, once the wave is combined again.
    go.unlink()
    (go / "well").mkdir(parents=True)
    assert run_cli("resubmit", "--classes", "code_error", cwd=repo).data["resubmitted"] == 1
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    red = run_cli("verify-aggregation-complete", cwd=repo).envelope
    assert red["details"]["stale_waves"] == "0"
    assert shlex.split(red["remediation"].split("'")[1])[1] == "aggregate"
    whole = run_cli("aggregate", "--over", "seed", "--sort", "loss", "--direction", "max", "--top", "1", cwd=repo).data
    assert (whole["complete"], whole["row_count"], table_of(whole)[0]["alpha"]) == (True, 3, 3)
    green = run_cli("verify-aggregation-complete", cwd=repo).data
    assert (green["ok"], green["combined_waves"], green["combined_tasks"], green["columns_checked"]) == (
        True,
        2,
        6,
        ["loss"],
    )
    missing = run_cli("verify-aggregation-complete", "--expected-columns", "loss,r2", cwd=repo).envelope
    assert missing["details"]["column_violations"] == {"r2": "0-5"}

    # One wave has a table of its own, beside the whole one.
    path = Path(whole["table_csv"])
    before = path.read_text()
    wave = run_cli("combine-wave", "--wave", "1", cwd=repo).data
    assert (wave["combined_waves"], wave["total_tasks"]) == ("1", 2)
    assert Path(wave["table_csv"]) == path.parent / "wave_1" / "table.csv"
    assert path.read_text() == before
    assert [row["alpha"] for row in csv.DictReader(before.splitlines())] == ["1", "2", "3"]


def test_the_rows_that_are_asked_for(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", TASKS)
    (tmp_path / "go" / "well").mkdir(parents=True)
    start(run_cli, repo, tmp_path / "go")
    watch(run_cli, repo)
    asked = ("--where", "alpha>=2", "--where", "seed=0,loss>1", "--sort", "loss", "--parquet")
    found = run_cli("aggregate", *asked, cwd=repo).data
    assert [(row["alpha"], row["seed"], row["loss"]) for row in table_of(found)] == [(2, 0, 20), (3, 0, 30)]
    assert (found["row_count"], found["matching_rows"], "truncated" in found) == (6, 2, False)
    assert Path(found["table_parquet"]).read_bytes()[:4] == b"PAR1"
    assert len(Path(found["table_csv"]).read_text().splitlines()) == 7, "the file has every row"
    refused = run_cli("aggregate", "--over", "sed", cwd=repo).envelope
    assert (refused["field"], refused["remediation"][:19]) == ("over", "Did you mean 'seed'")


def test_two_runs_beside_each_other(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", TASKS)
    (tmp_path / "go" / "well").mkdir(parents=True)
    first = start(run_cli, repo, tmp_path / "go")
    watch(run_cli, repo)
    make_repo(repo, [*TASKS[:4], {"alpha": 9, "seed": 0}])
    other = start(run_cli, repo, tmp_path / "go", 5)
    watch(run_cli, repo)
    names = [first["run_id"], other["run_id"]]
    found = run_cli("compare", "--run-ids", ",".join(names), "--over", "seed", "--metrics", "loss", cwd=repo).data
    assert found["runs"] == names
    assert [(row["alpha"], row["difference"], row["ci95"]) for row in table_of(found)] == [(1, 5, 0), (2, 5, 0)]
    assert found["constant"]["test"] == "paired"
    assert found["summary"] == [{"metric": "loss", "run": names[1], "higher": 2}]
    assert [(entry["run"], entry["count"], entry["rows"]) for entry in found["unmatched"]] == [
        (names[0], 1, [{"alpha": 3}]), (names[1], 1, [{"alpha": 9}]),
    ]  # fmt: skip
    written = list(csv.DictReader(Path(found["compare_csv"]).read_text().splitlines()))
    assert [row["difference"] for row in written] == ["5.0", "5.0"]
    twice = run_cli("compare", "--run-ids", f"{names[0]},{names[0]}", cwd=repo).envelope
    assert (twice["error_code"], twice["field"]) == ("spec_invalid", "run_ids")
