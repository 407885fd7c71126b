"""``list-in-flight``, ``monitor-summary``: the runs of this repo as of the last look, from the journal."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError, JournalCorrupt, PreconditionFailed, RunNotFound
from hpc_agent.infra.remote import root_of
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import RunScoped, journal_of, load_record, node_of
from hpc_agent.ops.run.run_row import RunRow, run_row
from hpc_agent.ops.run.run_status import STATES, journal_status, next_step
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World


class ListInFlightRequest(Request):
    experiment_dir: ExperimentDir = "."
    campaign_id: Annotated[str | None, doc("only the runs of this campaign")] = None
    all_states: Annotated[bool, doc("also the runs that have ended")] = False
    limit: Annotated[int, doc("runs to show", ge=0)] = 50
    refresh: Annotated[bool, doc("ask the clusters first: one SSH command and one queue query for each")] = False


class ListInFlightResult(Result):
    runs: Annotated[list[RunRow], doc("newest first")]
    total_matching: int


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL],
    brief="runs that have not ended",
    example={"all_states": True},
    next_verbs=["status", "monitor-flow"],
)
def list_in_flight(request: ListInFlightRequest, world: World) -> ListInFlightResult:
    """List the runs that have not ended as of the last look; ``refresh`` asks the clusters first."""
    repo, journal = journal_of(world, request.experiment_dir)
    records, problems = journal.all()
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    if request.refresh:
        errors += _refresh(world, repo, journal, [r for r in records if r.status not in TERMINAL and r.submitted_at])
    wanted = [
        record
        for record in records
        if (request.all_states or record.status not in TERMINAL)
        and (request.campaign_id is None or record.campaign_id == request.campaign_id)
    ]
    runs = [run_row(record) for record in wanted[: request.limit]]
    return ListInFlightResult(runs=runs, total_matching=len(wanted), partial_errors=errors)


def _refresh(world: World, repo: RepoLayout, journal: Journal, records: list[RunRecord]) -> list[PartialError]:
    """Update the records from one question to each cluster. Return the errors of clusters that did not answer."""
    errors = []
    for name in sorted({record.cluster for record in records}):
        mine = [record for record in records if record.cluster == name]
        try:
            node = node_of(world, repo, name)
            asked = [{"root": root_of(record.remote_path), "run_id": record.run_id} for record in mine]
            answers = node.bootstrap("overview", {"runs": asked, "site": node.site})["runs"]
        except HpcError as error:
            errors.append(PartialError(code=error.error_code, detail=error.message))
            continue
        for record in mine:
            answer = answers[record.run_id]
            if "error" in answer:
                errors.append(PartialError(code=answer["code"], detail=answer["error"]))
            else:
                journal_status(journal, record, answer)
    return errors


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
