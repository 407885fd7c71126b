"""Ask the cluster for the state of a run, and write the answer into the journal."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import PartialError, Result
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import KnownRun, keep_measurements, lacks_measurements
from hpc_agent.state.journal import Journal, RunRecord

STATES = ("complete", "running", "pending", "failed", "unknown")


class StatusResult(Result):
    run_id: str
    cluster: str
    lifecycle_state: Annotated[str, doc("in_flight, complete, failed, or abandoned (the other tasks are lost)")]
    total_tasks: int
    last_status: Annotated[dict[str, Any], doc("complete, running, pending, failed, unknown, checked_at, waves")]
    failed_tasks: Annotated[dict[str, Any], doc("count, ranges (bounded), truncated")]
    running_tasks: dict[str, Any]
    unknown_tasks: Annotated[dict[str, Any], doc("tasks that neither record, queue nor accounting explains")]
    failures_by_cause: dict[str, int]
    samples: Annotated[list[dict[str, Any]], doc("one failed task for each cause, with the evidence")]
    reasons: Annotated[dict[str, int], doc("why tasks are pending or held, in the scheduler's words, with counts")]
    waiting: Annotated[
        list[dict[str, Any]], doc("state, reason, count, sentence, passes_by_itself; those for a person come first")
    ] = []
    stuck: Annotated[int, doc("tasks that wait for something that does not come by itself")] = 0
    to_submit: Annotated[int, doc("arrays that are planned and not submitted yet")] = 0
    held_for_canary: Annotated[int, doc("arrays that wait for verify-canary")] = 0
    resubmitted: Annotated[int, doc("tasks that were submitted again, each time counted")] = 0
    stale: Annotated[dict[str, Any] | None, doc("set when the scheduler could not be asked: since, error")] = None
    mean_task_seconds: float | None = None
    eta_seconds: Annotated[float | None, doc("at the present number of running tasks")] = None
    job_ids: list[str] = []
    next_step: str = ""

    def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state."""
        return {name: int(self.last_status[name]) for name in STATES}


# Fields that the node side's answer and the result share; a run of an older version has no answer for the second part.
SAME = ("lifecycle_state", "failed_tasks", "running_tasks", "unknown_tasks", "failures_by_cause", "samples", "reasons",
        "mean_task_seconds", "stale", "job_ids")  # fmt: skip
NEWER = ("waiting", "stuck", "to_submit", "held_for_canary", "resubmitted")


def ask_status(run: KnownRun) -> StatusResult:
    """Ask the cluster once, and write the answer into the journal."""
    answer = run.node.ask("report", run.record.run_id, {"measure": lacks_measurements(run)})
    journal_status(run.journal, run.record, answer)
    keep_measurements(run, answer)
    return StatusResult(
        run_id=run.record.run_id,
        cluster=run.record.cluster,
        total_tasks=answer["total"],
        last_status={**answer["counts"], "checked_at": answer["checked_at"], "waves": answer["waves"]},
        eta_seconds=_eta(answer),
        next_step=_next_step(run.record.run_id, answer),
        partial_errors=stale_errors(answer["stale"]),
        **{name: answer[name] for name in SAME},
        **{name: answer[name] for name in NEWER if name in answer},
    )


def stale_errors(stale: dict[str, Any] | None) -> list[PartialError]:
    """Return the error of a scheduler that could not be asked."""
    return [PartialError(code=stale["code"], detail=stale["error"])] if stale else []


def journal_status(journal: Journal, record: RunRecord, answer: dict[str, Any]) -> None:
    """Write an answer into the journal if the state or a count changed."""
    counts = answer["counts"]
    if record.status != answer["lifecycle_state"] or record.last_status != counts:
        journal.append(record.run_id, "status", lifecycle_state=answer["lifecycle_state"], counts=counts)
        record.status, record.last_status = answer["lifecycle_state"], counts


def _eta(answer: dict[str, Any]) -> float | None:
    """Return the seconds that the open tasks take at the present number of running tasks."""
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
