"""``watch``: a live view of one run, or of all that are under way."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ClusterTimeout, PreconditionFailed, SshUnreachable
from hpc_agent.ops.monitor.monitor_flow import PollInterval
from hpc_agent.ops.run.fields import PositiveFloat, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, journal_of, known_run
from hpc_agent.ops.run.run_status import StatusResult, ask_status
from hpc_agent.state.journal import TERMINAL
from hpc_agent.world import World

if TYPE_CHECKING:
    from hpc_agent.view.live import RunView

FRAME_SEC = 0.5


class WatchRequest(RunScoped):
    """The runs to look at, and the time to look."""

    all_runs: Annotated[bool, doc("every run of the repo that has not ended")] = False
    poll_interval_sec: Annotated[PositiveFloat | None, doc("first pause between two looks; at least min_poll_sec")] = (
        None
    )
    wall_clock_budget_sec: Annotated[float, doc("stop looking after so long; runs go on", gt=0)] = 86400.0


class WatchResult(Result):
    runs: Annotated[
        list[dict[str, Any]], doc("run_id, lifecycle_state (timeout: in flight), last_status, failures_by_cause")
    ]
    ticks: Annotated[int, doc("looks taken")]
    elapsed_seconds: float


@primitive(stage="monitor", effects=[Effect.SSH, Effect.JOURNAL], errors=RUN_ERRORS, progress=True)
def watch(request: WatchRequest, world: World) -> WatchResult:
    """Show a live view: waves, pace, failures by cause, reasons of waiting, estimated end. Submits nothing.

    Needs a terminal and the extra ``tui``; elsewhere the verb prints a JSON record for each look. It ends with the last run,
    the budget, or Control-C; the runs go on.
    """
    runs = _chosen(request, world)
    watched = [_Watched(run, request.poll_interval_sec, world) for run in runs]
    started = world.awake()
    show = _terminal(world) if sys.stderr.isatty() and world.env.get("HPC_PROGRESS") != "json" else _records(world)
    try:
        while any(not one.ended for one in watched) and world.awake() - started < request.wall_clock_budget_sec:
            for one in watched:
                one.look_if_due()
            show([one.view for one in watched])
            world.sleep(FRAME_SEC)
        show([one.view for one in watched])
    finally:
        show(None)
    return WatchResult(
        runs=[one.facts() for one in watched],
        ticks=sum(one.ticks for one in watched),
        elapsed_seconds=round(world.awake() - started, 3),
    )


def _chosen(request: WatchRequest, world: World) -> list[KnownRun]:
    if not request.all_runs:
        return [known_run(world, request)]
    records, _ = journal_of(world, request.experiment_dir)[1].all()
    wanted = [record for record in records if record.status not in TERMINAL and record.submitted_at]
    if not wanted:
        raise PreconditionFailed(
            "no run of this repo is under way", remediation="'hpc-agent list-in-flight --all-states' lists the others."
        )
    return [known_run(world, RunScoped(run_id=r.run_id, experiment_dir=request.experiment_dir)) for r in wanted]


class _Watched:
    """A run, the pause until its next look, and its view."""

    def __init__(self, run: KnownRun, first: float | None, world: World) -> None:
        from hpc_agent.view.live import RunView

        self.run, self._world = run, world
        self.pace = PollInterval(run.node.cluster, first)
        self.view: RunView = RunView(run.record.run_id, run.record.cluster, run.record.total_tasks)
        self.ticks = 0
        self._due = -math.inf

    @property
    def ended(self) -> bool:
        return self.view.state in TERMINAL

    def look_if_due(self) -> None:
        if self.ended or self._world.awake() < self._due:
            return
        self.ticks += 1
        try:
            self._update(ask_status(self.run), self._world.now())
        except (SshUnreachable, ClusterTimeout) as error:
            self.view.stale = error.message
            if self.pace.missed():
                raise
        self._due = self._world.awake() + self.pace.seconds()

    def _update(self, seen: StatusResult, now: float) -> None:
        view = self.view
        counts = seen.counts()
        if seen.lifecycle_state != view.state:
            stamp = time.strftime("%H:%M:%S", time.localtime(now))
            view.events.append(f"{stamp} {seen.lifecycle_state.replace('_', ' ')}")
        self.pace.saw(counts != view.counts)
        view.state, view.counts, view.waves = seen.lifecycle_state, counts, seen.last_status["waves"]
        view.causes, view.waiting, view.checked_at = seen.failures_by_cause, seen.waiting, now
        view.stale = str(seen.stale["error"]) if seen.stale else ""
        view.ends.append((now, counts["complete"] + counts["failed"]))

    def facts(self) -> dict[str, Any]:
        view = self.view
        return {
            "run_id": view.run_id,
            "lifecycle_state": view.state if self.ended else "timeout",
            "last_status": view.counts,
            "failures_by_cause": view.causes,
        }


def _records(world: World) -> Any:
    """Return a function that writes a JSON record for each change."""
    shown: dict[str, Any] = {}

    def show(views: list[RunView] | None) -> None:
        for view in views or []:
            facts = {**view.counts, "lifecycle_state": view.state}
            if view.checked_at is not None and shown.get(view.run_id) != facts:
                shown[view.run_id] = facts
                world.progress.update("status", run_id=view.run_id, total=view.total, **facts)

    return show


def _terminal(world: World) -> Any:
    """Return a function that draws the views in place; the last picture stays on the terminal."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise PreconditionFailed(
            "the live view needs rich", remediation="Run pip install 'hpc-agent[tui]', or use 'hpc-agent monitor-flow'."
        ) from None
    from hpc_agent.view.live import render

    world.progress.close()
    live = Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="crop")
    live.start()

    def show(views: list[RunView] | None) -> None:
        if views is None:
            live.stop()
        else:
            live.update(render(views, world.now(), live.console.width), refresh=True)

    return show
