"""Generators that draw points of a space: Latin hypercube and Sobol sequence, by SciPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.task_source import MAX_TASKS, Kwargs, TaskSource, bad, listed, no_clash, take


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """Where a sampled parameter lies: ``log`` spreads it over the orders of magnitude, ``integer`` rounds it."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def at(self, share: float) -> float | int:
        low, high = self.low, self.high
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if self.integer:
            return min(int(high), int(low) + int(share * (int(high) - int(low) + 1))) if not self.log else round(value)
        return float(f"{value:.12g}")


def latin_hypercube(params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    return _sampled(params, fixed, "LatinHypercube", "latin hypercube")


def sobol(params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    return _sampled(params, fixed, "Sobol", "Sobol")


def _sampled(params: dict[str, Any], fixed: Kwargs, engine: str, called: str) -> TaskSource:
    """Points of scipy.stats.qmc, drawn now and written down: a run must not depend on a library's version."""
    ranges, n, seed = take(params, ranges=dict[str, Range], n=int, seed=(int, 0))
    no_clash(fixed, set(ranges))
    if not ranges or not 1 <= n <= MAX_TASKS or seed < 0:
        raise bad(f"name at least one range, n from 1 to {MAX_TASKS:,}, and a seed from 0 on")
    for name, span in ranges.items():
        if not (math.isfinite(span.low) and math.isfinite(span.high) and span.low < span.high):
            raise bad(f"{name}: low must be below high", f"task_generator.params.ranges.{name}")
        if span.log and span.low <= 0:
            raise bad(f"{name}: low must be positive on a log scale", f"task_generator.params.ranges.{name}")
    try:
        from scipy.stats import qmc  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise SpecInvalid(
            f"{called} points are drawn by SciPy, which is not installed here",
            field="task_generator.kind",
            remediation="Run \"pip install 'hpc-agent[sampling]'\", then the same hpc-agent command.",
        ) from None
    drawn = getattr(qmc, engine)(d=len(ranges), seed=seed)
    points = drawn.random_base2(math.ceil(math.log2(n)))[:n] if engine == "Sobol" else drawn.random(n)
    tasks = [
        {**{name: span.at(float(share)) for (name, span), share in zip(ranges.items(), point, strict=True)}, **fixed}
        for point in points
    ]
    return listed(tasks, f"{n} points of a {called} over {', '.join(ranges)} (seed {seed})")
