"""Write the table of a run as rows, CSV and text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

SPREAD = ("count", "mean", "std", "min", "max")
FIGURES = {"": "mean", "nan": "nan_count", "inf": "inf_count"}  # columns whose figure has another name


def columns_of(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the names of the parameters and of the metrics, in the order of their first row."""
    kwargs = dict.fromkeys(name for row in rows for name in row["kwargs"])
    metrics = dict.fromkeys(name for row in rows for name in row["metrics"])
    return list(kwargs), list(metrics)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return RFC 4180 text with floats in their shortest exact form and empty cells for missing values.

    A metric of one value a row has one column. Any other has five, and those for NaN and infinities where there are any:
    its count says how many values a cell stands on. A metric named as another column gets ``metric.`` before its name.
    """
    kwargs, metrics = columns_of(rows)
    parts = {metric: _parts([row["metrics"].get(metric, {}) for row in rows], rows) for metric in metrics}
    header = list(kwargs)
    for metric in metrics:
        names = [f"{metric}_{part}" if part else metric for part in parts[metric]]
        while set(names) & set(header):
            names = [f"metric.{name}" for name in names]
        header += names
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for row in rows:
        line = [_cell(row["kwargs"].get(name)) for name in kwargs]
        for metric in metrics:
            facts = row["metrics"].get(metric, {})
            line += [facts.get(FIGURES.get(part, part)) for part in parts[metric]]
        writer.writerow(["" if cell is None else cell for cell in line])
    return out.getvalue()


def _parts(summaries: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[str]:
    """Return the columns of one metric; "" alone is the metric's value by itself."""
    more = [part for part in ("nan", "inf") if any(facts.get(FIGURES[part]) for facts in summaries)]
    single = all(not facts or facts["count"] == row["count"] == 1 for facts, row in zip(summaries, rows, strict=True))
    return [""] if single and not more else [*SPREAD, *more]


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def as_text(rows: list[dict[str, Any]], limit: int = 40) -> str:
    """Return aligned columns with six significant digits, and ``mean ± std`` for rows with replicates.

    ``n=`` follows where a cell does not stand on one value of each task.
    """
    kwargs, metrics = columns_of(rows)
    lines = [[*kwargs, *metrics]]
    for row in rows[:limit]:
        cells = [_short(_cell(row["kwargs"].get(name))) for name in kwargs]
        lines.append(cells + [_spread(row["metrics"].get(name, {}), row["count"]) for name in metrics])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    if len(rows) > limit:
        text.append(f"... and {len(rows) - limit} more rows")
    return "\n".join(text)


def _spread(facts: dict[str, Any], tasks: int) -> str:
    mean, std = facts.get("mean"), facts.get("std")
    text = _short(mean) if std is None else f"{_short(mean)} ± {std:.2g}"
    return text if not facts or facts["count"] == tasks else f"{text} n={facts['count']}".lstrip()


def _short(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
