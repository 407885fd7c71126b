"""The client is killed at a random instant of submit: the same command again gives one run in which every task ran once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
TASKS = 4


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("site", "kills"), [("local", 15), ("slurm-ssh", 8), ("sge-ssh", 8)], indirect=["site"])
def test_killed_at_random(site, kills, run_cli, tmp_path, world_home):
    chance = random.Random(f"{site.name}")
    for number in range(kills):
        witness = site.scratch / f"ran-{number}"
        witness.touch()
        witness.chmod(0o666)
        repo = make_repo(tmp_path / f"repo{number}", [{"x": x} for x in range(TASKS)])
        executor = f'echo $X >> {witness}; echo "{{\\"y\\": $X}}" > "$HPC_RESULT_DIR/metrics.json"'
        words = [sys.executable, "-m", "hpc_agent", "submit", "--cluster", "testbed", "--executor", executor]
        client = subprocess.Popen(
            words,
            cwd=repo,
            env=world_home.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(chance.uniform(0.15, 1.2))
        if client.poll() is None:
            os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        sent = submit(run_cli, repo, executor)
        again = submit(run_cli, repo, executor)
        assert (again["run_id"], again["job_ids"], again["deduped"]) == (sent["run_id"], sent["job_ids"], True)
        seen = watch(run_cli, repo)
        assert seen["last_status"]["complete"] == TASKS, seen
        ran = Counter(witness.read_text().split())
        assert ran == Counter(str(x) for x in range(TASKS)), f"kill {number}: {ran}"
