"""Partials of chunks that merge without rounding: SUM, MOMENTS, MIN, MAX; sums are exact, as ``folds`` tells."""

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Type

from .folds import UNIT, Fold, Greatest, Least, Moments, Number, Partial, Sum, ratio, read_units, units_of


class Monoid(object):
    """Folds numbers into partials, JSON objects that merge in the order of their rows."""

    def __init__(self, name: str, fold: Type[Fold]) -> None:
        self.name = name
        self._fold = fold

    def __repr__(self) -> str:
        return "<monoid %s>" % self.name

    def of(self, values: Iterable[Any]) -> Partial:
        """The partial of some numbers. Raises ValueError for what is no int or float."""
        return self._partial(self._folded(values))

    def merge(self, partials: Iterable[Mapping[str, Any]]) -> Partial:
        """One partial of several, given in the order of their rows. Raises ValueError for another monoid's."""
        fold = self._fold()
        for partial in partials:
            self._take(fold, partial)
        return self._partial(fold)

    def value(self, partial: Mapping[str, Any], figure: Optional[str] = None) -> Any:
        """The number it stands for, None for no rows at all; for MOMENTS a dict, or the one ``figure`` of it."""
        self._check(figure)
        fold = self._fold()
        self._take(fold, partial)
        return fold.value(figure)

    def scan(
        self, values: Iterable[Any], carry: Optional[Mapping[str, Any]] = None, figure: Optional[str] = None
    ) -> List[Any]:
        """The value after each number, each rounded once from the exact one; ``carry``: the partial of all rows before."""
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
        """What a task emits of a cumulative sum, extreme or moment: its terms and their partial; ``join`` adds the carries."""
        self._check(figure)
        terms = list(numbers(values))
        return {"cumulative": self.name, "figure": figure, "terms": terms, "partial": self.of(terms)}

    def metric(self, partial: Mapping[str, Any]) -> List[Number]:
        """A sum as numbers for metrics.json that add up to it exactly, as ``hpc-agent aggregate`` adds: few, the first near it.

        Raises ValueError for MOMENTS, whose figures are not sums of its parts'.
        """
        if self.name == "moments":
            raise ValueError("moments have no metric: write the partial to a file and merge the files")
        value = self.value(partial)
        if self.name != "sum" or isinstance(value, int) or not math.isfinite(value):
            return [] if value is None else [value]
        return _expansion(read_units(partial["sum"], UNIT))

    def _check(self, figure: Optional[str]) -> None:
        if figure is not None and figure not in self._fold.figures:
            known = ", ".join(self._fold.figures) or "none"
            raise ValueError("%s has no figure %r; it has: %s" % (self.name, figure, known))

    def _folded(self, values: Iterable[Any]) -> Fold:
        fold = self._fold()
        for value in numbers(values):
            fold.add(value)
        return fold

    def _partial(self, fold: Fold) -> Partial:
        return dict(fold.state(), monoid=self.name)

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
    """The cumulative values of all rows, from what ``cumulative`` gave for chunks that follow each other."""
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
    """For each chunk the partial of all chunks before it, so that a second round of tasks can ``scan`` in parallel."""
    monoid = MONOIDS[partials[0]["monoid"]]
    found = [monoid.of(())]
    for partial in partials[:-1]:
        found.append(monoid.merge([found[-1], partial]))
    return found


def numbers(values: Iterable[Any]) -> Iterable[Number]:
    """Python ints and floats of a list, an array or a pandas column. Raises ValueError for anything else."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    return map(_plain, plain)


def _plain(value: Any) -> Number:
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool):
        return int(number)
    if not isinstance(number, (int, float)):
        raise ValueError("%r is no int or float" % (value,))
    return number


def _expansion(units: int) -> List[float]:
    parts: List[float] = []
    while units or not parts:
        part = ratio(units, 1 << UNIT)
        parts.append(part)
        units -= units_of(part)
    return parts
