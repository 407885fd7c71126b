"""The parts of the page about results: the table, the metric against parameters, its distribution."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hpc_agent.node.shared import binning
from hpc_agent.view.report.charts import distribution as drawn
from hpc_agent.view.report.charts import effects
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, embedded, joined, tag
from hpc_agent.view.report.numbers import NBSP, cell, count, number, spread

PAGE_ROWS = 25
MOST_COLUMNS = 12  # of parameters, and of metrics
CHOICES_BYTES = 200_000  # of charts that the reader may choose
TABLE_BYTES = 100_000
POINTS_DRAWN = 600
BEST_POINTS = 8
DIGITS = 6  # of a metric in the table's data; four are shown


def has_axes(data: ReportData) -> bool:
    return bool(data.binned["axes"] and data.binned["metrics"])


def ordered(data: ReportData) -> list[list[Any]]:
    """Return the rows, the best first where the direction is known."""
    rows: list[list[Any]] = data.rows["rows"]
    if not data.direction or data.main not in data.rows["metrics"]:
        return rows
    at, sign = _metric_at(data), -1 if data.direction == "max" else 1
    known = [row for row in rows if row[at][0] is not None]
    return [*sorted(known, key=lambda row: sign * row[at][0]), *(row for row in rows if row[at][0] is None)]


def _metric_at(data: ReportData) -> int:
    return len(data.rows["parameters"]) + 1 + int(data.rows["metrics"].index(data.main))


def words_of(data: ReportData, row: Sequence[Any], digits: int = 4) -> str:
    """Return the varying parameters of a row in words, with all digits for 0."""
    varying = [axis["name"] for axis in data.binned["axes"]] or data.rows["parameters"]
    pairs = [(name, value) for name, value in zip(data.rows["parameters"], row, strict=False) if name in varying]
    shown = ", ".join(f"{name} = {cell(value, digits) if digits else value}" for name, value in pairs[:6])
    return shown + (f" and {len(pairs) - 6} more" if len(pairs) > 6 else "")


def _columns(data: ReportData, left_out: list[str]) -> list[dict[str, Any]]:
    """Return name, kind and place in a row of each column. Constants are told above the table, not in it."""
    names, metrics, rows = data.rows["parameters"], data.rows["metrics"], data.rows["rows"]
    constant = data.binned["constants"]
    shown = [(at, name) for at, name in enumerate(names) if name not in constant]
    main_first = sorted(range(len(metrics)), key=lambda at: (metrics[at] != data.main, at))
    for what, every in (("parameters", len(shown)), ("metrics", len(metrics))):
        if every > MOST_COLUMNS:
            left_out.append(f"the table has {MOST_COLUMNS} of {every} {what}")
    of_metrics = [
        {"name": metrics[at], "kind": "metric", "at": len(names) + 1 + at, "text": False}
        for at in main_first[:MOST_COLUMNS]
    ]
    columns: list[dict[str, Any]] = of_metrics[:1]  # the main one comes first: on a phone it is in sight
    for at, name in shown[:MOST_COLUMNS]:
        is_text = any(isinstance(row[at], str) and row[at] != "" for row in rows)
        columns.append({"name": name, "kind": "parameter", "at": at, "text": is_text})
    if any(row[len(names)] > 1 for row in rows):
        columns.append({"name": f"{data.noun}s", "kind": "count", "at": len(names), "text": False})
    return columns + of_metrics[1:]


def table(data: ReportData, left_out: list[str]) -> Markup:
    """Return the table: its first page as HTML, all rows of the page as data for the script."""
    rows = ordered(data)
    if not rows:
        return tag("p", {}, f"No {data.noun} has given a metric yet.")
    columns = _columns(data, left_out)
    values, size = [], 0
    for row in rows:
        values.append([_value(row[column["at"]]) for column in columns])
        size += len(json.dumps(values[-1]))
        if size > TABLE_BYTES:
            break
    left_out.append(f"digits: metrics are shown with four, parameters with six{_full(data)}")
    if data.rows["total"] > len(values):
        which = (
            f": the lowest and the highest by {data.main}, and others evenly" if data.rows["total"] > len(rows) else ""
        )
        left_out.append(f"the table has {len(values):,} of {data.rows['total']:,} rows{which}{_full(data)}")
    sort = next((at for at, column in enumerate(columns) if column["name"] == data.main), None)
    shown = [[at, 1 if data.direction == "min" else -1] for at in [sort] if at is not None and data.direction]
    document = {
        "columns": [{key: column[key] for key in ("name", "kind", "text")} for column in columns],
        "rows": values, "page": PAGE_ROWS, "sorted": shown[0] if shown else None,
    }  # fmt: skip
    sorts = {column["name"]: "descending" if data.direction == "max" else "ascending"
             for column in columns if shown and column["name"] == data.main}  # fmt: skip
    head = joined(tag("th", {"scope": "col", "class": "text" if column["text"] else None, "aria-sort": sorts.get(column["name"])},
                      column["name"]) for column in columns)  # fmt: skip
    body = joined(tag("tr", {}, joined(_cell(value, column) for value, column in zip(line, columns, strict=True)))
                  for line in values[:PAGE_ROWS])  # fmt: skip
    told = f"Rows 1 to {min(PAGE_ROWS, len(values))} of {len(values)}"
    return joined([
        _constants(data),
        _repeats(data),
        _controls(data),
        tag("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": "Table of results"},
            tag("table", {"id": "table"}, tag("thead", {}, tag("tr", {}, head)), tag("tbody", {}, body))),
        tag("p", {"class": "rows-told", "id": "rows-told", "aria-live": "polite"}, told),
        tag("div", {"class": "controls", "id": "pages", "hidden": True, "data-few": len(values) <= PAGE_ROWS},
            tag("button", {"type": "button", "id": "previous"}, "Previous rows"),
            tag("button", {"type": "button", "id": "next"}, "Next rows")),
        embedded("table-data", document),
    ])  # fmt: skip


def _full(data: ReportData) -> str:
    return f" (all: {data.table_command})" if data.table_command else ""


def _controls(data: ReportData) -> Markup:
    example = f"{data.main}>0.9" if data.main and " " not in data.main else "a word"
    label = tag("label", {"for": "filter"}, f"Filter: words, or conditions such as {example}")
    field = tag("input", {"id": "filter", "type": "search", "autocomplete": "off", "spellcheck": "false"})
    return tag("div", {"class": "controls", "id": "table-controls", "hidden": True}, tag("div", {}, label, field))


def _constants(data: ReportData) -> Markup | None:
    constants = [(name, value) for name, value in data.binned["constants"].items() if name not in data.replicates]
    if not constants:
        return None
    told = ", ".join(f"{name} = {cell(value)[:60]}" for name, value in constants[:MOST_COLUMNS])
    more = f" and {len(constants) - MOST_COLUMNS} more" if len(constants) > MOST_COLUMNS else ""
    return tag("p", {"class": "note"}, f"The same in every row: {told}{more}.")


def _repeats(data: ReportData) -> Markup | None:
    if not data.replicates:
        return None
    names = " and ".join(data.replicates)
    return tag("p", {"class": "note"}, f"A row joins the {data.noun}s that differ in {names} only: mean \N{PLUS-MINUS SIGN} "
                                       "standard deviation.")  # fmt: skip


def _value(value: Any) -> Any:
    """Return a cell of the table's data: of a metric the rounded mean, with the deviation where there is one."""
    if not isinstance(value, list):
        return value
    mean, std, size = value
    if mean is None:
        return None
    short = float(f"{mean:.{DIGITS}g}")
    return [short, float(f"{std:.{DIGITS}g}")] if size and size > 1 and std is not None else short


def _cell(value: Any, column: dict[str, Any]) -> Markup:
    text = "" if value is None else cell(value)
    if column["kind"] == "metric" and value is not None:
        text = spread(*value) if isinstance(value, list) else number(value, keep=True)
    return tag("td", {"class": "text"} if column["text"] else {}, text)


# ---------------------------------------------------------------- the metric against parameters


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
    choices = [_select("explore-metric", "Metric", [(str(at), name) for at, name in enumerate(metrics)])]
    if len(axes) > 1:
        choices += [_select("explore-across", "One parameter", names), _select("explore-second", "Another", names, "1")]
    return joined([
        tag("p", {"class": "note"}, _about_axes(data)),
        tag("div", {"class": "controls", "id": "explore-controls", "hidden": True}, joined(choices)),
        tag("div", {"id": "explore-each", "class": "charts", "aria-live": "polite"}, kept["e0"]),
        tag("div", {"id": "explore-pair", "class": "charts", "aria-live": "polite"}, kept.get("p0-0-1")),
        joined(tag("template", {"id": key}, chart) for key, chart in kept.items()),
        _parallel(data) if len(axes) > 1 else None,
    ])  # fmt: skip


def _about_axes(data: ReportData) -> str:
    known = [(axis["name"], axis["strength"]) for axis in data.binned["axes"] if axis["strength"] is not None]
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
            _figure(f"{metric} against {axis['name']}", effects.effect(axis, figures[a], metric, shown, a),
                    _about_effect(data, axis, figures[a]))
            for a, axis in enumerate(axes) if any(figures[a]))  # fmt: skip
    for m, metric in enumerate(metrics):
        for key, cells in data.binned["pairs"][metric].items():
            a, b = (int(at) for at in key.split())
            if cells:
                yield f"p{m}-{a}-{b}", _pair(data, metric, axes[a], axes[b], cells)


def _points(data: ReportData, metric: str) -> list[effects.Row]:
    """Return (values of the axes, metric) of every row; none where the page has not all rows."""
    if data.rows["total"] > len(data.rows["rows"]):
        return []
    names = data.rows["parameters"]
    places = [names.index(axis["name"]) for axis in data.binned["axes"]]
    at = len(names) + 1 + data.rows["metrics"].index(metric)
    rows = [row for row in data.rows["rows"] if row[at][0] is not None]
    return [([row[place] for place in places], row[at][0]) for row in rows]


def _about_effect(data: ReportData, axis: dict[str, Any], figures: Sequence[Any]) -> str:
    sizes = [row[effects.N] for row in figures if row]
    if max(sizes) == 1:
        return "One row at each value."
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
    map_ = _figure(f"{metric} by {first['name']} and {second['name']}", chart, "; ".join(said) + ".")
    drawn_lines = effects.lines(first, second, turned, metric)
    if drawn_lines is None:
        return map_
    return joined(
        [
            map_,
            _figure(
                f"{metric} against {first['name']}, a line for each {second['name']}",
                drawn_lines,
                f"Mean of {rows} at each point.",
            ),
        ]
    )


def _parallel(data: ReportData) -> Markup | None:
    metric = data.binned["metrics"][0]
    axes = data.binned["axes"][:6][::-1]  # the strongest beside the metric
    names, metric_at = data.rows["parameters"], data.rows["metrics"].index(metric)
    places = [names.index(axis["name"]) for axis in axes]
    rows = [([row[place] for place in places], row[len(names) + 1 + metric_at][0]) for row in data.rows["rows"]]
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
    short = [(values[-len(few) :], value) for values, value in rows]
    said += (
        f" Of {len(axes)} parameters the {len(few)} strongest, on a wide screen all." if len(few) < len(axes) else ""
    )
    charts = [tag("div", {"class": "only-narrow"}, effects.parallel(few, short, metric, data.direction, 400)),
              tag("div", {"class": "only-wide"}, effects.parallel(axes, rows, metric, data.direction, 860))]  # fmt: skip
    wide = Markup(charts[1].replace('class="chart"', 'class="chart wide"'))
    return _figure("All parameters at once", joined([charts[0], wide]), said)


def _figure(title: str, chart: Markup, caption: str) -> Markup:
    return tag("figure", {}, tag("h3", {}, title), chart, tag("figcaption", {}, caption))


# ---------------------------------------------------------------- distribution


def distribution(data: ReportData, left_out: list[str]) -> Markup:
    """Return histograms of the metrics, and the boxes of the points that were repeated."""
    noun = "rows" if data.replicates else f"{data.noun}s"
    figures = []
    for metric in data.binned["metrics"]:
        found = data.binned["histograms"][metric]
        if found and found["n"] > 1:
            said = f"{found['n']:,} {noun}; 90 % lie between {number(found['q05'])} and {number(found['q95'])}."
            figures.append(_figure(metric, drawn.histogram(found, metric, noun), said))
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
    boxes = _figure(title, drawn.replicates(shown, str(data.main), varying), said)
    return tag("div", {"class": "charts"}, boxes, joined(figures))


def _hint(data: ReportData) -> str:
    return "" if data.kind == "campaign" else "; --replicates names parameters that only repeat"
