"""One task alone in an element beside an element of a plain array."""

from __future__ import annotations

import re
import time
from datetime import datetime

from benchmarks import floor
from benchmarks.bench import Bench, SideFailed
from benchmarks.budgets import US
from benchmarks.product import Product
from benchmarks.registry import row

PLAIN = (
    "sbatch",
    "--parsable",
    "--partition=batch",
    "--mem=64M",
    "--time=10",
    "--output=/dev/null",
    "--wrap=/bin/true",
)


@row(
    "alone-slurm",
    "One task an element: 250 elements on SLURM beside a plain array of `/bin/true`",
    aim_sec=50,
    site="slurm-ssh",
)
def alone(bench: Bench) -> None:
    """From the array's submission to the end of its last element, by SLURM's accounting (whole seconds), for both sides. Ours
    also reads the plan, claims, runs and records."""
    tasks, site = bench.size(250, 5), bench.site("slurm-ssh")
    product = Product(site, bench.folder)

    def ours() -> float:
        repo = product.repo(f"def total(): return {tasks}\ndef resolve(i): return {{'x': i}}\n")
        [job] = product.submit(repo, "/bin/true", "--pack", "1")["job_ids"]
        product.wait(repo)
        return makespan(product, job, tasks)

    def plain() -> float:
        job = product.on_site(*PLAIN, f"--array=0-{tasks - 1}").strip()
        while product.on_site("squeue", "-h", "-j", job, "-o", "%i").strip():
            time.sleep(1)
        return makespan(product, job, tasks)

    bench.alternate({US: ours, "plain array": plain}, bench.size(2, 1), count=tasks, floor=floor.SPAWN)


def makespan(product: Product, job: str, tasks: int) -> float:
    """Seconds from the submission of an array to the end of its last element; waits until accounting has them all."""
    for _ in range(40):
        said = product.on_site("sacct", "-X", "-n", "-P", "-j", job, "--format=Submit,End,State")
        rows = [line.split("|") for line in said.splitlines()]
        if len(rows) == tasks and all(re.match("COMPLETED", state) for _, _, state in rows):
            ends = [datetime.fromisoformat(end) for _, end, _ in rows]
            return (max(ends) - min(datetime.fromisoformat(submit) for submit, _, _ in rows)).total_seconds()
        time.sleep(0.5)
    raise SideFailed(f"accounting does not have all {tasks} elements of job {job}")
