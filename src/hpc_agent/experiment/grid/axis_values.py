"""The values of an axis: a list, or a range that is written out."""

from __future__ import annotations

import decimal
import json
import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.errors import SpecInvalid

MAX_TASKS = 1_000_000
REMEDY = "Correct {} (examples: 'hpc-agent scaffold-spec build-tasks-py'), then call again."


def bad(message: str, param: str = "", field: str = "task_generator.params") -> SpecInvalid:
    remedy = REMEDY.format("the axes" if field.partition(".")[0] == "axes" else "the generator's params")
    return SpecInvalid(message, field=f"{field}.{param}" if param else field, remediation=remedy)


class Spread(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The values of an axis as a range: one of the three. The ends of the first two are values and belong to them."""

    logspace: Annotated[tuple[float, float, int] | None, Meta(description="low, high, number of values")] = None
    linspace: Annotated[tuple[float, float, int] | None, Meta(description="low, high, number of values")] = None
    range: Annotated[
        Annotated[list[int | float], Meta(min_length=1, max_length=3)] | None,
        Meta(description="start, stop, step, whole numbers as in Python"),
    ] = None

    def values(self, field: str) -> list[Any]:
        """Return the values. Raises SpecInvalid, which names ``field``."""
        given = msgspec.structs.asdict(self)
        [(kind, numbers), *more] = [item for item in given.items() if item[1] is not None] or [("", None)]
        if not kind or more:
            raise bad("an axis is a list of values, or one of logspace, linspace and range", "", field)
        if kind != "range":
            low, high, n = numbers
            return spread(low, high, n, is_log=kind == "logspace", field=f"{field}.{kind}")
        if broken := [number for number in numbers if not float(number).is_integer()]:
            message = f"{field} has a range with {broken[0]}, and a range has whole numbers, as in Python"
            raise bad(f"{message}; write {_as_linspace(numbers)}", "range", field)
        numbers = [int(number) for number in numbers]
        if len(numbers) == 3 and numbers[2] == 0:
            raise bad("the step of a range is not 0", "", field)
        if len(found := range(*numbers)) > MAX_TASKS:
            raise bad(f"the range has {len(found):,} values; one run has at most {MAX_TASKS:,} tasks", "", field)
        return list(found)


def _as_linspace(numbers: list[int | float]) -> str:
    """Return the linspace with the values of a range of fractions."""
    whole = {1: [0, *numbers, 1], 2: [*numbers, 1]}.get(len(numbers), numbers)
    if not all(map(math.isfinite, whole)):
        return "linspace: low, high, number of values"
    start, stop, step = (decimal.Decimal(repr(number)) for number in whole)
    n = math.ceil((stop - start) / step) if step > 0 else 0
    if not 2 <= n <= MAX_TASKS:
        return "linspace: low, high, number of values"
    return json.dumps({"linspace": [float(start), float(start + step * (n - 1)), n]})


Axes = dict[str, list[Any] | Spread]


def values_of(axes: Axes, field: str) -> dict[str, list[Any]]:
    """Return the values of each axis. Raises SpecInvalid: no value, the same value twice, a range that is none."""
    found = {}
    for name, axis in axes.items():
        found[name] = values = axis.values(f"{field}.{name}") if isinstance(axis, Spread) else axis
        if not values:
            raise bad(f"axis {name!r} has no values", name, field)
        if twice := _first_twice(values):
            first, second = map(json.dumps, twice)
            told = f"{second} twice" if first == second else f"{first} and {second}, which are the same value"
            raise bad(f"axis {name!r} has {told}", name, field)
    return found


def spread(low: float, high: float, n: int, is_log: bool, field: str) -> list[float]:
    """Return n values from low to high, both with them, each the floating-point number that is nearest to the exact value.

    Equal steps, or with ``is_log`` equal ratios, in decimal numbers of 50 digits. Raises SpecInvalid.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise bad(f"low ({low}) must be below high ({high}), and both finite", "low", field)
    if not 2 <= n <= MAX_TASKS:
        raise bad(f"n ({n}) must be from 2 to {MAX_TASKS:,}", "n", field)
    if is_log and low <= 0:
        raise bad(f"low ({low}) must be positive on a log scale: low and high are values, not exponents", "low", field)
    with decimal.localcontext(decimal.Context(prec=50)):
        first, last = decimal.Decimal(repr(low)), decimal.Decimal(repr(high))
        shares = [decimal.Decimal(i) / (n - 1) for i in range(1, n - 1)]
        inner = [first * (last / first) ** share if is_log else first + (last - first) * share for share in shares]
        values = [low, *map(float, inner), high]
    if len(set(values)) != n:
        raise bad(f"there are no {n} different numbers from {low} to {high}", "n", field)
    return values


def _first_twice(values: list[Any]) -> list[Any]:
    """Return the first value that was there before, as it was there and as it is now; an empty list when there is none."""
    seen: dict[Any, Any] = {}
    for value in values:
        # 1, 1.0 and true are one value; lists and objects are compared by their text
        key = (None, json.dumps(value, sort_keys=True)) if isinstance(value, (list, dict)) else value
        if key in seen:
            return [seen[key], value]
        seen[key] = value
    return []
