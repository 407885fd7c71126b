"""What a verb asks of the network and of the scheduler."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product
from benchmarks.registry import row

FAILING = (
    'test $((X % 10)) != 3 || { echo MemoryError >&2; exit 1; }; echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'
)
USER_LINE = r"^\s*{user}\s+\(\s*\d+\)\s+count:(\d+)"


@row("verbs", "SSH commands, bytes and RPCs of slurmctld for each verb", aim_sec=25, site="slurm-ssh")
def verbs(bench: Bench) -> None:
    """A run of 100 tasks on SLURM, ten of which fail, in ten elements. RPCs are those of the run's user in `sdiag`, before and
    after the verb; those of the elements themselves (`monitor-flow`) are in it. rsync counts as one SSH command."""
    product = Product(bench.site("slurm-ssh"), bench.folder)
    product.count_ssh()
    repo = product.repo("def total(): return 100\ndef resolve(i): return {'x': i}\n")
    used(bench, product, repo, "submit", "submit", "--cluster", "testbed", "--executor", FAILING, "--pack", "10")
    used(bench, product, repo, "submit again", "submit", "--cluster", "testbed", "--executor", FAILING, "--pack", "10")
    used(bench, product, repo, "status", "status")
    used(bench, product, repo, "monitor-flow, to the end", "monitor-flow", "--wall-clock-budget-sec", "60")
    for verb in ("status", "failures", "aggregate", "report", "resubmit"):
        used(bench, product, repo, f"{verb}, ended", verb)
    product.wait(repo, 30)


def used(bench: Bench, product: Product, repo: Path, name: str, *words: str) -> None:
    bench.step(name)
    before = rpcs(product)
    product.ssh_used()
    product.call(repo, *words)
    ssh = product.ssh_used()
    bench.take(f"{name}: SSH commands", ssh["commands"], unit="")
    bench.take(f"{name}: sent", ssh["sent"], unit="B")
    bench.take(f"{name}: received", ssh["received"], unit="B")
    bench.take(f"{name}: RPCs", rpcs(product) - before - 1, unit="", note="without the sdiag of this row")


def rpcs(product: Product) -> int:
    """The calls of the site's user that slurmctld has counted so far."""
    user = product.site.cluster["user"]
    found = re.search(USER_LINE.format(user=re.escape(user)), product.on_site("sdiag"), re.MULTILINE)
    if found is None:
        raise SideFailed(f"sdiag tells nothing of {user}")
    return int(found.group(1))
