"""A grid over the whole space, then finer grids around the best point so far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import History, Trial, ranked
from hpc_agent.campaign.manifest import Manifest, Parameter
from hpc_agent.campaign.space import coordinate_of, every_value, key_of, params_at, size
from hpc_agent.campaign.strategies.common import Point, params_of
from hpc_agent.errors import SpecInvalid

library = ""
MAX_POINTS = 100_000


class GridParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    points: Annotated[int, Meta(ge=2, le=1000)] = 3  # of each numeric parameter, in each round
    rounds: Annotated[int, Meta(ge=1, le=50)] = 5  # the first grid, and refinements


def check(manifest: Manifest) -> None:
    params = params_of(manifest, GridParams)
    total = math.prod(_count(one, params.points) for one in manifest.space.values())
    if total > MAX_POINTS:
        message = f"the first grid has {total} points, more than {MAX_POINTS}: take fewer points, or another strategy"
        raise SpecInvalid(message, field="strategy.params")


def propose(manifest: Manifest, history: History) -> Iterator[Point]:
    """Yield the points of a round; the next round begins when every trial of this one has ended."""
    params = params_of(manifest, GridParams)
    rounds = params.rounds if len(manifest.metrics) == 1 else 1  # several metrics have no single best point
    asked = {key_of(trial.params) for trial in history.trials}
    begun = max((_round(trial) for trial in history.trials), default=0)
    for number in range(begun, rounds):
        earlier = [trial for trial in history.trials if _round(trial) < number]
        best = ranked(manifest, earlier)[:1] if number else [None]
        if not best or any(trial.is_open for trial in earlier):
            return
        for coordinates in itertools.product(*_axes(manifest, params.points, number, best[0])):
            point = params_at(manifest.space, coordinates)
            if key_of(point) not in asked:
                asked.add(key_of(point))
                yield Point(point, {"round": number} if number else {})


def _round(trial: Trial) -> int:
    return int(trial.attrs.get("round", 0))


def _count(parameter: Parameter, points: int) -> int:
    count = size(parameter)
    return count if count is not None and (parameter.type == "categorical" or count < points) else points


def _axes(manifest: Manifest, points: int, number: int, centre: Trial | None) -> list[list[float]]:
    """Return the coordinates of each parameter in a round."""
    axes = []
    for name, parameter in manifest.space.items():
        count = _count(parameter, points)
        whole = parameter.type == "categorical" or count < points
        if centre is not None:
            middle = coordinate_of(parameter, centre.params[name])
            # the spacing of the round before; its neighbours are known, so the new points lie between them
            half = (1.0 / (points - 1)) * (2.0 / (points + 1)) ** (number - 1)
            around = [middle - half + 2 * half * (index + 1) / (points + 1) for index in range(points)]
            axes.append([middle] if whole else [at for at in around if 0 <= at <= 1])
        elif whole:
            axes.append([coordinate_of(parameter, value) for value in every_value(parameter)])
        else:
            axes.append([index / (points - 1) for index in range(points)])
    return axes
