"""Recovery of failures that are no neighbours."""

from __future__ import annotations

from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row

FAILING = "test $((X % 2)) = 0 || { echo MemoryError >&2; exit 1; }"


@row("recovery", "`resubmit` of 10,000 failures, every second of 20,000 tasks", aim_sec=90, site="slurm-ssh")
def recovery(bench: Bench) -> None:
    """The tasks really run and fail, on SLURM, 1,000 to an element; each failure has its record and its log. The seconds of
    Python on the cluster hold reading, classes, decision and sbatch; the new elements are kept back by `--hold`."""
    failures = bench.size(10_000, 10)
    product = Product(bench.site("slurm-ssh"), bench.folder)
    repo = product.repo(f"def total(): return {2 * failures}\ndef resolve(i): return {{'x': i}}\n")
    bench.step(f"running {2 * failures:,} tasks, half of which fail")
    submitted = product.held(repo, FAILING, "--pack", str(min(1000, failures)))
    product.release(submitted)
    ended = product.wait(repo, bench.left() - 40)
    if ended["last_status"]["failed"] != failures:
        raise SideFailed(f"{ended['last_status']['failed']} tasks failed, not {failures}")
    product.time_the_cluster()
    product.count_ssh()
    for verb in ("failures", "resubmit"):
        bench.step(verb)
        whole = seconds_of(product.call, repo, verb)
        used = product.ssh_used()
        name = f"{failures:,} failures" if verb == "resubmit" else f"{failures:,} failures: explained by `failures`"
        bench.take(f"{name}: on the cluster", product.cluster_seconds())
        bench.take(f"{name}: whole command", whole)
        bench.take(f"{name}: SSH commands", used["commands"], unit="")
