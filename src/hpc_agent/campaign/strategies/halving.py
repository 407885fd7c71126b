"""Successive halving in batches: many points with little of a resource, the best of them again with more of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import History, Trial
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.strategies.common import Point, fresh, only_one_metric, params_of, results
from hpc_agent.campaign.strategies.simple import halton_params
from hpc_agent.errors import SpecInvalid

library = ""


class HalvingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    resource: Annotated[str, Meta(min_length=1)]  # the parameter that says how much, such as epochs
    max: Annotated[int, Meta(gt=1)]
    min: Annotated[int, Meta(gt=0)] = 1
    reduction: Annotated[int, Meta(gt=1)] = 3
    first: Annotated[int, Meta(gt=0)] | None = None  # trials of the lowest rung; so many that one reaches the top

    def rungs(self) -> list[int]:
        """Return the amounts of the resource, the last one ``max``."""
        amounts = [self.max]
        while amounts[0] // self.reduction >= self.min:
            amounts.insert(0, amounts[0] // self.reduction)
        return amounts

    def sizes(self) -> list[int]:
        """Return the trials of each rung."""
        count = len(self.rungs())
        first = self.first or self.reduction ** (count - 1)
        return [max(1, first // self.reduction**rung) for rung in range(count)]


def check(manifest: Manifest) -> None:
    params = params_of(manifest, HalvingParams)
    only_one_metric(manifest)
    if params.resource in manifest.space:
        raise SpecInvalid(f"the resource {params.resource!r} is a parameter of the space too", field="strategy.params")
    if not params.resource.isidentifier() or len(params.rungs()) < 2:
        message = "the resource needs a name that is an identifier, and min at most max / reduction"
        raise SpecInvalid(message, field="strategy.params")


def propose(manifest: Manifest, history: History) -> Iterator[Point]:
    """Yield the trials of a rung; the next rung begins when they have ended, the next bracket after the top rung."""
    params = params_of(manifest, HalvingParams)
    rungs, sizes = params.rungs(), params.sizes()
    bracket, rung = max(filter(None, map(_place, history.trials)), default=(0, 0))
    while True:
        mine = [trial for trial in history.trials if _place(trial) == (bracket, rung)]
        begun = sum(not trial.origin.startswith("again:") for trial in mine)
        chosen = _promoted(manifest, history, bracket, rung, sizes[rung]) if rung else None
        for number in range(begun, sizes[rung] if chosen is None else len(chosen)):
            point = chosen[number] if chosen is not None else _new_point(manifest, history, bracket, number)
            if point is None:
                return
            yield Point({**point, params.resource: rungs[rung]}, {"bracket": bracket, "rung": rung})
        if any(trial.is_open for trial in history.trials):
            return
        bracket, rung = (bracket, rung + 1) if rung + 1 < len(rungs) else (bracket + 1, 0)
        if rung and not _promoted(manifest, history, bracket, rung, 1):
            bracket, rung = bracket + 1, 0  # every trial of the rung failed


def _place(trial: Trial) -> tuple[int, int] | None:
    """Return the bracket and the rung of a trial; None for one of an earlier campaign."""
    return (int(trial.attrs["bracket"]), int(trial.attrs["rung"])) if "rung" in trial.attrs else None


def _new_point(manifest: Manifest, history: History, bracket: int, number: int) -> dict[str, Any] | None:
    if bracket == 0 and number < len(manifest.start):
        return manifest.start[number]
    return fresh(manifest.space, history, lambda again: halton_params(manifest, len(history.trials) + 1000 * again))


def _promoted(manifest: Manifest, history: History, bracket: int, rung: int, count: int) -> list[dict[str, Any]]:
    """Return the points of the best trials of the rung below."""
    complete = [one for one in results(manifest, history) if one.trial.state == "complete"]
    below = [one for one in complete if _place(one.trial) == (bracket, rung - 1)]
    best = sorted(below, key=lambda one: one.order)[:count]
    return [{name: one.trial.params[name] for name in manifest.space} for one in best]
