"""Processor time of one task: of the dispatcher, and of all that it starts."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks import floor
from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product
from benchmarks.registry import row
from benchmarks.rows.noops import FUNCTION, function_spec

ARRAY = "a0"
MODES = ("warm", "fork", "exec")
SHELL = "shell command"


@row(
    "cpu-per-task",
    "CPU seconds of a packed task: of the dispatcher, and of its whole tree",
    aim_sec=40,
    site="slurm-ssh",
)
def cpu_per_task(bench: Bench) -> None:
    """The run is submitted and kept back by SLURM (`--hold`); its elements are then started here, one after the other, as their
    jobs would start them. Each repetition is another element of 1,000 tasks."""
    tasks, rounds = bench.size(1_000, 20), bench.size(3, 1)
    product = Product(bench.site("slurm-ssh"), bench.folder)
    elements: dict[str, Callable[[int], dict[str, float]]] = {SHELL: shell(product, tasks, rounds)}
    known = product.has_option("submit", "isolate")
    if not known:
        elements["function"] = functions(product, tasks, rounds, "")
    for mode in MODES:
        name = f"function, {mode}"
        if known:
            elements[name] = functions(product, tasks if mode != "exec" else tasks // 10, rounds, mode)
        else:
            bench.skip(name, "this version's submit has no option 'isolate'")
    for number in range(rounds):
        for name, run in elements.items():
            bench.step(f"{name}, round {number + 1} of {rounds}")
            count = tasks // 10 if name.endswith("exec") else tasks
            used = run(number)
            kind = floor.SPAWN if name == SHELL else floor.FORK
            for part, key in (("whole tree", "tree"), ("dispatcher", "dispatcher")):
                bench.take(f"{name}: {part}", used[key] / count, floor=kind)


def shell(product: Product, tasks: int, rounds: int) -> Callable[[int], dict[str, float]]:
    repo = product.repo(f"def total(): return {tasks * rounds}\ndef resolve(i): return {{'x': i}}\n")
    folder = product.held(repo, "/bin/true", "--pack", str(tasks))["remote_path"]
    return lambda number: element(product, folder, number)


def functions(product: Product, tasks: int, rounds: int, mode: str) -> Callable[[int], dict[str, float]]:
    repo = product.repo(**{"f.py": FUNCTION})
    spec = function_spec(product, repo, tasks * rounds, tasks)
    spec |= {"extra_flags": ["--hold"], **({"isolate": mode} if mode else {})}
    folder = product.call(repo, "submit", "--spec", "-", stdin=json.dumps(spec))["remote_path"]
    return lambda number: element(product, folder, number)


def element(product: Product, folder: str, number: int) -> dict[str, float]:
    used: dict[str, float] = product.node_script("run_element.py", folder, ARRAY, str(number))
    if used["code"]:
        raise SideFailed(f"element {number} of {folder} ended with exit code {used['code']:.0f}")
    return used
