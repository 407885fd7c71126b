"""Discovery in a repo of 10,000 Python files, beside a bare walk over the same files. Median of three, seconds."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpc_agent.experiment.reading.discovery import find_executors, find_reducers, find_runs

FILES, FOLDERS = 10_000, 100
SCRIPT = """import argparse
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--x", type=int)
    parser.parse_args()
"""


def make(root: Path) -> None:
    for number in range(FILES):
        folder = root / f"package{number % FOLDERS}"
        folder.mkdir(exist_ok=True)
        text = "def f(x):\n    return x + 1\n" * 30 + (SCRIPT if number % 20 == 0 else "")
        (folder / f"module{number}.py").write_text(text)


def bare_walk(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


def median(call: Callable[[Path], object], root: Path) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call(root)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root)
        walk = median(bare_walk, root)
        print(f"bare walk       {walk:6.2f} s")
        for name, call in (
            ("find_runs", find_runs),
            ("find_executors", find_executors),
            ("find_reducers", find_reducers),
        ):
            seconds = median(call, root)
            print(f"{name:<15} {seconds:6.2f} s   {seconds / walk:5.1f} x")


if __name__ == "__main__":
    main()
