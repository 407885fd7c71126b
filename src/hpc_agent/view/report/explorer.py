"""The charts of results: the metric against parameters, and its distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hpc_agent.node.shared import binning
from hpc_agent.view.report.charts import distribution as drawn
from hpc_agent.view.report.charts import effects
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, figure, joined, note, tag
from hpc_agent.view.report.numbers import NBSP, PLUS_MINUS, number
from hpc_agent.view.report.plot import WIDE, on_both_screens
from hpc_agent.view.report.results import charted, metric_at
from hpc_agent.view.terminal.words import counted

CHOICES_BYTES = 200_000  # of charts that the reader may choose
BEST_POINTS = 8
FEWEST = 8  # values of a histogram; fewer can be read in the table


def explorer(data: ReportData, left_out: list[str]) -> Markup | None:
    """Return the metric against each parameter, against two to choose, and against all; None without any of them."""
    axes, metrics = data.binned["axes"], data.binned["metrics"]
    if not (axes and metrics):
        return None
    kept: dict[str, Markup] = {}
    size = dropped = 0
    for key, chart in _choices(data):
        size += len(chart.encode())
        if size > CHOICES_BYTES:
            dropped += 1
        else:
            kept[key] = chart
    if dropped:
        left_out.append(f"{dropped} of {dropped + len(kept)} charts to choose from: a metric against two parameters")
    each, controls, templates = kept["e0"], None, None
    if len(axes) == 1:  # there is room for every metric
        each = joined(kept.get(f"e{at}") for at in range(len(metrics)))
    else:
        names = [axis["name"] for axis in axes[: binning.MOST_PAIRED]]
        controls = tag(
            "div", {"class": "controls", "id": "explore-controls", "hidden": True},
            _select("explore-metric", "Metric", metrics),
            _select("explore-across", "One parameter", names),
            _select("explore-second", "Another", names, 1),
        )  # fmt: skip
        templates = joined(tag("template", {"id": key}, chart) for key, chart in kept.items())
    return joined([
        note(_about_axes(data)),
        controls,
        tag("div", {"id": "explore-each", "class": "charts", "aria-live": "polite"}, each),
        tag("div", {"id": "explore-pair", "class": "charts", "aria-live": "polite"}, kept.get("p0-0-1")),
        templates,
        _parallel(data) if len(axes) > 1 else None,
    ])  # fmt: skip


def _about_axes(data: ReportData) -> str:
    known = [(axis["name"], axis["strength"]) for axis in data.binned["axes"] if axis["strength"] is not None]
    if not known and data.spread:
        return f"Every value has one row, whose replicates deviate by {number(data.spread['within'], 2)} (standard deviation)."
    if not known:
        return f"Every value has one {data.noun}: nothing tells an effect from noise."
    told = [f"{name} {'under 1' if share < 0.01 else f'{100 * share:.0f}'}{NBSP}%" for name, share in known]
    return f"Share of the variance of {data.binned['metrics'][0]} that each parameter explains by itself: {', '.join(told)}."


def _select(identifier: str, label: str, options: Sequence[str], chosen: int = 0) -> Markup:
    choices = joined(tag("option", {"value": at, "selected": at == chosen}, text) for at, text in enumerate(options))
    return tag("div", {}, tag("label", {"for": identifier}, label), tag("select", {"id": identifier}, choices))


def _choices(data: ReportData) -> Iterator[tuple[str, Markup]]:
    """Yield key and charts: each metric against each parameter, then the pairs of the first metric, then the others."""
    axes, metrics = data.binned["axes"], data.binned["metrics"]
    for m, metric in enumerate(metrics):
        points = _points(data, metric) if data.has_every_row else []
        yield f"e{m}", joined(
            figure(f"{metric} against {axis['name']}", effects.effect(axis, figures, metric, points, at),
                   _about_effect(data, axis, figures))
            for at, (axis, figures) in enumerate(zip(axes, data.binned["effects"][metric], strict=True)) if any(figures)
        )  # fmt: skip
    for m, metric in enumerate(metrics):
        for key, cells in data.binned["pairs"][metric].items():
            a, b = (int(at) for at in key.split())
            if cells:
                yield f"p{m}-{a}-{b}", _pair(data, metric, axes[a], axes[b], cells)


def _points(data: ReportData, metric: str) -> list[effects.Row]:
    """Return values of the axes, mean and deviation of every row of the page that has the metric."""
    places = [data.rows["parameters"].index(axis["name"]) for axis in data.binned["axes"]]
    at = metric_at(data, metric)
    rows = [row for row in charted(data) if row[at][0] is not None]
    return [([row[place] for place in places], row[at][0], row[at][1] or 0.0) for row in rows]


def _about_effect(data: ReportData, axis: dict[str, Any], figures: Sequence[Any]) -> str:
    sizes = [row[effects.N] for row in figures if row]
    if max(sizes) == 1:
        repeated = data.spread is not None and axis["kind"] == "number"
        return "One row at each value" + (f"; bar: {PLUS_MINUS} standard deviation." if repeated else ".")
    if axis["kind"] == "text":
        return f"Dot: median of {_rows(sizes)}; bar: the middle half; line: from the lowest to the highest."
    where = "value" if "values" in axis else "bin"
    dots = "the rows" if data.has_every_row else "the lowest and the highest"
    return f"Line: median of {_rows(sizes)} at each {where}; band: the middle half; small dots: {dots}."


def _rows(sizes: Sequence[int]) -> str:
    return counted(sizes[0], "row") if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,} rows"


def _pair(
    data: ReportData, metric: str, a: dict[str, Any], b: dict[str, Any], cells: Sequence[Sequence[float]]
) -> Markup:
    full = len(effects.names_of(a)) * len(effects.names_of(b))
    if len(effects.names_of(a)) < len(effects.names_of(b)):
        a, b, cells = b, a, [[j, i, *rest] for i, j, *rest in cells]
    rows = _rows([int(cell[2]) for cell in cells])
    direction = data.direction if metric == data.main else None
    said = f"Mean of {rows} in each cell{'; the frame is the best cell' if direction else ''}"
    said += "; empty: no row." if len(cells) < full else "."
    chart = effects.heat_map(a, b, cells, metric, direction)
    figures = [figure(f"{metric} by {a['name']} and {b['name']}", chart, said)]
    if drawn := effects.lines(a, b, cells, metric):
        figures.append(figure(*drawn, f"Mean of {rows} at each point."))
    return joined(figures)


def _parallel(data: ReportData) -> Markup | None:
    metric = data.binned["metrics"][0]
    axes = data.binned["axes"][:6][::-1]  # the strongest beside the metric
    rows = [[*values[:6][::-1], mean] for values, mean, _ in _points(data, metric) if "" not in values[:6]]
    if len(rows) < 2:
        return None
    values = [row[-1] for row in rows]
    axes.append({"name": metric, "kind": "number", "scale": "linear", "values": [min(values), max(values)]})
    every, few = len(axes) - 1, min(len(axes) - 1, 4)  # a phone has room for four

    def draw(width: int) -> Markup:
        first = 0 if width == WIDE else -few - 1
        return effects.parallel(axes[first:], [row[first:] for row in rows], data.direction, width)

    said = f"Each line is a row of the table ({len(rows):,} rows). "
    best = "Orange: the ten best; the better the others, the stronger their colour."
    said += best if data.direction else "The higher, the stronger."
    said += f" Of {every} parameters the {few} strongest, on a wide screen all." if few < every else ""
    return figure("All parameters at once", on_both_screens(draw), said)


# ---------------------------------------------------------------- distribution


def distribution(data: ReportData, left_out: list[str]) -> Markup | None:
    """Return histograms of the metrics, and the boxes of the points that were repeated; None where there is neither."""
    noun = "rows" if data.replicates else f"{data.noun}s"
    figures = []
    for metric in data.binned["metrics"]:
        found = data.binned["histograms"][metric]
        if found and found["n"] >= FEWEST and found["max"] > found["min"]:
            said = f"{found['n']:,} {noun}; 90 % lie between {number(found['q05'])} and {number(found['q95'])}."
            figures.append(figure(metric, drawn.histogram(found, metric, noun), said))
    if data.spread is not None:
        return tag("div", {"class": "charts"}, _replicates(data, data.spread, left_out), joined(figures))
    if not figures:
        return None
    hint = "" if data.kind == "campaign" else "; --replicates names parameters that only repeat"
    said = f"No point was repeated, so nothing is known of the spread between replicates{hint}."
    return joined([tag("div", {"class": "charts"}, joined(figures)), note(said)])


def _replicates(data: ReportData, repeated: dict[str, Any], left_out: list[str]) -> Markup:
    points = repeated["points"] if data.direction != "max" else repeated["points"][::-1]
    if len(points) > BEST_POINTS:
        half = BEST_POINTS // 2
        points = points[:BEST_POINTS] if data.direction else [*points[:half], *points[-half:]]
    title = f"{data.main} over replicates"
    if more := repeated["total"] - len(points):
        title += f": {'the best' if data.direction else 'the lowest and the highest'} {len(points)} points"
        left_out.append(f"the replicates of {more:,} of {repeated['total']:,} points")
    said = f"Dot: median; bar: the middle half; line: from the lowest to the highest; right: mean {PLUS_MINUS} "
    said += f"standard deviation. Typical deviation within a point: {number(repeated['within'], 2)}."
    varying = [axis["name"] for axis in data.binned["axes"]][:4]
    return figure(title, drawn.replicates(points, str(data.main), varying), said)
