"""Campaigns whose tasks.py asks: their iterations are the runs that ``submit --campaign-id`` tagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hpc_agent.campaign.journal import History, Trial
from hpc_agent.campaign.manifest import campaign_folder
from hpc_agent.errors import JournalCorrupt
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.repo_files import RepoLayout, locked, save


def read_prior(repo: RepoLayout, campaign_id: str) -> list[dict[str, Any]]:
    """Return the iterations that ``prior`` of the kit reads. Raises JournalCorrupt."""
    path = campaign_folder(repo, campaign_id) / "prior.json"
    try:
        return list(msgspec.json.decode(path.read_bytes())["iterations"])
    except FileNotFoundError:
        return []
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise JournalCorrupt(
            f"{path} cannot be read: {error}",
            remediation=f"Run 'rm {path}', then 'hpc-agent aggregate --run-id RUN' for each run of "
            f"'hpc-agent list-in-flight --all-states --campaign-id {campaign_id}'.",
        ) from error


def keep_iteration(
    repo: RepoLayout, record: RunRecord, rows: list[dict[str, Any]], overall: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Add the table of an ended run to its campaign, in the place of an earlier table of the same run."""
    assert record.campaign_id
    path = campaign_folder(repo, record.campaign_id) / "prior.json"
    mine = {
        "run_id": record.run_id,
        "submitted_at": iso(record.submitted_at or record.started_at),
        "metrics": _means(overall),
        "rows": [{"params": r["kwargs"], "metrics": _means(r["metrics"]), "count": r["count"]} for r in rows],
        **facts,
    }
    with locked(path.with_suffix(".lock"), 10.0, "the iterations of this campaign"):
        others = [one for one in read_prior(repo, record.campaign_id) if one["run_id"] != record.run_id]
        kept = sorted([*others, mine], key=lambda one: (one["submitted_at"], one["run_id"]))
        save(path, {"campaign_id": record.campaign_id, "iterations": kept})


def _means(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: summary["mean"] for name, summary in metrics.items() if summary.get("mean") is not None}


def history_of(runs: Sequence[RunRecord], iterations: list[dict[str, Any]]) -> tuple[History, list[str]]:
    """Return the runs of a campaign as iterations, and a sentence for each run that has ended and was not aggregated.

    A row of the run's table is a complete trial, a failed task a failed one, and a run without a table is open.
    """
    tables = {one["run_id"]: one for one in iterations}
    history, notes = History(), []

    def add(run: RunRecord, iteration: int, **facts: Any) -> None:
        number = len(history.trials)
        facts = {"params": {}, "asked_at": run.started_at, **facts}
        history.trials.append(Trial(number=number, iteration=iteration, origin="tasks.py", run_id=run.run_id, **facts))
        history.runs.setdefault(run.run_id, []).append(number)

    for iteration, run in enumerate(sorted(runs, key=lambda one: (one.started_at, one.run_id))):
        if table := tables.get(run.run_id):
            for row in table["rows"]:
                values = row["metrics"]
                add(run, iteration, state="complete", params=row["params"], values=values, constraints=values)
            for _ in range(table.get("failed", 0)):
                add(run, iteration, state="failed")
        elif run.status in ("failed", "abandoned") and not run.last_status.get("complete"):
            for _ in range(run.total_tasks):
                add(run, iteration, state="failed", why=f"the run is {run.status}")
        else:
            add(run, iteration, state="submitted")
            if run.status in ("complete", "failed", "abandoned"):
                notes.append(
                    f"{run.run_id} has ended and is not counted yet: hpc-agent aggregate --run-id {run.run_id}"
                )
    return history, notes
