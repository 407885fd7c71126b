"""The search space as a unit cube: a coordinate in [0, 1) for each parameter, in the order of the manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hpc_agent.campaign.manifest import Parameter

Space = dict[str, Parameter]


def size(parameter: Parameter) -> int | None:
    """Return the number of values that a parameter may have; None for infinitely many."""
    if parameter.type == "categorical":
        return len(parameter.values)
    step = parameter.step or (1 if parameter.type == "int" else None)
    first, last = parameter.bounds
    return None if step is None else math.floor((last - first) / step + 1e-9) + 1


def every_value(parameter: Parameter) -> list[Any]:
    """Return the values of a parameter that has finitely many."""
    if parameter.type == "categorical":
        return list(parameter.values)
    numbers = [parameter.bounds[0] + index * (parameter.step or 1) for index in range(size(parameter) or 0)]
    return [int(number) for number in numbers] if parameter.type == "int" else numbers


def points(space: Space) -> int | None:
    """Return the number of points of the space; None for infinitely many."""
    sizes = [size(parameter) for parameter in space.values()]
    return None if None in sizes else math.prod(number for number in sizes if number is not None)


def _bounds(parameter: Parameter) -> tuple[float, float]:
    """Return the interval that the coordinate runs over: logarithms for a log scale, each int with half a unit around it."""
    first, last = parameter.bounds
    if parameter.type == "int":
        first, last = first - 0.5, last + 0.5
    return (math.log(first), math.log(last)) if parameter.log else (first, last)


def value_at(parameter: Parameter, coordinate: float) -> Any:
    """Return the value of a parameter at a coordinate in [0, 1]."""
    coordinate = min(max(coordinate, 0.0), 1.0)
    count = size(parameter)
    if parameter.type == "categorical":
        return parameter.values[min(int(coordinate * len(parameter.values)), len(parameter.values) - 1)]
    low, high = parameter.bounds
    if count is not None and not parameter.log:
        number = low + (parameter.step or 1) * min(int(coordinate * count), count - 1)
    else:
        first, last = _bounds(parameter)
        number = first + coordinate * (last - first)
        number = min(max(math.exp(number) if parameter.log else number, low), high)
    return round(number) if parameter.type == "int" else float(number)


def coordinate_of(parameter: Parameter, value: Any) -> float:
    """Return the middle of the coordinates that have this value. Raises ValueError for a value outside of the space."""
    count = size(parameter)
    if parameter.type == "categorical":
        place = [(type(known), known) for known in parameter.values].index((type(value), value))
        return (place + 0.5) / len(parameter.values)
    (low, high), slack = parameter.bounds, parameter.step or 0  # 0 + 7 * 0.1 is more than 0.7: places are compared
    if isinstance(value, bool) or not isinstance(value, int | float) or not low - slack <= value <= high + slack:
        raise ValueError(f"{value!r} is outside of {low} to {high}")
    if count is not None and not parameter.log:
        index = (value - low) / (parameter.step or 1)
        if abs(index - round(index)) > 1e-6 or not 0 <= round(index) < count:
            raise ValueError(f"{value!r} is not {low} plus whole steps of {parameter.step or 1}")
        return (round(index) + 0.5) / count
    if parameter.type == "int" and value % 1:
        raise ValueError(f"{value!r} is not whole")
    first, last = _bounds(parameter)
    return ((math.log(value) if parameter.log else value) - first) / (last - first)


def params_at(space: Space, coordinates: Sequence[float]) -> dict[str, Any]:
    """Return the parameters at a point of the unit cube."""
    return {name: value_at(one, at) for (name, one), at in zip(space.items(), coordinates, strict=True)}


def coordinates_of(space: Space, params: dict[str, Any]) -> list[float] | None:
    """Return where parameters lie in the unit cube; None where one is missing or outside of the space."""
    try:
        return [coordinate_of(one, params[name]) for name, one in space.items()]
    except (KeyError, ValueError):
        return None


def fitting(space: Space, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the parameters of the space out of ``params``, or None where one is missing or outside of the space."""
    return None if coordinates_of(space, params) is None else {name: params[name] for name in space}


def key_of(params: dict[str, Any]) -> str:
    """Return a text that two equal points share: 1 and 1.0 are one number, and True is none."""
    return repr(sorted((name, float(value) if type(value) is int else value) for name, value in params.items()))
