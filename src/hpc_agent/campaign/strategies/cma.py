"""CMA-ES of the package ``cmaes``: its state is rebuilt by telling it the generations again. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import History, ranked
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.space import coordinates_of, params_at
from hpc_agent.campaign.strategies.common import Point, Result, fresh, only_one_metric, params_of, results, stream
from hpc_agent.errors import SpecInvalid

if TYPE_CHECKING:
    from cmaes import CMA

library = "cmaes"


class CmaParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sigma: Annotated[float, Meta(gt=0, le=1)] = 0.25  # first step size, in units of the search space
    population: Annotated[int, Meta(ge=4)] | None = None  # trials of a generation; at least the batch


def check(manifest: Manifest) -> None:
    params_of(manifest, CmaParams)
    only_one_metric(manifest)
    if any(parameter.type == "categorical" for parameter in manifest.space.values()):
        message = "cma_es knows no order among the values of a categorical parameter; 'tpe' needs none"
        raise SpecInvalid(message, field="strategy.name")
    if len(manifest.space) < 2:
        raise SpecInvalid("cma_es needs at least two parameters; 'tpe' takes one", field="strategy.name")


def propose(manifest: Manifest, history: History) -> Iterator[Point]:
    """Yield points of the present generation; trials that end later than it are left out of the state."""
    optimizer, generation = _rebuilt(manifest, history)

    def draw(again: int) -> dict[str, Any]:
        optimizer.reseed_rng(stream("cma", manifest.seed, len(history.trials), again))
        return params_at(manifest.space, [float(at) for at in optimizer.ask()])

    while (point := fresh(manifest.space, history, draw)) is not None:
        yield Point(point, {"generation": generation})


def _rebuilt(manifest: Manifest, history: History) -> tuple[CMA, int]:
    """Return the optimizer after every whole generation, and the number of the present one."""
    import numpy as np

    ended: dict[int, list[Result]] = {}
    for one in results(manifest, history):
        ended.setdefault(int(one.trial.attrs.get("generation", -1)), []).append(one)
    optimizer, generation, restarts = _begin(manifest, history, 0), 0, 0
    while len(ended.get(generation, [])) >= optimizer.population_size:
        population = sorted(ended[generation][: optimizer.population_size], key=lambda one: one.order)
        # only the order counts in CMA-ES: ranks put a constraint that is not met behind any value
        points = [np.array(coordinates_of(manifest.space, one.trial.params)) for one in population]
        optimizer.tell([(point, float(rank)) for rank, point in enumerate(points)])
        generation += 1
        if optimizer.should_stop():
            restarts += 1
            optimizer = _begin(manifest, history, restarts)
    return optimizer, generation


def _begin(manifest: Manifest, history: History, restarts: int) -> CMA:
    """Return a new optimizer: around the best trial of earlier campaigns or start points, else in the middle.

    A restart has a random middle and twice the population (IPOP).
    """
    import numpy as np
    from cmaes import CMA

    params = params_of(manifest, CmaParams)
    dimensions = len(manifest.space)
    batch = manifest.batch if manifest.mode == "batch" else 0
    population = params.population or max(4 + int(3 * np.log(dimensions)), batch)
    generator = np.random.RandomState(stream("cma-restart", manifest.seed, restarts))
    middle = generator.uniform(0.2, 0.8, dimensions) if restarts else np.full(dimensions, 0.5)
    known = [trial for trial in history.trials if "generation" not in trial.attrs]
    best = [] if restarts else ranked(manifest, known)[:1]
    if best and (at := coordinates_of(manifest.space, best[0].params)):
        middle = np.array(at)
    bounds = np.array([[0.0, 1.0]] * dimensions)
    return CMA(middle, params.sigma, bounds=bounds, population_size=population * 2**restarts, seed=0)
