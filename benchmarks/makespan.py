"""The makespan that a plan estimates beside the one that a scheduler of the test bed needs; on a quiet machine.

    python benchmarks/makespan.py [SITE] [TASKS]        SITE: slurm-ssh (default), sge-ssh or local

The tasks last as long as the plan is told. Exit code 1 unless the estimate is within a factor of 1.5.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402
from experiment import WRITE, make_repo  # noqa: E402

TASK_SEC, FACTOR = 5, 1.5
LIMITS = {"max_array_size": 100, "max_concurrent_jobs": 2, "est_spin_up": "8s"}


def call(repo: Path, env: dict[str, str], *words: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_agent", *words], cwd=repo, env=env, stdout=subprocess.PIPE, check=False
    )
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        sys.exit(f"{words[0]}: {answer['message']}")
    return answer["data"]


def main() -> int:
    name, tasks = (*sys.argv[1:], *("slurm-ssh", "1050")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as folder:
        site = testbed.make_site(name, Path(folder))
        config = Path(folder) / "clusters.yaml"
        config.write_text(site.clusters_yaml(constraints=LIMITS))
        env = {**os.environ, "HOME": folder, "HPC_CLUSTERS_CONFIG": str(config), "HPC_PROGRESS": "none"}
        source = f"def total(): return {tasks}\ndef resolve(i): return {{'x': i}}\n"
        repo = make_repo(Path(folder) / "repo", source)
        flags = ["--est-task-sec", str(TASK_SEC), "--pack", "1", "--max-running", "64"]
        executor = f"sleep {TASK_SEC}; {WRITE}"
        begun = time.monotonic()
        plan = call(repo, env, "submit", "--cluster", testbed.CLUSTER, "--executor", executor, *flags)["plan"]
        ended = call(repo, env, "monitor-flow")
        took = time.monotonic() - begun
        site.clean_up()
    estimate = plan["est_total_wall_sec"]
    within = estimate / FACTOR <= took <= estimate * FACTOR
    print(
        f"{ended['lifecycle_state']}: {tasks} tasks in {took:.0f} s, estimated {estimate:.0f} s {'ok' if within else 'OFF'}"
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
