"""``monitor-summary``: the last look at a run in words; the same journal gives the same bytes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpc_agent.contract.primitive import Result, primitive
from hpc_agent.errors import JournalCorrupt, PreconditionFailed, RunNotFound
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.runs import RunScoped, latest_run
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class MonitorSummaryRequest(RunScoped):
    """Whose summary."""


class MonitorSummaryResult(Result):
    run_id: str
    lifecycle_state: str
    headline: str
    body: Annotated[
        str, Meta(description="a few lines of plain text, without anything that depends on the time of asking")
    ]
    armed_hint: Annotated[str, Meta(description="what comes next, with its command")]
    journal_missing: Annotated[bool, Meta(description="true: this machine knows nothing of the run")]


@primitive(stage="monitor", errors=[JournalCorrupt, PreconditionFailed])
def monitor_summary(request: MonitorSummaryRequest, world: World) -> MonitorSummaryResult:
    """The canonical summary of the last look, from the journal alone; byte-stable. Asks no cluster."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    journal = Journal(world, repo)
    try:
        record = latest_run(journal, repo) if request.run_id == "latest" else journal.load(request.run_id)
    except RunNotFound:
        return MonitorSummaryResult(
            run_id=request.run_id,
            lifecycle_state="unknown",
            headline=f"{request.run_id}: not known on this machine",
            body="",
            armed_hint=f"hpc-agent reconcile --remote --cluster NAME --run-id {request.run_id}",
            journal_missing=True,
        )
    return MonitorSummaryResult(
        run_id=record.run_id,
        lifecycle_state=record.status,
        headline=headline(record),
        body="\n".join(_body(record)),
        armed_hint=_hint(record),
        journal_missing=False,
    )


def headline(record: RunRecord) -> str:
    done = int(record.last_status.get("complete", 0))
    return f"{record.run_id} on {record.cluster}: {record.status}, {done}/{record.total_tasks} complete"


def _body(record: RunRecord) -> list[str]:
    counts = ", ".join(
        f"{record.last_status[name]} {name}"
        for name in ("complete", "running", "pending", "failed", "unknown")
        if record.last_status.get(name)
    )
    lines = [f"last look {iso(record.last_status_at)}: {counts}" if record.last_status_at else "no look yet"]
    if record.submitted_at:
        jobs = len(record.job_ids)
        lines.append(f"submitted {iso(record.submitted_at)} as {jobs} job{'' if jobs == 1 else 's'}")
    if record.waiting:
        lines.append(f"{record.waiting} arrays are not submitted yet")
    if record.resubmits:
        lines.append(f"failed tasks were submitted again {record.resubmits} times")
    if record.output:
        lines.append(f"aggregated into {record.output}")
    return lines


def _hint(record: RunRecord) -> str:
    if record.status == "complete":
        return f"hpc-agent aggregate --run-id {record.run_id}"
    if record.status == "submitting":
        return "give the same 'hpc-agent submit' again: it goes on where it stopped"
    if record.last_status.get("failed"):
        return f"hpc-agent failures --run-id {record.run_id}"
    return f"hpc-agent monitor-flow --run-id {record.run_id}"
