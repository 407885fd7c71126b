"""Tasks that import scikit-learn, as most scientific tasks do."""

from __future__ import annotations

from benchmarks import floor, peer
from benchmarks.bench import Bench, SideFailed
from benchmarks.budgets import US
from benchmarks.product import Product
from benchmarks.registry import row
from benchmarks.rows.noops import LOOP, ours, sides, theirs

FUNCTION = """import numpy
from hpc_agent.experiment_kit import register_run
from sklearn.linear_model import Ridge


@register_run
def f(x: int) -> dict:
    model = Ridge().fit(numpy.array([[0.0], [1.0]]), numpy.array([0.0, 2.0 * x]))
    return {"y": 2 * x if model.coef_.shape == (1,) else -1}
"""


@row(
    "heavy-import-slurm",
    "2,000 tasks that import scikit-learn, on SLURM over SSH, end to end",
    aim_sec=50,
    peers=True,
    site="slurm-ssh",
)
def heavy_import(bench: Bench) -> None:
    """Each task imports numpy and scikit-learn, fits two points, and returns twice its parameter. The loop and the workers of the
    peers import once a process, in the first of its tasks; all sides use the same interpreter and libraries."""
    why = peer.why_not("scikit-learn")
    if why:
        raise SideFailed(f"scikit-learn: {why}")
    bench.versions(scikit_learn=peer.version("scikit-learn"), numpy=peer.version("numpy"))
    tasks, site = bench.size(2_000, 20), bench.site("slurm-ssh")
    product = Product(site, bench.folder, default_mem_mb=1000)
    compared = {
        US: ours(product, "heavy", tasks, bench.longest_side(), FUNCTION, str(peer.python())),
        LOOP: theirs(LOOP, site, "heavy", tasks, bench.longest_side(), workers=1),
    }
    compared |= sides(bench, site, "heavy", tasks, tasks)
    bench.alternate(compared, bench.size(2, 1), count=tasks, floor=floor.FORK)
