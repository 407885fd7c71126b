"""Bin results for charts: each metric against each parameter and each pair of parameters, in a size that does not grow.

A point is (parameters, {metric: number}). The client bins the trials of a campaign with the same functions.
"""

import json
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import partial
from itertools import combinations
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .quantiles import quantile

MOST_ROWS = 600
MOST_BINS = 12
MOST_VALUES = 16  # of a number that are shown one by one
MOST_AXES = 8
MOST_PAIRED = 6  # axes that are shown against each other
MOST_METRICS = 4
MOST_COLUMNS = 40  # metrics in a table
MOST_HISTOGRAM_BINS = 24
TEXT_LIMIT = 60
OTHERS = "(others)"

Point = Tuple[Dict[str, Any], Dict[str, float]]
Axis = Dict[str, Any]


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def text_of(value: Any) -> str:
    """Return a value as one short text: JSON, except for text itself."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 3] + "..."


def binned(points: Sequence[Point], main: Optional[str], logarithmic: Sequence[str] = ()) -> Dict[str, Any]:
    """Return axes (the strongest first), constants, and of at most 4 metrics histograms, effects and pairs of axes.

    ``logarithmic``: parameters that are known to be; of the others their values tell.
    ``effects[metric][axis]`` has a row for each bin: n, mean, min, q25, median, q75, max; None for an empty one.
    ``pairs[metric]["0 1"]`` has [bin of axis 0, bin of axis 1, n, mean]. ``left_out``: a sentence for each thing that is
    not there.
    """
    every = _ordered_metrics([values for _, values in points], main)
    columns = {name: [values.get(name) for _, values in points] for name in every[:MOST_METRICS]}
    found, constants, left_out = [], {}, []
    for name in dict.fromkeys(name for kwargs, _ in points for name in kwargs):
        values = [kwargs.get(name) for kwargs, _ in points]
        axis = _axis(name, values, name in logarithmic)
        if axis is None:
            left_out.append("parameter %s has no chart: nearly every value of it is another text" % text_of(name))
        elif len(axis.get("values", ())) == 1:
            constants[name] = cell_of(values[0])
        else:
            bins = _positions(axis, values)
            found.append((dict(axis, strength=_strength(columns[every[0]], bins) if every else None), bins))
    found.sort(key=lambda pair: -(pair[0]["strength"] or 0.0))
    if len(found) > MOST_AXES:
        told = (MOST_AXES, len(found), every[0] if every else None)
        left_out.append("charts show %d of %d parameters: those that explain most of %s" % told)
    if len(every) > MOST_METRICS:
        left_out.append("charts show %d of %d metrics" % (MOST_METRICS, len(every)))
    axes, bins_of = [axis for axis, _ in found[:MOST_AXES]], [bins for _, bins in found[:MOST_AXES]]
    return {
        "metrics": list(columns),
        "constants": constants,
        "left_out": left_out,
        "axes": axes,
        "histograms": {name: histogram([v for v in column if v is not None]) for name, column in columns.items()},
        "effects": {name: list(map(partial(_effect, column), axes, bins_of)) for name, column in columns.items()},
        "pairs": {name: _pairs(column, bins_of[:MOST_PAIRED]) for name, column in columns.items()},
    }


def _ordered_metrics(rows: Iterable[Dict[str, float]], main: Optional[str]) -> List[str]:
    """Return the main metric, then others that vary, then the rest."""
    found: Dict[str, Set[float]] = {}
    for values in rows:
        for name, value in values.items():
            seen = found.setdefault(name, set())
            if len(seen) < 2:
                seen.add(value)
    return sorted(found, key=lambda name: (name != main, len(found[name]) < 2, name))


def _axis(name: str, values: List[Any], is_log: bool) -> Optional[Axis]:
    """Return the axis of a parameter: its values where they are few, else bins; None where it has no order to show."""
    if all(map(is_number, values)):
        distinct = sorted(set(values))
        scale = "log" if distinct[0] > 0 and (is_log or _is_geometric(distinct)) else "linear"
        axis = {"name": name, "kind": "number", "scale": scale}
        if len(distinct) <= MOST_VALUES:
            return dict(axis, values=distinct)
        return dict(axis, edges=_edges(distinct[0], distinct[-1], MOST_BINS, scale))
    counts = Counter(map(text_of, values))
    if len(counts) <= MOST_BINS:
        return {"name": name, "kind": "text", "values": sorted(counts)}
    if len(counts) > len(values) // 2:
        return None
    common = sorted(counts, key=lambda text: (-counts[text], text))[: MOST_BINS - 1]
    return {"name": name, "kind": "text", "values": [*sorted(common), OTHERS]}


def _is_geometric(distinct: Sequence[float]) -> bool:
    """Return True for positive values whose order of magnitude varies."""
    if len(distinct) < 3:
        return False
    if distinct[-1] / distinct[0] >= 20:
        middle = distinct[len(distinct) // 2]
        return middle < (distinct[0] + distinct[-1]) / 3.5
    steps = [distinct[at + 1] / distinct[at] for at in range(len(distinct) - 1)]
    return len(distinct) > 3 and max(steps) < 1.01 * min(steps) and distinct[-1] / distinct[0] >= 8


def _edges(low: float, high: float, bins: int, scale: str) -> List[float]:
    return [low, *(between(low, high, at / float(bins), scale) for at in range(1, bins)), high]


def between(low: float, high: float, share: float, scale: str) -> float:
    """Return the value at a share, 0 to 1, of the way between two limits."""
    if scale == "log" and low > 0:
        return math.exp(math.log(low) * (1 - share) + math.log(high) * share)
    return low * (1 - share) + high * share


def _positions(axis: Axis, values: List[Any]) -> List[int]:
    """Return the bin of each value."""
    if "edges" in axis:
        inner = axis["edges"][1:-1]
        return [bisect_right(inner, value) for value in values]
    keys = [text_of(value) for value in values] if axis["kind"] == "text" else values
    known = {value: at for at, value in enumerate(axis["values"])}
    return [known.get(key, len(known) - 1) for key in keys]


def share_of(value: float, low: float, high: float, scale: str = "linear") -> float:
    """Return the place of a value between two limits, 0 to 1 for values within; 0.5 where the limits are the same."""
    if scale == "log":
        value, low, high = math.log(value), math.log(low), math.log(high)
    if not math.isfinite(high - low):  # halves: the difference is beyond a float
        value, low, high = value / 2, low / 2, high / 2
    return (value - low) / (high - low) if high > low else 0.5


def _strength(values: Sequence[Optional[float]], bins: Sequence[int]) -> Optional[float]:
    """Return the share of the variance that the bins explain beyond chance (epsilon squared), 0 to 1.

    None where every bin has one value: then nothing tells an effect from noise.
    """
    pairs = [(value, at) for value, at in zip(values, bins) if value is not None]
    freedom = len(pairs) - len({at for _, at in pairs})
    if freedom < 1:
        return None
    scale = max(abs(value) for value, _ in pairs) or 1.0
    mean = math.fsum(value / scale for value, _ in pairs) / len(pairs)
    groups: Dict[int, List[float]] = {}
    for value, at in pairs:
        groups.setdefault(at, []).append(value / scale - mean)
    total = math.fsum(rest * rest for rests in groups.values() for rest in rests)
    between = math.fsum(math.fsum(rests) ** 2 / len(rests) for rests in groups.values())
    chance = (len(groups) - 1) * (total - between) / freedom
    return min(1.0, max(0.0, (between - chance) / total)) if total else 0.0


def _effect(values: Sequence[Optional[float]], axis: Axis, bins: Sequence[int]) -> List[Optional[List[float]]]:
    groups: List[List[float]] = [[] for _ in axis.get("values") or axis["edges"][1:]]
    for value, at in zip(values, bins):
        if value is not None:
            groups[at].append(value)
    return [_figures(sorted(group)) if group else None for group in groups]


def _figures(ordered: List[float]) -> List[float]:
    quartiles = [quantile(ordered, percent) for percent in (25, 50, 75)]
    return [len(ordered), *map(_rounded, (mean_of(ordered), ordered[0], *quartiles, ordered[-1]))]


def mean_of(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # of the sum, not of the mean
        return math.fsum(value / len(values) for value in values)


def _rounded(value: float) -> float:
    """Return seven digits, which is finer than any chart."""
    return float("%.7g" % value)


def _pairs(values: Sequence[Optional[float]], bins_of: Sequence[Sequence[int]]) -> Dict[str, List[List[float]]]:
    known = [at for at, value in enumerate(values) if value is not None]
    found: List[Any] = [values[at] for at in known]
    places = [[bins[at] for at in known] for bins in bins_of]
    answer = {}
    for first, second in combinations(range(len(places)), 2):
        cells: List[List[float]] = [[] for _ in range(MOST_VALUES * MOST_VALUES)]
        for value, row, column in zip(found, places[first], places[second]):
            cells[row * MOST_VALUES + column].append(value)
        answer["%d %d" % (first, second)] = [
            [*divmod(at, MOST_VALUES), len(cell), _rounded(mean_of(cell))] for at, cell in enumerate(cells) if cell
        ]
    return answer


def histogram(values: Sequence[float], wide: bool = False) -> Optional[Dict[str, Any]]:
    """Return n, figures and counts of equal bins (of the logarithm, where ``scale`` says so); None without a value.

    ``wide``: the chart has room for much larger values, so its scale is logarithmic.
    """
    if not values:
        return None
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    scale = "log" if low > 0 and (wide or high / low >= 1000) else "linear"
    bins = max(5, min(MOST_HISTOGRAM_BINS, int(2 * len(ordered) ** (1 / 3.0)))) if high > low else 1  # Rice's rule
    edges = _edges(low, high, bins, scale)
    ends = [0, *(bisect_left(ordered, edge) for edge in edges[1:-1]), len(ordered)]
    counts = [ends[at + 1] - ends[at] for at in range(bins)]
    figures = {name: quantile(ordered, percent) for name, percent in (("q05", 5), ("median", 50), ("q95", 95))}
    return dict(figures, n=len(ordered), min=low, max=high, mean=mean_of(ordered), scale=scale, counts=counts)


def table_rows(rows: List[Dict[str, Any]], main: Optional[str]) -> Dict[str, Any]:
    """Return columns and at most 600 rows: all of them, or those with the lowest and the highest values, and others evenly.

    A row has ``kwargs``, ``count`` and ``metrics``: name -> at least mean, std and count. It becomes a list: the values of
    the parameters, the count, and [mean, std, count] of the first 40 ``metrics``: the main one, then those
    that vary. The answer has the places of the rows that say of themselves that they are ``unranked`` (none can be the
    best) or ``uncharted``.
    """
    means = [{n: facts["mean"] for n, facts in row["metrics"].items() if facts["mean"] is not None} for row in rows]
    names = _ordered_metrics(means, main)
    names += sorted({name for row in rows for name in row["metrics"]}.difference(names))
    kwargs = list(dict.fromkeys(name for row in rows for name in row["kwargs"]))
    chosen, total, third = rows, len(rows), MOST_ROWS // 3
    if total > MOST_ROWS:
        known = [at for at in range(total) if main in means[at] and not rows[at].get("unranked")]
        known.sort(key=lambda at: means[at][str(main)])
        evenly = range(0, total, max(1, -(-total // third)))
        chosen = [rows[at] for at in sorted({*known[:third], *known[-third:], *evenly})]
    shown = []
    for row in chosen:
        line: List[Any] = [cell_of(row["kwargs"][name]) if name in row["kwargs"] else "" for name in kwargs]
        of_metrics = (row["metrics"].get(name) or {} for name in names[:MOST_COLUMNS])
        shown.append([*line, row["count"], *([facts.get(k) for k in ("mean", "std", "count")] for facts in of_metrics)])
    marked = {name: [at for at, row in enumerate(chosen) if row.get(name)] for name in ("unranked", "uncharted")}
    return dict(marked, parameters=kwargs, metrics=names, rows=shown, total=total)


def cell_of(value: Any) -> Any:
    """Return a number as it is, and any other value as one short text."""
    return value if is_number(value) else text_of(value)
