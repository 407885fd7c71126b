"""TPE of Optuna: one or several metrics, constraints. The study lives in memory and is rebuilt from the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import History, Trial
from hpc_agent.campaign.manifest import Manifest, Parameter
from hpc_agent.campaign.space import coordinate_of, fitting, size, value_at
from hpc_agent.campaign.strategies.common import Point, Result, fresh, params_of, results, stream
from hpc_agent.campaign.strategies.simple import halton_params

if TYPE_CHECKING:
    import optuna

library = "optuna"


class TpeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    startup: Annotated[int, Meta(ge=1)] = 10  # quasi-random trials before the model begins
    multivariate: bool | None = None  # one model of all parameters; by default for one metric
    # points that the model compares; by default 12 for each parameter, 24 to 96
    candidates: Annotated[int, Meta(ge=1)] | None = None


def check(manifest: Manifest) -> None:
    params_of(manifest, TpeParams)


def propose(manifest: Manifest, history: History) -> Iterator[Point]:
    """Yield points, each by a sampler of its own: its seed follows from the campaign's seed and the trial's number."""
    import optuna

    logging.getLogger("optuna").setLevel(logging.ERROR)
    params = params_of(manifest, TpeParams)
    space = {name: _distribution(parameter) for name, parameter in manifest.space.items()}
    directions = [optuna.study.StudyDirection.MINIMIZE] * len(manifest.metrics)
    study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler(seed=0))
    counted = {one.trial.number: one for one in results(manifest, history)}
    study.add_trials([_frozen(manifest, space, trial, counted.get(trial.number)) for trial in history.trials])

    def draw(again: int) -> dict[str, Any]:
        number = len(history.trials)
        if len(counted) < params.startup:
            return halton_params(manifest, number + 1000 * again)
        study.sampler = optuna.samplers.TPESampler(
            seed=stream("tpe", manifest.seed, number, again),
            n_startup_trials=params.startup,
            multivariate=params.multivariate,
            n_ei_candidates=params.candidates or min(max(24, 12 * len(space)), 96),
            constant_liar=True,
        )
        trial = study.ask(space)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return {name: _drawn(manifest.space[name], value) for name, value in trial.params.items()}

    while (point := fresh(manifest.space, history, draw)) is not None:
        known = len(history.trials)
        yield Point(point)
        study.add_trials([_frozen(manifest, space, trial, None) for trial in history.trials[known:]])


def json_name(value: Any) -> str:
    """Return the name of a categorical value in the study: True and 1 are one value to Optuna."""
    return f"{type(value).__name__}:{value}"


def _distribution(parameter: Parameter) -> Any:
    import optuna

    if parameter.type == "categorical":
        return optuna.distributions.CategoricalDistribution([json_name(value) for value in parameter.values])
    (first, last), every = parameter.bounds, size(parameter)
    if every is None:
        return optuna.distributions.FloatDistribution(first, last, parameter.log)
    if parameter.type == "float":
        return optuna.distributions.IntDistribution(0, every - 1)
    step = int(parameter.step or 1)
    return optuna.distributions.IntDistribution(int(first), int(first) + (every - 1) * step, parameter.log, step)


def _known(parameter: Parameter, value: Any) -> Any:
    """Return a value as the study has it: by name of a category, by place of a float with steps, which are not exact."""
    if parameter.type == "categorical":
        return json_name(value)
    places = size(parameter) if parameter.type == "float" else None
    return value if places is None else int(coordinate_of(parameter, value) * places)


def _drawn(parameter: Parameter, known: Any) -> Any:
    """Return the value that the study has as ``known``."""
    if parameter.type == "categorical":
        return next(value for value in parameter.values if json_name(value) == known)
    places = size(parameter) if parameter.type == "float" else None
    return known if places is None else value_at(parameter, (known + 0.5) / places)


def _frozen(manifest: Manifest, space: dict[str, Any], trial: Trial, result: Result | None) -> optuna.trial.FrozenTrial:
    """Return a trial as the study has it: running while it is open, failed where it does not count."""
    import optuna

    states = optuna.trial.TrialState
    params = fitting(manifest.space, trial.params)
    facts: dict[str, Any] = {"state": states.RUNNING if trial.is_open else states.FAIL}
    if result is not None and params is not None:
        stopped = trial.state == "stopped" and len(result.losses) == 1
        facts = {"state": states.COMPLETE, "values": result.losses}
        if stopped:  # it is ranked behind those that got further
            facts = {"state": states.PRUNED, "intermediate_values": {trial.stopped_at or 0: result.losses[0]}}
        if manifest.constraints:
            facts["constraints"] = {str(index): value for index, value in enumerate(result.violations)}
    named = {name: _known(manifest.space[name], value) for name, value in (params or {}).items()}
    return optuna.trial.create_trial(
        params=named, distributions=space if params is not None else {}, system_attrs=dict(trial.attrs), **facts
    )
