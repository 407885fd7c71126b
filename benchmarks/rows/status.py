"""Status of large runs: its cost follows what changed."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row

SIZES = (1_000, 10_000, 100_000)
SETTLED_SEC = 3.5  # file systems with coarse times: a shard that was just written is read again
LOOKS = 3


@row("status", "`status` of runs of 10^3 to 10^5 tasks", aim_sec=120, site="slurm-ssh")
def status(bench: Bench) -> None:
    """Runs on SLURM, kept back by `--hold`, 1,000 tasks to an element; tasks are recorded by the product's own writer
    (`node/write_records.py`). Measured are the seconds of Python on the cluster, and the whole command over SSH."""
    product = Product(bench.site("slurm-ssh"), bench.folder)
    product.time_the_cluster()
    for size in SIZES[:1] if bench.quick else SIZES:
        of_size(bench, product, size)


def of_size(bench: Bench, product: Product, size: int) -> None:
    """First look, nothing changed, 1 % changed, and all changed, of one run."""
    repo, folder = held_run(product, size)
    bench.step(f"{size:,} tasks: writing records")
    done = size * 9 // 10
    record(product, folder, 0, done - 1)
    time.sleep(SETTLED_SEC)
    look(bench, product, repo, f"{size:,} tasks, first look")
    for _ in range(LOOKS):
        look(bench, product, repo, f"{size:,} tasks, nothing changed")
    if size == SIZES[-1] or bench.quick:
        product.count_ssh()
        product.call(repo, "status")
        used = product.ssh_used()
        product.stop_counting()
        bench.take("SSH commands of a status", used["commands"], unit="")
        bench.take("bytes of a status", used["received"], unit="B", note=f"of {size:,} tasks")
        product.cluster_seconds()
    step = size // 100
    for number in range(LOOKS):
        record(product, folder, done + number * step, done + (number + 1) * step - 1)
        time.sleep(SETTLED_SEC)
        look(bench, product, repo, f"{size:,} tasks, 1 % changed")
    everything_changed(bench, product, size)


def everything_changed(bench: Bench, product: Product, size: int) -> None:
    repo, folder = held_run(product, size)
    if bench.left() < 60:
        bench.skip(f"{size:,} tasks, all changed", "no time is left")
        return
    product.call(repo, "status")
    record(product, folder, 0, size - 1)
    time.sleep(SETTLED_SEC)
    product.cluster_seconds()
    look(bench, product, repo, f"{size:,} tasks, all changed")


def held_run(product: Product, size: int, source: str = "") -> tuple[Path, str]:
    """Submit a run that SLURM keeps back; return its repo and its folder on the cluster."""
    repo = product.repo(source or f"def total(): return {size}\ndef resolve(i): return {{'x': i}}\n")
    folder = product.held(repo, "/bin/true", "--pack", "1000")["remote_path"]
    product.cluster_seconds()
    return repo, folder


def record(product: Product, folder: str, first: int, last: int, metrics: int = 0) -> None:
    """Record the tasks from ``first`` to ``last`` as complete."""
    product.node_script("write_records.py", folder, str(first), str(last), str(metrics))


def look(bench: Bench, product: Product, repo: Path, name: str) -> None:
    bench.step(name)
    whole = seconds_of(product.call, repo, "status")
    bench.take(name, product.cluster_seconds())
    bench.take(f"{name}: whole command", whole)
