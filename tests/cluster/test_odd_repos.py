"""Repos, tasks.py and executors as nobody would write them on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from experiment import aggregate, make_repo, submit, watch, write

pytestmark = [
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["slurm-ssh", "local"], indirect=True),
]
ROWDY = """import os, sys
os.chdir("/")
print("no newline", end="")
os.close(1)
if os.fork() == 0:
    os._exit(0)
from grid import XS
def total(): return len(XS)
def resolve(i): return {"x": XS[i]}
"""
METRIC = """echo '{"a": 1}' >"$HPC_RESULT_DIR/metrics.json" """
NAMES = ["a b.txt", "q\"uote'.txt", "$(touch hit).txt", "ünï", "-rf", "#comment", ";semi", "!bang", "back\\slash", "*"]


def test_names_that_shells_and_rsync_have_views_about(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", ROWDY)
    write(repo / "grid.py", "XS = [1, 2]\n")
    for name in NAMES:
        write(repo / "files" / name, name)
        write(repo / name, name)
    (repo / "loop").symlink_to("loop")
    (repo / "self").symlink_to(".")
    os.mkfifo(repo / "fifo")
    executor = (
        'ls -A . files | LC_ALL=C sort -u >"$HPC_RESULT_DIR/seen"; echo \'{"a": 1}\' >"$HPC_RESULT_DIR/metrics.json"'
    )
    sent = submit(run_cli, repo, executor)
    assert watch(run_cli, repo)["last_status"]["complete"] == 2, run_cli(
        "logs", "--full", "--all-failed", cwd=repo
    ).data
    seen = (Path(sent["remote_path"]) / "results" / "0" / "seen").read_text().splitlines()
    assert set(NAMES) <= set(seen)
    assert {"grid.py", "self", "loop"} <= set(seen)
    assert "fifo" not in seen
    work = Path(sent["remote_path"]) / "work"
    assert all((work / "files" / name).read_text() == name == (work / name).read_text() for name in NAMES)


def test_executors_that_misbehave(site, run_cli, tmp_path):
    odd = [
        'echo \'{"a": NaN, "b": 1e400, "c": 123456789012345678901234567890, "s": "x", "l": [1, 2, 3]}\' >"$M"',
        'echo "[]" >"$M"',
        '(setsid sleep 300 &); head -c 100000 /dev/urandom; read line; echo \'{"a": 2}\' >"$M"',
        "trap '' TERM; echo '{\"a\": 3}' >\"$M\"",
    ]
    repo = make_repo(tmp_path / "repo", [{"how": text} for text in odd])
    submit(run_cli, repo, 'M="$HPC_RESULT_DIR/metrics.json"; eval "$HOW"')
    assert watch(run_cli, repo)["last_status"]["complete"] == 4, run_cli(
        "logs", "--full", "--all-failed", cwd=repo
    ).data
    table = aggregate(run_cli, repo)
    overall = table["overall"]
    assert (overall["a"]["count"], overall["a"]["sum"], overall["a"]["nan_count"]) == (2, 5.0, 1)
    assert (overall["b"]["count"], overall["b"]["inf_count"]) == (0, 1)
    assert overall["c"]["sum"] == 123456789012345678901234567890
    assert (overall["l"]["count"], overall["l"]["mean"]) == (3, 2.0)
    assert table["without_metrics"] == "1"
    assert [(told["task"], told.get("field")) for told in table["metrics_problems"]] == [(1, None), (0, "s")]


def test_a_task_cannot_write_into_other_runs(site, run_cli, tmp_path):
    """Not even one that may change modes: its files are its run's own copies."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)], state="0")
    submit(run_cli, repo, "chmod u+w state; echo spoilt >> state", "--run-name", "one")
    assert watch(run_cli, repo)["last_status"]["complete"] == 3
    executor = "cat state; " + METRIC
    for name in ("two", "three"):
        submit(run_cli, repo, executor, "--run-name", name)
        assert watch(run_cli, repo)["last_status"]["complete"] == 3
        logs = run_cli("logs", "--full", "--task-id", "0,1,2", cwd=repo).data["logs"]
        assert [log["content"] for log in logs] == ["0", "0", "0"]
        write(repo / "more.txt", name)


def test_trouble_after_an_executor_stays_with_its_task(site, run_cli, tmp_path):
    """In a packed element the next task runs, and the record says what happened."""
    odd = [
        'python3 -c "print(100000 * chr(91))" >"$HPC_RESULT_DIR/metrics.json"',
        'rm -rf "$HPC_RESULT_DIR"',
        METRIC,
    ]
    repo = make_repo(tmp_path / "repo", [{"how": text} for text in odd])
    for name in ("resource", "json"):
        write(repo / f"{name}.py", "X = 1\n")
    # Not from inside the repo: these tests start `python -m`, which looks there for modules first.
    here = ("--experiment-dir", str(repo))
    submit(run_cli, tmp_path, 'cd /; eval "$HOW"', "--pack", "3", *here)
    seen = run_cli("monitor-flow", "--wall-clock-budget-seconds", "60", *here).data
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (2, {"missing_file": 1}), seen
    assert "after the executor" in seen["samples"][0]["message"]
    assert [problem["task"] for problem in run_cli("aggregate", *here).data["metrics_problems"]] == [0]


def test_a_tasks_py_that_forks_runs_every_task_once(site, run_cli, tmp_path):
    witness = site.scratch / "ran"
    witness.touch()
    witness.chmod(0o666)
    source = "import os\nos.fork()\ndef total(): return 3\ndef resolve(i): return {'task_id': 7, 'x': i}\n"
    repo = make_repo(tmp_path / "repo", source)
    sent = submit(run_cli, repo, f"echo $X >> {witness}; {METRIC}")
    assert watch(run_cli, repo)["last_status"]["complete"] == 3
    assert sorted(witness.read_text().split()) == ["0", "1", "2"]
    results = sorted(path.name for path in (Path(sent["remote_path"]) / "results").iterdir())
    assert results == ["0", "1", "2"], "a kwarg called task_id does not take the task's place"
