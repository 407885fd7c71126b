"""The next step of a campaign, from manifest and journal alone: the driver does it, writes the line, and asks again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpc_agent.campaign import strategies
from hpc_agent.campaign.journal import Ask, History, Stopped, Tell, Trial
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.space import points
from hpc_agent.campaign.stopping import Decision, Spent, decision, remaining, spent_of, stop
from hpc_agent.contract.envelope import did_you_mean


class AskNow(NamedTuple):
    """Append these lines, one after the other; after a kill between them the rest is asked again, with the same points."""

    asks: list[Ask]


class Submit(NamedTuple):
    """Submit these trials as one run: task ``i`` has the parameters ``tasks[i]`` and is the trial ``trials[i]``."""

    iteration: int
    trials: list[int]
    tasks: list[dict[str, Any]]


class Wait(NamedTuple):
    """Nothing to do until a trial ends."""

    decision: Decision


class Stop(NamedTuple):
    """Append ``line`` unless the journal has it."""

    decision: Decision

    @property
    def line(self) -> Stopped:
        return Stopped(reason=self.decision.reason, detail=self.decision.detail)

    def is_new(self, history: History) -> bool:
        """Return True where the journal lacks the line."""
        return history.stopped is None or history.stopped.reason != self.decision.reason


Step = AskNow | Submit | Wait | Stop


def next_step(manifest: Manifest, history: History, now: float) -> Step:
    """Return the next step; ``now`` is in seconds since the epoch. The driver tells the ends of open trials first.

    Raises NeedsResolution for a strategy whose library is not installed.
    """
    spent, open_trials, unsubmitted = spent_of(history, now), history.open_trials, history.unsubmitted
    verdict = decision(manifest, history, spent)
    if verdict.stops:
        return Stop(verdict)
    if verdict.decision == "continue":
        count = _room(manifest, history, spent)
        asks = strategies.ask(manifest, history, count) if count > 0 else []
        if asks:
            return AskNow(asks)
        if count > 0 and not open_trials:
            return Stop(exhaustion(manifest))
    if unsubmitted:
        trials, tasks = [trial.number for trial in unsubmitted], [trial.params for trial in unsubmitted]
        return Submit(unsubmitted[0].iteration, trials, tasks)
    if verdict.decision == "continue":
        detail = f"{len(open_trials)} trials run or wait; more are asked when fewer do"
        verdict = Decision(decision="wait_in_flight", detail=detail)
    return Wait(verdict)


def is_exhausted(manifest: Manifest, history: History) -> bool:
    """Return True when the strategy has no further point. Raises NeedsResolution as ``next_step``."""
    is_endless = points(manifest.space) is None and manifest.strategy.name != "grid"
    return not is_endless and not history.open_trials and not strategies.ask(manifest, history, 1)


def exhaustion(manifest: Manifest) -> Decision:
    return stop("exhausted", f"{manifest.strategy.name} has no further point to try")


def _room(manifest: Manifest, history: History, spent: Spent) -> int:
    """Return how many trials to ask now: the rest of a batch, or in async mode what the queue lacks once it runs low."""
    unsubmitted, open_trials = len(history.unsubmitted), len(history.open_trials)
    if manifest.mode == "batch":
        wanted = manifest.batch - unsubmitted
    else:
        # filled up by arrays of several trials: once half of what may wait, or a quarter of the width, is free
        free = manifest.width + manifest.ahead - open_trials
        refill = max(1, (manifest.ahead + 1) // 2, manifest.width // 4)
        wanted = free if unsubmitted or free >= refill else 0
    left = remaining(manifest.budget, spent)
    tasks = math.floor(left.pop("max_tasks", wanted))
    if unsubmitted:  # they are counted as an array already
        left.pop("max_jobs", None)
    return min(wanted, tasks) if all(left.values()) else 0


def tell_of(
    manifest: Manifest,
    trial: Trial,
    state: str,
    metrics: Mapping[str, Any],
    *,
    seconds: float = 0.0,
    cpus: int = 1,
    stopped_at: int | None = None,
    why: str = "",
    wrote: Sequence[str] | None = None,
) -> Tell:
    """Return the line about the end of a trial. ``state`` is that of its task: complete or failed.

    A complete task without a finite number for each metric and constraint is a failed trial, which says so, and which
    numbers it ``wrote`` instead.
    """
    wanted, bounds = [one.name for one in manifest.metrics], [one.metric for one in manifest.constraints]
    finite = {name: value for name, value in metrics.items() if _is_finite(value)}
    if state == "complete" and stopped_at is not None:
        state = "stopped"
    lacking = [name for name in (*wanted, *bounds) if name not in finite]
    if state == "complete" and lacking:
        told = metrics.get(lacking[0])
        said = _instead(lacking[0], why, wrote) if told is None else f"is {told!r}"
        state, why = "failed", f"the metric {lacking[0]!r} {said}"
    return Tell(
        trial=trial.number,
        state=state,  # type: ignore[arg-type]
        values={name: finite[name] for name in wanted if name in finite},
        constraints={name: finite[name] for name in bounds if name in finite},
        run_id=trial.run_id,
        task_id=trial.task_id,
        seconds=round(seconds, 3),
        cpus=cpus,
        stopped_at=stopped_at,
        why=why if state == "failed" else "",
    )


def _instead(name: str, problem: str, wrote: Sequence[str] | None) -> str:
    """Return what a task without this metric has in its place."""
    if problem or wrote is None:
        return ": ".join(filter(None, ["is missing", problem]))
    hint = did_you_mean(name, wrote).strip()
    return f"is missing; the task wrote {', '.join(wrote) or 'no number'}{'. ' if hint else ''}{hint}"


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
