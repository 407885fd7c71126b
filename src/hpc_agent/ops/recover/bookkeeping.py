"""``verify-submitted``, ``mark-run-terminal``, ``prune-orphan-sidecars``: check and repair the record of a run."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError, JournalCorrupt, RunNotFound, SubmissionUnknown
from hpc_agent.infra.remote import Node
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, journal_of, known_run, node_of
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import Sidecar, find_existing_runs
from hpc_agent.world import World


class VerifySubmittedRequest(RunScoped):
    """The run whose arrays to look for."""


class VerifySubmittedResult(Result):
    run_id: str
    ok: bool
    arrays: Annotated[dict[str, Any], doc("array -> job_id, state: a queue state, ended, or the ledger's own")]
    states: Annotated[dict[str, int], doc("how many arrays are in each state")]
    held: Annotated[list[str], doc("arrays on hold or in error; they need a person")]


@primitive(
    stage="submit",
    effects=[Effect.SSH],
    errors=RUN_ERRORS,
    brief="in the scheduler?",
    example={"run_id": "latest"},
    next_verbs=["status", "reconcile"],
)
def verify_submitted(request: VerifySubmittedRequest, world: World) -> VerifySubmittedResult:
    """Ask the scheduler for every array of a run. An array that is neither queued nor ended is an error."""
    run = known_run(world, request)
    arrays = run.node.ask("verify", run.record.run_id, {})["arrays"]
    missing = [f"{name} (job {facts['job_id']})" for name, facts in arrays.items() if facts["state"] == "missing"]
    if missing:
        raise SubmissionUnknown(
            f"the scheduler does not know {', '.join(missing[:5])} of {run.record.run_id}",
            remediation=f"Run 'hpc-agent status --run-id {run.record.run_id}': it shows the state of the tasks; "
            "'hpc-agent resubmit' submits those that never ran.",
            details={"arrays": arrays},
        )
    states = dict(Counter(facts["state"] for facts in arrays.values()))
    held = [name for name, facts in arrays.items() if facts["state"] in ("held", "error", "refused")]
    return VerifySubmittedResult(run_id=run.record.run_id, ok=True, arrays=arrays, states=states, held=held)


class MarkRunTerminalRequest(Request):
    """The run to take off the list, and its final status."""

    run_id: Annotated[str, doc("as submit returned it, in full")]
    status: Annotated[Literal["failed", "abandoned"], doc("only records make a run complete")] = "abandoned"
    reason: Annotated[str, doc("why, for the journal", max_length=500)] = ""
    experiment_dir: ExperimentDir = "."


class MarkRunTerminalResult(Result):
    run_id: str
    status: str
    was: str
    next_step: str


@primitive(
    stage="recover",
    effects=[Effect.JOURNAL],
    errors=[RunNotFound, JournalCorrupt],
    brief="stop following a run",
    example={"run_id": "horizon_sweep-1a2b3c4d", "reason": "the account is closed"},
    next_verbs=["list-in-flight"],
)
def mark_run_terminal(request: MarkRunTerminalRequest, world: World) -> MarkRunTerminalResult:
    """Take a run off the list of runs in flight, in this machine's journal only. The jobs go on.

    A later status asks the cluster again.
    """
    journal = journal_of(world, request.experiment_dir)[1]
    record = journal.load(request.run_id)
    was = record.status
    if was != request.status:
        journal.append(record.run_id, "marked", status=request.status, reason=request.reason)
    return MarkRunTerminalResult(
        run_id=record.run_id, status=request.status, was=was, next_step=f"hpc-agent status --run-id {record.run_id}"
    )


class PruneOrphanSidecarsRequest(Request):
    """The sidecars to remove."""

    experiment_dir: ExperimentDir = "."
    min_age_sec: Annotated[float, doc("keep younger ones: a submission may still write them", ge=0)] = 300.0
    exclude: Annotated[list[str], doc("run ids to keep")] = []
    dry_run: Annotated[bool, doc("list only")] = False


class PruneOrphanSidecarsResult(Result):
    removed: Annotated[list[str], doc("run ids whose sidecar was removed (with dry_run: would be)")]
    kept: Annotated[dict[str, str], doc("orphans that were kept, with the reason")]


@primitive(
    stage="recover",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH],
    brief="clear unsent runs",
    example={"dry_run": True},
    next_verbs=["list-in-flight"],
)
def prune_orphan_sidecars(request: PruneOrphanSidecarsRequest, world: World) -> PruneOrphanSidecarsResult:
    """Remove the sidecars of submissions that never reached a scheduler.

    An orphan has no job ids here. The verb also asks the cluster, because its ledger may have the jobs. Without an answer
    the sidecar is kept.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    sidecars, problems = find_existing_runs(repo)
    removed, kept = [], {}
    for sidecar in sidecars:
        if not _is_orphan(journal, sidecar) or sidecar.run_id in request.exclude:
            continue
        why = _why_kept(world, repo, sidecar, request.min_age_sec)
        if why:
            kept[sidecar.run_id] = why
            continue
        removed.append(sidecar.run_id)
        if not request.dry_run:
            repo.sidecar(sidecar.run_id).unlink(missing_ok=True)
            if journal.find(sidecar.run_id):
                reason = "pruned: it never reached a scheduler"
                journal.append(sidecar.run_id, "marked", status="abandoned", reason=reason)
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    return PruneOrphanSidecarsResult(removed=removed, kept=kept, partial_errors=errors)


def _is_orphan(journal: Journal, sidecar: Sidecar) -> bool:
    try:
        record = journal.find(sidecar.run_id)
    except JournalCorrupt:
        return False
    return not sidecar.job_ids and not (record and (record.job_ids or record.submitted_at))


def _why_kept(world: World, repo: RepoLayout, sidecar: Sidecar, min_age: float) -> str:
    age = world.now() - repo.sidecar(sidecar.run_id).stat().st_mtime
    if age < min_age:
        return f"written {age:.0f} s ago"
    try:
        node = node_of(world, repo, sidecar.cluster)
        runs = runs_on_cluster(node, repo, sidecar.run_id)
    except HpcError as error:
        return f"the cluster could not be asked: {error.message}"
    begun = [name for run in runs for name, entry in run["arrays"].items() if entry["state"] != "planned"]
    if not begun:
        return ""
    return f"the ledger on '{sidecar.cluster}' has {begun[0]}; 'hpc-agent reconcile --remote' adopts the run"


def runs_on_cluster(node: Node, repo: RepoLayout, run_id: str | None) -> list[dict[str, Any]]:
    """Return the documents of this repo's runs (or of one run) in every client's folder on the cluster."""
    question = {"parent": f"{node.scratch}/hpc-agent", "name": repo.remote_name.rpartition("-")[0], "run_id": run_id}
    found: list[dict[str, Any]] = node.bootstrap("adoptable", question)["runs"]
    return found
