"""10,000 tasks on a SLURM 24.11 that limits requests: testbed/slurm24-up makes it, in minutes. scripts/test does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANNOT = 2


@pytest.mark.slow(reason="10,000 tasks, and the time in which slurmctld fills a user's bucket again")
@pytest.mark.timeout(1200)
def test_ten_thousand_tasks_without_one_throttled_request():
    words = [sys.executable, "-m", "benchmarks.newer_slurm", "--tasks", "10000", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1100, check=False)
    if done.returncode == CANNOT:  # also where schedulers are required: this one is no part of scripts/test
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)
    assert found["refused_of_a_flood"] > 0
    assert [(step["what"], step["throttled"]) for step in found["steps"] if step["throttled"]] == []
    assert {step["what"]: step["ssh_commands"] for step in found["steps"] if step["what"] != "monitor-flow"} == {
        "submit": 1, "status": 1, "aggregate": 1,
    }  # fmt: skip
    assert found["tokens"] <= 40, "fewer than the bucket holds"
