"""``decide-monitor-arm``: the way and the time of the next look at a run."""

from __future__ import annotations

import math
import shlex
from typing import Annotated, Any, Literal

from msgspec import Meta

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RunId
from hpc_agent.world import World

HOUR, HALF_HOUR, TEN_MINUTES = 3600, 1800, 600

TaskCount = Annotated[int, doc("tasks in this state", ge=0)]


class Counts(Request):
    """Tasks in each state, as status counts them."""

    complete: TaskCount = 0
    running: TaskCount = 0
    pending: TaskCount = 0
    failed: TaskCount = 0
    unknown: TaskCount = 0


class DecideMonitorArmRequest(Request):
    """The last status of a run, and the command that looks at the run."""

    run_id: RunId
    summary: Annotated[Counts, doc("last_status of status")]
    total_tasks: Annotated[int, doc("tasks of the run", ge=0)]
    invocation_argv: Annotated[list[str], doc("the command to give again at the next look")] = []
    user_invoked_via_loop: Annotated[bool, doc("a loop is looking already")] = False
    eta_sec: Annotated[Annotated[float, Meta(ge=0)] | None, doc("eta_seconds of status")] = None
    pace_unstable: Annotated[bool, doc("the estimate jumps from look to look")] = False
    queue_wait_sec: Annotated[Annotated[float, Meta(ge=0)] | None, doc("expected wait in the queue")] = None


class DecideMonitorArmResult(Result):
    arm: Annotated[Literal["cron", "loop", "none"], doc("none: the run needs no further look")]
    cadence_sec: int | None
    reason: str
    schedule: Annotated[str | None, doc("a cron line")]
    cron_create_args: Annotated[dict[str, Any] | None, doc("schedule, prompt, reason")]


@primitive(
    stage="monitor",
    errors=[SpecInvalid],
    brief="when to look next",
    example={"run_id": "latest", "total_tasks": 6, "summary": {"complete": 2, "running": 4}, "eta_sec": 600},
    next_verbs=["status", "monitor-flow"],
)
def decide_monitor_arm(request: DecideMonitorArmRequest, world: World) -> DecideMonitorArmResult:  # noqa: ARG001
    """Choose cron, loop or nothing for the next look at a run, and the pause before the look. Pure."""
    cadence, reason = _cadence(request)
    schedule, arguments = None, None
    if cadence is not None and not request.user_invoked_via_loop:
        schedule = cron_line(cadence)
        argv = request.invocation_argv or ["hpc-agent", "status", "--run-id", request.run_id]
        arguments = {"schedule": schedule, "prompt": shlex.join(argv), "reason": reason}
    return DecideMonitorArmResult(
        arm="none" if cadence is None else "cron" if schedule else "loop",
        cadence_sec=cadence,
        reason=reason,
        schedule=schedule,
        cron_create_args=arguments,
    )


def _cadence(request: DecideMonitorArmRequest) -> tuple[int | None, str]:
    """Return the pause in seconds, None for a run that needs no further look, and the reason."""
    counts, wait, eta = request.summary, request.queue_wait_sec, request.eta_sec
    if request.total_tasks == 0:
        return None, "the run has no tasks"
    if counts.complete >= request.total_tasks:
        return None, "every task is complete"
    if counts.failed and not counts.running and not counts.pending and not counts.unknown:
        return None, "nothing is running or pending, and tasks have failed"
    if wait is not None and wait >= HALF_HOUR:
        long = wait >= HOUR
        return (HOUR, "the queue is an hour long or more") if long else (HALF_HOUR, "the queue is half an hour long")
    if eta is not None:
        if eta < TEN_MINUTES:
            return 60, "it ends within ten minutes"
        steady = 180 if eta <= HALF_HOUR else 270
        return (90, "its pace is not steady") if request.pace_unstable else (steady, "its pace is steady")
    if counts.pending >= request.total_tasks:
        return HALF_HOUR, "everything is pending, and nothing is known of the queue"
    return 90, "there is no estimate yet"


def cron_line(cadence_sec: int) -> str:
    """Return the cron line with at least this pause: ``* * * * *``, ``*/N * * * *`` or ``0 */H * * *``."""
    minutes = max(1, math.ceil(cadence_sec / 60))
    if minutes >= 60:
        return f"0 */{math.ceil(minutes / 60)} * * *"
    return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
