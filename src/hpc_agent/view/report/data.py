"""The document behind a report: plain values, from which the page is rendered without another look at anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Gap(msgspec.Struct, kw_only=True):
    """Something that the results lack, and the command that goes on from there."""

    what: str
    tasks: Annotated[str, Meta(description="ranges of task ids")] = ""
    command: str = ""


class Section(msgspec.Struct, kw_only=True):
    """Facts under one heading, in the order to show."""

    title: str
    facts: list[tuple[str, str]]

    @classmethod
    def of_known(cls, title: str, facts: Iterable[tuple[str, str | None]]) -> Section:
        """Return the facts that have a value."""
        return cls(title=title, facts=[(name, value) for name, value in facts if value])


class Campaign(msgspec.Struct, kw_only=True):
    """Trials of a campaign: (number, value of the main metric) of the complete ones; objectives and the Pareto front.

    The first ``earlier`` trials are those of earlier campaigns. ``early``: of trials that ended early.
    """

    trials: list[tuple[int, float]] = []
    best: Annotated[list[tuple[int, float]], Meta(description="each trial that was better than all before it")] = []
    failed: list[int] = []
    early: list[tuple[int, float]] = []
    earlier: int = 0
    target: float | None = None
    objectives: list[str] = []
    both: list[tuple[float, float]] = []
    front: list[tuple[float, float]] = []
    budget: list[tuple[str, float, float]] = []
    iterations: int = 0
    core_hours: float = 0.0


class ReportData(msgspec.Struct, kw_only=True):
    """Everything that the page of a run or a campaign shows. Times are seconds since the epoch, memory MiB."""

    kind: Annotated[str, Meta(description="run or campaign")]
    title: str
    about: Annotated[str, Meta(description="where and when, under the title")]
    made_at: float
    version: str
    noun: Annotated[str, Meta(description="task or trial")]
    total: int
    counts: Annotated[dict[str, int], Meta(description="number in each state")]
    stopped_early: Annotated[int, Meta(description="complete tasks that ended themselves early")] = 0
    gaps: list[Gap] = []
    main: Annotated[str | None, Meta(description="the metric that comes first")] = None
    direction: Annotated[str | None, Meta(description="min, max, or null: not known")] = None
    replicates: list[str] = []
    rows: Annotated[dict[str, Any], Meta(description="as node/shared/binning.py: table_rows returns it")]
    binned: Annotated[dict[str, Any], Meta(description="as node/shared/binning.py: binned returns it")]
    spread: dict[str, Any] | None = None
    time_line: dict[str, Any] | None = None
    waves: list[dict[str, Any]] = []
    usage: dict[str, Any] | None = None
    groups: Annotated[list[dict[str, Any]], Meta(description="failures, as the verb 'failures' groups them")] = []
    provenance: list[Section] = []
    campaign: Campaign | None = None
    left_out: Annotated[list[str], Meta(description="sentences about what the page does not show")] = []
    table_command: Annotated[str, Meta(description="the command that writes every row")] = ""

    @property
    def has_every_row(self) -> bool:
        """Return False for a page whose rows are a choice of all."""
        return len(self.rows["rows"]) == int(self.rows["total"])
