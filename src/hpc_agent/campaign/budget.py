"""What a campaign has used of its budget."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import History
from hpc_agent.campaign.manifest import Budget


class Spent(msgspec.Struct, kw_only=True, frozen=True):
    """Use of the campaign's own trials. A canary, and a trial of an earlier campaign, costs nothing."""

    tasks: Annotated[int, Meta(description="trials asked")] = 0
    jobs: Annotated[int, Meta(description="arrays submitted, and one for trials that wait for their submission")] = 0
    core_hours: Annotated[float, Meta(description="of ended tasks")] = 0.0
    walltime_sec: Annotated[float, Meta(description="of ended tasks together")] = 0.0
    elapsed_sec: Annotated[float, Meta(description="by the clock since the first ask")] = 0.0
    open_tasks: Annotated[int, Meta(description="trials whose core-hours and walltime are not known yet")] = 0


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
