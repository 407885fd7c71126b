"""``monitor-flow``: look again and again, at a polite pace, until the run has ended."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ClusterTimeout, SshUnreachable
from hpc_agent.ops.monitor.status import ERRORS, StatusResult, poll
from hpc_agent.ops.runs import RunScoped, known_run
from hpc_agent.state.journal import TERMINAL
from hpc_agent.world import World

SLOWEST_SEC = 300.0
UNCHANGED_BEFORE_SLOWER = 2
FAILED_POLLS_TOLERATED = 10


class MonitorFlowRequest(RunScoped):
    """How long to look, and how often."""

    poll_interval_seconds: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="first pause between two looks; the cluster's min_poll_sec is the least"),
    ] = None
    wall_clock_budget_seconds: Annotated[
        float, Meta(gt=0, description="stop looking after so long; the run goes on")
    ] = 86400.0


class MonitorFlowResult(Result):
    run_id: str
    lifecycle_state: Annotated[str, Meta(description="complete, failed, abandoned, or timeout: the budget was used up")]
    last_status: dict[str, Any]
    failures_by_cause: dict[str, int]
    samples: list[dict[str, Any]]
    ticks: Annotated[int, Meta(description="looks taken")]
    elapsed_seconds: float
    next_step: str


@primitive(stage="monitor", effects=[Effect.SSH, Effect.JOURNAL], errors=ERRORS, progress=True)
def monitor_flow(request: MonitorFlowRequest, world: World) -> MonitorFlowResult:
    """Watch a run until it ends: one look after another, slower while nothing changes.

    Never faster than the cluster's ``min_poll_sec``. A look that fails (the network, a busy login node) is repeated; ten
    in a row end the watch with their error. The run itself does not depend on being watched.
    """
    run = known_run(world, request)
    least = 0.5 if run.node.cluster.scheduler == "local" else run.node.cluster.min_poll_sec
    pause = max(least, request.poll_interval_seconds or least)
    started, ticks, failed_polls, unchanged = world.now(), 0, 0, 0
    latest: StatusResult | None = None
    while True:
        try:
            seen, failed_polls = poll(run), 0
            unchanged = unchanged + 1 if latest and _same(latest, seen) else 0
            latest = seen
            world.progress.update("status", total=seen.total_tasks, **_counts(seen))
        except (SshUnreachable, ClusterTimeout) as error:
            failed_polls += 1
            used_up = latest is None and world.now() - started >= request.wall_clock_budget_seconds
            if used_up or failed_polls >= FAILED_POLLS_TOLERATED:
                raise
            world.progress.update("unreachable", error=error.message)
        ticks += 1
        elapsed = world.now() - started
        if latest and (latest.lifecycle_state in TERMINAL or elapsed >= request.wall_clock_budget_seconds):
            return _result(latest, ticks, elapsed)
        slower = pause * 2 ** max(0, unchanged - UNCHANGED_BEFORE_SLOWER + 1)
        wait = min(max(slower, 2.0**failed_polls if failed_polls else 0.0), max(SLOWEST_SEC, pause))
        world.sleep(min(wait, max(0.1, request.wall_clock_budget_seconds - elapsed)))


def _counts(seen: StatusResult) -> dict[str, int]:
    return {name: seen.last_status[name] for name in ("complete", "running", "pending", "failed", "unknown")}


def _same(one: StatusResult, other: StatusResult) -> bool:
    return _counts(one) == _counts(other)


def _result(latest: StatusResult, ticks: int, elapsed: float) -> MonitorFlowResult:
    ended = latest.lifecycle_state in TERMINAL
    return MonitorFlowResult(
        run_id=latest.run_id,
        lifecycle_state=latest.lifecycle_state if ended else "timeout",
        last_status=latest.last_status,
        failures_by_cause=latest.failures_by_cause,
        samples=latest.samples,
        ticks=ticks,
        elapsed_seconds=round(elapsed, 3),
        next_step=latest.next_step,
    )
