"""``monitor-flow``: look at a run again and again, at the cluster's pace, until the run has ended."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ClusterTimeout, SchedulerRefused, SshUnreachable, SubmissionUnknown
from hpc_agent.ops.monitor.follow_up import FollowUp
from hpc_agent.ops.monitor.poll_interval import PollInterval
from hpc_agent.ops.run.fields import Positive, PositiveFloat, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.run_status import StatusResult, ask_status
from hpc_agent.state.journal import TERMINAL
from hpc_agent.world import World

# Looks in a row at a run that only a person can move on, before the watch ends.
STUCK_LOOKS = 5


class MonitorFlowRequest(RunScoped):
    """The run, the time between two looks, and the failures to submit again."""

    poll_interval_sec: Annotated[PositiveFloat | None, doc("first pause between two looks; at least min_poll_sec")] = (
        None
    )
    wall_clock_budget_sec: Annotated[float, doc("stop looking after so long; the run goes on", gt=0)] = 86400.0
    auto_resubmit: Annotated[
        bool, doc("submit failed tasks again as 'resubmit' does, except those that need a person")
    ] = False
    max_resubmits: Annotated[
        Positive | None, doc("with auto_resubmit: limit for all tasks together; by default all tasks once")
    ] = None
    max_attempts: Annotated[
        Positive | None, doc("with auto_resubmit: limit for one task; by default from its class")
    ] = None


class MonitorFlowResult(Result):
    run_id: str
    lifecycle_state: Annotated[
        str,
        doc(
            "complete, failed, abandoned, timeout (the budget was used up), or stuck: the waiting tasks need a "
            "person, see waiting"
        ),
    ]
    last_status: dict[str, Any]
    failures_by_cause: dict[str, int]
    samples: list[dict[str, Any]]
    ticks: Annotated[int, doc("looks taken")]
    elapsed_seconds: float
    next_step: str
    resubmitted: Annotated[int, doc("tasks that this watch submitted again")] = 0
    blocked: Annotated[list[dict[str, Any]], doc("failures that need a person: class, why, remedy, tasks, sample")] = []
    waiting: Annotated[list[dict[str, Any]], doc("the reasons of waiting tasks, as of the last look")] = []


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*RUN_ERRORS, SchedulerRefused, SubmissionUnknown],
    progress=True,
)
def monitor_flow(request: MonitorFlowRequest, world: World) -> MonitorFlowResult:
    """Watch a run until it ends: one look after another, slower while nothing changes.

    The pause is never shorter than the cluster's ``min_poll_sec``. A look that fails (the network, a busy login node) is
    repeated; ten in a row end the watch with their error. A run goes on without a watch. The watch submits the arrays that
    a limit on submitted jobs kept back, and with ``auto_resubmit`` the failed tasks that need no person.
    """
    run = known_run(world, request)
    pace = PollInterval(run.node.cluster, request.poll_interval_sec)
    started, ticks, stuck = world.awake(), 0, 0
    latest: StatusResult | None = None
    most = request.max_resubmits or run.record.total_tasks
    follow_up = FollowUp(run, request.auto_resubmit, most, request.max_attempts)
    while True:
        acted = False
        try:
            seen = ask_status(run)
            world.progress.update("status", total=seen.total_tasks, **seen.counts())
            acted = follow_up.act(seen)
            pace.saw(changed=acted or latest is None or latest.counts() != seen.counts())
            latest = seen
        except (SshUnreachable, ClusterTimeout) as error:
            used_up = latest is None and world.awake() - started >= request.wall_clock_budget_sec
            if pace.missed() or used_up:
                raise
            world.progress.update("unreachable", error=error.message)
        ticks += 1
        elapsed = world.awake() - started
        ended = latest is not None and latest.lifecycle_state in TERMINAL and not acted and not pace.failed
        stuck = stuck + 1 if latest and not acted and _is_stuck(latest) else 0
        if latest and (ended or stuck >= STUCK_LOOKS or elapsed >= request.wall_clock_budget_sec):
            return _result(latest, ticks, elapsed, follow_up, stuck >= STUCK_LOOKS)
        world.sleep(min(pace.seconds(), max(0.1, request.wall_clock_budget_sec - elapsed)))


def _is_stuck(seen: StatusResult) -> bool:
    """Return True when every task that is left waits for a person."""
    counts = seen.last_status
    return bool(seen.stuck) and not seen.stale and seen.stuck >= counts["pending"] and not counts["running"]


def _result(latest: StatusResult, ticks: int, elapsed: float, follow_up: FollowUp, stuck: bool) -> MonitorFlowResult:
    ended = latest.lifecycle_state in TERMINAL
    return MonitorFlowResult(
        run_id=latest.run_id,
        lifecycle_state=latest.lifecycle_state if ended else "stuck" if stuck else "timeout",
        last_status=latest.last_status,
        failures_by_cause=latest.failures_by_cause,
        samples=latest.samples,
        ticks=ticks,
        elapsed_seconds=round(elapsed, 3),
        next_step=latest.next_step,
        resubmitted=follow_up.resubmitted,
        blocked=follow_up.blocked,
        waiting=latest.waiting,
    )
