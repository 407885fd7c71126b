"""The table of results, its first page as HTML and all of its rows as data for the script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, embedded, joined, tag
from hpc_agent.view.report.numbers import cell, count, number, spread

PAGE_ROWS = 25
MOST_COLUMNS = 12  # of parameters, and of metrics
TABLE_BYTES = 100_000
DIGITS = 6  # of a metric in the table's data; four are shown


def ordered(data: ReportData) -> list[list[Any]]:
    """Return the rows, the best first where the direction is known, and last those that cannot be the best."""
    rows: list[list[Any]] = data.rows["rows"]
    if not data.direction or data.main not in data.rows["metrics"]:
        return rows
    at, sign, last = metric_at(data, data.main), -1 if data.direction == "max" else 1, set(data.rows["unranked"])
    known = [place for place, row in enumerate(rows) if row[at][0] is not None]
    known.sort(key=lambda place: (place in last, sign * rows[place][at][0]))
    return [*(rows[place] for place in known), *(row for row in rows if row[at][0] is None)]


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
    left_out = set(data.rows["uncharted"])
    return [row for place, row in enumerate(data.rows["rows"]) if place not in left_out]


def words_of(data: ReportData, row: Sequence[Any], digits: int = 4) -> str:
    """Return the varying parameters of a row in words, with all digits for 0."""
    varying = [axis["name"] for axis in data.binned["axes"]] or data.binned["constants"]
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
    digits = f"Metrics are shown with four digits, parameters with six{_full(data)}."
    return joined([
        _constants(data),
        _repeats(data),
        _unranked(data),
        _controls(data),
        tag("div", {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": "Table of results"},
            tag("table", {"id": "table"}, tag("thead", {}, tag("tr", {}, head)), tag("tbody", {}, body))),
        tag("p", {"class": "rows-told", "id": "rows-told", "aria-live": "polite"}, told),
        tag("div", {"class": "controls", "id": "pages", "hidden": True, "data-few": len(values) <= PAGE_ROWS},
            tag("button", {"type": "button", "id": "previous"}, "Previous rows"),
            tag("button", {"type": "button", "id": "next"}, "Next rows")),
        tag("p", {"class": "note"}, digits),
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


def _unranked(data: ReportData) -> Markup | None:
    rows = len(data.rows["unranked"])
    if not rows or not data.direction:
        return None
    why = "is that of an early step" if data.kind == "run" else "does not count: see origin and state"
    return tag("p", {"class": "note"}, f"Last, and never the best: {count(rows, 'row')} whose value {why}.")


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
