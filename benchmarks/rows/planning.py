"""Planning: its cost does not follow the number of tasks."""

from __future__ import annotations

import time

from benchmarks.bench import Bench
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.throughput import WorkloadSpec, compute_submission_plan

SIZES = (10_000, 100_000, 1_000_000)
IN_RUNS = (10_000_000,)  # one run may have a million
DRY_RUNS = (10_000, 100_000, 1_000_000)


@row("planning", "Planning of 10^4 to 10^7 tasks", aim_sec=40)
def planning(bench: Bench) -> None:
    """`plan-throughput` as a whole command; and `submit --dry-run`, which also resolves the parameters of each task twice, in two
    interpreters, and hashes them. A run may have a million tasks: ten million are ten runs."""
    product = Product(bench.site("local"), bench.folder)
    for _ in range(bench.size(3, 1)):
        for size in SIZES[:2] if bench.quick else SIZES:
            bench.step(f"plan {size:,} tasks")
            words = ("plan-throughput", "--cluster", "testbed", "--total-tasks", str(size), "--est-task-sec", "60")
            bench.take(f"{size:,} tasks", seconds_of(product.call, product.folder, *words))
    for size in () if bench.quick else IN_RUNS:
        begun = time.perf_counter()
        for number in range(size // SIZES[-1]):
            bench.step(f"plan {size:,} tasks, run {number + 1}")
            compute_submission_plan(WorkloadSpec(total_tasks=SIZES[-1], est_task_sec=60), parse_constraints({}))
        bench.take(
            f"{size:,} tasks, as {size // SIZES[-1]} runs",
            time.perf_counter() - begun,
            note="the planner, in one process",
        )
    for size in DRY_RUNS[:1] if bench.quick else DRY_RUNS:
        bench.step(f"submit --dry-run of {size:,} tasks")
        repo = product.repo(f"def total(): return {size}\ndef resolve(i): return {{'x': i}}\n")
        dry_run = ("submit", "--cluster", "testbed", "--executor", "/bin/true", "--dry-run")
        bench.take(f"submit --dry-run of {size:,} tasks", seconds_of(product.call, repo, *dry_run))
