"""Views of results: the table of ``aggregate`` with its best rows first, runs beside each other, a reducer's output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpc_agent.node.shared.metric_names import direction_of, main_metric
from hpc_agent.view.terminal.blocks import (
    Block,
    Cell,
    Column,
    Content,
    Fact,
    Facts,
    Gap,
    Heading,
    Line,
    Para,
    Table,
    Title,
)
from hpc_agent.view.terminal.generic import generic, table
from hpc_agent.view.terminal.words import brief, counted, number, pairs, size

WORDS = {"min": "lowest", "max": "highest"}


def aggregate(data: Mapping[str, Any]) -> list[Block]:
    """View of ``aggregate``: how much is in the table, its rows, where the whole of it lies."""
    included = f"{data['included_tasks']:,} of {counted(data['total_tasks'], 'task')}"
    blocks: list[Block] = [
        Title([data["run_id"], ": ", Cell(included, "good" if data["complete"] else "warn"), " in the table"])
    ]
    left_out: list[Fact] = []
    for name, words in (("failed", "failed"), ("missing", "not ended")):
        if data.get(f"{name}_count"):
            left_out.append((words, f"{counted(data[f'{name}_count'], 'task')}: {data[f'{name}_tasks']}"))
    if data.get("without_metrics"):
        left_out.append(("no metrics", data["without_metrics"]))
    blocks.append(Facts(left_out))
    blocks += [*rows(data), *_problems(data)]
    if data.get("reduction"):
        blocks += [Heading("Your reducer"), *reduction(data["reduction"])]
    return [*blocks, *_files(data, "table_csv", "table_parquet")]


def rows(data: Mapping[str, Any]) -> list[Block]:
    """Return the rows of an answer as a table; without an order of its own the best come first, where all are here."""
    columns, shown = data.get("columns") or [], data.get("rows") or []
    if not shown:
        return []
    blocks: list[Block] = []
    order = ""
    if data.get("sort"):
        order = f"{WORDS.get(data.get('direction', ''), 'best')} {data['sort']} first"
    elif len(shown) == data.get("row_count", len(shown)):
        shown, order = _best_first(columns, shown)
    told = [counted(data.get("row_count", len(shown)), "row")]
    if data.get("matching_rows") is not None:
        told.append(f"{data['matching_rows']:,} match")
    if len(shown) < (data["matching_rows"] if data.get("matching_rows") is not None else data.get("row_count", 0)):
        told.append(f"the first {len(shown)} are here")
    if data.get("columns_left_out"):
        told.append(f"{counted(data['columns_left_out'], 'more column')} in the file")
    blocks += [Gap(), Line(Cell(", ".join([*told, *([order] if order else [])]), "dim")), number_table(columns, shown)]
    if data.get("constant"):
        blocks.append(Para([Cell("in every row: ", "dim"), pairs(data["constant"])]))
    return blocks


def _best_first(columns: Sequence[str], shown: Sequence[Sequence[Any]]) -> tuple[list[Sequence[Any]], str]:
    """Return the rows by the metric that a reader asks for first, where its name says which values are the best."""

    def is_metric(at: int) -> bool:
        values = [row[at] for row in shown]
        return all(isinstance(value, float) and math.isfinite(value) for value in values)

    names = [
        name for at, name in enumerate(columns) if is_metric(at) and not name.endswith(("_std", "_ci95", "_count"))
    ]
    metric = main_metric(names)
    direction = direction_of(metric) if metric else None
    if metric is None or direction is None or len(shown) < 2:
        return list(shown), ""
    at = columns.index(metric)
    ordered = sorted(shown, key=lambda row: row[at], reverse=direction == "max")
    return ordered, f"{WORDS[direction]} {metric} first"


def number_table(columns: Sequence[str], shown: Sequence[Sequence[Any]]) -> Table:
    """Return a table whose fractions stand with their points below each other."""
    texts = [_aligned([row[at] for row in shown]) for at in range(len(columns))]
    head = [Column(name, right=_is_numeric(row[at] for row in shown)) for at, name in enumerate(columns)]
    cells: list[list[Content]] = [[texts[at][line] for at in range(len(columns))] for line in range(len(shown))]
    return Table(head, cells)


def _is_numeric(values: Any) -> bool:
    return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)


def _aligned(values: Sequence[Any]) -> list[str]:
    texts = [number(value) if isinstance(value, float) else brief(value) for value in values]
    if not _is_numeric(values) or any("e" in text for text in texts):
        return texts
    fractions = [len(text.partition(".")[2]) + ("." in text) for text in texts]
    return [text + " " * (max(fractions) - fraction) for text, fraction in zip(texts, fractions, strict=True)]


def _problems(data: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for name, word in (("nan", "NaN"), ("inf", "infinite")):
        if data.get(name):
            blocks.append(
                Para([Cell("Note: ", "warn"), f"values that are {word}: {pairs(data[name])}; no figure has them"])
            )
    for problem in data.get("metrics_problems") or []:
        field = f", {problem['field']}" if problem.get("field") else ""
        blocks.append(
            Para(
                [
                    Cell("Note: ", "warn"),
                    f"task {problem['task']}{field}: {problem['message']} ({counted(problem.get('count', 1), 'value')})",
                ]
            )
        )
    return blocks


def _files(data: Mapping[str, Any], *names: str) -> list[Block]:
    paths = [data[name] for name in names if data.get(name)]
    return [Gap(), *(Line([Cell("whole table: ", "dim"), path]) for path in paths)] if paths else []


def compare(data: Mapping[str, Any]) -> list[Block]:
    """View of ``compare``: a line for each metric, then the rows that differ most."""
    blocks: list[Block] = [Title(" and ".join(data["runs"]))]
    summary = data.get("summary") or []
    if summary:
        names = list(
            dict.fromkeys(name for row in summary for name, value in row.items() if value not in (None, "", [], {}))
        )
        blocks += (
            [Heading("In short"), table(summary, names)]
            if len(names) <= 8
            else [Heading("In short"), *generic({"metrics": summary})]
        )
    used = (
        "runs",
        "summary",
        "rows",
        "columns",
        "row_count",
        "matching_rows",
        "constant",
        "sort",
        "direction",
        "digits",
        "truncated",
        "columns_left_out",
        "compare_csv",
    )
    rest = {name: value for name, value in data.items() if name not in used and value not in (None, "", [], {})}
    return [*blocks, *rows(data), *(generic(rest) if rest else []), *_files(data, "compare_csv")]


def demo(data: Mapping[str, Any]) -> list[Block]:
    """View of ``demo``: the table over the folds."""
    told = "Ridge regression, mean and spread over five folds, the lowest rmse first"
    return [
        Title(data["run_id"]),
        Para(told),
        Gap(),
        number_table(data["columns"], data["rows"]),
        *_files(data, "table_csv"),
    ]


def reduction(data: Mapping[str, Any]) -> list[Block]:
    """View of ``cluster-reduce``: the state of the reducer, its value, its files."""
    from hpc_agent.view.terminal.evidence import log_end

    word = (
        Cell("ended in order", "good") if data.get("ok") else Cell(str(data.get("state", "")).replace("_", " "), "warn")
    )
    facts: list[Fact] = [("reducer", data.get("reducer", "")), ("state", word)]
    facts += [
        (name.replace("_", " "), brief(data[name]))
        for name in ("job_id", "exit_code", "included_tasks", "failed_tasks")
        if data.get(name)
    ]
    blocks: list[Block] = [Facts(facts)]
    if isinstance(data.get("reduced"), Mapping):
        blocks += [Heading("Result"), *generic(data["reduced"])]
    elif data.get("reduced") is not None:
        blocks.append(Facts([("result", brief(data["reduced"]))]))
    if data.get("files"):
        files: list[list[Content]] = [[entry["path"], size(entry["bytes"])] for entry in data["files"]]
        blocks += [Heading("Files"), Table([Column("file"), Column("size", right=True)], files)]
    if data.get("output_path_local"):
        blocks.append(Line([Cell("output: ", "dim"), data["output_path_local"]]))
    if data.get("stderr_tail") and not data.get("ok"):
        blocks += [Heading("End of its output"), log_end(data["stderr_tail"])]
    return blocks


def report(data: Mapping[str, Any]) -> list[Block]:
    """View of ``report``: its headline and where the page lies."""
    blocks: list[Block] = [
        Title(data["headline"]),
        Line([Cell("page: ", "dim"), data["report"], Cell(f" ({size(data['bytes'])})", "dim")]),
    ]
    return [*blocks, *(Para([Cell("left out: ", "dim"), text]) for text in data["left_out"])]
