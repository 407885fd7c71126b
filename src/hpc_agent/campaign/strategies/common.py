"""What strategies share: their points, streams of random numbers, and points that were not asked before."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from hpc_agent.campaign.journal import History, Trial, violation
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.space import Space, every_value, key_of, points
from hpc_agent.errors import SpecInvalid

# A constraint that no trial may be further away from than this; JSON and numpy have no use for infinity there.
FAR = 1e30


class Point(NamedTuple):
    """A point that a strategy chose, and what it has to remember of it."""

    params: dict[str, Any]
    attrs: dict[str, Any] = {}


class Strategy(Protocol):
    """A module of this room."""

    library: str  # package that it needs; empty for none

    def check(self, manifest: Manifest) -> None:
        """Raise SpecInvalid for params, a space or metrics that the strategy cannot serve."""

    def propose(self, manifest: Manifest, history: History) -> Iterator[Point]:
        """Yield the next points; ``history`` grows by each of them. Ends when it has to wait, or has no further point."""


Params = TypeVar("Params", bound=msgspec.Struct)


def params_of(manifest: Manifest, kind: type[Params]) -> Params:
    """Return the strategy's params. Raises SpecInvalid, which names the wrong one."""
    try:
        return msgspec.convert(manifest.strategy.params, kind)
    except msgspec.ValidationError as error:
        message = f"params of the strategy {manifest.strategy.name}: {error}"
        raise SpecInvalid(message, field="strategy.params") from error


def only_one_metric(manifest: Manifest) -> None:
    if len(manifest.metrics) > 1:
        raise SpecInvalid(f"{manifest.strategy.name} follows one metric; 'tpe' knows several", field="strategy.name")


def stream(*parts: object) -> int:
    """Return a seed below 2 ** 32 for each list of parts: neighbours have nothing in common."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


def fresh(space: Space, history: History, draw: Callable[[int], dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first of ``draw(0)``, ``draw(1)``, ... that was not asked before; None when every point was.

    In a space without an end a point comes twice only where the strategy means it: ``draw(0)`` is taken.
    """
    total = points(space)
    if total is None:
        return draw(0)
    asked = {key_of({name: trial.params.get(name) for name in space}) for trial in history.trials}
    drawn = map(draw, range(min(100, 4 * total)))
    every = itertools.product(*map(every_value, space.values())) if len(asked) < total else ()
    rest = (dict(zip(space, values, strict=True)) for values in every)
    return next((params for params in itertools.chain(drawn, rest) if key_of(params) not in asked), None)


class Result(NamedTuple):
    """A trial as a strategy sees it: to be minimized, constraints to be 0 or less."""

    trial: Trial
    losses: list[float]
    violations: list[float]

    @property
    def order(self) -> tuple[float, float, int]:
        """Return what sorts results of one metric: inside all constraints first, then by loss, then the earlier one."""
        return sum(max(0.0, one) for one in self.violations), self.losses[0], self.trial.number


def results(manifest: Manifest, history: History) -> list[Result]:
    """Return the trials that count, in the order of their ends; of a batch, which is told before the next ask, by number.

    A failed one counts only with ``failed_trials: worst``: as the worst loss so far, and outside of every constraint.
    """
    found = []
    for number in sorted(history.tells) if manifest.mode == "batch" else history.tells:
        trial = history.trials[number]
        if trial.state != "failed" and all(one.name in trial.values for one in manifest.metrics):
            losses = [one.sign * trial.values[one.name] for one in manifest.metrics]
            far = [violation(one, trial.constraints.get(one.metric)) for one in manifest.constraints]
            found.append(Result(trial, losses, [min(one, FAR) for one in far]))
        elif trial.state == "failed" and manifest.failed_trials == "worst":
            found.append(Result(trial, [], [FAR] * len(manifest.constraints)))
    known = [one.losses for one in found if one.losses]
    worst = [max(column) for column in zip(*known, strict=True)]
    return [one if one.losses else one._replace(losses=worst) for one in found if one.losses or worst]
