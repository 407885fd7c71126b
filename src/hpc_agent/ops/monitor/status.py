"""``status``: one question to the cluster, the truth about every task, and the last good answer marked stale if need
be.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, PartialError, Result, primitive
from hpc_agent.errors import (
    ClusterTimeout,
    JournalCorrupt,
    PreconditionFailed,
    RemoteCommandFailed,
    RunNotFound,
    SshUnreachable,
)
from hpc_agent.ops.runs import KnownRun, RunScoped, known_run, learn, unmeasured
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.world import World


class StatusRequest(RunScoped):
    """One look at a run."""


class StatusResult(Result):
    run_id: str
    cluster: str
    lifecycle_state: Annotated[
        str, Meta(description="in_flight, complete, failed, or abandoned (nobody knows the rest)")
    ]
    total_tasks: int
    last_status: Annotated[
        dict[str, Any], Meta(description="complete, running, pending, failed, unknown, checked_at, waves")
    ]
    failed_tasks: Annotated[dict[str, Any], Meta(description="count, ranges (bounded), truncated")]
    running_tasks: dict[str, Any]
    unknown_tasks: Annotated[
        dict[str, Any], Meta(description="tasks that neither record, queue nor accounting explains")
    ]
    failures_by_cause: dict[str, int]
    samples: Annotated[list[dict[str, Any]], Meta(description="one failed task for each cause, with the evidence")]
    reasons: Annotated[
        dict[str, int], Meta(description="why tasks are pending or held, in the scheduler's words, with counts")
    ]
    waiting: Annotated[
        list[dict[str, Any]],
        Meta(
            description="state, reason, count, a sentence, and whether it passes by itself; what does not comes first"
        ),
    ] = []
    stuck: Annotated[int, Meta(description="tasks that wait for something that does not come by itself")] = 0
    to_submit: Annotated[int, Meta(description="arrays that are planned and not submitted yet")] = 0
    held_for_canary: Annotated[int, Meta(description="arrays that wait for verify-canary")] = 0
    resubmitted: Annotated[int, Meta(description="tasks that were submitted again, each time counted")] = 0
    stale: Annotated[
        dict[str, Any] | None, Meta(description="set when the scheduler could not be asked: since, error")
    ] = None
    mean_task_seconds: float | None = None
    eta_seconds: Annotated[float | None, Meta(description="at the present number of running tasks")] = None
    job_ids: list[str] = []
    next_step: str = ""


ERRORS = (RunNotFound, PreconditionFailed, JournalCorrupt, SshUnreachable, ClusterTimeout, RemoteCommandFailed)


@primitive(stage="monitor", effects=[Effect.SSH, Effect.JOURNAL], errors=ERRORS, aliases=["poll-run-status"])
def status(request: StatusRequest, world: World) -> StatusResult:
    """One snapshot of a run: counts, waves, failed tasks with their cause, why the rest is waiting.

    One SSH command, whatever the number of tasks. A task is complete only by its own record.
    """
    return poll(known_run(world, request))


def poll(run: KnownRun) -> StatusResult:
    """Ask once and remember the answer."""
    answer = run.node.ask("report", run.record.run_id, {"measure": unmeasured(run)})
    counts = answer["counts"]
    remember(run.journal, run.record, answer)
    learn(run, answer)
    stale = answer["stale"]
    return StatusResult(
        run_id=run.record.run_id,
        cluster=run.record.cluster,
        lifecycle_state=answer["lifecycle_state"],
        total_tasks=answer["total"],
        last_status={**counts, "checked_at": answer["checked_at"], "waves": answer["waves"]},
        failed_tasks=answer["failed_tasks"],
        running_tasks=answer["running_tasks"],
        unknown_tasks=answer["unknown_tasks"],
        failures_by_cause=answer["failures_by_cause"],
        samples=answer["samples"],
        reasons=answer["reasons"],
        waiting=answer.get("waiting", []),
        stuck=answer.get("stuck", 0),
        to_submit=answer.get("to_submit", 0),
        held_for_canary=answer.get("held_for_canary", 0),
        resubmitted=answer.get("resubmitted", 0),
        stale=stale,
        mean_task_seconds=answer["mean_task_seconds"],
        eta_seconds=_eta(answer),
        job_ids=answer["job_ids"],
        next_step=_next_step(run.record.run_id, answer),
        partial_errors=[PartialError(code=stale["code"], detail=stale["error"])] if stale else [],
    )


def remember(journal: Journal, record: RunRecord, answer: dict[str, Any]) -> None:
    """Write down a look, unless nothing changed since the last one."""
    counts = answer["counts"]
    if record.status != answer["lifecycle_state"] or record.last_status != counts:
        journal.append(record.run_id, "status", lifecycle_state=answer["lifecycle_state"], counts=counts)
        record.status, record.last_status = answer["lifecycle_state"], counts


def _eta(answer: dict[str, Any]) -> float | None:
    counts, mean = answer["counts"], answer["mean_task_seconds"]
    left = counts["running"] + counts["pending"]
    if not mean or not counts["running"] or not left:
        return None
    return round(float(mean) * float(left) / float(counts["running"]), 1)


def _next_step(run_id: str, answer: dict[str, Any]) -> str:
    if answer["lifecycle_state"] == "complete":
        return f"hpc-agent aggregate --run-id {run_id}"
    if answer["counts"]["failed"]:
        return f"hpc-agent failures --run-id {run_id}"
    if answer.get("held_for_canary"):
        return f"hpc-agent verify-canary --run-id {run_id}"
    return f"hpc-agent monitor-flow --run-id {run_id}"
