"""The main job at its real size: the horizon sweep, 2,000 tasks, and how many SSH commands each verb takes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from experiment import WRITE, aggregate, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
ARGUMENTS = '--horizon "$HORIZON" --start "$START" --end "$END" --output-file "$HPC_RESULT_DIR/metrics.json"'


def by_hand(python: str, repo: Path, executor: str, horizon: int, folder: Path) -> dict[str, float]:
    """The metrics of one grid point, from running the script as its author would."""
    output = folder / f"{executor}-{horizon}.json"
    subprocess.run(
        [python, f"executors/{executor}.py", "--horizon", str(horizon), "--output-file", str(output)],
        cwd=repo,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        timeout=120,
        capture_output=True,
    )
    return json.loads(output.read_text())


def test_horizon_sweep_equals_the_scripts_run_by_hand(site, run_cli, tmp_path):
    repo = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, repo, ignore=shutil.ignore_patterns("results", "runs", "__pycache__", ".gitignore"))
    submit(
        run_cli, repo, f'{shlex.quote(site.science_python)} executors/"$EXECUTOR".py {ARGUMENTS}', "--mem-mb", "1000"
    )
    seen = watch(run_cli, repo, 240)
    assert seen["lifecycle_state"] == "complete", run_cli("logs", "--full", "--all-failed", cwd=repo).data
    table = aggregate(run_cli, repo)
    assert (table["complete"], table["row_count"]) == (True, 6)
    csv = {
        tuple(line.split(",")[1:3]): line.split(",")[4:]
        for line in Path(table["table_csv"]).read_text().splitlines()[1:]
    }
    for row in table["rows"]:
        executor, horizon = row["kwargs"]["executor"], row["kwargs"]["horizon"]
        expected = by_hand(site.science_python, repo, executor, horizon, tmp_path)
        measured = {name: facts["mean"] for name, facts in row["metrics"].items()}
        # OpenBLAS chooses its kernels for the processor that a process finds: the last digit may differ between two.
        assert measured == pytest.approx(expected, rel=1e-9)
        written = dict(zip(table["metrics"], csv[(executor, str(horizon))], strict=True))
        assert {name: float(text) for name, text in written.items()} == measured


@pytest.mark.parametrize(
    ("site", "tasks"), [("slurm-ssh", 6), ("slurm-ssh", 2000), ("sge-ssh", 6), ("sge-ssh", 500)], indirect=["site"]
)
@pytest.mark.slow(reason="2,000 tasks: the number of SSH commands is compared with that of 6")
@pytest.mark.timeout(900)
def test_ssh_commands_do_not_grow_with_the_tasks(site, run_cli, tmp_path, ssh_counter, tasks):
    """submit at most 3, status 1, aggregate at most 2, report 1; and a large array of one-line executors adds up."""
    repo = make_repo(tmp_path / "repo", [{"x": x * 3 + 1} for x in range(tasks)])
    submit(run_cli, repo, WRITE, "--mem-mb", "32", "--max-running", "32")
    assert ssh_counter.count() <= 3, ssh_counter.lines()
    ssh_counter.reset()
    submit(run_cli, repo, WRITE, "--mem-mb", "32", "--max-running", "32")
    assert ssh_counter.count() == 0, "a replay asks nobody"
    run_cli("status", cwd=repo)
    assert ssh_counter.count() == 1, ssh_counter.lines()
    seen = watch(run_cli, repo, 800)
    assert seen["last_status"]["complete"] == tasks, seen
    ssh_counter.reset()
    run_cli("status", cwd=repo)
    assert ssh_counter.count() == 1, ssh_counter.lines()
    ssh_counter.reset()
    table = aggregate(run_cli, repo)
    assert ssh_counter.count() <= 2, ssh_counter.lines()
    ssh_counter.reset()
    page = run_cli("report", cwd=repo).data
    assert ssh_counter.count() == 1, ssh_counter.lines()
    assert page["complete"]
    assert page["bytes"] < 500_000
    assert table["row_count"] == tasks
    assert table["overall"]["y"]["sum"] == sum(x * 3 + 1 for x in range(tasks))
    assert table["overall"]["y"]["count"] == tasks
    lines = Path(table["table_csv"]).read_text().splitlines()
    assert sum(int(float(line.split(",")[1])) for line in lines[1:]) == sum(x * 3 + 1 for x in range(tasks))
