"""``python -m benchmarks``: small rows on this machine; one that takes too long is ended and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from benchmarks import peer
from benchmarks.bench import SideFailed, testbed
from benchmarks.product import Product
from benchmarks.registry import all_rows
from benchmarks.results import PAGE, RESULTS
from benchmarks.rows.noops import check, left_out
from benchmarks.runner import Options, measure

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ("planning", "noops-functions-local-1000")


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=280, check=False)  # fmt: skip


@pytest.mark.local
def test_small_rows_on_this_machine():
    before = PAGE.read_bytes(), RESULTS.read_bytes()
    done = benchmarks("--quick", "--without-peers", *LOCAL)
    assert done.returncode == 0, done.stdout + done.stderr
    for row in LOCAL:
        assert f"## {row}\n" in done.stdout
    assert done.stdout.count("these are no measurements") == len(LOCAL)
    for side in ("| hpc-agent |", "| loop in one job |", "| 10,000 tasks |"):
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


@pytest.mark.local
def test_records_of_a_synthetic_run_are_read_as_those_of_tasks_that_ran(tmp_path):
    """The canary keeps the rest of the run back: no element starts beside the two that run here."""
    site = testbed.make_site("local", tmp_path)
    product = Product(site, tmp_path)
    repo = product.repo("def total(): return 300\ndef resolve(i): return {'x': i % 3, 'seed': i // 3}\n")
    folder = product.submit(repo, "/bin/true", "--pack", "100", "--canary")["remote_path"]
    assert product.node_script("write_records.py", folder, "1", "99", "2") == {"written": 99}
    assert product.call(repo, "status")["last_status"]["complete"] >= 99
    used = product.node_script("run_element.py", folder, "a0", "1")
    assert used["code"] == 0
    assert 0 < used["dispatcher"] < used["tree"]
    product.time_the_cluster()
    assert product.node_script("write_records.py", folder, "200", "299", "2") == {"written": 100}
    product.cluster_seconds()
    assert product.call(repo, "status")["last_status"]["complete"] >= 299
    assert product.cluster_seconds() > 0
    assert [row["x"] for row in product.table(repo, "--over", "seed")] == ["0", "1", "2"]


def test_other_outputs_are_no_result():
    check("a", {0: 0, 1: 2}, "function", 2)
    check("a", {0: 0, 1: 0}, "process", 2)
    for values in ({0: 0}, {0: 0, 1: 3}, {}):
        with pytest.raises(SideFailed, match="other outputs"):
            check("a", values, "function", 2)
    assert "commands" in left_out("GNU parallel", "function", "slurm", 1_000)
    assert left_out("GNU parallel", "process", "slurm", 1_000) == ""


def test_a_peer_that_could_not_be_installed_is_told_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("HPC_BENCHMARKS_CACHE", str(tmp_path))
    peer.versions.cache_clear()
    try:
        assert peer.why_not("Parsl") == "it is not installed"
        (tmp_path / "not-installed.json").write_text(json.dumps({"Parsl": "it cannot be installed: no network"}))
        assert peer.why_not("Parsl") == "it cannot be installed: no network"
        assert peer.version("Parsl") == ""
    finally:
        peer.versions.cache_clear()


def test_commands_over_ssh_and_their_bytes_are_counted(tmp_path):
    log = tmp_path / "log"
    env = {**os.environ, "HPC_BENCHMARK_SSH": "/bin/cat", "HPC_BENCHMARK_SSH_LOG": str(log)}
    program = [sys.executable, "-S", str(ROOT / "benchmarks" / "counting_ssh.py")]
    for text in (b"", b"x" * 100_000):
        done = subprocess.run(program, env=env, input=text, capture_output=True, timeout=60, check=True)
        assert done.stdout == text
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"sent": 0, "received": 0},
        {"sent": 100_000, "received": 100_000},
    ]
    missing = subprocess.run(
        [*program, "/no/such/file"], env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert missing.returncode == 1
