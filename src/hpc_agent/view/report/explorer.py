"""The charts of results: the metric against parameters, and its distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hpc_agent.node.shared import binning
from hpc_agent.view.report.charts import distribution as drawn
from hpc_agent.view.report.charts import effects
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, figure, joined, tag
from hpc_agent.view.report.numbers import NBSP, count, number
from hpc_agent.view.report.plot import WIDE, on_both_screens
from hpc_agent.view.report.results import charted, metric_at

CHOICES_BYTES = 200_000  # of charts that the reader may choose
POINTS_DRAWN = 600
BEST_POINTS = 8
FEWEST = 8  # values of a histogram; fewer can be read in the table


def has_axes(data: ReportData) -> bool:
    return bool(data.binned["axes"] and data.binned["metrics"])


def explorer(data: ReportData, left_out: list[str]) -> Markup:
    """Return the metric against each parameter, against two to choose, and against all."""
    axes, metrics = data.binned["axes"], data.binned["metrics"]
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
    names = [(str(at), axis["name"]) for at, axis in enumerate(axes[: binning.MOST_PAIRED])]
    each, choices = kept["e0"], []
    if len(axes) == 1:  # there is room for every metric
        each = joined(kept.get(f"e{at}") for at in range(len(metrics)))
    else:
        choices = [
            _select("explore-metric", "Metric", [(str(at), name) for at, name in enumerate(metrics)]),
            _select("explore-across", "One parameter", names),
            _select("explore-second", "Another", names, "1"),
        ]
    return joined([
        tag("p", {"class": "note"}, _about_axes(data)),
        tag("div", {"class": "controls", "id": "explore-controls", "hidden": True}, joined(choices)) if choices else None,
        tag("div", {"id": "explore-each", "class": "charts", "aria-live": "polite"}, each),
        tag("div", {"id": "explore-pair", "class": "charts", "aria-live": "polite"}, kept.get("p0-0-1")),
        joined(tag("template", {"id": key}, chart) for key, chart in kept.items()) if choices else None,
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


def _select(identifier: str, label: str, options: Sequence[tuple[str, str]], chosen: str = "0") -> Markup:
    choices = joined(tag("option", {"value": value, "selected": value == chosen}, text) for value, text in options)
    return tag("div", {}, tag("label", {"for": identifier}, label), tag("select", {"id": identifier}, choices))


def _choices(data: ReportData) -> Iterator[tuple[str, Markup]]:
    """Yield key and charts: each metric against each parameter, then the pairs of the first metric, then the others."""
    axes, metrics = data.binned["axes"], data.binned["metrics"]
    for m, metric in enumerate(metrics):
        points, figures = _points(data, metric), data.binned["effects"][metric]
        shown = points if len(points) <= POINTS_DRAWN else []
        yield f"e{m}", joined(
            figure(f"{metric} against {axis['name']}", effects.effect(axis, figures[a], metric, shown, a),
                    _about_effect(data, axis, figures[a]))
            for a, axis in enumerate(axes) if any(figures[a]))  # fmt: skip
    for m, metric in enumerate(metrics):
        for key, cells in data.binned["pairs"][metric].items():
            a, b = (int(at) for at in key.split())
            if cells:
                yield f"p{m}-{a}-{b}", _pair(data, metric, axes[a], axes[b], cells)


def _points(data: ReportData, metric: str) -> list[effects.Row]:
    """Return values of the axes, mean and deviation of every row; none where the page has not all rows."""
    if data.rows["total"] > len(data.rows["rows"]):
        return []
    names = data.rows["parameters"]
    places = [names.index(axis["name"]) for axis in data.binned["axes"]]
    at = metric_at(data, metric)
    rows = [row for row in charted(data) if row[at][0] is not None]
    return [([row[place] for place in places], row[at][0], row[at][1] or 0.0) for row in rows]


def _about_effect(data: ReportData, axis: dict[str, Any], figures: Sequence[Any]) -> str:
    sizes = [row[effects.N] for row in figures if row]
    if max(sizes) == 1:
        repeated = data.spread is not None and axis["kind"] == "number"
        return "One row at each value" + ("; bar: \N{PLUS-MINUS SIGN} standard deviation." if repeated else ".")
    rows = count(sizes[0], "row") if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,} rows"
    where = "value" if "values" in axis else "bin"
    if axis["kind"] == "text":
        return f"Dot: median of {rows}; bar: the middle half; line: from the lowest to the highest."
    every = data.rows["total"] <= len(data.rows["rows"])
    others = "small dots: the rows" if every else "small dots: the lowest and the highest"
    return f"Line: median of {rows} at each {where}; band: the middle half; {others}."


def _pair(
    data: ReportData, metric: str, a: dict[str, Any], b: dict[str, Any], cells: Sequence[Sequence[float]]
) -> Markup:
    first, second = (a, b) if len(effects.names_of(a)) >= len(effects.names_of(b)) else (b, a)
    turned = cells if first is a else [[j, i, *rest] for i, j, *rest in cells]
    sizes = [c[2] for c in cells]
    rows = count(int(sizes[0]), "row") if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,} rows"
    direction = data.direction if metric == data.main else None
    full = len(effects.names_of(a)) * len(effects.names_of(b))
    said = [f"Mean of {rows} in each cell"]
    said += ["the frame is the best cell"] if direction else []
    said += ["empty: no row"] if len(cells) < full else []
    chart = effects.heat_map(first, second, turned, metric, direction)
    map_ = figure(f"{metric} by {first['name']} and {second['name']}", chart, "; ".join(said) + ".")
    drawn_lines = effects.lines(first, second, turned, metric)
    if drawn_lines is None:
        return map_
    return joined(
        [
            map_,
            figure(
                f"{metric} against {first['name']}, a line for each value of {second['name']}",
                drawn_lines,
                f"Mean of {rows} at each point.",
            ),
        ]
    )


def _parallel(data: ReportData) -> Markup | None:
    metric = data.binned["metrics"][0]
    axes = data.binned["axes"][:6][::-1]  # the strongest beside the metric
    names, at = data.rows["parameters"], metric_at(data, metric)
    places = [names.index(axis["name"]) for axis in axes]
    rows = [([row[place] for place in places], row[at][0], 0.0) for row in charted(data)]
    rows = [row for row in rows if row[1] is not None and "" not in row[0]]
    if len(rows) < 2:
        return None
    said = f"Each line is a row of the table ({len(rows):,} rows). "
    said += (
        "Orange: the ten best; the better the others, the stronger their colour."
        if data.direction
        else "The higher, the stronger."
    )
    few = axes[-4:]  # a phone has room for four
    short = [(values[-len(few) :], value, 0.0) for values, value, _ in rows]
    said += (
        f" Of {len(axes)} parameters the {len(few)} strongest, on a wide screen all." if len(few) < len(axes) else ""
    )
    picture = on_both_screens(
        effects.parallel(few, short, metric, data.direction, 400),
        effects.parallel(axes, rows, metric, data.direction, WIDE),
    )
    return figure("All parameters at once", picture, said)


# ---------------------------------------------------------------- distribution


def is_spread(data: ReportData) -> bool:
    """Return True where there is something to draw of the distribution."""
    return data.spread is not None or any(map(_is_drawn, data.binned["histograms"].values()))


def _is_drawn(found: dict[str, Any] | None) -> bool:
    return bool(found and found["n"] >= FEWEST and found["max"] > found["min"])


def distribution(data: ReportData, left_out: list[str]) -> Markup:
    """Return histograms of the metrics, and the boxes of the points that were repeated."""
    noun = "rows" if data.replicates else f"{data.noun}s"
    figures = []
    for metric in data.binned["metrics"]:
        found = data.binned["histograms"][metric]
        if _is_drawn(found):
            said = f"{found['n']:,} {noun}; 90 % lie between {number(found['q05'])} and {number(found['q95'])}."
            figures.append(figure(metric, drawn.histogram(found, metric, noun), said))
    repeated = data.spread
    if repeated is None:
        said = f"No point was repeated, so nothing is known of the spread between replicates{_hint(data)}."
        return joined([tag("div", {"class": "charts"}, joined(figures)), tag("p", {"class": "note"}, said)])
    points = repeated["points"]
    points = points if data.direction != "max" else points[::-1]
    shown = points[:BEST_POINTS] if data.direction else [*points[: BEST_POINTS // 2], *points[-BEST_POINTS // 2 :]]
    shown = points if len(points) <= BEST_POINTS else shown
    varying = [axis["name"] for axis in data.binned["axes"]][:4]
    which = "the best" if data.direction else "the lowest and the highest"
    title = f"{data.main} over replicates" + (
        f": {which} {len(shown)} points" if repeated["total"] > len(shown) else ""
    )
    said = "Dot: median; bar: the middle half; line: from the lowest to the highest; right: mean \N{PLUS-MINUS SIGN} "
    said += f"standard deviation. Typical deviation within a point: {number(repeated['within'], 2)}."
    if repeated["total"] > len(shown):
        left_out.append(f"the replicates of {repeated['total'] - len(shown):,} of {repeated['total']:,} points")
    boxes = figure(title, drawn.replicates(shown, str(data.main), varying), said)
    return tag("div", {"class": "charts"}, boxes, joined(figures))


def _hint(data: ReportData) -> str:
    return "" if data.kind == "campaign" else "; --replicates names parameters that only repeat"
