"""``recall`` over 10,000 interviews: the first call, which builds the index, and later ones.

Whole commands, in seconds by the clock, and of the processor: those do not depend on what else the machine does.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INTERVIEWS, LATER = 10_000, 5


def make(root: Path) -> None:
    """Write repos with an interview, code, and the samples of a run each."""
    for number in range(INTERVIEWS):
        repo = root / f"year{number % 10}" / f"campaign{number:05}"
        (repo / "src").mkdir(parents=True)
        (repo / ".hpc" / "runtimes").mkdir(parents=True)
        (repo / "results" / "run").mkdir(parents=True)
        document = {
            "goal": f"Which horizon can be forecast with model {number}?",
            "task_kind": f"kind{number % 7}",
            "task_count": 6 + number % 50,
            "produced_by": {"kind": "human", "operator": f"user{number % 11}"},
            "cluster_target": {"cluster": f"cluster{number % 3}"},
            "budget": {"wall_clock_max_h": number % 24},
            "task_generator": {
                "kind": "cartesian_product",
                "params": {"axes": {"horizon": [1, 5, 25], "alpha": [0.1, number / 10]}},
            },
            "transcript": [{"role": "operator", "text": "Try the usual horizons. " * 20}],
            "_materialized": {"at": f"20{10 + number % 16}-01-31T12:00:00Z", "cmd_sha": "0" * 64, "total_tasks": 6},
        }
        (repo / "interview.json").write_text(json.dumps(document, indent=2))
        rows = [{"task": task, "seconds": task + 0.5, "executor": "train.py"} for task in range(20)]
        runs = [{"run_id": "run-1", "at": "2026-01-31T12:00:00Z", "rows": rows}]
        (repo / ".hpc" / "runtimes" / "c.json").write_text(json.dumps({"version": 1, "cluster": "c", "runs": runs}))


def seconds(home: Path, *flags: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "hpc_agent", "recall", "--root", str(home / "experiments"), *flags]
    env = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    started, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    took = time.perf_counter() - started, cpu_seconds() - used
    answer = json.loads(done.stdout)["data"]
    assert answer["total_matching"] > 0
    assert "unreadable" not in answer
    return took


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make(home / "experiments")
        time.sleep(2.5)  # what is younger than two seconds is read again in each call
        print(f"{'':<31} clock   cpu")
        took, used = seconds(home)
        print(f"{'first call':<31} {took:5.2f} {used:5.2f}")
        for name, flags in (
            ("later call", []),
            ("with a word and a kind", ["--words", "model 77", "--task-kind", "kind0"]),
            ("with generator statistics", ["--include-generator-stats"]),
            ("with runtimes", ["--include-runtime"]),
        ):
            took, used = map(statistics.median, zip(*(seconds(home, *flags) for _ in range(LATER)), strict=True))
            print(f"{name:<31} {took:5.2f} {used:5.2f}   (median of {LATER})")


if __name__ == "__main__":
    main()
