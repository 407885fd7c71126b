"""``monitor-summary``: a run of this repo as of the last look, from the journal."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Result, primitive
from hpc_agent.errors import JournalCorrupt, PreconditionFailed, RunNotFound
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RunScoped, journal_of, load_record
from hpc_agent.ops.run.run_status import STATES, next_step
from hpc_agent.state.journal import RunRecord
from hpc_agent.world import World


class MonitorSummaryRequest(RunScoped):
    """The run to summarize."""


class MonitorSummaryResult(Result):
    run_id: str
    lifecycle_state: str
    headline: str
    body: Annotated[str, doc("a few lines of plain text, the same at any time of asking")]
    armed_hint: Annotated[str, doc("the next command")]
    journal_missing: Annotated[bool, doc("true: the journal of this machine does not have the run")]


@primitive(
    stage="monitor",
    errors=[JournalCorrupt, PreconditionFailed],
    brief="the last look, offline",
    example={"run_id": "latest"},
    next_verbs=["status"],
)
def monitor_summary(request: MonitorSummaryRequest, world: World) -> MonitorSummaryResult:
    """Summarize the last look from the journal, with the same bytes each time. Asks no cluster."""
    repo, journal = journal_of(world, request.experiment_dir)
    try:
        record = load_record(journal, repo, request.run_id)
    except RunNotFound:
        return MonitorSummaryResult(
            run_id=request.run_id,
            lifecycle_state="unknown",
            headline=f"{request.run_id}: not known on this machine",
            body="",
            armed_hint=f"hpc-agent reconcile --remote --cluster NAME --run-id {request.run_id}",
            journal_missing=True,
        )
    done = int(record.last_status.get("complete", 0))
    return MonitorSummaryResult(
        run_id=record.run_id,
        lifecycle_state=record.status,
        headline=f"{record.run_id} on {record.cluster}: {record.status}, {done}/{record.total_tasks} complete",
        body="\n".join(_body(record)),
        armed_hint=record.command or "give the same 'hpc-agent submit' again: it goes on where it stopped"
        if record.status == "submitting" or record.never_sent
        else next_step(record.run_id, record.status, record.last_status),
        journal_missing=False,
    )


def _body(record: RunRecord) -> list[str]:
    seen = record.last_status
    counts = ", ".join(f"{seen[name]} {name}" for name in STATES if seen.get(name))
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
