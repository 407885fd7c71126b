"""Campaigns whose tasks.py asks: their iterations are the runs that ``submit --campaign-id`` tagged."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import msgspec

from hpc_agent.campaign.journal import JOURNAL, History, Trial
from hpc_agent.campaign.manifest import campaign_folder
from hpc_agent.errors import JournalCorrupt
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import count
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.state.journal import TERMINAL, RunRecord
from hpc_agent.state.repo_files import RepoLayout, locked, save
from hpc_agent.state.runs import read_run_sidecar


def read_prior(repo: RepoLayout, campaign_id: str) -> list[dict[str, Any]]:
    """Return the iterations that ``prior`` of the kit reads. Raises JournalCorrupt."""
    path = campaign_folder(repo, campaign_id) / "prior.json"
    try:
        return list(msgspec.json.decode(path.read_bytes())["iterations"])
    except FileNotFoundError:
        return []
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError, IsADirectoryError) as error:
        runs = f"hpc-agent list-in-flight --all-states --campaign-id {campaign_id}"
        remedy = f"Run 'rm {path}', then 'hpc-agent aggregate --run-id RUN' for each run of '{runs}'."
        raise JournalCorrupt(f"{path} cannot be read: {error}", remediation=remedy) from error


def keep_iteration(repo: RepoLayout, record: RunRecord, waves: list[dict[str, Any]]) -> None:
    """Add the table of a run to its campaign, in the place of an earlier table of the run.

    ``waves`` are partials as the combiner gives them. A run without a campaign, one of which some tasks have not ended, or
    some of whose waves are not there, adds nothing; nor does a run of the driver, whose journal has its results.
    """
    whole = sum(wave["tasks"] for wave in waves) == record.total_tasks and not any(wave["missing"] for wave in waves)
    if not record.campaign_id or not whole or (campaign_folder(repo, record.campaign_id) / JOURNAL).exists():
        return
    table = Table(waves[0]["table"]["replicates"])
    for wave in waves:
        table.merge(Table.from_json(wave["table"]))
    mine = {
        "run_id": record.run_id,
        "submitted_at": iso(record.submitted_at or record.started_at),
        "metrics": _means(table.overall()),
        "rows": [{"params": r["kwargs"], "metrics": _means(r["metrics"]), "count": r["count"]} for r in table.rows()],
        "failed": sum(count(wave["failed"]) for wave in waves),
        "cpus": int(read_run_sidecar(repo, record.run_id).resources.get("cpus") or 1),
        "task_seconds": round(sum(wave["usage"]["task_seconds"] for wave in waves), 3),
    }
    path = campaign_folder(repo, record.campaign_id) / "prior.json"
    with locked(path.with_suffix(".lock"), 10.0, "the iterations of this campaign"):
        others = [one for one in read_prior(repo, record.campaign_id) if one["run_id"] != record.run_id]
        kept = sorted([*others, mine], key=lambda one: (one["submitted_at"], one["run_id"]))
        save(path, {"campaign_id": record.campaign_id, "iterations": kept})


def _means(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: summary["mean"] for name, summary in metrics.items() if summary.get("mean") is not None}


def history_of(runs: Sequence[RunRecord], iterations: list[dict[str, Any]]) -> tuple[History, list[str]]:
    """Return the runs of a campaign as iterations, and a sentence for each run that has ended and was not aggregated.

    A row of the run's table is a complete trial, a failed task a failed one; the tasks of a run without a table are open.
    A table without a run came from another machine.
    """
    tables = {one["run_id"]: one for one in iterations}
    records = {run.run_id: run for run in runs}
    begun = {run_id: table["submitted_at"] for run_id, table in tables.items()}
    begun.update((run.run_id, iso(run.started_at)) for run in runs)
    history, notes = History(), []
    for iteration, run_id in enumerate(sorted(begun, key=lambda one: (begun[one], one))):
        table, run = tables.get(run_id), records.get(run_id)
        trials: list[dict[str, Any]] = []
        if table:
            rows = [(row["params"], row["metrics"]) for row in table["rows"]]
            trials += [{"state": "complete", "params": at, "values": found, "constraints": found} for at, found in rows]
            trials += [{"state": "failed"}] * table.get("failed", 0)
        elif run and run.status in ("failed", "abandoned") and not run.last_status.get("complete"):
            trials += [{"state": "failed", "why": f"the run is {run.status}"}] * run.total_tasks
        elif run:
            trials += [{"state": "submitted"}] * run.total_tasks
            if run.status in TERMINAL:
                notes.append(f"{run_id} has ended and is not counted yet: hpc-agent aggregate --run-id {run_id}")
        asked_at = run.started_at if run else seconds_of(begun[run_id])
        for facts in trials:
            number = len(history.trials)
            facts = {"params": {}, "origin": "tasks.py", "asked_at": asked_at, **facts}
            history.trials.append(Trial(number=number, iteration=iteration, run_id=run_id, **facts))
            history.runs.setdefault(run_id, []).append(number)
    return history, notes


def seconds_of(text: str) -> float:
    """Return a time such as 2026-01-31 or 2026-01-31T12:00:00Z (UTC) in seconds since the epoch. Raises ValueError."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
