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
    assert watch(run_cli, repo)["last_status"]["complete"] == 2, run_cli("logs", "--all-failed", cwd=repo).data
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
    assert watch(run_cli, repo)["last_status"]["complete"] == 4, run_cli("logs", "--all-failed", cwd=repo).data
    table = aggregate(run_cli, repo)
    overall = table["overall"]
    assert (overall["a"]["count"], overall["a"]["sum"], overall["a"]["nan_count"]) == (2, 5.0, 1)
    assert (overall["b"]["count"], overall["b"]["inf_count"]) == (0, 1)
    assert overall["c"]["sum"] == 123456789012345678901234567890
    assert (overall["l"]["count"], overall["l"]["mean"]) == (3, 2.0)
    assert table["without_metrics"] == "1"
    assert [problem["task"] for problem in table["metrics_problems"]] == [1]
