"""Partials of chunks that merge without rounding: SUM, MOMENTS, MIN, MAX.

A sum of floats is kept exactly (``moments.Exact``) and rounded once, at the end. Therefore the answer does not depend on the
split of the series: it is the exact sum, rounded correctly (half to even), as ``math.fsum`` gives it.
"""

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type, Union

from ..node.shared.moments import Dyadic, Exact, dyadic, ratio

Number = Union[int, float]
Partial = Dict[str, Any]

INFINITIES = {math.inf: "inf", -math.inf: "-inf"}
SPELLED = {text: number for number, text in INFINITIES.items()}


class Fold(object):
    """Fold rows one after the other; ``state`` is JSON, equal for equal rows however they were split, that ``merge`` reads."""

    figures: Tuple[str, ...] = ()

    def add(self, value: Number) -> None:
        raise NotImplementedError

    def merge(self, partial: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def state(self) -> Partial:
        raise NotImplementedError

    def value(self, _figure: Optional[str] = None) -> Any:
        raise NotImplementedError


class Sum(Fold):
    def __init__(self) -> None:
        self.count, self.total, self.whole = 0, Exact(), True
        self.nan, self.above, self.below = 0, 0, 0

    def add(self, value: Number) -> None:
        self.count += 1
        self.whole = self.whole and isinstance(value, int)
        if isinstance(value, int) or math.isfinite(value):
            self._add(*dyadic(value))
        else:
            self.nan += math.isnan(value)
            self.above += value == math.inf
            self.below += value == -math.inf

    def _add(self, mantissa: int, exponent: int) -> None:
        self.total.add(mantissa, exponent)

    def merge(self, partial: Mapping[str, Any]) -> None:
        self.count += partial["count"]
        self.total.add(*Exact.from_json(partial["sum"]).pair)
        self.whole = self.whole and partial["whole"]
        self.nan += partial["nan"]
        self.above += partial["inf"]
        self.below += partial["-inf"]

    def state(self) -> Partial:
        return {
            "count": self.count, "sum": self.total.to_text(), "whole": self.whole,
            "nan": self.nan, "inf": self.above, "-inf": self.below,
        }  # fmt: skip

    def special(self) -> Optional[float]:
        """Return the sum where it is not finite: NaN, or an infinity."""
        if self.nan or (self.above and self.below):
            return math.nan
        return math.inf if self.above else -math.inf if self.below else None

    def value(self, _figure: Optional[str] = None) -> Any:
        special = self.special()
        if special is not None:
            return special
        mantissa, exponent = self.total.pair
        if self.whole:
            return mantissa << exponent if exponent >= 0 else mantissa >> -exponent
        return quotient(self.total.pair, (1, 0))


class Moments(Sum):
    figures = ("count", "mean", "m2", "variance", "std")

    def __init__(self) -> None:
        super(Moments, self).__init__()
        self.squares = Exact()

    def _add(self, mantissa: int, exponent: int) -> None:
        super(Moments, self)._add(mantissa, exponent)
        self.squares.add(mantissa * mantissa, 2 * exponent)

    def merge(self, partial: Mapping[str, Any]) -> None:
        super(Moments, self).merge(partial)
        self.squares.add(*Exact.from_json(partial["squares"]).pair)

    def state(self) -> Partial:
        return dict(super(Moments, self).state(), squares=self.squares.to_text())

    def value(self, _figure: Optional[str] = None) -> Any:
        return self.figure(_figure) if _figure else {name: self.figure(name) for name in self.figures}

    def figure(self, name: str) -> Optional[Number]:
        """Return one figure, None where it is not defined: ``m2`` is the sum of squares about the mean, ``variance`` is m2
        over count - 1.
        """
        if name == "count":
            return self.count
        if self.count < (2 if name in ("variance", "std") else 1):
            return None
        special = self.special()
        if special is not None:
            return special if name == "mean" else math.nan
        if name == "mean":
            return quotient(self.total.pair, (self.count, 0))
        squares = Exact(self.squares.mantissa * self.count, self.squares.exponent)
        squares.add(-self.total.mantissa * self.total.mantissa, 2 * self.total.exponent)
        if name == "m2":
            return quotient(squares.pair, (self.count, 0))
        variance = quotient(squares.pair, (self.count * (self.count - 1), 0))
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


def quotient(top: Dyadic, bottom: Dyadic) -> float:
    """Return the correctly rounded quotient, infinite beyond the range of a float."""
    found = ratio(top, bottom)
    return (math.inf if top[0] > 0 else -math.inf) if found is None else found


class Monoid(object):
    """Folds numbers into partials, JSON objects that merge in the order of their rows."""

    def __init__(self, name: str, fold: Type[Fold]) -> None:
        self.name = name
        self._fold = fold

    def __repr__(self) -> str:
        return "<monoid %s>" % self.name

    def of(self, values: Iterable[Any]) -> Partial:
        """Return the partial of some numbers. Raises ValueError for what is no int or float."""
        fold = self._fold()
        for value in numbers(values):
            fold.add(value)
        return dict(fold.state(), monoid=self.name)

    def merge(self, partials: Iterable[Mapping[str, Any]]) -> Partial:
        """Return one partial of several, given in the order of their rows. Raises ValueError for another monoid's."""
        fold = self._fold()
        for partial in partials:
            self._take(fold, partial)
        return dict(fold.state(), monoid=self.name)

    def value(self, partial: Mapping[str, Any], figure: Optional[str] = None) -> Any:
        """Return the number of a partial, None for no rows at all; for MOMENTS a dict, or the one ``figure`` of it."""
        self._check(figure)
        fold = self._fold()
        self._take(fold, partial)
        return fold.value(figure)

    def scan(
        self, values: Iterable[Any], carry: Optional[Mapping[str, Any]] = None, figure: Optional[str] = None
    ) -> List[Any]:
        """Return the value after each number, each rounded once from the exact one; ``carry``: the partial of all rows before."""
        self._check(figure)
        fold = self._fold()
        if carry is not None:
            self._take(fold, carry)
        found = []
        for value in numbers(values):
            fold.add(value)
            found.append(fold.value(figure))
        return found

    def cumulative(self, values: Iterable[Any], figure: Optional[str] = None) -> Dict[str, Any]:
        """Return the terms of a cumulative sum, extreme or moment and their partial, for ``join``, which adds the carries."""
        self._check(figure)
        terms = list(numbers(values))
        return {"cumulative": self.name, "figure": figure, "terms": terms, "partial": self.of(terms)}

    def metric(self, partial: Mapping[str, Any]) -> List[Number]:
        """Return a sum as few numbers for metrics.json that add up exactly in ``hpc-agent aggregate``; the first is near the sum.

        Raises ValueError for MOMENTS, whose figures are not sums of its parts'.
        """
        if self.name == "moments":
            raise ValueError("moments have no metric: write the partial to a file and merge the files")
        value = self.value(partial)
        if self.name != "sum" or isinstance(value, int) or not math.isfinite(value):
            return [] if value is None else [value]
        return _expansion(Exact.from_json(partial["sum"]))

    def _check(self, figure: Optional[str]) -> None:
        if figure is not None and figure not in self._fold.figures:
            known = ", ".join(self._fold.figures) or "none"
            raise ValueError("%s has no figure %r; it has: %s" % (self.name, figure, known))

    def _take(self, fold: Fold, partial: Mapping[str, Any]) -> None:
        if partial.get("monoid") != self.name:
            raise ValueError("a partial of %r is none of %s" % (partial.get("monoid"), self.name))
        fold.merge(partial)


SUM = Monoid("sum", Sum)
MOMENTS = Monoid("moments", Moments)
MIN = Monoid("min", Least)
MAX = Monoid("max", Greatest)
MONOIDS = {monoid.name: monoid for monoid in (SUM, MOMENTS, MIN, MAX)}


def is_partial(emission: Any) -> bool:
    return isinstance(emission, dict) and emission.get("monoid") in MONOIDS


def is_cumulative(emission: Any) -> bool:
    return isinstance(emission, dict) and emission.get("cumulative") in MONOIDS and "terms" in emission


def join_cumulative(emissions: Sequence[Mapping[str, Any]]) -> List[Any]:
    """Return the cumulative values of all rows, from those that ``cumulative`` gave for chunks that follow each other."""
    kinds = {(emission["cumulative"], emission["figure"]) for emission in emissions}
    if len(kinds) != 1:
        raise ValueError("the parts are cumulative in different ways: %s" % sorted(map(str, kinds)))
    name, figure = kinds.pop()
    monoid = MONOIDS[name]
    values: List[Any] = []
    for emission, carry in zip(emissions, carries([emission["partial"] for emission in emissions])):
        values += monoid.scan(emission["terms"], carry, figure)
    return values


def carries(partials: Sequence[Mapping[str, Any]]) -> List[Partial]:
    """Return for each chunk the partial of all chunks before it, for a second round of tasks that ``scan`` in parallel."""
    monoid = MONOIDS[partials[0]["monoid"]]
    found = [monoid.of(())]
    for partial in partials[:-1]:
        found.append(monoid.merge([found[-1], partial]))
    return found


def numbers(values: Iterable[Any]) -> Iterable[Number]:
    """Return the ints and floats of a list, an array or a pandas column. Raises ValueError for anything else."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    return map(_plain, plain)


def _plain(value: Any) -> Number:
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool):
        return int(number)
    if not isinstance(number, (int, float)):
        raise ValueError("%r is no int or float" % (value,))
    return number


def _expansion(rest: Exact) -> List[float]:
    parts: List[float] = []
    while rest.mantissa or not parts:
        part = quotient(rest.pair, (1, 0))
        parts.append(part)
        mantissa, exponent = dyadic(part)
        rest.add(-mantissa, exponent)
    return parts
