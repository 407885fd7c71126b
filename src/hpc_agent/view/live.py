"""Render the picture of ``watch``: runs with their waves, pace, failures and reasons. Rendering has no side effects."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hpc_agent.view.run_view import CLASSES_SHOWN, REASONS_SHOWN, WAVE_ROWS, RunView, head
from hpc_agent.view.terminal.layout import ASCII, MARKS

STYLES = {"complete": "green", "running": "cyan", "pending": "dim", "failed": "red", "unknown": "yellow"}


def render(runs: list[RunView], now: float, width: int, plain_letters: bool = False) -> RenderableType:
    """Return a frame for each run, two columns narrower than the terminal; ``plain_letters``: its bars are ASCII.

    The two columns are for the ^C that a terminal echoes: a line that it breaks would move the picture.
    """
    marks = {name: mark.translate(ASCII) if plain_letters else mark for name, mark in MARKS.items()}
    return Group(*(_frame(run, now, min(width - 2, 110), marks) for run in runs))


def _line(*parts: str | tuple[str, str]) -> Text:
    """Return a line that is cut off where the frame ends."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _frame(run: RunView, now: float, width: int, marks: dict[str, str]) -> Panel:
    inner = width - 4
    parts: list[RenderableType] = [_head(run, now), bar(run.counts, run.total, inner, marks), _counts(run, inner)]
    if len(run.waves) > 1:
        parts += [Text(), _waves(run, inner, marks)]
    for row in run.waiting[:REASONS_SHOWN]:
        parts.append(_line((f"{row['count']:>6} wait: {row['sentence']}", "dim" if row["passes"] else "yellow")))
    if run.causes:
        ranked = sorted(run.causes.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{number} {name}" for name, number in ranked[:CLASSES_SHOWN])
        parts.append(_line((f"failed: {shown}", "red")))
    parts += [_line((event, "dim")) for event in run.events]
    title = _line((run.run_id, "bold"), f" on {run.cluster}")
    colour = {"complete": "green", "failed": "red", "abandoned": "red"}.get(run.state, "cyan")
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour, width=width, padding=(0, 1))


def _head(run: RunView, now: float) -> Text:
    styles = {"strong": "bold", "warn": "yellow"}
    return _line(*((cell.text, styles.get(cell.style, cell.style)) for cell in head(run, now)))


def bar(counts: dict[str, int], total: int, width: int, marks: dict[str, str] = MARKS) -> Text:
    """Return a bar of ``width`` columns; a state that has any task has at least one column."""
    known = {name: counts.get(name, 0) for name in marks}
    known["pending"] += max(0, total - sum(known.values()))
    shares = {name: max(1, width * number // max(total, 1)) for name, number in known.items() if number}
    largest = max(shares, key=lambda name: shares[name], default="pending")
    shares[largest] = max(1, shares.get(largest, 0) + width - sum(shares.values()))
    return Text.assemble(*((marks[name] * columns, STYLES[name]) for name, columns in shares.items()), no_wrap=True)


def _counts(run: RunView, width: int) -> Text:
    done = run.counts.get("complete", 0)
    text = _line((f"{done:,}/{run.total:,} complete", STYLES["complete"]))
    for name in ("running", "pending", "failed", "unknown"):
        if run.counts.get(name):
            text.append(f"  {run.counts[name]:,} {name}", STYLES[name])
    percent = f"{100 * done // max(run.total, 1)} %"
    room = width - text.cell_len - len(percent)
    return text.append(" " * room + percent, "bold") if room >= 2 else text


def _waves(run: RunView, width: int, marks: dict[str, str]) -> Table:
    """Return a line for each unfinished wave, one line for all finished waves, and one for those that do not fit."""
    rows = [(name, facts, sum(facts.values())) for name, facts in run.waves.items()]
    open_rows = [row for row in rows if row[1].get("complete", 0) < row[2]]
    finished = len(rows) - len(open_rows)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, width=9)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", width=13)
    if finished:
        table.add_row(Text(f"{finished} wave{'s' if finished > 1 else ''}", "green"), Text("finished", "green"), "")
    for name, facts, total in open_rows[:WAVE_ROWS]:
        done = f"{facts.get('complete', 0):,}/{total:,}"
        table.add_row(f"wave {name}", bar(facts, total, max(8, width - 24), marks), done)
    if len(open_rows) > WAVE_ROWS:
        table.add_row(Text(f"{len(open_rows) - WAVE_ROWS} more", "dim"), Text("waiting", "dim"), "")
    return table
