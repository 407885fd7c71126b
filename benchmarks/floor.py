"""The machine's own floor: what a process and a fork cost here. Every overhead of a task is told as a multiple of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.figures import median

SPAWN, FORK = "spawn", "fork"
NAMES = {SPAWN: "posix_spawn of `true`", FORK: "a fork"}
PROGRAM = Path(__file__).resolve().parent / "node" / "floor.py"


def floors() -> dict[str, float]:
    """Return the median of each floor, in seconds."""
    said = subprocess.check_output([sys.executable, "-I", "-S", str(PROGRAM)], text=True, timeout=60)
    rows = [[float(word) for word in line.split()] for line in said.splitlines()]
    return {name: median([row[column] for row in rows]) for column, name in enumerate((SPAWN, FORK))}
