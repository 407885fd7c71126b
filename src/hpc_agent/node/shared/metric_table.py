"""Fold metrics into exact statistics: the combiner folds records on the cluster, the client merges the partials.

The same observations give the same digits in every order and grouping. Up to 512 observations are kept as they are;
beyond that, their exact sums (``moments``) and a sketch of their distribution (``quantiles``) are kept.
"""

import json
import math
from collections import Counter, defaultdict
from typing import Any, Dict, Iterable, List, Optional, Tuple

from .moments import ONE, UNIT_BITS, Moments, Observation, canonical, dyadic, exact_in, exact_out, number_in, number_out
from .quantiles import QUANTILES, bin_of, exact_quantiles, sketched_quantiles

EXACT_LIMIT = 512


class Metric(object):
    """The statistics of one metric.

    ``nan_count`` counts NaN, and values whose weight is not finite and positive; ``inf_count`` counts infinities, and
    ints beyond the range of a float. Neither changes another figure.
    """

    __slots__ = ("_folded", "_observations", "inf_count", "nan_count")

    def __init__(self) -> None:
        self._observations: List[Observation] = []
        self._folded: Optional[Tuple[Moments, "Counter[int]"]] = None  # the counter has the exact weight of each bin
        self.nan_count = 0
        self.inf_count = 0

    def add(self, value: float, weight: float = 1.0) -> None:
        number = canonical(value)
        if math.isnan(number) or not is_weight(weight):
            self.nan_count += 1
        elif math.isinf(number):
            self.inf_count += 1
        else:
            self._observations.append((number, canonical(weight)))
            if self._folded or len(self._observations) > EXACT_LIMIT:
                self._fold()

    def merge(self, other: "Metric") -> None:
        """Add the observations of another part. The same part twice counts twice."""
        self.nan_count += other.nan_count
        self.inf_count += other.inf_count
        self._observations = self._observations + other._observations
        folded = other._folded
        if folded or self._folded or len(self._observations) > EXACT_LIMIT:
            moments, bins = self._fold()
            if folded:
                moments.merge(folded[0])
                bins.update(folded[1])

    def _fold(self) -> Tuple[Moments, "Counter[int]"]:
        moments, bins = self._folded = self._folded or (Moments(), Counter())
        for value, weight in self._observations:
            moments.add(value, weight)
            mantissa, shift = ONE if weight == 1 else dyadic(weight)
            bins[bin_of(value)] += mantissa << shift
        self._observations = []
        return self._folded

    def summary(self) -> Dict[str, Any]:
        """Return figures for JSON; None for one that does not exist or is beyond the range of a float.

        ``weighted`` is there where several values have weights that do not sum up to their count.
        """
        count = self._folded[0].count if self._folded else len(self._observations)
        figures: Dict[str, Any] = {
            "count": count, "nan_count": self.nan_count, "inf_count": self.inf_count,
            "quantiles": "sketch" if self._folded else "exact",
        }  # fmt: skip
        if count < 2:
            value, weight = self._observations[0] if self._observations else (None, 1)
            total = value if weight == 1 else Moments(self._observations).summary()["sum"]
            figures.update(mean=value, sum=total, min=value, max=value, variance=None, std=None)
            figures.update(dict.fromkeys(QUANTILES, value))
        else:
            moments = self._folded[0] if self._folded else Moments(self._observations)
            figures.update(moments.summary())
            if self._folded:
                figures.update(sketched_quantiles(self._folded[1], moments))
            else:
                figures.update(exact_quantiles(sorted(self._observations)))
            if moments.sums[0] != count << UNIT_BITS:
                figures["weighted"] = True
        return figures

    def to_json(self) -> Any:
        """Return the bare number for a single one; a list of numbers (or [number, weight]); else an object."""
        counts = {"nan": self.nan_count, "inf": self.inf_count}
        document: Dict[str, Any] = {name: number for name, number in counts.items() if number}
        if self._folded:
            moments, bins = self._folded
            texts = {str(number): exact_out(weight, 1) for number, weight in sorted(bins.items())}
            return dict(document, bins=texts, **moments.to_json())
        values = [
            number_out(value) if weight == 1 else [number_out(value), number_out(weight)]
            for value, weight in sorted(self._observations)
        ]
        if document:
            return dict(document, values=values)
        return values[0] if len(values) == 1 and not isinstance(values[0], list) else values

    @classmethod
    def from_json(cls, document: Any) -> "Metric":
        """Raises ValueError, TypeError or KeyError when ``document`` is not what to_json gives."""
        metric = cls()
        if type(document) is float and abs(document) < math.inf:  # most are single numbers
            metric._observations = [(document + 0.0, 1.0)]
            return metric
        if isinstance(document, dict):
            metric.nan_count, metric.inf_count = int(document.get("nan", 0)), int(document.get("inf", 0))
            if "bins" in document:
                bins = Counter({int(number): exact_in(weight, 1) for number, weight in document["bins"].items()})
                metric._folded = (Moments.from_json(document), bins)
            document = document.get("values", [])
        for item in document if isinstance(document, list) else [document]:
            value, weight = item if isinstance(item, list) else (item, 1.0)
            metric.add(number_in(value), number_in(weight))
        return metric


Metrics = Dict[str, Metric]


def _add(total: Metrics, metrics: Metrics) -> None:
    for name, metric in metrics.items():
        total[name].merge(metric)


def _summaries(metrics: Metrics) -> Dict[str, Dict[str, Any]]:
    return {name: metric.summary() for name, metric in sorted(metrics.items())}


class Table(object):
    """Metrics by grid point: the kwargs of its tasks without the replicate axes (seeds, folds)."""

    def __init__(self, replicates: Iterable[str] = ()) -> None:
        self.replicates = sorted(set(replicates))
        self._counts: "Counter[str]" = Counter()
        self._groups: Dict[str, Metrics] = defaultdict(lambda: defaultdict(Metric))

    def add_task(self, kwargs: Dict[str, Any], metrics: Dict[str, Any], weight: float = 1.0) -> None:
        """Add the numbers of one task (a list holds several observations); any other value is left out."""
        key = grid_key(kwargs, self.replicates)
        self._counts[key] += 1
        for name, values in metrics.items():
            for value in values if isinstance(values, list) else [values]:
                if _is_number(value):
                    self._groups[key][name].add(value, weight)

    def merge(self, other: "Table") -> None:
        """Raises ValueError when the other table has other replicate axes."""
        if other.replicates != self.replicates:
            raise ValueError("different replicate axes: %s and %s" % (self.replicates, other.replicates))
        self._counts.update(other._counts)
        for key, metrics in other._groups.items():
            _add(self._groups[key], metrics)

    def merge_json(self, document: Dict[str, Any]) -> None:
        """Merge what to_json gives. Raises ValueError, TypeError or KeyError for anything else, as ``merge`` does."""
        if document["replicates"] != self.replicates:
            raise ValueError("different replicate axes: %s and %s" % (self.replicates, document["replicates"]))
        for key, (count, metrics) in document["groups"].items():
            self._counts[key] += int(count)
            mine = self._groups[key]
            for name, partial in metrics.items():
                metric = Metric.from_json(partial)
                if name in mine:
                    mine[name].merge(metric)
                else:
                    mine[name] = metric

    def to_json(self) -> Dict[str, Any]:
        """Return, for each grid point (canonical JSON text), [number of tasks, {metric: partial}]."""
        groups = {
            key: [count, {name: metric.to_json() for name, metric in sorted(self._groups[key].items())}]
            for key, count in sorted(self._counts.items())
        }
        return {"replicates": self.replicates, "groups": groups}

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "Table":
        """Raises ValueError, TypeError or KeyError when ``document`` is not what to_json gives."""
        table = cls(document["replicates"])
        table.merge_json(document)
        return table

    def points(self) -> List[Tuple[Dict[str, Any], str]]:
        """Return kwargs and key of each grid point, by kwargs in the order of their names: numbers first, then text."""
        return sorted(((json.loads(key), key) for key in self._counts), key=_row_order)

    def rows(self) -> List[Dict[str, Any]]:
        """Return a row for each grid point, in the order of ``points``."""
        return [
            {"kwargs": point, "count": self._counts[key], "metrics": _summaries(self._groups[key])}
            for point, key in self.points()
        ]

    def overall(self) -> Dict[str, Dict[str, Any]]:
        """Return the summary of each metric over all grid points."""
        total: Metrics = defaultdict(Metric)
        for group in self._groups.values():
            _add(total, group)
        return _summaries(total)


_canonical_json = json.JSONEncoder(
    sort_keys=True, separators=(",", ":")
).encode  # one encoder for all: half of the time


def grid_key(kwargs: Dict[str, Any], replicates: Iterable[str]) -> str:
    """Return the grid point of a task as canonical JSON text: its parameters without the replicate axes."""
    return _canonical_json({name: value for name, value in kwargs.items() if name not in replicates})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_weight(value: Any) -> bool:
    """Return True for a finite positive number."""
    return _is_number(value) and 0 < canonical(value) < math.inf


def _row_order(row: Tuple[Dict[str, Any], str]) -> Tuple[Any, ...]:
    point, key = row
    return tuple((name,) + _value_order(point[name]) for name in sorted(point)), key


def _value_order(value: Any) -> Tuple[int, Any]:
    if _is_number(value):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, json.dumps(value, sort_keys=True))
