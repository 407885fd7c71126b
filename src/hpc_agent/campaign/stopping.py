"""Decide if a campaign goes on: what it has used of its budget, and six reasons to stop, each told by its name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from hpc_agent.campaign.journal import History, Trial
from hpc_agent.campaign.manifest import AbortIf, Budget, Manifest, Metric
from hpc_agent.contract.vocabulary import doc

Verdict = Literal["continue", "wait_in_flight", "stop_converged", "stop_over_budget", "stop_aborted", "stop_exhausted"]
Reason = Literal["", "target", "plateau", "max_iters", "budget", "abort", "exhausted"]
VERDICTS: dict[str, Verdict] = {
    "target": "stop_converged", "plateau": "stop_converged", "max_iters": "stop_converged", "budget": "stop_over_budget",
    "abort": "stop_aborted", "exhausted": "stop_exhausted",
}  # fmt: skip


class Spent(msgspec.Struct, kw_only=True, frozen=True):
    """Use of the campaign's own trials. A canary, and a trial of an earlier campaign, costs nothing."""

    tasks: Annotated[int, doc("trials asked")] = 0
    jobs: Annotated[int, doc("arrays submitted, and one for trials that wait for their submission")] = 0
    core_hours: Annotated[float, doc("of ended tasks")] = 0.0
    walltime_sec: Annotated[float, doc("of ended tasks together")] = 0.0
    elapsed_sec: Annotated[float, doc("by the clock since the first ask")] = 0.0
    open_tasks: Annotated[int, doc("trials whose core-hours and walltime are not known yet")] = 0


# Limit of the manifest -> use that it limits.
LIMITS = {
    "max_tasks": "tasks", "max_jobs": "jobs", "max_core_hours": "core_hours", "max_walltime_sec": "walltime_sec",
    "max_elapsed_sec": "elapsed_sec",
}  # fmt: skip


def spent_of(history: History, now: float) -> Spent:
    """Return the use after these asks and tells; ``now`` is in seconds since the epoch."""
    own = history.own
    return Spent(
        tasks=len(own),
        jobs=history.jobs + bool(history.unsubmitted),
        core_hours=round(sum(trial.seconds * trial.cpus for trial in own) / 3600, 6),
        walltime_sec=round(sum(trial.seconds for trial in own), 3),
        elapsed_sec=round(max(0.0, now - own[0].asked_at), 3) if own else 0.0,
        open_tasks=len(history.open_trials),
    )


def remaining(budget: Budget, spent: Spent) -> dict[str, float]:
    """Return what is left of each limit that the budget has, by the name of the limit; never less than 0."""
    limits = {name: getattr(budget, name) for name in LIMITS}
    left = {name: limit - getattr(spent, LIMITS[name]) for name, limit in limits.items() if limit is not None}
    return {name: round(max(0, amount), 6) for name, amount in left.items()}


def reached(budget: Budget, spent: Spent) -> str | None:
    """Return the name of the first limit that is reached; None when there is room for another trial."""
    return next((name for name, amount in remaining(budget, spent).items() if amount <= 0), None)


def exhausted(budget: Budget, spent: Spent) -> str:
    """Return a sentence about the first limit that is reached; empty for none."""
    name = reached(budget, spent)
    return (
        f"{LIMITS[name]} {getattr(spent, LIMITS[name]):g} of {name} {getattr(budget, name):g} are used" if name else ""
    )


class Decision(msgspec.Struct, kw_only=True, frozen=True):
    """What comes next, and why."""

    decision: Verdict
    reason: Annotated[Reason, doc("of a stop: which of the six")] = ""
    detail: Annotated[str, doc("a sentence with the numbers")] = ""

    @property
    def stops(self) -> bool:
        return self.decision.startswith("stop")


def stop(reason: str, detail: str) -> Decision:
    return Decision(decision=VERDICTS[reason], reason=reason, detail=detail)  # type: ignore[arg-type]


def decision(manifest: Manifest, history: History, spent: Spent) -> Decision:
    """Return the decision before the next ask; exhaustion shows when the strategy is asked (``step.next_step``).

    Trials that run are waited for, in a batch and before any stop: one that ends later may change the reason, and none
    is lost. A campaign that has stopped goes on once its limits are raised.
    """
    told = history.stopped
    if told and told.reason == "exhausted":
        return stop(told.reason, told.detail)
    reason, detail = _why_stop(manifest, history, spent)
    if told and reason == told.reason:
        return stop(reason, detail)
    still_open = len(history.open_trials)
    if manifest.mode == "batch" and still_open > len(history.unsubmitted):
        return Decision(decision="wait_in_flight", detail=f"{_trials(still_open)} not ended yet in this batch")
    if not reason:
        return Decision(decision="continue")
    if still_open:
        return Decision(decision="wait_in_flight", detail=f"{detail}; {_trials(still_open)} not ended yet")
    return stop(reason, detail)


def headline(found: Decision, history: History) -> str:
    """Return the sentence of a decision, and how many trials ended themselves early."""
    early = sum(trial.state == "stopped" for trial in history.own)
    return "; ".join(filter(None, [found.detail, f"{early} of {len(history.own)} trials ended early" if early else ""]))


def _trials(count: int) -> str:
    return "1 trial has" if count == 1 else f"{count} trials have"


def _why_stop(manifest: Manifest, history: History, spent: Spent) -> tuple[Reason, str]:
    """Return the first reason that holds, with its sentence; a goal that was reached goes before a budget that is used."""
    if hopeless := _hopeless(manifest, history) or _not_measured(history):
        return "abort", hopeless
    reason, detail = converged(manifest, series_of(manifest, history))
    if not reason and not history.unsubmitted and (used := exhausted(manifest.budget, spent)):
        return "budget", used
    return reason, detail


def series_of(manifest: Manifest, history: History) -> list[float | None]:
    """Return the best value of each iteration that ended, in order; None for an iteration without a usable value.

    Of successive halving the top rungs alone are iterations: values of the others do not compare.
    """
    usable = {trial.number for trial in history.ranked(manifest)}
    ended = [trials for trials in history.iterations.values() if not any(trial.is_open for trial in trials)]
    if resource := manifest.resource:
        top = manifest.strategy.params["max"]
        ended = [trials for trials in ended if any(trial.params.get(resource) == top for trial in trials)]
    return [best_value(manifest, [trial for trial in trials if trial.number in usable]) for trials in ended]


def best_value(manifest: Manifest, trials: Iterable[Trial]) -> float | None:
    """Return the best value of trials that all have one; None for no trial."""
    metric = manifest.metric()
    if metric is None:
        return None
    return min((trial.values[metric.name] for trial in trials), key=lambda value: metric.sign * value, default=None)


def converged(manifest: Manifest, series: Sequence[float | None]) -> tuple[Reason, str]:
    """Return why the series of iterations has converged; empty when it has not."""
    criteria = manifest.stop_criteria
    metric = manifest.metric() or Metric(name="the metric", direction="minimize")  # no value is known of none
    sign = float(metric.sign)
    losses = [math.inf if value is None else sign * value for value in series]
    best = min(losses, default=math.inf)
    if criteria.target is not None and best < math.inf and best <= sign * criteria.target:
        return "target", f"{metric.name} {sign * best:.6g} reaches the target {criteria.target:g}"
    window, mode = criteria.plateau_window, criteria.plateau_mode
    if window and len(losses) >= window + (window if mode == "prior_window" else 1):
        old = min(losses[:-window] if mode == "all_time_best" else losses[-2 * window : -window])
        new, tolerance = min(losses[-window:]), criteria.plateau_tolerance
        if old < math.inf and not new < old - tolerance:
            shown = f"{sign * new:.6g}" if new < math.inf else "no value"
            detail = f"the last {window} iterations did not improve {metric.name}: {shown}, before {sign * old:.6g}"
            return "plateau", detail + (f", tolerance {tolerance:g}" if tolerance else "")
    if criteria.max_iters and len(losses) >= criteria.max_iters:
        return "max_iters", f"{len(losses)} of {criteria.max_iters} iterations have ended"
    return "", ""


def _hopeless(manifest: Manifest, history: History) -> str:
    """Return a sentence about the first abort condition that holds; empty when none does."""
    ended = [trial for trial in history.own if not trial.is_open]
    failed = sum(trial.state == "failed" for trial in ended)
    for condition in manifest.abort_if:
        if len(ended) < condition.after_tasks:
            continue
        if condition.failed_share is not None and failed >= condition.failed_share * len(ended):
            return f"{failed} of {len(ended)} ended trials failed; abort_if says {condition.failed_share:g}"
        if condition.metric is not None and (found := _out_of_bounds(manifest, history, condition)):
            return f"{found} after {len(ended)} trials"
    return ""


def _not_measured(history: History) -> str:
    """Return a sentence where the first iteration has ended and no complete task wrote the metric: no other one would."""
    own = history.own
    if not own or any(trial.is_open for trial in own if trial.iteration == own[0].iteration):
        return ""
    complete = [trial for trial in own if trial.has_run]
    if not complete or not all(trial.lacks_metric for trial in complete):
        return ""
    return f"{complete[0].why.partition(' is missing')[0]} is missing in every complete task ({len(complete)})"


def _out_of_bounds(manifest: Manifest, history: History, condition: AbortIf) -> str:
    best = history.best(manifest, condition.metric)
    if best is None:
        return f"no trial has a usable {condition.metric}"
    value, above, below = best.values[condition.metric or ""], condition.above, condition.below
    told = f"above {above:g}" if above is not None and value > above else ""
    told = told or (f"below {below:g}" if below is not None and value < below else "")
    return told and f"the best {condition.metric} is {value:.6g}, {told},"
