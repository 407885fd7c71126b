"""Combine and aggregate a run of 100,000 tasks with 10 metrics."""

from __future__ import annotations

import time

from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row
from benchmarks.rows.status import SETTLED_SEC, held_run, record

METRICS = 10


@row("combine", "`aggregate` of 100,000 tasks with 10 metrics", aim_sec=60, site="slurm-ssh")
def combine(bench: Bench) -> None:
    """A run on SLURM, kept back by `--hold`; its tasks are recorded by the product's own writer with 10 random metrics each. The
    first `aggregate` folds the records on the cluster; the second finds them folded. A row of the table is a task."""
    size = bench.size(100_000, 1_000)
    product = Product(bench.site("slurm-ssh"), bench.folder)
    product.time_the_cluster()
    repo, folder = held_run(product, size)
    bench.step("writing records")
    record(product, folder, 0, size - 1, METRICS)
    time.sleep(SETTLED_SEC)
    for which in ("", " again"):
        bench.step(f"aggregate{which}")
        product.count_ssh()
        whole = seconds_of(product.call, repo, "aggregate")
        used = product.ssh_used()
        bench.take(f"{size:,} tasks{which}: on the cluster", product.cluster_seconds())
        bench.take(f"{size:,} tasks{which}: whole command", whole)
        bench.take(f"{size:,} tasks{which}: pulled", used["received"], unit="B")
        bench.take(f"{size:,} tasks{which}: SSH commands", used["commands"], unit="")
    found = len(product.metric(repo, "metric_0"))
    if found != size:
        raise SideFailed(f"the table has {found} of {size} tasks")
