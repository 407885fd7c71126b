"""No-ops by the thousand, end to end, beside every peer that can run them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import floor, peer
from benchmarks.bench import Bench, SideFailed, testbed
from benchmarks.budgets import US
from benchmarks.product import Product, seconds_of
from benchmarks.registry import Row, add, row

WORKERS = 2
SITES = {"slurm": "slurm-ssh", "sge": "sge-ssh", "local": "local"}
PEERS = ("HyperQueue", "dask-jobqueue", "Parsl", "joblib", "executorlib", "GNU parallel")
LOOP, EMPTY = "loop in one job", "an empty job"
FUNCTION = """from hpc_agent.experiment_kit import register_run


@register_run
def f(x: int) -> dict:
    return {"y": 2 * x}
"""
# Peers that a row leaves out, and why: (peer, kind, site, size); None is any.
_LEFT_OUT: tuple[tuple[str, str | None, str | None, int | None, str], ...] = (
    ("GNU parallel", "function", None, None, "it runs commands, not functions"),
    ("GNU parallel", "heavy", None, None, "it runs commands, not functions"),
    ("HyperQueue", "function", None, 10_000, "each of its functions starts an interpreter: see the row of 1,000"),
    *(
        (name, None, "sge", 10_000, "it knows no scheduler: see the row on SLURM")
        for name in ("joblib", "executorlib", "GNU parallel")
    ),
    ("HyperQueue", "heavy", None, None, "each of its functions starts an interpreter: see the row of 1,000 functions"),
)


def left_out(name: str, kind: str, site: str, size: int) -> str:
    """Why this row does not measure a peer; empty when it does."""
    for who, of, where, many, why in _LEFT_OUT:
        if who == name and of in (None, kind) and where in (None, site) and many in (None, size):
            return why
    return ""


def check(name: str, values: dict[int, Any], kind: str, tasks: int) -> None:
    """Raises SideFailed unless each task has the value that it has on the other side."""
    right = {number: 0 if kind == "process" else 2 * number for number in range(tasks)}
    if values != right:
        wrong = sum(values.get(number) != value for number, value in right.items())
        raise SideFailed(f"{name} has other outputs: {wrong} of {tasks} tasks")


def ours(
    product: Product, kind: str, tasks: int, limit_sec: float, source: str = FUNCTION, python: str = ""
) -> Callable[[], float]:
    """Return the side of hpc-agent: submit, watch until the end, and for functions aggregate and read the table."""

    def processes(repo: Path) -> None:
        product.submit(repo, "/bin/true", "--pack", str(-(-tasks // WORKERS)))
        ended = product.wait(repo, limit_sec)
        if ended["last_status"]["complete"] != tasks:
            raise SideFailed(f"{ended['last_status']['complete']} of {tasks} tasks are complete")

    def functions(repo: Path, spec: dict[str, Any]) -> None:
        product.call(repo, "submit", "--spec", "-", stdin=json.dumps(spec))
        product.wait(repo, limit_sec)
        found = sorted(product.metric(repo, "y"))
        if found != [2.0 * number for number in range(tasks)]:
            raise SideFailed(f"hpc-agent has other outputs: {len(found)} values for {tasks} tasks")

    def measure() -> float:
        if kind == "process":
            repo = product.repo(f"def total(): return {tasks}\ndef resolve(i): return {{'x': i}}\n")
            return seconds_of(processes, repo)
        repo = product.repo(**{"f.py": source})
        return seconds_of(functions, repo, function_spec(product, repo, tasks, -(-tasks // WORKERS), python))

    return measure


def function_spec(product: Product, repo: Path, tasks: int, pack: int, python: str = "") -> dict[str, Any]:
    """Write .hpc/tasks.py for the repo's function and return the request of a submission, as its user gets them."""
    asked = {"axes": {"x": list(range(tasks))}, **({"python": python} if python else {})}
    product.call(repo, "build-tasks-py", "--spec", "-", stdin=json.dumps(asked))
    spec: dict[str, Any] = product.call(repo, "resolve-submit-inputs", "--cluster", testbed.CLUSTER, "--full")["spec"]
    return {**spec, "pack": pack}


def theirs(
    name: str, site: testbed.Site, kind: str, tasks: int, limit_sec: float, workers: int = WORKERS
) -> Callable[[], float]:
    one = peer.Peer(name, site, workers, limit_sec)

    def measure() -> float:
        seconds, values = one.values(kind, tasks)
        check(name, values, kind, tasks)
        return seconds

    return measure


def sides(
    bench: Bench, site: testbed.Site, kind: str, tasks: int, size: int, names: Sequence[str] = PEERS
) -> dict[str, Callable[[], float]]:
    """Return the peers of a row that can be run, by name; the others are told with the reason."""
    found = {}
    for name in names:
        why = (
            left_out(name, kind, site.scheduler, size)
            or ("" if bench.peers else "--without-peers")
            or peer.why_not(name)
        )
        if why:
            bench.skip(name, why)
            continue
        bench.versions(**{name.replace(" ", "_"): peer.version(name)})
        found[name] = theirs(name, site, kind, tasks, bench.longest_side())
    return found


def noops(bench: Bench, kind: str, where: str, size: int) -> None:
    """Measure one row: our side, the loop, the peers, in turn."""
    tasks = bench.size(size, 20)
    site = bench.site(SITES[where])
    product = Product(site, bench.folder)
    longest = bench.longest_side()
    compared = {US: ours(product, kind, tasks, longest), LOOP: theirs(LOOP, site, kind, tasks, longest, workers=1)}
    if where != "local":
        compared[EMPTY] = theirs(LOOP, site, kind, 0, longest, workers=1)
    compared |= sides(bench, site, kind, tasks, size)
    own_floor = floor.SPAWN if kind == "process" else floor.FORK
    bench.alternate(compared, bench.size(2, 1), count=tasks, floor=own_floor)


_METHOD = {
    "process": "Each task is `/bin/true`; its output is its exit code. hpc-agent: `submit` with half of the tasks to an element, "
    "and `monitor-flow` to the end",
    "function": "Each task is a function that returns twice its parameter. hpc-agent: `submit` with half of the tasks to an "
    "element, `monitor-flow` to the end, `aggregate`, and its table read",
}
_NAMES = {"slurm": "SLURM over SSH", "sge": "Grid Engine over SSH", "local": "this machine"}
# Two rounds: of 1,000 functions most is HyperQueue's, of 10,000 processes a round is 100 s.
_AIM_SEC = {("process", 1_000): 50, ("process", 10_000): 230, ("function", 1_000): 100, ("function", 10_000): 100}
for _size in (1_000, 10_000):
    for _kind, _plural in (("process", "processes"), ("function", "functions")):
        for _where, _site in SITES.items():
            add(Row(
                f"noops-{_plural}-{_where}-{_size}", f"{_size:,} no-op {_plural} on {_NAMES[_where]}, end to end",
                f"{_METHOD[_kind]}. Two workers on each side, but one process in the loop.",
                _AIM_SEC[_kind, _size], _site, partial(noops, kind=_kind, where=_where, size=_size), peers=True,
            ))  # fmt: skip


@row(
    "noops-submitit-slurm",
    "1,000 no-op processes on SLURM beside submitit, end to end",
    aim_sec=270,
    site="slurm-ssh",
    peers=True,
)
def submitit(bench: Bench) -> None:
    """hpc-agent as in the row `noops-processes-slurm-1000`; submitit, which is slow, has this row for itself. It makes an
    element a task, of which 16 run at once."""
    tasks, site = bench.size(1_000, 10), bench.site("slurm-ssh")
    compared = {US: ours(Product(site, bench.folder), "process", tasks, bench.longest_side())}
    compared |= sides(bench, site, "process", tasks, tasks, ["submitit"])
    bench.alternate(compared, bench.size(2, 1), count=tasks, floor=floor.SPAWN)
