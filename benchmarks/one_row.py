"""Measure one row in this process, for ``runner.py``: events on the file descriptor that was stdout."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.bench import Bench, SideFailed
from benchmarks.floor import floors
from benchmarks.registry import all_rows


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--aim-sec", type=float, required=True)
    parser.add_argument("--limit-sec", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a stray print must not reach the events
    bench = Bench(options.folder, options.quick, not options.without_peers, options.aim_sec, options.limit_sec, events)
    bench.tell(floors=floors())
    row = next(row for row in all_rows() if row.id == options.row)
    try:
        row.measure(bench)
    except SideFailed as error:
        bench.tell(broken_off=" ".join(str(error).split())[:400])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
