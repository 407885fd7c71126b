"""What ``watch`` knows of a run at a moment, and its picture without rich."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TextIO

from hpc_agent.view.progress import ago
from hpc_agent.view.terminal.blocks import Bar, Block, Cell, Column, Content, Gap, Line, Table, Title, state
from hpc_agent.view.terminal.layout import lines_of
from hpc_agent.view.terminal.paint import columns_of, paint
from hpc_agent.view.terminal.words import counts

PACE_LOOKS = 20
WAVE_ROWS = 10
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
    eta: float | None = None  # the end that status estimates, in seconds since the epoch
    ends: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_LOOKS))

    def pace(self) -> float | None:
        """Return the tasks that end in a second, over the last looks."""
        if len(self.ends) < 2 or self.ends[-1][0] <= self.ends[0][0]:
            return None
        rate = (self.ends[-1][1] - self.ends[0][1]) / (self.ends[-1][0] - self.ends[0][0])
        return rate if rate > 0 else None


def head(run: RunView, now: float) -> list[Cell]:
    """Return the line on top: state, age of the look, pace, estimated end."""
    cells = [Cell(run.state.replace("_", " "), "strong")]
    if run.checked_at is not None:
        cells.append(Cell(f", {ago(now - run.checked_at)} ago", "dim"))
    if run.stale:
        return [*cells, Cell(f", stale: {run.stale}", "warn")]
    pace = run.pace()
    left = run.total - run.counts.get("complete", 0) - run.counts.get("failed", 0)
    if pace:
        cells.append(Cell(f", {pace * 60:.3g} tasks/min"))
    end = run.eta if run.eta is not None else now + left / pace if pace else None
    if end is not None and left:
        clock = time.strftime("%H:%M" if end - now < 20 * 3600 else "%a %H:%M", time.localtime(end))
        cells.append(Cell(f", ends about {clock}"))
    return cells


def blocks_of(run: RunView, now: float) -> list[Block]:
    """Return the picture of a run as blocks."""
    done = run.counts.get("complete", 0)
    told = f"{done:,}/{run.total:,} complete  {counts({**run.counts, 'complete': 0})}"
    blocks: list[Block] = [Title(f"{run.run_id} on {run.cluster}"), Line([*head(run, now)]), Bar(run.counts, run.total)]
    blocks.append(Line(told.rstrip()))
    open_waves = [(name, facts) for name, facts in run.waves.items() if facts.get("complete", 0) < sum(facts.values())]
    if len(run.waves) > 1 and open_waves:
        rows: list[list[Content]] = [[name, counts(facts)] for name, facts in open_waves[:WAVE_ROWS]]
        blocks.append(Table([Column("wave", right=True), Column("tasks", wraps=True)], rows))
    blocks += [Line(f"{row['count']:>6} wait: {row['sentence']}") for row in run.waiting[:REASONS_SHOWN]]
    ranked = sorted(run.causes.items(), key=lambda item: -item[1])[:CLASSES_SHOWN]
    blocks += [Line([state("failed"), f": {counts(dict(ranked))}"])] if ranked else []
    return [*blocks, *(Line(Cell(event, "dim")) for event in run.events)]


class PlainPicture:
    """The picture of runs on a terminal, drawn in place by moving up over the one before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._height = stream, 0

    def draw(self, runs: list[RunView], now: float) -> None:
        width = columns_of(self._stream)
        lines = lines_of([block for run in runs for block in (*blocks_of(run, now), Gap())], width)
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\x1b[J")
        self._height = sum(max(1, -(-sum(len(cell.text) for cell in line) // width)) for line in lines)
        paint(lines, self._stream, self._stream.encoding == "ascii")
