"""Folds of numbers that merge without rounding.

A float is a whole number of 2 ** -1074, so a sum of floats is one too; it is kept as such and rounded once, at the end.
Therefore the answer does not depend on how the series was split: it is the exact sum, rounded correctly (half to even),
which is what ``math.fsum`` gives for the same values.
"""

import math
from typing import Any, Dict, Mapping, Optional, Tuple, Union

Number = Union[int, float]
Partial = Dict[str, Any]

UNIT = 1074  # every float is a multiple of 2 ** -1074
INFINITIES = {math.inf: "inf", -math.inf: "-inf"}
SPELLED = {text: number for number, text in INFINITIES.items()}


class Fold(object):
    """What has been folded so far."""

    figures: Tuple[str, ...] = ()

    def add(self, value: Number) -> None:
        raise NotImplementedError

    def merge(self, partial: Mapping[str, Any]) -> None:
        """Take in the partial of the rows that follow."""
        raise NotImplementedError

    def state(self) -> Partial:
        """JSON that ``merge`` reads; equal for equal rows, however they were split."""
        raise NotImplementedError

    def value(self, _figure: Optional[str] = None) -> Any:
        raise NotImplementedError


class Sum(Fold):
    def __init__(self) -> None:
        self.count, self.units, self.whole = 0, 0, True
        self.nan, self.above, self.below = 0, 0, 0

    def add(self, value: Number) -> None:
        self.count += 1
        if isinstance(value, int):
            self.units += value << UNIT
            return
        self.whole = False
        if math.isfinite(value):
            self.units += units_of(value)
        else:
            self._note(value)

    def _note(self, value: float) -> None:
        self.nan += math.isnan(value)
        self.above += value == math.inf
        self.below += value == -math.inf

    def merge(self, partial: Mapping[str, Any]) -> None:
        self.count += partial["count"]
        self.units += read_units(partial["sum"], UNIT)
        self.whole = self.whole and partial["whole"]
        self.nan, self.above, self.below = (
            self.nan + partial["nan"], self.above + partial["inf"], self.below + partial["-inf"]
        )  # fmt: skip

    def state(self) -> Partial:
        return {
            "count": self.count, "sum": written_units(self.units, UNIT), "whole": self.whole,
            "nan": self.nan, "inf": self.above, "-inf": self.below,
        }  # fmt: skip

    def special(self) -> Optional[float]:
        """The sum where it is not finite: NaN, or an infinity."""
        if self.nan or (self.above and self.below):
            return math.nan
        return math.inf if self.above else -math.inf if self.below else None

    def value(self, _figure: Optional[str] = None) -> Number:
        special = self.special()
        if special is not None:
            return special
        return self.units >> UNIT if self.whole else ratio(self.units, 1 << UNIT)


class Moments(Sum):
    figures = ("count", "mean", "m2", "variance", "std")

    def __init__(self) -> None:
        super(Moments, self).__init__()
        self.squares = 0

    def add(self, value: Number) -> None:
        super(Moments, self).add(value)
        if isinstance(value, int):
            self.squares += value * value << 2 * UNIT
        elif math.isfinite(value):
            self.squares += units_of(value) ** 2

    def merge(self, partial: Mapping[str, Any]) -> None:
        super(Moments, self).merge(partial)
        self.squares += read_units(partial["squares"], 2 * UNIT)

    def state(self) -> Partial:
        return dict(super(Moments, self).state(), squares=written_units(self.squares, 2 * UNIT))

    def value(self, _figure: Optional[str] = None) -> Any:
        return self.figure(_figure) if _figure else {name: self.figure(name) for name in self.figures}

    def figure(self, name: str) -> Optional[Number]:
        """``m2`` is the sum of squares about the mean, ``variance`` that over count - 1; None where it is not defined."""
        if name == "count":
            return self.count
        fewest = 2 if name in ("variance", "std") else 1
        if self.count < fewest:
            return None
        special = self.special()
        if special is not None:
            return special if name == "mean" else math.nan
        if name == "mean":
            return ratio(self.units, self.count << UNIT)
        top = self.squares * self.count - self.units**2
        if name == "m2":
            return ratio(top, self.count << 2 * UNIT)
        variance = ratio(top, self.count * (self.count - 1) << 2 * UNIT)
        return variance if name == "variance" else math.sqrt(variance)


class Greatest(Fold):
    """Of equal values the first; NaN as soon as there is one, as numpy.maximum.accumulate has it."""

    sign = 1

    def __init__(self) -> None:
        self.best: Optional[Number] = None

    def add(self, value: Number) -> None:
        if self.best is None or value != value or self.sign * value > self.sign * self.best:
            self.best = value

    def merge(self, partial: Mapping[str, Any]) -> None:
        best = partial["best"]
        if best is not None:
            self.add(math.nan if best == "nan" else SPELLED.get(best, best))

    def state(self) -> Partial:
        best = self.best
        if best is not None and best != best:
            return {"best": "nan"}
        return {"best": INFINITIES.get(best, best) if isinstance(best, float) else best}

    def value(self, _figure: Optional[str] = None) -> Optional[Number]:
        return self.best


class Least(Greatest):
    sign = -1


def units_of(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator << (UNIT + 1 - denominator.bit_length())


def ratio(top: int, bottom: int) -> float:
    """The correctly rounded quotient, infinite beyond the range of a float."""
    try:
        return top / bottom
    except OverflowError:
        return math.inf if top > 0 else -math.inf


def written_units(units: int, scale: int) -> str:
    """Odd mantissa in hex and binary exponent: no JSON reader rounds it, and it stays short."""
    if units == 0:
        return "0p0"
    zeros = (units & -units).bit_length() - 1
    return "%xp%d" % (units >> zeros, zeros - scale)


def read_units(text: str, scale: int) -> int:
    mantissa, _, exponent = text.partition("p")
    return int(mantissa, 16) << (int(exponent) + scale)
