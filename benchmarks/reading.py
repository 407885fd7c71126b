"""Cost of reading large answers, in CPU seconds against budgets, on this machine; no scheduler is asked.

    python benchmarks/reading.py

Queue and accounting of SLURM and Grid Engine with 10,000 rows; the worst log tail of 64 KiB for the classifier; a table of
100,000 grid points, written, read and merged. The budgets tell a line from a square. Exit code 1 when one is exceeded.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

from hpc_agent.node.schedulers.sge import adapter as sge
from hpc_agent.node.schedulers.sge import qacct
from hpc_agent.node.schedulers.slurm import adapter as slurm
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.why.fingerprints import fingerprint

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

from test_classify import FAILED, HOSTILE, classify_facts  # noqa: E402
from test_sge_adapter import RECORDED_FROM, recorded  # noqa: E402

ROWS, POINTS, TAIL_BYTES = 10_000, 100_000, 64 << 10


def fastest(call: Callable[[], object], tries: int = 3) -> float:
    """Return the CPU seconds of the fastest of the tries."""

    def once() -> float:
        begun = time.process_time()
        call()
        return time.process_time() - begun

    return min(once() for _ in range(tries))


def slurm_queue() -> object:
    return slurm.parse_queue("".join(f"77_{i}|RUNNING|node{i % 99}|None\n" for i in range(ROWS)), {"77"})


def slurm_accounting() -> object:
    rows = (f"77_{i}|COMPLETED|0:0|1795446158|87|node{i % 99}\n" for i in range(ROWS))
    return slurm.parse_accounting("".join(rows), RECORDED_FROM)


def sge_queue() -> object:
    one = "<job_list state='running'><JB_job_number>77</JB_job_number><JB_name>x</JB_name><JB_owner>me</JB_owner>"
    two = "<state>r</state><queue_name>all.q@vm</queue_name><slots>1</slots>"
    rows = "".join(f"{one}{two}<tasks>{i}</tasks></job_list>" for i in range(1, ROWS + 1))
    return sge.parse_queue(f"<?xml version='1.0'?><job_info><queue_info>{rows}</queue_info></job_info>", {"77"})


def sge_accounting() -> object:
    block = recorded("qacct-plain")[1]
    return qacct.parse("".join(block.replace("undefined", f"{i}", 1) for i in range(1, ROWS + 1)), "3", RECORDED_FROM)


def read_tail(unit: str) -> None:
    tail = (unit * (1 + TAIL_BYTES // len(unit)))[:TAIL_BYTES]
    classify_facts(FAILED, tail, tail)
    fingerprint(tail)


def worst_tail() -> float:
    """Return the CPU seconds of the slowest tail that repeats one or two of the hostile units."""
    units = [*HOSTILE, *("".join(pair) for pair in permutations(HOSTILE, 2))]
    return max(fastest(lambda unit=unit: read_tail(unit), 1) for unit in units)


def grid_points() -> float:
    table = Table()
    for task in range(POINTS):
        table.add_task({"x": task, "y": task % 7}, {"loss": task / 8})
    return fastest(lambda: Table().merge(Table.from_json(json.loads(json.dumps(table.to_json())))))


def main() -> int:
    rows = [
        ("SLURM: a queue of 10,000 elements", lambda: fastest(slurm_queue), 5.0),
        ("SLURM: accounting of 10,000 elements", lambda: fastest(slurm_accounting), 5.0),
        ("Grid Engine: a queue of 10,000 elements", lambda: fastest(sge_queue), 5.0),
        ("Grid Engine: accounting of 10,000 elements", lambda: fastest(sge_accounting), 5.0),
        ("the worst hostile log tail", worst_tail, 1.0),
        ("a table of 100,000 grid points", grid_points, 3.0),
    ]
    within = True
    for name, measure, budget in rows:
        seconds = measure()
        within = within and seconds <= budget
        print(f"{name:<44} {seconds:7.3f} s   budget {budget:.0f} s {'ok' if seconds <= budget else 'OVER'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
