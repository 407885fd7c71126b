"""Draw the distribution of a metric over all tasks, and over the replicates of single points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpc_agent.node.shared.binning import between
from hpc_agent.view.report.markup import Markup
from hpc_agent.view.report.numbers import cell, number, spread
from hpc_agent.view.report.plot import CHARACTER, Plot, Scale, clipped


def bars(
    label: str, found: dict[str, Any], x: Scale, titles: tuple[str, str], marks: Sequence[tuple[float, str, str]]
) -> Markup:
    """Draw a histogram. ``titles``: of both axes; ``marks``: (value, text, kind) of vertical lines with a label."""
    plot, y = Plot(label, height=230), Scale(0, max(found["counts"]), "count")
    plot.top = 44.0
    plot.frame(x, y, *titles)
    low, high, counts = found["min"], found["max"], found["counts"]
    data = ""
    for at, tasks in enumerate(counts):
        if tasks:
            left, right = (x(between(low, high, end / len(counts), found["scale"])) for end in (at, at + 1))
            if high == low:
                left, right = left - 4, right + 4
            data += (
                f"M{left:.1f} {plot.bottom:.1f}V{y(tasks):.1f}H{max(right - 0.7, left + 0.7):.1f}V{plot.bottom:.1f}z"
            )
    plot.path(data, "bars")
    for row, (value, text, kind) in enumerate(marks):
        place, half = x(value), CHARACTER * len(text) / 2
        plot.path(f"M{place:.1f} {plot.top - 4:.0f}V{plot.bottom:.0f}", f"mark {kind}")
        side, edge = ("end", plot.width - 4) if place + half > plot.width else ("mid", math.inf)
        plot.text(min(max(place, half + 4), edge), 32.0 - 19 * row, text, f"label {kind} {side}")
    return plot.svg()


def histogram(found: dict[str, Any], metric: str, noun: str) -> Markup:
    """Draw how many rows have which value, with the median."""
    median = number(found["median"])
    label = f"Distribution of {metric}: median {median}, from {number(found['min'])} to {number(found['max'])}"
    x = Scale.padded(found["min"], found["max"], found["scale"])
    return bars(label, found, x, (metric, f"number of {noun}"), [(found["median"], f"median {median}", "median")])


def replicates(points: Sequence[dict[str, Any]], metric: str, names: Sequence[str]) -> Markup:
    """Draw the five figures of each point as a box, with the point's parameters above."""
    plot = Plot(f"{metric} over replicates of {len(points)} points", height=62 + 36 * len(points))
    scale = Scale.padded(min(p["min"] for p in points), max(p["max"] for p in points))
    scale.pixels = (8.0, plot.width - 140.0)
    plot.grid_across(scale, 8)
    for at, point in enumerate(points):
        top = 10 + 36 * at
        told = ", ".join(f"{name}={cell(point['kwargs'].get(name, ''))}" for name in names) or "all tasks"
        plot.text(4, top + 9, clipped(told, plot.width - 8), "tick halo")
        about = f"{spread(point['mean'], point['std'] or 0.0)}, n={point['count']}"
        plot.text(plot.width - 2, top + 26, about, "tick end")
        plot.box(scale, top + 22, [point[name] for name in ("min", "q25", "median", "q75", "max")])
    plot.text(4 + (plot.width - 140) / 2, plot.height - 6, clipped(metric, plot.width - 150), "title mid")
    return plot.svg()
