"""Check that the joined parts of a split series equal the whole to the last digit, and find the first difference."""

import copy
import itertools
import struct
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .axis import SLICE_NAMES, Axis, DataAxis, data_axis, evaluate_rows, plan_tasks
from .monoids import MONOIDS, is_cumulative, is_partial, numbers
from .slices import join, series_length, series_slice

Found = Dict[str, Any]


class Elision(NamedTuple):
    """``first_difference``: where (row, column or figure), the value of the whole and that of the parts."""

    equal: bool
    first_difference: Optional[Found]
    halo: int
    ahead: int
    chunks: int
    rows: int


def check_elision(function: Callable[..., Any], series: Any, axis: Axis, chunks: int = 7, **params: Any) -> Elision:
    """Run ``function(rows, **params)`` on the whole series and on each chunk, and compare to the last digit.

    ``rows`` is what ``load_series`` gives the task: the haloed slice; of a path the path itself. The function may call
    ``load_series`` and ``trim_emission`` as it does in a task, or leave both to this. It returns a row of output for each row
    it sees, a monoid's partial, or what a monoid's ``cumulative`` gives. Plain rows of an associative axis are taken as
    cumulative values, to which the value of the rows before is added (or of which the extreme is taken).

    NaN equals NaN; 0.0 and -0.0 are two numbers. Raises ValueError for an axis that cannot be planned and for an output
    that has neither a row for each row nor is a partial.
    """
    axis = data_axis(axis)
    length = series_length(series)
    tasks = plan_tasks([params], axis, chunks, length)
    if axis.kind == "cartesian":
        raise ValueError("a cartesian axis does not split a series: there is nothing to check")
    whole = _emission(function, series, params, {"start": 0, "end": length})
    slices = [{name: task[name] for name in SLICE_NAMES if name in task} for task in tasks]
    parts = [(rows["start"], _emission(function, series, params, rows)) for rows in slices]
    difference = _compared(axis, whole, parts, length)
    return Elision(difference is None, difference, slices[0]["halo"], slices[0].get("ahead", 0), len(parts), length)


def find_halo(
    function: Callable[..., Any], series: Any, axis: Axis, chunks: int = 7, most: Optional[int] = None, **params: Any
) -> DataAxis:
    """Return the axis with the first of its halo, twice, four times ... it with which the split equals the whole on this series.

    For functions whose memory fades, as that of a moving average does. Raises ValueError when no halo up to ``most`` rows
    (half the series by default) is enough: the series must then stay whole.
    """
    axis = data_axis(axis)
    most = series_length(series) // 2 if most is None else most
    tried, halo = axis, evaluate_rows("halo", axis.halo, params)
    while halo <= most:
        if check_elision(function, series, tried, chunks, **params).equal:
            return tried
        halo = max(1, 2 * halo)
        tried = axis._replace(halo=halo)
    text = "no halo up to %d rows makes the parts equal to the whole: keep the series whole (kind sequential)"
    raise ValueError(text % most)


def _emission(function: Callable[..., Any], series: Any, params: Mapping[str, Any], rows: Dict[str, int]) -> Any:
    with series_slice(**rows) as active:
        if isinstance(series, str) or hasattr(series, "__fspath__"):
            emission = function(series, **params)
        else:
            # A copy, so that a function which changes its rows does not change those of the next chunk.
            active.rows = copy.copy(active.load(series, None))
            emission = function(active.rows, **params)
        if active.trimmed or is_partial(emission) or is_cumulative(emission):
            return emission
        return active.trim(emission)


def _compared(axis: DataAxis, whole: Any, parts: List[Tuple[int, Any]], length: int) -> Optional[Found]:
    if is_partial(whole):
        monoid = MONOIDS[whole["monoid"]]
        merged = monoid.merge(partial for _, partial in parts)
        return first_difference(monoid.value(whole), monoid.value(merged)) or first_difference(whole, merged)
    if axis.kind == "associative" and not is_cumulative(whole):
        parts = _carried(axis.monoid or "", parts)
    return first_difference(join([(0, whole)], length), join(parts, length))


def _carried(name: str, parts: List[Tuple[int, Any]]) -> List[Tuple[int, Any]]:
    """Return each chunk's own cumulative values, with the last value of the chunks before added to them."""
    if name == "moments":
        raise ValueError("cumulative moments cannot be joined from their values: return MOMENTS.cumulative(terms)")
    found: List[Tuple[int, Any]] = []
    carry: List[Any] = []
    for start, emission in parts:
        values = list(numbers(emission))
        if carry and name == "sum":
            values = [carry[0] + value for value in values]
        elif carry:
            values = [MONOIDS[name].scan(carry + [value])[-1] for value in values]
        found.append((start, values))
        carry = values[-1:]
    return found


def first_difference(whole: Any, parts: Any) -> Optional[Found]:
    """Return None when both are equal to the last digit, else the way to the first difference and both values."""
    left, right = _plain(whole), _plain(parts)
    places: Iterable[Tuple[Any, Any, Any]]
    if isinstance(left, dict) and isinstance(right, dict):
        names = sorted(set(left) | set(right), key=str)
        what, places = "column", zip(names, map(left.get, names), map(right.get, names))
    elif isinstance(left, dict) or isinstance(right, dict):
        return {"column": "", "whole": type(whole).__name__, "parts": type(parts).__name__}
    elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return {"rows": len(left), "rows_of_parts": len(right)}
        what, places = "row", zip(itertools.count(), left, right)
    else:
        return None if _same(left, right) else {"whole": left, "parts": right}
    for place, one, other in places:
        if one is other or (type(one) is float and type(other) is float and _same(one, other)):
            continue
        inner = first_difference(one, other)
        if inner:
            return dict(inner, **{what: [place, inner[what]] if what in inner else place})
    return None


def _plain(values: Any) -> Any:
    """Return Python's own lists, dicts and numbers of arrays and pandas objects."""
    if hasattr(values, "columns") and hasattr(values, "to_dict"):
        return values.to_dict("list")
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    return convert() if convert else values


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (left != left and right != right)
    return left is right or bool(left == right)
