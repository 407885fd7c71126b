"""Combine and aggregate a run of 100,000 tasks with 10 metrics."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row
from benchmarks.rows.status import SETTLED_SEC, held_run, record

METRICS, POINTS = 10, 100
SOURCE = "def total(): return {tasks}\ndef resolve(i): return {{'x': i % {points}, 'seed': i // {points}}}\n"
BY_POINT, BY_TASK = "a row a point", "a row a task"


@row("combine", "`aggregate` of 100,000 tasks with 10 metrics", aim_sec=60, site="slurm-ssh")
def combine(bench: Bench) -> None:
    """A run of 100 points with 1,000 seeds each on SLURM, kept back by `--hold`; its tasks are recorded by the product's own
    writer, with 10 random metrics each. `aggregate --over seed` gives a row a point, `aggregate` a row a task; each folds the
    records on the cluster, and the second time finds them folded."""
    size = bench.size(100_000, 1_000)
    product = Product(bench.site("slurm-ssh"), bench.folder)
    product.time_the_cluster()
    repo, folder = held_run(product, size, SOURCE.format(tasks=size, points=POINTS))
    bench.step("writing records")
    record(product, folder, 0, size - 1, METRICS)
    time.sleep(SETTLED_SEC)
    product.count_ssh()
    for name, flags, rows in ((BY_POINT, ("--over", "seed"), POINTS), (BY_TASK, (), size)):
        for which in ("", " again"):
            bench.step(f"aggregate, {name}{which}")
            product.cluster_seconds()
            whole = seconds_of(product.call, repo, "aggregate", *flags)
            used = product.ssh_used()
            bench.take(f"{name}{which}: on the cluster", product.cluster_seconds())
            bench.take(f"{name}{which}: whole command", whole)
            bench.take(f"{name}{which}: pulled", used["received"], unit="B")
            bench.take(f"{name}{which}: SSH commands", used["commands"], unit="")
        found = len(product.table(repo, *flags))
        if found != rows:
            raise SideFailed(f"the table has {found} rows, not {rows}")
