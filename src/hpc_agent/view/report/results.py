"""The table of results, its first page as HTML and all of its rows as data for the script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hpc_agent.node.shared.metric_names import sign_of
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, embedded, joined, note, tag
from hpc_agent.view.report.numbers import PLUS_MINUS, cell, number, spread
from hpc_agent.view.terminal.words import counted

PAGE_ROWS = 25
MOST_COLUMNS = 12  # of parameters, and of metrics
TABLE_BYTES = 100_000
DIGITS = 6  # of a metric in the table's data; four are shown


def ordered(data: ReportData) -> list[list[Any]]:
    """Return the rows, the best first where the direction is known, and last those that cannot be the best."""
    rows: list[list[Any]] = data.rows["rows"]
    if not data.direction or data.main not in data.rows["metrics"]:
        return rows
    at, sign, last = metric_at(data, data.main), sign_of(data.direction), set(data.rows["unranked"])

    def rank(place: int) -> tuple[float, ...]:
        value = rows[place][at][0]
        return (1,) if value is None else (0, place in last, sign * value)

    return [rows[place] for place in sorted(range(len(rows)), key=rank)]


def ranked(data: ReportData) -> list[list[Any]]:
    """Return the rows with a value of the main metric that may be the best, in the order of ``ordered``."""
    if data.main not in data.rows["metrics"]:
        return []
    at, last = metric_at(data, data.main), {id(data.rows["rows"][place]) for place in data.rows["unranked"]}
    return [row for row in ordered(data) if row[at][0] is not None and id(row) not in last]


def metric_at(data: ReportData, metric: str | None) -> int:
    """Return the place of a metric in a row."""
    return len(data.rows["parameters"]) + 1 + int(data.rows["metrics"].index(metric))


def charted(data: ReportData) -> list[list[Any]]:
    """Return the rows that charts of the metric against parameters show."""
    return [row for place, row in enumerate(data.rows["rows"]) if place not in data.rows["uncharted"]]


def words_of(data: ReportData, row: Sequence[Any], digits: int = 4) -> str:
    """Return the varying parameters of a row in words, with all digits for 0."""
    varying = [axis["name"] for axis in data.binned["axes"]] or data.binned["constants"]
    pairs = [(name, value) for name, value in zip(data.rows["parameters"], row, strict=False) if name in varying]
    shown = ", ".join(f"{name} = {cell(value, digits) if digits else value}" for name, value in pairs[:6])
    return shown + (f" and {len(pairs) - 6} more" if len(pairs) > 6 else "")


class Column(NamedTuple):
    """A column of the table, and its place in a row of the data."""

    name: str
    kind: str  # metric, parameter or count
    at: int
    text: bool = False


def _columns(data: ReportData, left_out: list[str]) -> list[Column]:
    """Return the columns, the main metric first: on a phone it is in sight. Constants are told above the table."""
    names, metrics, rows = data.rows["parameters"], data.rows["metrics"], data.rows["rows"]
    parameters = [
        Column(name, "parameter", at, any(isinstance(row[at], str) and row[at] != "" for row in rows))
        for at, name in enumerate(names)
        if name not in data.binned["constants"]
    ]
    for what, every in (("parameters", parameters), ("metrics", metrics)):
        if len(every) > MOST_COLUMNS:
            left_out.append(f"the table has {MOST_COLUMNS} of {len(every)} {what}")
    sizes = [Column(f"{data.noun}s", "count", len(names))] if any(row[len(names)] > 1 for row in rows) else []
    main_first = sorted(metrics, key=lambda name: name != data.main)
    of_metrics = [Column(name, "metric", metric_at(data, name)) for name in main_first[:MOST_COLUMNS]]
    return [*of_metrics[:1], *parameters[:MOST_COLUMNS], *sizes, *of_metrics[1:]]


def table(data: ReportData, left_out: list[str]) -> Markup:
    """Return the table: its first page as HTML, all rows of the page as data for the script."""
    rows = ordered(data)
    if not rows:
        return tag("p", {}, f"No {data.noun} has given a metric yet.")
    columns = _columns(data, left_out)
    values, size = [], 0
    for row in rows:
        values.append([_value(row[column.at]) for column in columns])
        size += len(json.dumps(values[-1]))
        if size > TABLE_BYTES:
            break
    if data.rows["total"] > len(values):
        which = "" if data.has_every_row else f": the lowest and the highest by {data.main}, and others evenly"
        left_out.append(f"the table has {len(values):,} of {data.rows['total']:,} rows{which}{_full(data)}")
    is_sorted = bool(data.direction) and data.main in data.rows["metrics"]
    direction = "descending" if data.direction == "max" else "ascending"
    document = {
        "columns": [{"name": column.name, "kind": column.kind, "text": column.text} for column in columns],
        "rows": values, "page": PAGE_ROWS, "sorted": [0, 1 if data.direction == "min" else -1] if is_sorted else None,
    }  # fmt: skip
    head = joined(tag("th", {"scope": "col", "class": "text" if column.text else None,
                             "aria-sort": direction if is_sorted and not at else None}, column.name)
                  for at, column in enumerate(columns))  # fmt: skip
    body = joined(tag("tr", {}, joined(_cell(value, column) for value, column in zip(line, columns, strict=True)))
                  for line in values[:PAGE_ROWS])  # fmt: skip
    told = f"Rows 1 to {min(PAGE_ROWS, len(values))} of {len(values)}"
    return joined([
        *map(note, _remarks(data)),
        _controls(data),
        tag("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": "Table of results"},
            tag("table", {"id": "table"}, tag("thead", {}, tag("tr", {}, head)), tag("tbody", {}, body))),
        tag("p", {"class": "rows-told", "id": "rows-told", "aria-live": "polite"}, told),
        tag("div", {"class": "controls", "id": "pages", "hidden": True, "data-few": len(values) <= PAGE_ROWS},
            tag("button", {"type": "button", "id": "previous"}, "Previous rows"),
            tag("button", {"type": "button", "id": "next"}, "Next rows")),
        note(f"Metrics are shown with four digits, parameters with six{_full(data)}."),
        embedded("table-data", document),
    ])  # fmt: skip


def _full(data: ReportData) -> str:
    return f" (all: {data.table_command})" if data.table_command else ""


def _controls(data: ReportData) -> Markup:
    example = f"{data.main}>0.9" if data.main and " " not in data.main else "a word"
    label = tag("label", {"for": "filter"}, f"Filter: words, or conditions such as {example}")
    field = tag("input", {"id": "filter", "type": "search", "autocomplete": "off", "spellcheck": "false"})
    return tag("div", {"class": "controls", "id": "table-controls", "hidden": True}, tag("div", {}, label, field))


def _remarks(data: ReportData) -> Iterator[str]:
    """Yield what holds for every row, and for the last ones."""
    constants = [(name, value) for name, value in data.binned["constants"].items() if name not in data.replicates]
    if constants:
        told = ", ".join(f"{name} = {cell(value)[:60]}" for name, value in constants[:MOST_COLUMNS])
        more = f" and {len(constants) - MOST_COLUMNS} more" if len(constants) > MOST_COLUMNS else ""
        yield f"The same in every row: {told}{more}."
    if data.replicates:
        names = " and ".join(data.replicates)
        yield f"A row joins the {data.noun}s that differ in {names} only: mean {PLUS_MINUS} standard deviation."
    if data.direction and (last := len(data.rows["unranked"])):
        why = "is that of an early step" if data.kind == "run" else "does not count: see origin and state"
        yield f"Last, and never the best: {counted(last, 'row')} whose value {why}."


def _value(value: Any) -> Any:
    """Return a cell of the table's data: of a metric the rounded mean, with the deviation where there is one."""
    if not isinstance(value, list):
        return value
    mean, std, size = value
    if mean is None:
        return None
    short = float(f"{mean:.{DIGITS}g}")
    return [short, float(f"{std:.{DIGITS}g}")] if size and size > 1 and std is not None else short


def _cell(value: Any, column: Column) -> Markup:
    text = "" if value is None else cell(value)
    if column.kind == "metric" and value is not None:
        text = spread(*value) if isinstance(value, list) else number(value, keep=True)
    return tag("td", {"class": "text" if column.text else None}, text)
