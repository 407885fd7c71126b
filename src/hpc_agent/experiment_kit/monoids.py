"""Partials of chunks that merge without rounding: SUM, MOMENTS, MIN, MAX.

A sum of floats is kept exactly (``node/shared/moments.py``) and rounded once, at the end. Therefore the answer does not depend
on the split of the series: it is the exact sum, rounded correctly (half to even), as ``math.fsum`` gives it.
"""

import itertools
import math
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from ..node.shared.moments import UNIT_BITS, dyadic, exact_in, exact_text, ratio

Number = Union[int, float]
Partial = Mapping[str, Any]

# ``m2`` is the sum of squares about the mean, ``variance`` is m2 over count - 1.
FIGURES = ("count", "mean", "m2", "variance", "std")


class Sums(object):
    """A fold of rows; its ``state`` is JSON, equal for equal rows however they were split, and ``merge`` reads it."""

    def __init__(self, *names: str) -> None:
        self.whole = True
        self.counts = {"count": 0, "nan": 0, "inf": 0, "-inf": 0}
        self.sums = dict.fromkeys(names, 0)  # of the first powers

    def add(self, value: Number) -> None:
        self.counts["count"] += 1
        self.whole = self.whole and isinstance(value, int)
        if isinstance(value, int) or math.isfinite(value):
            mantissa, shift = dyadic(value)
            for power, name in enumerate(self.sums, 1):
                self.sums[name] += mantissa**power << shift * power
        else:
            self.counts[str(float(value))] += 1

    def merge(self, partial: Partial) -> None:
        self.whole = self.whole and partial["whole"]
        for name in self.counts:
            self.counts[name] += partial[name]
        for power, name in enumerate(self.sums, 1):
            self.sums[name] += exact_in(partial[name], power)

    def state(self) -> Partial:
        sums = {name: exact_text(self.sums[name], power) for power, name in enumerate(self.sums, 1)}
        return dict(sums, whole=self.whole, **self.counts)

    def value(self, figure: Optional[str]) -> Any:
        """Return one figure, None where it is not defined; without a name the sum, or a dict of the moments."""
        if figure is None:
            return self.value("sum") if len(self.sums) == 1 else {name: self.value(name) for name in FIGURES}
        count, total = self.counts["count"], self.sums["sum"]
        if figure == "count":
            return count
        if count < {"sum": 0, "variance": 2, "std": 2}.get(figure, 1):
            return None
        special = [float(name) for name in ("nan", "inf", "-inf") if self.counts[name]]
        if special:
            return sum(special) if figure in ("sum", "mean") else math.nan
        if figure == "sum":
            return total >> UNIT_BITS if self.whole else quotient(total, 1 << UNIT_BITS)
        if figure == "mean":
            return quotient(total, count << UNIT_BITS)
        over = count * (1 if figure == "m2" else count - 1)
        found = quotient(self.sums["squares"] * count - total * total, over << 2 * UNIT_BITS)
        return math.sqrt(found) if figure == "std" else found


class Extreme(object):
    """Of equal values the first; NaN as soon as there is one, as numpy.maximum.accumulate has it."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.best: Optional[Number] = None

    def add(self, value: Number) -> None:
        if self.best is None or value != value or self.sign * value > self.sign * self.best:
            self.best = value

    def merge(self, partial: Partial) -> None:
        best = partial["best"]
        if best is not None:
            self.add(float(best) if isinstance(best, str) else best)

    def state(self) -> Partial:
        spelled = isinstance(self.best, float) and not math.isfinite(self.best)
        return {"best": str(self.best) if spelled else self.best}

    def value(self, _figure: Optional[str]) -> Optional[Number]:
        return self.best


Fold = Union[Sums, Extreme]


def quotient(top: int, bottom: int) -> float:
    """Return the correctly rounded quotient, infinite beyond the range of a float."""
    found = ratio(top, bottom)
    return (math.inf if top > 0 else -math.inf) if found is None else found


class Monoid(object):
    """Folds numbers into partials, JSON objects that merge in the order of their rows."""

    def __init__(self, name: str, fold: Callable[[], Fold], figures: Sequence[str] = ()) -> None:
        self.name = name
        self._fold = fold
        self._figures = figures

    def __repr__(self) -> str:
        return "<monoid %s>" % self.name

    def of(self, values: Iterable[Any]) -> Partial:
        """Return the partial of some numbers. Raises ValueError for what is no int or float."""
        fold = self._fold()
        for value in numbers(values):
            fold.add(value)
        return dict(fold.state(), monoid=self.name)

    def merge(self, partials: Iterable[Partial]) -> Partial:
        """Return one partial of several, given in the order of their rows. Raises ValueError for another monoid's."""
        return dict(self._merged(partials).state(), monoid=self.name)

    def value(self, partial: Partial, figure: Optional[str] = None) -> Any:
        """Return the number of a partial, None for no rows at all; for MOMENTS a dict, or the one ``figure`` of it."""
        return self._merged([partial], figure).value(figure)

    def scan(self, values: Iterable[Any], carry: Optional[Partial] = None, figure: Optional[str] = None) -> List[Any]:
        """Return the value after each number, each rounded once from the exact one; ``carry``: the partial of all rows before."""
        fold = self._merged([] if carry is None else [carry], figure)
        found = []
        for value in numbers(values):
            fold.add(value)
            found.append(fold.value(figure))
        return found

    def cumulative(self, values: Iterable[Any], figure: Optional[str] = None) -> Dict[str, Any]:
        """Return the terms of a cumulative sum, extreme or moment for ``join``, and their partial for ``carries``."""
        self._merged((), figure)  # refuses an unknown figure
        terms = list(numbers(values))
        return {"cumulative": self.name, "figure": figure, "terms": terms, "partial": self.of(terms)}

    def metric(self, partial: Partial) -> List[Number]:
        """Return few numbers that ``hpc-agent aggregate`` adds up to exactly the sum, the first near it; an extreme as it is."""
        if self.name == "moments":
            raise ValueError("moments have no metric: write the partial to a file and merge the files")
        value = self.value(partial)
        if self.name != "sum" or isinstance(value, int) or not math.isfinite(value):
            return [] if value is None else [value]
        parts: List[Number] = []
        rest = exact_in(partial["sum"], 1)
        while rest or not parts:
            parts.append(rest / (1 << UNIT_BITS))
            mantissa, shift = dyadic(parts[-1])
            rest -= mantissa << shift
        return parts

    def _merged(self, partials: Iterable[Partial], figure: Optional[str] = None) -> Fold:
        """Return the fold of the partials. Raises ValueError for a figure that it does not have, too."""
        if figure is not None and figure not in self._figures:
            known = ", ".join(self._figures) or "none"
            raise ValueError("%s has no figure %r; it has: %s" % (self.name, figure, known))
        fold = self._fold()
        for partial in partials:
            if partial.get("monoid") != self.name:
                raise ValueError("a partial of %r is none of %s" % (partial.get("monoid"), self.name))
            fold.merge(partial)
        return fold


SUM = Monoid("sum", lambda: Sums("sum"))
MOMENTS = Monoid("moments", lambda: Sums("sum", "squares"), FIGURES)
MIN = Monoid("min", lambda: Extreme(-1))
MAX = Monoid("max", lambda: Extreme(1))
MONOIDS = {monoid.name: monoid for monoid in (SUM, MOMENTS, MIN, MAX)}


def is_partial(emission: Any) -> bool:
    return isinstance(emission, dict) and emission.get("monoid") in MONOIDS


def is_cumulative(emission: Any) -> bool:
    return isinstance(emission, dict) and emission.get("cumulative") in MONOIDS and "terms" in emission


def join_cumulative(emissions: Sequence[Mapping[str, Any]]) -> List[Any]:
    """Return the cumulative values of all rows, from the terms of chunks that follow each other; sums of them are exact."""
    kinds = {(emission["cumulative"], emission["figure"]) for emission in emissions}
    if len(kinds) != 1:
        raise ValueError("the parts are cumulative in different ways: %s" % sorted(map(str, kinds)))
    name, figure = kinds.pop()
    return MONOIDS[name].scan(itertools.chain.from_iterable(emission["terms"] for emission in emissions), None, figure)


def carries(partials: Sequence[Partial]) -> List[Partial]:
    """Return for each chunk the partial of all chunks before it, for a second round of tasks that ``scan`` in parallel."""
    monoid = MONOIDS[partials[0]["monoid"]]
    before = [monoid.of(())] + list(partials[:-1])
    return list(itertools.accumulate(before, lambda left, right: monoid.merge([left, right])))


def numbers(values: Iterable[Any]) -> Iterable[Number]:
    """Yield the ints and floats of a list, an array or a pandas column. Raises ValueError for anything else."""
    for value in values.tolist() if hasattr(values, "tolist") else values:
        number = value.item() if hasattr(value, "item") else value
        if not isinstance(number, (int, float)):
            raise ValueError("%r is no int or float" % (value,))
        yield int(number) if isinstance(number, bool) else number
