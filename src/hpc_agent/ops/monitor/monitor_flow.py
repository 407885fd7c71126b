"""``monitor-flow``: look at a run again and again, at the cluster's pace, until the run has ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, PartialError, Result, primitive
from hpc_agent.errors import HpcError, SchedulerRefused
from hpc_agent.infra.clusters import Cluster
from hpc_agent.ops.run.fields import Positive, PositiveFloat, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.outage import REPEATED, Outage
from hpc_agent.ops.run.patience import Patience
from hpc_agent.ops.run.resubmission import command_of, limits_of, resubmit_failed
from hpc_agent.ops.run.run_status import StatusResult, ask_status
from hpc_agent.ops.run.submission import advance
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import Progress, World

# Looks in a row at a run that only a person can move on, before the watch ends.
STUCK_LOOKS = 5
SLOWEST_SEC, SLOWEST_LOCAL_SEC = 300.0, 5.0
# While a long run makes progress, an end that is far off is not looked for all the time.
OF_THE_TIME_LEFT = 0.01
UNCHANGED_BEFORE_SLOWER = 2
RESUBMISSIONS_SHOWN = 20
# While other tasks run, a smaller share of failed tasks gets no array of its own.
WORTH_AN_ARRAY = 0.05


class LooksRequest(RunScoped):
    """The run, and the time between two looks."""

    poll_interval_sec: Annotated[PositiveFloat | None, doc("first pause between looks; at least min_poll_sec")] = None
    wall_clock_budget_sec: Annotated[float, doc("stop looking after so long; the run goes on", gt=0)] = 86400.0


class MonitorFlowRequest(LooksRequest):
    """The run, the time between two looks, and the failures to submit again."""

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
        str, doc("complete, failed, abandoned, timeout (budget used up), or stuck (a person is needed, see waiting)")
    ]
    last_status: dict[str, Any]
    failures_by_cause: dict[str, int]
    samples: list[dict[str, Any]]
    ticks: Annotated[int, doc("looks taken")]
    elapsed_seconds: float
    next_step: str
    resubmitted: Annotated[int, doc("tasks that this watch submitted again")] = 0
    resubmissions: Annotated[list[dict[str, Any]], doc("the first 20: tasks, count, classes, resources")] = []
    blocked: Annotated[list[dict[str, Any]], doc("failures that need a person: class, why, remedy, tasks, sample")] = []
    waiting: Annotated[list[dict[str, Any]], doc("the reasons of waiting tasks, as of the last look")] = []
    notes: Annotated[list[str], doc("what to know of complete tasks")] = []


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*RUN_ERRORS, SchedulerRefused],
    progress=True,
    brief="wait until a run ends",
    example={"run_id": "latest"},
    next_verbs=["aggregate", "failures"],
)
def monitor_flow(request: MonitorFlowRequest, world: World) -> MonitorFlowResult:
    """Watch a run until it ends: one look after another, slower while nothing changes.

    The pause is never shorter than the cluster's ``min_poll_sec``, nor (up to five minutes) than a hundredth of the estimated
    time to the end, and otherwise not longer than that time, the walltime that is left, or a tenth of the time that tasks have
    run. The cluster spends 30 s of it reading the records of tasks, and answers when the run has ended; its scheduler is not
    asked meanwhile. A look that fails (the network, a busy login node) is repeated: the watch ends with the error after half
    an hour, or after ten looks where the host answers. A run goes on without a watch. The watch submits the arrays that a limit
    on submitted jobs kept back, and the next segment of a chain; failed tasks only with ``auto_resubmit``, and then those that
    need no person. Each resubmission is an event on standard error.
    """
    run = known_run(world, request)
    pace, patience = PollInterval(run.node.cluster, request.poll_interval_sec), Patience(world)
    started, ticks, stuck = world.awake(), 0, 0
    latest: StatusResult | None = None
    follow_up = FollowUp(run, request, world.progress, request.max_resubmits or run.record.total_tasks)
    while True:
        acted = False
        try:
            seen = ask_status(run, patience)
            changed, latest = latest is None or latest.counts() != seen.counts(), seen
            world.progress.update("status", total=seen.total_tasks, eta_seconds=seen.eta_seconds, **seen.counts())
            acted = follow_up.act(seen)
            # Arrays that wait for room are submitted by a look: then none is left out.
            left = None if acted or seen.to_submit else seen.eta_seconds
            pace.saw(acted or changed, seen.next_look_sec, left)
        except REPEATED as error:
            used_up = latest is None and world.awake() - started >= request.wall_clock_budget_sec
            if used_up or not pace.outage.goes_on(error, answered=latest is not None):
                raise
            world.progress.update("unreachable", error=error.message)
        ticks += 1
        elapsed = world.awake() - started
        ended = latest is not None and latest.lifecycle_state in TERMINAL and not acted and not pace.outage.failed
        ended = ended and not follow_up.undecided
        stuck = stuck + 1 if latest and not acted and _is_stuck(latest) else 0
        stuck = STUCK_LOOKS if stuck and latest and latest.held_for_canary else stuck  # no further look changes that
        if latest and (ended or stuck >= STUCK_LOOKS or elapsed >= request.wall_clock_budget_sec):
            break
        left = max(0.1, request.wall_clock_budget_sec - elapsed)
        patience.pause(min(pace.seconds(), left), answered=not pace.outage.failed)
    unfinished = "stuck" if stuck >= STUCK_LOOKS else "timeout"
    problems = follow_up.explain(latest)
    same = ("run_id", "last_status", "failures_by_cause", "samples", "waiting", "notes")
    return MonitorFlowResult(
        lifecycle_state=latest.lifecycle_state if latest.lifecycle_state in TERMINAL else unfinished,
        ticks=ticks,
        elapsed_seconds=round(elapsed, 3),
        next_step=follow_up.next_step or latest.next_step,
        resubmitted=follow_up.resubmitted,
        resubmissions=follow_up.resubmissions,
        blocked=follow_up.blocked,
        partial_errors=[*latest.partial_errors, *problems],
        **{name: getattr(latest, name) for name in same},
    )


def _is_stuck(seen: StatusResult) -> bool:
    """Return True when every task that is left waits for a person."""
    counts = seen.last_status
    return bool(seen.stuck) and not seen.stale and seen.stuck >= counts["pending"] and not counts["running"]


class PollInterval:
    """The pause before the next look. ``first`` is the requested pause; the cluster's ``min_poll_sec`` is the minimum."""

    def __init__(self, cluster: Cluster, first: float | None = None) -> None:
        least = 0.5 if cluster.scheduler == "local" else float(cluster.min_poll_sec)
        self._first = max(least, first or least)
        self._slowest = SLOWEST_LOCAL_SEC if cluster.scheduler == "local" else SLOWEST_SEC
        self._unchanged = 0
        self._within = math.inf
        self._least = 0.0
        self.outage = Outage()

    def saw(self, changed: bool, within: float | None, left: float | None = None) -> None:
        """Count a look that was answered.

        ``within``: the seconds after which an end would be seen late; ``left``: those to the estimated end. None is not known.
        """
        self.outage.over()
        self._least = min(self._slowest, OF_THE_TIME_LEFT * (left or 0.0))
        self._unchanged = 0 if changed else self._unchanged + 1
        self._within = math.inf if within is None else within

    def seconds(self) -> float:
        """Return the pause before the next look."""
        if self.outage.failed:
            return max(self._first, self.outage.pause())
        slower = self._first * 2.0 ** min(16, max(0, self._unchanged - UNCHANGED_BEFORE_SLOWER + 1))
        return max(self._first, self._least, min(slower, self._slowest, self._within))


@dataclass
class FollowUp:
    """The limits of a watch that submits tasks again, and the tasks that it has submitted."""

    run: KnownRun
    request: MonitorFlowRequest
    progress: Progress
    most: int
    resubmitted: int = 0
    resubmissions: list[dict[str, Any]] = field(default_factory=list)
    blocked: list[dict[str, Any]] = field(default_factory=list)
    undecided: bool = False  # True after a decision for which the scheduler could not be asked: the next look decides
    next_step: str = ""  # set where another command fits better than that of the last look
    _refused_at: tuple[Any, ...] | None = None

    def act(self, seen: StatusResult) -> bool:
        """Submit all that is due after a look. Return True when anything was submitted.

        A resubmission that was interrupted is finished with its own policy, and only where this watch may resubmit.
        """
        self.undecided = False
        record, failed = self.run.record, bool(seen.last_status["failed"]) and not seen.stale
        chain = self._next_segment() if seen.failures_by_cause.get("checkpointed") and failed else None
        if record.open_resubmit:
            policy = record.open_policy or self._policy()
            if self.request.auto_resubmit or policy == chain:
                return self._submit(policy)
            chain = None
        if seen.to_submit and not seen.stale:
            return advance(self.run)[0] > 0
        if chain and self._submit(chain):
            return True
        return failed and self._resubmit(seen)

    def explain(self, seen: StatusResult) -> list[PartialError]:
        """Fill ``blocked`` and ``next_step`` for the failures that the last look showed. Return what went wrong."""
        record = self.run.record
        if record.open_resubmit:
            policy = record.open_policy
            self.next_step = (
                command_of(record.run_id, policy) if policy else f"hpc-agent resubmit --run-id {record.run_id}"
            )
        if not seen.last_status["failed"]:
            self.blocked = []
            return []
        # Asked at this look already, or an answer that would be stale too.
        if seen.stale or self._counts(seen) == self._refused_at:
            return []
        try:
            plan = resubmit_failed(self.run, self._policy(), dry_run=True)
        except HpcError as error:
            return [PartialError(code=error.error_code, detail=error.message)]
        self.blocked = plan.blocked
        if plan.groups and not self.request.auto_resubmit and not seen.held_for_canary:
            self.next_step = self.next_step or f"hpc-agent monitor-flow --run-id {record.run_id} --auto-resubmit"
        return []

    def _next_segment(self) -> dict[str, Any] | None:
        """Return the policy of the next segment, for a chain whose segments follow a checkpoint."""
        chain = read_run_sidecar(self.run.repo, self.run.record.run_id).chain
        if not chain or chain["mode"] != "detect":
            return None
        attempts = int(chain["segments"]) - 1
        return {"classes": ["checkpointed"], "max_attempts": attempts, "caps": limits_of(self.run)}

    @staticmethod
    def _counts(seen: StatusResult) -> tuple[Any, ...]:
        """Return what a refusal depends on."""
        status = seen.last_status
        live = status["running"] + status["pending"] > 0
        return status["failed"], tuple(sorted(seen.failures_by_cause.items())), live

    def _resubmit(self, seen: StatusResult) -> bool:
        status, counts = seen.last_status, self._counts(seen)
        too_few = counts[-1] and status["failed"] < WORTH_AN_ARRAY * seen.total_tasks
        # A refusal stands until the counts change.
        if not self.request.auto_resubmit or self.resubmitted >= self.most or too_few or counts == self._refused_at:
            return False
        if self._submit(self._policy()):
            return True
        self._refused_at = None if self.undecided else counts
        return False

    def _policy(self) -> dict[str, Any]:
        left = self.most - self.resubmitted
        return {"caps": limits_of(self.run), "max_attempts": self.request.max_attempts, "max_tasks": left}

    def _submit(self, policy: dict[str, Any]) -> bool:
        answer = resubmit_failed(self.run, policy)
        self.blocked = answer.blocked
        self.undecided = bool(answer.partial_errors)
        self.resubmitted += answer.resubmitted
        for group in answer.groups:
            self.progress.update("resubmitted", **group)
        self.resubmissions = [*self.resubmissions, *answer.groups][:RESUBMISSIONS_SHOWN]
        return answer.resubmitted > 0
