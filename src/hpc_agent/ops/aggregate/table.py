"""Write the table of a run as rows, CSV and text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

SPREAD = ("count", "mean", "std", "min", "max")


def columns_of(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the names of the parameters and of the metrics, in the order of their first row."""
    kwargs = dict.fromkeys(name for row in rows for name in row["kwargs"])
    metrics = dict.fromkeys(name for row in rows for name in row["metrics"])
    return list(kwargs), list(metrics)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return RFC 4180 text with floats in their shortest exact form and empty cells for missing values.

    A metric with replicates has five columns, another one has one.
    """
    kwargs, metrics = columns_of(rows)
    spread = {m: any(row["metrics"].get(m, {}).get("count", 0) > 1 for row in rows) for m in metrics}
    header = list(kwargs)
    for metric in metrics:
        header += [f"{metric}_{part}" for part in SPREAD] if spread[metric] else [metric]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for row in rows:
        line = [_cell(row["kwargs"].get(name)) for name in kwargs]
        for metric in metrics:
            facts = row["metrics"].get(metric, {})
            line += [facts.get(part) for part in SPREAD] if spread[metric] else [facts.get("mean")]
        writer.writerow(["" if cell is None else cell for cell in line])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def as_text(rows: list[dict[str, Any]], limit: int = 40) -> str:
    """Return aligned columns with six significant digits, and ``mean ± std`` for rows with replicates."""
    kwargs, metrics = columns_of(rows)
    lines = [[*kwargs, *metrics]]
    for row in rows[:limit]:
        cells = [_short(_cell(row["kwargs"].get(name))) for name in kwargs]
        lines.append(cells + [_spread(row["metrics"].get(name, {})) for name in metrics])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    if len(rows) > limit:
        text.append(f"... and {len(rows) - limit} more rows")
    return "\n".join(text)


def _spread(facts: dict[str, Any]) -> str:
    mean, std = facts.get("mean"), facts.get("std")
    return _short(mean) if std is None else f"{_short(mean)} ± {std:.2g}"


def _short(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
