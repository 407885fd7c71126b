"""``watch``: a live view of one run, or of all that are under way."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import PreconditionFailed
from hpc_agent.ops.monitor.monitor_flow import LooksRequest, PollInterval
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, journal_of, known_run, node_of_record
from hpc_agent.ops.run.outage import REPEATED
from hpc_agent.ops.run.run_status import ask_status
from hpc_agent.state.journal import TERMINAL
from hpc_agent.world import World

if TYPE_CHECKING:
    from hpc_agent.view.run_view import RunView

    Show = Callable[[list[RunView]], None]

FRAME_SEC = 0.5


class WatchRequest(LooksRequest):
    """The runs to look at, and the time to look."""

    all_runs: Annotated[bool, doc("every run of the repo that has not ended")] = False


class WatchResult(Result):
    runs: Annotated[
        list[dict[str, Any]], doc("run_id, lifecycle_state (timeout: in flight), last_status, failures_by_cause")
    ]
    ticks: Annotated[int, doc("looks taken")]
    elapsed_seconds: float


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL],
    errors=RUN_ERRORS,
    progress=True,
    brief="a live view",
    example={"run_id": "latest"},
    next_verbs=["aggregate", "failures"],
)
def watch(request: WatchRequest, world: World) -> WatchResult:
    """Show a live view: waves, pace, failures by cause, reasons of waiting, estimated end. Submits nothing.

    Without a terminal the verb prints a JSON record for each look. It ends with the last run, the budget, or Control-C; the
    runs go on.
    """
    watched = [_Watched(run, request.poll_interval_sec, world) for run in _chosen(request, world)]
    views = [one.view for one in watched]
    started = world.awake()
    live = sys.stderr.isatty() and world.env.get("HPC_PROGRESS") != "json"
    live = live and world.env.get("TERM") not in ("dumb", "unknown")  # which cannot draw a picture again
    with _terminal(world) if live else _records(world) as show:
        while any(not one.ended for one in watched) and world.awake() - started < request.wall_clock_budget_sec:
            for one in watched:
                one.look_if_due()
            show(views)
            world.sleep(FRAME_SEC)
        show(views)
    return WatchResult(
        runs=[one.facts() for one in watched],
        ticks=sum(one.ticks for one in watched),
        elapsed_seconds=round(world.awake() - started, 3),
    )


def _chosen(request: WatchRequest, world: World) -> list[KnownRun]:
    if not request.all_runs:
        return [known_run(world, request)]
    repo, journal = journal_of(world, request.experiment_dir)
    wanted = [record for record in journal.all()[0] if record.status not in TERMINAL and record.submitted_at]
    if not wanted:
        raise PreconditionFailed(
            "no run of this repo is under way", remediation="'hpc-agent list-in-flight --all-states' lists the others."
        )
    return [KnownRun(repo, journal, record, node_of_record(world, repo, record)) for record in wanted]


class _Watched:
    """A run, the pause until its next look, and its view."""

    def __init__(self, run: KnownRun, first: float | None, world: World) -> None:
        from hpc_agent.view.run_view import RunView

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
            self._look()
        except REPEATED as error:
            self.view.stale = error.message
            if not self.pace.outage.goes_on(error, answered=self.view.checked_at is not None):
                raise
        self._due = self._world.awake() + self.pace.seconds()

    def _look(self) -> None:
        view, seen, now = self.view, ask_status(self.run), self._world.now()
        counts = seen.counts()
        if seen.lifecycle_state != view.state:
            stamp = time.strftime("%H:%M:%S", time.localtime(now))
            view.events.append(f"{stamp} {seen.lifecycle_state.replace('_', ' ')}")
        self.pace.saw(counts != view.counts, seen.next_look_sec)
        view.state, view.counts, view.waves = seen.lifecycle_state, counts, seen.last_status["waves"]
        view.causes, view.waiting, view.checked_at = seen.failures_by_cause, seen.waiting, now
        view.eta = None if seen.eta_seconds is None else now + seen.eta_seconds
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


@contextlib.contextmanager
def _records(world: World) -> Iterator[Show]:
    """Yield a function that writes a JSON record for each change."""
    shown: dict[str, Any] = {}

    def show(views: list[RunView]) -> None:
        for view in views:
            facts = {**view.counts, "lifecycle_state": view.state}
            if view.checked_at is not None and shown.get(view.run_id) != facts:
                shown[view.run_id] = facts
                world.progress.update("status", run_id=view.run_id, total=view.total, **facts)

    yield show


@contextlib.contextmanager
def _terminal(world: World) -> Iterator[Show]:
    """Yield a function that draws the views in place; the last picture stays on the terminal."""
    world.progress.close()
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        from hpc_agent.view.run_view import PlainPicture

        picture = PlainPicture(sys.stderr)
        yield lambda views: picture.draw(views, world.now())
        return
    from hpc_agent.view.live import render

    with Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="crop") as live:
        plain = live.console.options.ascii_only

        def draw(views: list[RunView]) -> None:
            with _whole():
                live.update(render(views, world.now(), live.console.width, plain), refresh=True)

        yield draw


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Keep Control-C until the work is done: a picture that is drawn in part would stand twice on the terminal."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # Control-C reaches the main thread only, and nobody where it is ignored
        return
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
