"""Draw a metric against one parameter, against two (lines, heat map), and against all (parallel coordinates)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hpc_agent.node.shared.binning import share_of
from hpc_agent.view.report.markup import Markup
from hpc_agent.view.report.numbers import cell, fence, number
from hpc_agent.view.report.plot import CHARACTER, HEIGHT, WIDTH, Plot, Scale, axis_scale, centres, clipped, line_of

STEPS = 7  # of the colour ramp
MOST_LINES = 6
LABEL_GAP = 13.0
BEST_LINES = 10
# Figures of a bin, as node/shared/binning.py orders them.
N, _, LOW, Q25, MEDIAN, Q75, HIGH = range(7)

Axis = dict[str, Any]
# The values of the axes in their order, the metric, its deviation over replicates.
Row = tuple[Sequence[Any], float, float]


def names_of(axis: Axis) -> list[str]:
    """Return a label for each bin."""
    if "values" in axis:
        return [cell(value) for value in axis["values"]]
    return [f"{number(a, 3)}-{number(b, 3)}" for a, b in itertools.pairwise(axis["edges"])]


def _middles(axis: Axis) -> list[str]:
    """Return a short label for each bin: its value, or its middle."""
    return names_of(axis) if "values" in axis else [number(centre, 2) for centre in centres(axis)]


def effect(axis: Axis, figures: Sequence[Any], metric: str, points: Sequence[Row], at: int) -> Markup:
    """Draw the metric against one parameter. ``points`` are drawn where there are all of them; ``at``: the axis in a row."""
    known = [(centre, row) for centre, row in zip(centres(axis), figures, strict=True) if row]
    label = f"{metric} against {axis['name']}: " + "; ".join(
        f"{name}: {number(row[MEDIAN])}" for name, row in zip(names_of(axis), figures, strict=True) if row
    )
    single = all(row[N] == 1 for _, row in known) and axis["kind"] == "number"
    bars = [(values[at], value - room, value + room) for values, value, room in points if single and room]
    y = Scale.padded(min([row[LOW] for _, row in known] + [low for _, low, _ in bars]),
                     max([row[HIGH] for _, row in known] + [high for _, _, high in bars]))  # fmt: skip
    if axis["kind"] == "text":
        return _categories(axis, figures, metric, y, label)
    plot, x = Plot(label), axis_scale(axis)
    plot.frame(x, y, axis["name"], metric)
    plot.path("".join(f"M{x(value):.1f} {y(low):.1f}V{y(high):.1f}" for value, low, high in bars), "whisker")
    if not single:
        upper = [(x(centre), y(row[Q75])) for centre, row in known]
        lower = [(x(centre), y(row[Q25])) for centre, row in reversed(known)]
        plot.path(line_of([*upper, *lower]) + "Z", "band")
        extremes = [(x(centre), y(row[end])) for centre, row in known for end in (LOW, HIGH)]
        plot.dots([(x(values[at]), y(value)) for values, value, _ in points] or extremes, "faint")
    plot.line([(x(centre), y(row[MEDIAN])) for centre, row in known], "s0")
    return plot.svg()


def _categories(axis: Axis, figures: Sequence[Any], metric: str, scale: Scale, label: str) -> Markup:
    names = names_of(axis)
    plot = Plot(label, WIDTH, 66 + 24 * len(names))
    wide = min(130.0, CHARACTER * max(map(len, names)))
    scale.pixels, plot.left = (wide + 14, plot.right), wide + 14
    plot.grid_across(scale, plot.top)
    for at, (name, row) in enumerate(zip(names, figures, strict=True)):
        middle = plot.top + 14 + 24 * at
        plot.text(wide + 6, middle + 4, clipped(name, wide), "tick end")
        if row:
            plot.box(scale, middle, row[LOW:])
    plot.titles(metric, axis["name"])
    return plot.svg()


def lines(first: Axis, second: Axis, cells: Sequence[Sequence[float]], metric: str) -> tuple[str, Markup] | None:
    """Draw the mean against a numeric axis, a line for each of at most 6 values of the other: the title, the chart.

    None where neither axis is numeric or both have too many values.
    """
    order = [(first, second, 0), (second, first, 1)]
    fitting = [o for o in order if o[0]["kind"] == "number" and len(names_of(o[1])) <= MOST_LINES]
    if not fitting:
        return None
    across, along, swapped = max(fitting, key=lambda o: len(names_of(o[0])))
    names, places = names_of(along), centres(across)
    wide = min(120.0, CHARACTER * max(map(len, names)) + 16)
    title = f"{metric} against {across['name']}, a line for each value of {along['name']}"
    plot = Plot(title, right=wide)
    x, y = axis_scale(across), Scale.padded(min(c[3] for c in cells), max(c[3] for c in cells))
    plot.frame(x, y, across["name"], metric)
    ends = []
    for at in range(len(names)):
        line = sorted((places[int(c[swapped])], c[3]) for c in cells if int(c[1 - swapped]) == at)
        if line:
            pixels = [(x(place), y(mean)) for place, mean in line]
            plot.line(pixels, f"s{at}")
            ends.append((pixels[-1][1], at))
    ends.sort()
    for place, (_, at) in zip(apart([end for end, _ in ends], plot), ends, strict=True):
        plot.text(plot.right + 6, place + 4, clipped(names[at], wide - 8), f"label t{at}")
    plot.text(plot.right + 6, 13, clipped(along["name"], wide - 4), "title")
    return title, plot.svg()


def apart(places: Sequence[float], plot: Plot) -> list[float]:
    """Return ascending places of labels, moved so that none covers another and all are within the picture."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LABEL_GAP) if moved else place)
    limit = plot.bottom
    for at in reversed(range(len(moved))):
        moved[at] = min(moved[at], limit)
        limit = moved[at] - LABEL_GAP
    return moved


def heat_map(first: Axis, second: Axis, cells: Sequence[Sequence[float]], metric: str, direction: str | None) -> Markup:
    """Draw the mean for each pair of values: the better, the stronger the colour. The best cell has a frame."""
    names, rows = (_middles(axis) for axis in (first, second))
    wide = min(96.0, CHARACTER * max(map(len, rows)))
    plot = Plot(f"Mean {metric} for each {first['name']} and {second['name']}", WIDTH, 74 + 26 * len(rows))
    plot.left = wide + 12
    column, row_height = (plot.right - plot.left) / len(names), 26
    means = [c[3] for c in cells]
    low, high = fence(means, 1.5)
    paths, labels = [""] * STEPS, []
    for i, j, _, mean in cells:
        share = min(1.0, max(0.0, share_of(mean, low, high)))
        step = min(STEPS - 1, int((1 - share if direction == "min" else share) * STEPS))
        left, top = plot.left + column * i, plot.bottom - row_height * (j + 1)
        paths[step] += f"M{left + 1:.1f} {top + 1:.0f}h{column - 2:.1f}v{row_height - 2}h{2 - column:.1f}z"
        if column >= 34:
            text = number(mean, 3, keep=True)
            if len(text) * 5.6 < column:
                labels.append((left + column / 2, top + 17, text, f"inside i{step} mid"))
    for step, data in enumerate(paths):
        plot.path(data, f"q{step}")
    if direction and high > low:
        i, j, *_ = (min if direction == "min" else max)(cells, key=lambda c: c[3])
        plot.path(f"M{plot.left + column * i:.1f} {plot.bottom - row_height * (j + 1):.0f}h{column:.1f}v{row_height}"
                  f"h{-column:.1f}z", "best-cell")  # fmt: skip
    for label in labels:
        plot.text(*label)
    every = max(1, -(-int(max(map(len, names)) * CHARACTER + 6) // int(column)))
    room = column * every
    for at, name in enumerate(names[::every]):
        plot.text(plot.left + column * (at * every + 0.5), plot.bottom + 15, clipped(name, room), "tick mid")
    for at, name in enumerate(rows):
        plot.text(plot.left - 6, plot.bottom - row_height * at - 9, clipped(name, wide), "tick end")
    plot.titles(first["name"], second["name"])
    ends = [("\N{LESS-THAN OR EQUAL TO}" if low > min(means) else "") + number(low, 3),
            ("\N{GREATER-THAN OR EQUAL TO}" if high < max(means) else "") + number(high, 3)]  # fmt: skip
    _ramp(plot, ends if direction != "min" else ends[::-1])
    return plot.svg()


def _ramp(plot: Plot, ends: Sequence[str]) -> None:
    """Draw the key of the colours at the upper right, from the weakest to the strongest."""
    right = plot.width - 4 - CHARACTER * len(ends[1])
    left = right - 8 * STEPS - 6
    for step in range(STEPS):
        plot.path(f"M{left + 8 * step:.0f} 5h8v9h-8z", f"q{step}")
    plot.text(left - 4, 13, ends[0], "tick end")
    plot.text(right - 2, 13, ends[1], "tick")


def parallel(axes: Sequence[Axis], rows: Sequence[Sequence[Any]], direction: str | None, width: int) -> Markup:
    """Draw a line for each row through all axes, the last of which is the metric.

    The best ten stand out, the others are shaded by rank.
    """
    *names, metric = (axis["name"] for axis in axes)
    plot = Plot(f"Parallel coordinates: {len(rows)} rows through {', '.join(names)} to {metric}", width, HEIGHT + 30)
    plot.bottom, left, right = plot.height - 22, 34.0, width - 34.0
    room, last = (right - left) / len(names), len(names)
    places = [left + (right - left) * at / last for at in range(last + 1)]
    scales = [axis_scale(axis) for axis in axes]
    for scale in scales:
        scale.pixels = (plot.bottom - 8, 44.0)

    def draw(some: Sequence[Sequence[Any]], kind: str) -> None:
        points = (
            [scale(_number_on(axis, value)) for scale, axis, value in zip(scales, axes, row, strict=True)]
            for row in some
        )
        plot.path("".join(line_of(list(zip(places, pixels, strict=True))) for pixels in points), f"thread {kind}")

    ranked = sorted(rows, key=lambda row: row[-1], reverse=direction != "min")
    best = ranked[:BEST_LINES] if direction else []
    others = ranked[len(best) :]
    for step in range(3):  # the worst first: the better lie above them
        draw(others[len(others) * (2 - step) // 3 : len(others) * (3 - step) // 3], f"p{step}")
    draw(best, "best")
    plot.path("".join(f"M{place:.1f} 44V{plot.bottom:.0f}" for place in places), "axis")
    for at, (axis, place, scale) in enumerate(zip(axes, places, scales, strict=True)):
        x, side = (2.0, "start") if at == 0 else (width - 2.0, "end") if at == last else (place, "mid")
        name = clipped(axis["name"], min(room * (2 if room < 110 else 1), width / 2) - 6)
        plot.text(x, 15 if at % 2 and room < 110 else 30, name, f"title {side}")
        if axis["kind"] == "text":
            for index, value in enumerate(axis["values"]):
                plot.text(place + 4, scale(index) + 4, clipped(value, room - 10), "tick halo")
        else:
            ends = axis.get("values") or axis["edges"]
            beside, kind = (place - 4, "tick halo end") if at == last else (place + 4, "tick halo")
            for value in (ends[0], ends[-1]):
                plot.text(beside, scale(value) + 4, number(value, 3), kind)
    return plot.svg()


def _number_on(axis: Axis, value: Any) -> float:
    """Return the value of a number, the place of a text on its axis."""
    if axis["kind"] != "text":
        return float(value)
    return float(axis["values"].index(value) if value in axis["values"] else len(axis["values"]) - 1)
