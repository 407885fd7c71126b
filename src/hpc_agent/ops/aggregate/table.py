"""Write the table of a run as columns, CSV and text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, NamedTuple

TASKS = "tasks"
VALUE = "value"  # the part of a metric that has one value in each row
SPREAD = ("count", "mean", "std", "ci95", "min", "max")
FIGURES = {VALUE: "mean", "nan": "nan_count", "inf": "inf_count"}  # parts whose figure has another name
WIDTH, ROWS_SHOWN = 40, 40  # on a terminal: characters of a cell, rows

Rows = list[dict[str, Any]]


class Column(NamedTuple):
    """A column of the table with a value for each row; None where a row has none."""

    name: str
    values: list[Any]
    metric: str = ""  # "" for a parameter and for the number of tasks
    part: str = ""  # which figure of the metric


def columns_of(rows: Rows) -> tuple[list[str], list[str]]:
    """Return the names of the parameters and of the metrics, in the order of their first row."""
    kwargs, metrics = ([*dict.fromkeys(name for row in rows for name in row[part])] for part in ("kwargs", "metrics"))
    return kwargs, metrics


def table_columns(rows: Rows) -> list[Column]:
    """Return the columns of table.csv: parameters, ``tasks`` where a row has several, metrics.

    A metric of one value a row has one column. Any other has one for each of SPREAD, and those for NaN and infinities
    where there are any: its count says how many values a cell stands on. ``ci95`` is there where a row has replicates.
    A metric named as another column gets ``metric.`` before its name; ``tasks`` gets ``row.``.
    """
    kwargs, metrics = columns_of(rows)
    columns = [Column(name, [row["kwargs"].get(name) for row in rows]) for name in kwargs]
    if any(row["count"] > 1 for row in rows):
        [name] = free_names([TASKS], set(kwargs), "row.")
        columns.append(Column(name, [row["count"] for row in rows], part=TASKS))
    for metric in metrics:
        summaries = [row["metrics"].get(metric, {}) for row in rows]
        parts = _parts(summaries, rows)
        names = [metric if part == VALUE else f"{metric}_{part}" for part in parts]
        for name, part in zip(free_names(names, {column.name for column in columns}, "metric."), parts, strict=True):
            columns.append(Column(name, [facts.get(FIGURES.get(part, part)) for facts in summaries], metric, part))
    return columns


def free_names(names: list[str], taken: set[str], prefix: str) -> list[str]:
    """Return the names, each with the prefix so often that none is taken."""
    while set(names) & taken:
        names = [prefix + name for name in names]
    return names


def _parts(summaries: list[dict[str, Any]], rows: Rows) -> list[str]:
    more = [part for part in ("nan", "inf") if any(facts.get(FIGURES[part]) for facts in summaries)]
    single = all(not facts or facts["count"] == row["count"] == 1 for facts, row in zip(summaries, rows, strict=True))
    if single and not more:
        return [VALUE]
    interval = any(facts.get("ci95") is not None for facts in summaries)
    return [part for part in SPREAD if part != "ci95" or interval] + more


def as_csv(columns: list[Column]) -> str:
    """Return RFC 4180 text with floats in their shortest exact form and empty cells for missing values."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(column.name for column in columns)
    writer.writerows(zip(*(map(cell_text, column.values) for column in columns), strict=True))
    return out.getvalue()


def cell_text(value: Any) -> Any:
    """Return the value of a cell; lists and objects as JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def as_text(rows: Rows) -> str:
    """Return aligned columns with six significant digits, and ``mean ± std`` for rows with replicates.

    ``n=`` follows where a cell does not stand on one value of each task.
    """
    kwargs, metrics = columns_of(rows)
    lines = [[*kwargs, *metrics]]
    for row in rows[:ROWS_SHOWN]:
        cells = [_short(cell_text(row["kwargs"].get(name))) for name in kwargs]
        lines.append(cells + [_spread(row["metrics"].get(name, {}), row["count"]) for name in metrics])
    return _aligned(lines, len(rows))


def aligned(columns: list[Column], order: list[int]) -> str:
    """Return the rows at the positions ``order`` as aligned columns with six significant digits."""
    cells = [[_short(cell_text(column.values[row])) for column in columns] for row in order[:ROWS_SHOWN]]
    return _aligned([[column.name for column in columns], *cells], len(order))


def _aligned(lines: list[list[str]], rows: int) -> str:
    """Return the lines, of which the first is the header; ``rows`` is the number of rows with those that are not shown."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    if rows > len(lines) - 1:
        text.append(f"... and {rows - len(lines) + 1} more rows")
    return "\n".join(text)


def _spread(facts: dict[str, Any], tasks: int) -> str:
    mean, std = facts.get("mean"), facts.get("std")
    text = _short(mean) if std is None else f"{_short(mean)} ± {std:.2g}"
    return text if not facts or facts["count"] == tasks else f"{text} n={facts['count']}".lstrip()


def _short(cell: Any) -> str:
    if cell is None:
        return ""
    text = f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
