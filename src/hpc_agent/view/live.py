"""Render the picture of ``watch``: runs with their waves, pace, failures and reasons. Rendering has no side effects."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

STYLES = {"complete": "green", "running": "cyan", "pending": "dim", "failed": "red", "unknown": "yellow"}
MARKS = {"complete": "━", "running": "━", "failed": "━", "unknown": "╌", "pending": "┄"}
ORDER = ("complete", "running", "failed", "unknown", "pending")
WAVE_ROWS = 10
PACE_LOOKS = 20
REASONS_SHOWN, CLASSES_SHOWN = 3, 5


@dataclass
class RunView:
    """The last known state of one run; ``ends`` has (seconds since the epoch, ended tasks) of the last looks."""

    run_id: str
    cluster: str
    total: int
    state: str = "submitting"
    counts: dict[str, int] = field(default_factory=dict)
    waves: dict[str, dict[str, int]] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    stale: str = ""
    checked_at: float | None = None
    events: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    ends: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_LOOKS))

    def pace(self) -> float | None:
        """Return the tasks that end in a second, over the last looks."""
        if len(self.ends) < 2 or self.ends[-1][0] <= self.ends[0][0]:
            return None
        rate = (self.ends[-1][1] - self.ends[0][1]) / (self.ends[-1][0] - self.ends[0][0])
        return rate if rate > 0 else None


def render(runs: list[RunView], now: float, width: int) -> RenderableType:
    """Return a frame for each run, at most ``width`` columns wide."""
    return Group(*(_frame(run, now, min(width, 110)) for run in runs))


def _frame(run: RunView, now: float, width: int) -> Panel:
    inner = width - 4
    parts: list[RenderableType] = [_head(run, now), bar(run.counts, run.total, inner), _counts(run, inner)]
    waves = _waves(run, inner)
    if waves is not None:
        parts += [Text(), waves]
    parts += [Text(f"{row['count']:>6} wait: {row['sentence']}", "yellow" if not row["passes"] else "dim", no_wrap=True,
                   overflow="ellipsis") for row in run.waiting[:REASONS_SHOWN]]  # fmt: skip
    if run.causes:
        parts.append(_failures(run))
    parts += [Text(event, "dim", no_wrap=True, overflow="ellipsis") for event in run.events]
    title = Text.assemble((run.run_id, "bold"), f" on {run.cluster}", overflow="ellipsis", no_wrap=True)
    colour = {"complete": "green", "failed": "red", "abandoned": "red"}.get(run.state, "cyan")
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour, width=width, padding=(0, 1))


def _head(run: RunView, now: float) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(run.state.replace("_", " "), "bold")
    if run.checked_at is not None:
        text.append(f", {ago(now - run.checked_at)} ago", "dim")
    if run.stale:
        text.append(f", stale: {run.stale}", "yellow")
        return text
    pace = run.pace()
    left = run.total - run.counts.get("complete", 0) - run.counts.get("failed", 0)
    if pace and left:
        text.append(f", {pace * 60:.3g} tasks/min, ends about {_time_of_day(now + left / pace, now)}")
    return text


def bar(counts: dict[str, int], total: int, width: int) -> Text:
    """Return a bar of ``width`` columns; a state that has any task has at least one column."""
    text = Text(no_wrap=True)
    for name, columns in _columns(counts, total, width).items():
        text.append(MARKS[name] * columns, STYLES[name])
    return text


def _columns(counts: dict[str, int], total: int, width: int) -> dict[str, int]:
    known = {name: counts.get(name, 0) for name in ORDER}
    known["pending"] += max(0, total - sum(known.values()))
    shares = {name: max(1, width * number // max(total, 1)) for name, number in known.items() if number}
    if not shares:
        return {"pending": width}
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] = max(1, shares[largest] + width - sum(shares.values()))
    return shares


def _counts(run: RunView, width: int) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    done = run.counts.get("complete", 0)
    text.append(f"{done:,}/{run.total:,} complete", STYLES["complete"])
    for name in ("running", "pending", "failed", "unknown"):
        if run.counts.get(name):
            text.append(f"  {run.counts[name]:,} {name}", STYLES[name])
    percent = f"{100 * done // max(run.total, 1)} %"
    room = width - text.cell_len - len(percent)
    if room >= 2:
        text.append(" " * room + percent, "bold")
    return text


def _waves(run: RunView, width: int) -> Table | None:
    """Return a line for each unfinished wave, one line for all finished waves, and one for those that do not fit."""
    if len(run.waves) < 2:
        return None
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
        table.add_row(f"wave {name}", bar(facts, total, max(8, width - 24)), done)
    if len(open_rows) > WAVE_ROWS:
        table.add_row(Text(f"{len(open_rows) - WAVE_ROWS} more", "dim"), Text("waiting", "dim"), "")
    return table


def _failures(run: RunView) -> Text:
    text = Text("failed: ", "red", no_wrap=True, overflow="ellipsis")
    ranked = sorted(run.causes.items(), key=lambda item: -item[1])
    text.append(", ".join(f"{number} {name}" for name, number in ranked[:CLASSES_SHOWN]))
    return text


def ago(seconds: float) -> str:
    """Return a duration as ``7 s``, ``3 min`` or ``2 h``."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def _time_of_day(at: float, now: float) -> str:
    form = "%H:%M" if at - now < 20 * 3600 else "%a %H:%M"
    return time.strftime(form, time.localtime(at))
