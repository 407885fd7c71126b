"""``status``, ``failures``, ``logs``: one question about a run to its cluster. A failed query of the scheduler is ``stale``."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, journal_of, known_run, load_record
from hpc_agent.ops.run.outage import patiently
from hpc_agent.ops.run.run_status import StatusResult, ask_status, mends, pruned_status, stale_errors
from hpc_agent.world import World


class StatusRequest(RunScoped):
    """The run to ask about."""


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL],
    errors=RUN_ERRORS,
    aliases=["poll-run-status"],
    brief="state, causes, next step",
    example={"run_id": "latest"},
    next_verbs=["failures", "aggregate", "monitor-flow"],
)
def status(request: StatusRequest, world: World) -> StatusResult:
    """Show the state of a run: counts, waves, failed tasks with causes, reasons of waiting.

    One SSH command, whatever the number of tasks. A task is complete only by its own record.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    record = load_record(journal, repo, request.run_id)
    return pruned_status(record) if record.pruned_at is not None else ask_status(known_run(world, request))


class FailuresRequest(RunScoped):
    """The run, and the part of a log to show."""

    lines: Annotated[int, doc("last lines of the sample's log", gt=0, le=1000)] = 15


class FailuresResult(Result):
    run_id: str
    failed: Annotated[int, doc("failed tasks in all")]
    classes: Annotated[dict[str, int], doc("failed tasks of each class; see docs/reference/failures.md")]
    clusters: Annotated[
        list[dict[str, Any]],
        doc(
            "the most frequent first: class, count, tasks (ranges), confidence (certain, likely, guess), evidence, "
            "fingerprint, sample (with its attempts), hosts, remedy, action, how often it was resubmitted"
        ),
    ]
    more_clusters: Annotated[int, doc("clusters beyond the first 50")] = 0
    stale: Annotated[dict[str, Any] | None, doc("set when the scheduler could not be asked")] = None
    next_step: str = ""


@primitive(
    stage="monitor",
    effects=[Effect.SSH],
    errors=RUN_ERRORS,
    brief="why tasks failed, the cure",
    example={"run_id": "latest"},
    next_verbs=["logs", "resubmit"],
    spare=[f"clusters[].{name}" for name in ("sample.log_tail", "sample.resources", "fingerprint", "hosts", "sample")],
    larger=["lines"],
)
def failures(request: FailuresRequest, world: World) -> FailuresResult:
    """Explain why tasks failed: clusters of the same failure, each with a cause, its evidence, and one remedy.

    The class of a task comes from its own record, from the scheduler's accounting and from the end of its log, in this
    order of trust. ``confidence`` says how certain the class is.
    """
    run = known_run(world, request)
    run_id = run.record.run_id
    answer = run.node.ask("failures", run_id, {"lines": request.lines})
    classes: dict[str, int] = {}
    for cluster in answer["clusters"]:
        cluster["remedy"] = run.remedy(cluster["remedy"], cluster["sample"]["task"])
        classes[cluster["class"]] = classes.get(cluster["class"], 0) + cluster["count"]
    return FailuresResult(
        run_id=run_id,
        classes=dict(sorted(classes.items(), key=lambda item: -item[1])),
        next_step=_next_step(run_id, answer),
        partial_errors=stale_errors(answer["stale"]),
        **{name: answer[name] for name in ("failed", "clusters", "more_clusters", "stale")},
    )


def _next_step(run_id: str, answer: dict[str, Any]) -> str:
    """Return the command that fits the failures."""
    if not answer["failed"]:
        return f"hpc-agent status --run-id {run_id}"
    if any(mends(cluster["class"]) and cluster["resubmitted"] < max(cluster["attempts_allowed"], 1)
           for cluster in answer["clusters"]):  # fmt: skip
        return f"hpc-agent monitor-flow --run-id {run_id} --auto-resubmit"
    return f"hpc-agent logs --run-id {run_id} --task-id {answer['clusters'][0]['sample']['task']}"


class LogsRequest(RunScoped):
    """The tasks, and the part of their logs to show."""

    task_id: Annotated[list[int], doc("task ids, from 0")] = []
    all_failed: Annotated[bool, doc("every failed task, up to limit")] = False
    lines: Annotated[int, doc("last lines of each", gt=0, le=10000)] = 50
    follow: Annotated[bool, doc("show new lines on standard error until the tasks have ended, or Control-C")] = False
    limit: Annotated[int, doc("most tasks that all_failed shows", gt=0, le=1000)] = 20


class LogsResult(Result):
    run_id: str
    logs: Annotated[
        list[dict[str, Any]],
        doc(
            "task, content, state, cause (a class of failures), message, host, path (where tasks share the file, also the "
            "offset and length of the part), scheduler_output, missing; attempts of "
            "a task that ran more than once: what each asked for, its cause and host"
        ),
    ]
    failed: Annotated[int | None, doc("how many tasks have failed in all (with all_failed)")] = None


@primitive(
    stage="monitor",
    effects=[Effect.SSH],
    errors=[*RUN_ERRORS, SpecInvalid],
    progress=True,
    brief="what tasks printed",
    example={"run_id": "latest", "task_id": [0]},
    next_verbs=["failures"],
    larger=["lines", "limit"],
)
def logs(request: LogsRequest, world: World) -> LogsResult:
    """Show the last lines of the output of tasks, and of the scheduler's output for them."""
    if not request.task_id and not request.all_failed:
        raise SpecInvalid("name tasks with --task-id or give --all-failed", field="task_id")
    run = known_run(world, request)
    run.refuse_unknown_tasks(request.task_id)
    question = {"tasks": request.task_id, **{name: getattr(request, name) for name in ("all_failed", "lines", "limit")}}
    answer = run.node.ask("logs", run.record.run_id, question)
    if request.follow:
        answer["logs"] = _follow(world, run, request, answer["logs"])
    return LogsResult(run_id=run.record.run_id, logs=answer["logs"], failed=answer["failed"])


def _follow(world: World, run: KnownRun, request: LogsRequest, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show new lines until every task has ended, with one question for all logs at a time. Return the ends of the logs.

    A task that was killed with its record is known to the scheduler alone, which is asked once in ``min_poll_sec``.
    """
    pause = 1.0 if run.node.cluster.ssh_target is None else max(2.0, run.node.cluster.min_poll_sec / 5)
    several, asked = len(shown) > 1, world.awake()
    tasks = {"tasks": [entry["task"] for entry in shown], "lines": request.lines}
    while True:
        for entry in shown:
            for line in entry["content"].splitlines():
                world.progress.say(f"[{entry['task']}] {line}" if several else line)
        if all(entry["state"] is not None for entry in shown):
            ended: list[dict[str, Any]] = run.node.ask("logs", run.record.run_id, tasks)["logs"]
            return ended
        world.sleep(pause)
        since = {str(entry["task"]): entry["size"] for entry in shown if entry.get("size") is not None}
        due = world.awake() - asked >= run.node.cluster.min_poll_sec
        asked = world.awake() if due else asked
        ask = partial(run.node.ask, "logs", run.record.run_id, {**tasks, "since": since, "ask": due})
        shown = patiently(world, ask, True, math.inf)["logs"]
