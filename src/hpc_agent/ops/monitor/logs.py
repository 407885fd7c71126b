"""``logs``: the ends of task logs, in one SSH command."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.world import World


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
        list[dict[str, Any]], doc("task, content, state, cause, message, host, path, scheduler_output, missing")
    ]
    failed: Annotated[int | None, doc("how many tasks have failed in all (with all_failed)")] = None


@primitive(stage="monitor", effects=[Effect.SSH], errors=[*RUN_ERRORS, SpecInvalid], progress=True)
def logs(request: LogsRequest, world: World) -> LogsResult:
    """Show the last lines of the output of tasks, and of the scheduler's output for them."""
    if not request.task_id and not request.all_failed:
        raise SpecInvalid("name tasks with --task-id or give --all-failed", field="task_id")
    run = known_run(world, request)
    question = {"tasks": request.task_id, **{name: getattr(request, name) for name in ("all_failed", "lines", "limit")}}
    answer = run.node.ask("logs", run.record.run_id, question)
    if request.follow:
        answer["logs"] = _follow(world, run, request, answer["logs"])
    return LogsResult(run_id=run.record.run_id, logs=answer["logs"], failed=answer["failed"])


def _follow(world: World, run: KnownRun, request: LogsRequest, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show new lines until every task has ended, with one question for all logs at a time. Return the last answer."""
    pause = 1.0 if run.node.cluster.ssh_target is None else max(2.0, run.node.cluster.min_poll_sec / 5)
    several = len(shown) > 1
    while True:
        for entry in shown:
            for line in entry["content"].splitlines():
                world.progress.say(f"[{entry['task']}] {line}" if several else line)
        if all(entry["state"] is not None for entry in shown):
            return shown
        world.sleep(pause)
        question = {
            "tasks": [entry["task"] for entry in shown],
            "lines": request.lines,
            "since": {str(entry["task"]): entry["size"] for entry in shown if entry.get("size") is not None},
        }
        shown = run.node.ask("logs", run.record.run_id, question)["logs"]
