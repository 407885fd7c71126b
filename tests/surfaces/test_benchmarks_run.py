"""``python -m benchmarks``: small rows on this machine; one that takes too long is ended and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from benchmarks.registry import all_rows
from benchmarks.results import PAGE, RESULTS
from benchmarks.runner import Options, measure

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ("planning", "startup", "noops-processes-local-1000", "noops-functions-local-1000")


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=200, check=False)  # fmt: skip


@pytest.mark.local
def test_small_rows_on_this_machine():
    before = PAGE.read_bytes(), RESULTS.read_bytes()
    done = benchmarks("--quick", "--without-peers", *LOCAL)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in LOCAL:
        assert f"## {row}\n" in done.stdout
    for side in ("| hpc-agent |", "| loop in one job |", "| 10,000 tasks |", "| hpc-agent --version |"):
        assert side in done.stdout
    assert "- Parsl: skipped, --without-peers" in done.stdout
    assert (PAGE.read_bytes(), RESULTS.read_bytes()) == before  # small sizes are never written


def test_the_list_and_a_row_that_does_not_exist():
    listed = benchmarks("--list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [row.id for row in all_rows()]
    unknown = benchmarks("no-such-row")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "no-such-row" in unknown.stderr


def test_a_row_that_takes_too_long_is_ended_and_keeps_what_it_measured():
    row = next(row for row in all_rows() if row.id == "startup")
    steps: list[str] = []
    taken = measure(msgspec.structs.replace(row, aim_sec=1), Options(), steps.append)
    assert taken.broken_off == "it took over 3 s"
    assert taken.seconds < 60
    assert taken.versions["hpc-agent"]


def test_an_error_of_a_row_is_told():
    row = msgspec.structs.replace(all_rows()[0], id="no-such-row")
    taken = measure(row, Options(quick=True), lambda _text: None)
    assert "StopIteration" in taken.broken_off
    assert not taken.measures
