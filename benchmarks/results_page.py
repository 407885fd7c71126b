"""RESULTS.md from what was measured: the budgets first, then each row with its sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.budgets import BUDGETS, Budget
from benchmarks.figures import median, rounded, spread, written
from benchmarks.floor import NAMES
from benchmarks.registry import Row
from benchmarks.results import Book, Result

HEAD = """# Measured

Written by `python -m benchmarks` (`--list` names the rows, `python -m benchmarks ROW` renews one); the same as data:
`results.json`.

Each row is measured in one run. Its sides take turns (A B A B), and the table has the median of the repetitions, the half of the
range as a share of it (±), and what one task costs as a multiple of the machine's own floor, measured just before: `posix_spawn`
of `true` for tasks that are processes, a fork for functions. A task counts as done when its outcome is recorded in a file and
read back by the side that measures; all sides must give the same outputs. The start of every client is included, its tidying up
is not.
"""


def page(book: Book, rows: Sequence[Row], why: Mapping[str, str]) -> str:
    """Return the whole text of RESULTS.md."""
    machine = " · ".join(f"{name} {value}" for name, value in book.machine.items())
    parts = [HEAD, f"Machine: {machine or 'no row has been measured yet'}\n", budget_table(book, why)]
    parts += [row_section(row, book.rows.get(row.id)) for row in rows]
    return "\n".join(parts)


def budget_table(book: Book, why: Mapping[str, str]) -> str:
    lines = ["## Budgets\n", "| what | row | measured | budget | |", "|---|---|--:|--:|---|"]
    lines += [_budget_line(budget, book, why) for budget in BUDGETS]
    return "\n".join(lines) + "\n"


def _budget_line(budget: Budget, book: Book, why: Mapping[str, str]) -> str:
    figure = budget.figure(book)
    if figure is None:
        shown, verdict = "", _unmeasured(budget, book.rows.get(budget.row))
    else:
        shown = budget.shown(figure)
        verdict = "met" if budget.met(figure) else f"**not met**: {why.get(budget.id, 'no reason is written yet')}"
    cells = (budget.what, f"[{budget.row}](#{budget.row})", shown, budget.limit(), verdict)
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _unmeasured(budget: Budget, result: Result | None) -> str:
    if result is None:
        return "not measured yet"
    skipped = {one.name: one.why for one in result.skipped}
    named = [f"{name}: {skipped[name]}" for name in (budget.of, *budget.to) if name in skipped]
    return "not measured: " + ("; ".join(named) or result.broken_off or "a side is missing")


def row_section(row: Row, result: Result | None) -> str:
    """Return the section of a row: its method, its sides, what was skipped."""
    lines = [f"## {row.id}\n", f"{row.title}. {row.method}\n"]
    if result is None:
        return "\n".join([*lines, "Not measured yet.\n"])
    lines += side_table(result)
    lines += [f"- {one.name}: skipped, {one.why}" for one in result.skipped]
    lines += [f"- broken off: {result.broken_off}"] if result.broken_off else []
    floors = ", ".join(f"{NAMES[name]} {written(value, 's')}" for name, value in result.floors.items())
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines += [
        "",
        f"{result.taken_at}, {result.seconds:.0f} s, commit {result.commit or 'unknown'}; floor: {floors}; {versions}\n",
    ]
    return "\n".join(lines)


def side_table(result: Result) -> list[str]:
    """Return the lines of the table of sides; ratios are to the first side in seconds."""
    first = next((median(measure.values) for measure in result.measures if measure.unit == "s"), 0.0)
    lines = [
        "| side | median | ± | times | ratio to the first | a task, in floors | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for measure in result.measures:
        middle = median(measure.values)
        floor = result.floors.get(measure.floor)
        cells = (
            measure.name,
            written(middle, measure.unit),
            f"{spread(measure.values):.0%}" if len(measure.values) > 1 else "",
            str(len(measure.values)),
            f"{rounded(middle / first)} x" if first and measure.unit == "s" else "",
            f"{rounded(middle / measure.count / floor)}" if floor else "",
            measure.note,
        )
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return [*lines, ""] if result.measures else ["Nothing was measured.", ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
