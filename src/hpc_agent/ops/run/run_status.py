"""Ask the cluster for the state of a run, and write the answer into the journal."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import PartialError, Result
from hpc_agent.node.shared.failure_classes import BY_NAME
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import KnownRun, ask_measured, pruned_note
from hpc_agent.ops.run.patience import Patience
from hpc_agent.state.journal import Journal, RunRecord

NOTE_CHARACTERS = 200
# A later look than after this share of the time run, or this many seconds, notices an end late.
OF_THE_TIME_RUN, LONGEST_SEC = 0.1, 300.0
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
    failures_by_cause: Annotated[dict[str, int], doc("failed tasks of each class, named as 'failures' names them")]
    samples: Annotated[list[dict[str, Any]], doc("one failed task for each cause, with the evidence")]
    reasons: Annotated[dict[str, int], doc("why tasks are pending or held, in the scheduler's words, with counts")]
    waiting: Annotated[
        list[dict[str, Any]], doc("state, reason, count, sentence, passes_by_itself; those for a person come first")
    ] = []
    stuck: Annotated[int, doc("tasks that wait for something that does not come by itself")] = 0
    to_submit: Annotated[int, doc("arrays that are planned and not submitted yet")] = 0
    held_for_canary: Annotated[int, doc("arrays that wait for verify-canary")] = 0
    resubmitted: Annotated[int, doc("tasks that were submitted again, each time counted")] = 0
    stopped_early: Annotated[int, doc("complete tasks that ended themselves by the rule of early_stop")] = 0
    stale: Annotated[dict[str, Any] | None, doc("set when the scheduler could not be asked: since, error")] = None
    mean_task_seconds: float | None = None
    eta_seconds: Annotated[
        float | None, doc("at the present number of running tasks, with the time that they have run; null is not known")
    ] = None
    next_look_sec: Annotated[float | None, doc("an end is noticed in good time if the next look comes so soon")] = None
    job_ids: list[str] = []
    notes: Annotated[list[str], doc("what to know of complete tasks")] = []
    next_step: str = ""

    def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state."""
        return {name: int(self.last_status[name]) for name in STATES}


# Fields that the node side's answer and the result share; a run of an older version has no answer for the second part.
SAME = ("lifecycle_state", "failed_tasks", "running_tasks", "unknown_tasks", "failures_by_cause", "samples", "reasons",
        "mean_task_seconds", "stale", "job_ids")  # fmt: skip
NEWER = ("waiting", "stuck", "to_submit", "held_for_canary", "resubmitted", "stopped_early")


def ask_status(run: KnownRun, patience: Patience | None = None) -> StatusResult:
    """Ask the cluster once, and write the answer into the journal. ``patience``: the pause before it, of a watch."""
    run_id = run.record.run_id
    answer = ask_measured(run, "report", patience.question() if patience else {})
    journal_status(run.journal, run.record, answer)
    counts, mean = answer["counts"], answer["mean_task_seconds"]
    if patience:
        patience.saw(answer, counts["complete"] + counts["failed"])
    eta, within = estimates(counts, mean, answer.get("timing"))
    return StatusResult(
        run_id=run_id,
        cluster=run.record.cluster,
        total_tasks=answer["total"],
        last_status={**counts, "checked_at": answer["checked_at"], "waves": answer["waves"]},
        eta_seconds=eta,
        next_look_sec=within,
        next_step=next_step(
            run_id,
            answer["lifecycle_state"],
            counts,
            bool(answer.get("held_for_canary")),
            mendable=not answer.get("resubmitted") and any(map(mends, answer["failures_by_cause"])),
        ),
        notes=oom_notes((answer.get("oom_killed_tasks") or {}).get("ranges", "")),
        partial_errors=stale_errors(answer["stale"]),
        **{name: answer[name] for name in SAME},
        **{name: answer[name] for name in NEWER if name in answer},
    )


def pruned_status(record: RunRecord) -> StatusResult:
    """Return the status of a run that was removed on its cluster, as it was when this machine looked last."""
    counts = {**dict.fromkeys(STATES, 0), **{name: int(record.last_status.get(name, 0)) for name in STATES}}
    nothing: dict[str, Any] = {"count": 0, "ranges": "", "truncated": False}
    return StatusResult(
        run_id=record.run_id,
        cluster=record.cluster,
        lifecycle_state=record.status,
        total_tasks=record.total_tasks,
        last_status={**counts, "checked_at": record.last_status_at, "waves": {}},
        failed_tasks={**nothing, "count": counts["failed"]},
        running_tasks=nothing,
        unknown_tasks={**nothing, "count": counts["unknown"]},
        failures_by_cause={},
        samples=[],
        reasons={},
        job_ids=record.job_ids,
        notes=[f"{pruned_note(record)}; the counts are those of the last look"],
        next_step="hpc-agent list-in-flight --all-states",
    )


def oom_notes(tasks: str) -> list[str]:
    """Return a note about complete tasks (ranges) of which the kernel killed a process for memory."""
    if not tasks:
        return []
    shown = tasks if len(tasks) <= NOTE_CHARACTERS else tasks[:NOTE_CHARACTERS].rpartition(",")[0] + " and more"
    said = f"tasks {shown} ended well, but the kernel killed a process of each for memory: a worker, perhaps"
    return [f"{said}. Look at their results; a run with more --mem-mb would not lose it"]


def early_notes(tasks: int) -> list[str]:
    """Return a note about a number of tasks in a table that ended themselves early."""
    if not tasks:
        return []
    return [
        f"{tasks} task{'s' * (tasks > 1)} ended early, by the rule of early_stop: their metrics are those of step stopped_at"
    ]


def estimates(
    counts: dict[str, int], mean: float | None, timing: dict[str, float | None] | None
) -> tuple[float | None, float | None]:
    """Return the estimated seconds to the end, and those after which a look would see an end late; None is not known.

    ``mean``: seconds of a complete task. ``timing``: the node side's, which a run of an older version does not give.
    """
    if timing is None:
        left = counts["running"] + counts["pending"]
        eta = mean * left / counts["running"] if mean and counts["running"] else None
        return eta, eta
    eta, ran = timing["left"], timing["longest_ran"]
    late = None if ran is None else ran * OF_THE_TIME_RUN
    limits = [seconds for seconds in (eta, late, timing["walltime_left"], LONGEST_SEC) if seconds is not None]
    return (None if eta is None else round(eta, 1)), round(min(limits), 1)


def stale_errors(stale: dict[str, Any] | None) -> list[PartialError]:
    """Return the error of a scheduler that could not be asked."""
    return [PartialError(code=stale["code"], detail=stale["error"])] if stale else []


def journal_status(journal: Journal, record: RunRecord, answer: dict[str, Any]) -> None:
    """Write an answer into the journal if the state or a count changed."""
    counts = answer["counts"]
    if record.status != answer["lifecycle_state"] or record.last_status != counts:
        journal.append(record.run_id, "status", lifecycle_state=answer["lifecycle_state"], counts=counts)
        record.status, record.last_status = answer["lifecycle_state"], counts


def mends(cause: str) -> bool:
    """Return True for a class of failures that recovery submits again by itself."""
    return cause in BY_NAME and BY_NAME[cause].action not in ("fix", "ask")


def next_step(
    run_id: str, state: str, counts: dict[str, int], held_for_canary: bool = False, mendable: bool = False
) -> str:
    """Return the command that fits the state of a run. ``mendable``: recovery may help some of the failed tasks."""
    if state == "complete":
        return f"hpc-agent aggregate --run-id {run_id}"
    if held_for_canary:
        return f"hpc-agent verify-canary --run-id {run_id}"
    if counts.get("failed") and mendable:
        return f"hpc-agent monitor-flow --run-id {run_id} --auto-resubmit"
    # A run that has ended is not watched: the tasks of an abandoned one left no trace.
    verb = "failures" if counts.get("failed") else "verify-submitted" if state == "abandoned" else "monitor-flow"
    return f"hpc-agent {verb} --run-id {run_id}"
