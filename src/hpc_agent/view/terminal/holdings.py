"""View of ``prune-runs``: what runs hold, what goes, what stays and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_agent.view.terminal.blocks import Block, Cell, Column, Content, Fact, Facts, Gap, Line, Para, Table, Title
from hpc_agent.view.terminal.words import clock, counted, size

TONES = {"remove": "warn", "removed": "good", "blocked": "bad", "gone": "dim"}


def prune_runs(data: Mapping[str, Any]) -> list[Block]:
    """Return the runs as a table, with the sums above it."""
    chosen, deleted = data["chosen"], data["deleted"]
    cluster = _one_cluster(data["runs"])
    facts: list[Fact] = [("cluster", cluster)] if cluster else []
    facts.append(("held", _amount(data["held"])))
    if data["removed"]:
        facts.append(("removed", _amount(chosen)))
        facts.append(("deleted now", f"{size(deleted['bytes'])}, {deleted['files']:,} files and folders"))
    elif chosen["runs"]:
        facts.append(("would go", _amount(chosen)))
    if data["blocked"]:
        facts.append(("stays", f"{counted(data['blocked'], 'run')} that may have jobs"))
    title = "Removed" if data["removed"] else "Nothing was removed"
    blocks: list[Block] = [Title(title), Facts(facts)]
    if data["runs"]:
        blocks += [Gap(), _table(data["runs"])]
    blocks += [Para([Cell(f"{row['run_id']}: ", "strong"), row["why"]]) for row in data["runs"] if row.get("why")]
    more = data.get("more_runs") or 0
    if more:
        blocks.append(Line(f"{counted(more, 'more run')}: --limit {more + len(data['runs'])} shows them"))
    return blocks


def _amount(amount: Mapping[str, Any]) -> str:
    said = f"{counted(amount['runs'], 'run')}, {size(amount['bytes'])}, {amount['files']:,} files and folders"
    unknown = amount.get("not_measured") or 0
    return said + (f"; {counted(unknown, 'run')} not measured in time" if unknown else "")


def _table(runs: list[dict[str, Any]]) -> Table:
    rows: list[list[Content]] = []
    for run in runs:
        action = run["action"]
        held = "" if action == "gone" else "not known" if run.get("bytes") is None else size(run["bytes"])
        files = f"{run['files']:,}" if run.get("files") is not None else ""
        change = clock(run["last_change"])[:10] if run.get("last_change") else ""
        gone = ", ".join(run.get("pruned") or [])
        campaign = run.get("campaign_id")
        words = ((f"{gone} removed", gone), ("table here", run.get("aggregated")),
                 ("repeated", run.get("repeated_by")), (f"campaign {campaign}", campaign))  # fmt: skip
        kept = [word for word, true in words if true]
        rows.append([run["run_id"], run["cluster"], run["state"], held, files, change, ", ".join(kept),
                     Cell("" if action == "keep" else action, TONES.get(action, ""))])  # fmt: skip
    columns = [Column("run"), Column("cluster"), Column("state"), Column("holds", right=True),
               Column("files", right=True), Column("last change"), Column("also", wraps=True), Column("action")]  # fmt: skip
    if _one_cluster(runs):
        place = [column.name for column in columns].index("cluster")
        del columns[place]
        for row in rows:
            del row[place]
    return Table(columns, rows)


def _one_cluster(runs: list[dict[str, Any]]) -> str:
    """Return the cluster of all runs, which is told once: the table then fits a terminal of 80 columns."""
    names = {run["cluster"] for run in runs}
    return names.pop() if len(names) == 1 else ""
