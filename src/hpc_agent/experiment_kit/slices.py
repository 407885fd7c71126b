"""The rows of the running task: load them from an object or a file, trim the output to them, join the parts."""

import contextlib
import csv
import functools
import itertools
import json
import os
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set

from .axis import check_whole
from .monoids import is_cumulative, is_partial, join_cumulative

Loader = Callable[[Any], Any]


def series_length(source: Any, loader: Optional[Loader] = None) -> int:
    """Return the number of rows of a series, for ``plan_tasks``. Raises ValueError for what has no rows, OSError for a file."""
    series = _opened(source, loader)
    return len(series) if hasattr(series, "__len__") else sum(1 for _ in series)


def rows_between(source: Any, start: int, end: Optional[int], loader: Optional[Loader] = None) -> Any:
    """Return the rows start..end (exclusive; None: to the last), clipped at the end of the series.

    A CSV gives a list of dicts of text, JSON Lines a list of values, .npy an array; only these rows are kept in memory.
    An object is sliced (pandas by position), so an array gives a view.
    """
    series = _opened(source, loader)
    if not hasattr(series, "__len__"):
        decode = dict if os.fspath(source).lower().endswith(".csv") else json.loads
        return [decode(record) for record in itertools.islice(series, start, end)]
    return series.iloc[start:end] if hasattr(series, "iloc") else series[start:end]


def _opened(source: Any, loader: Optional[Loader]) -> Any:
    """Return an object that can be sliced; of a .csv or .jsonl file an iterator of undecoded records."""
    if loader is None and isinstance(source, (str, os.PathLike)):
        ending = os.path.splitext(os.fspath(source))[1].lower()
        if ending in (".csv", ".jsonl", ".ndjson"):
            return _records(os.fspath(source), ending)
        if ending != ".npy":
            raise ValueError("%s: only .csv, .jsonl, .ndjson and .npy are read; give a loader for others" % source)
        try:
            import numpy
        except ImportError:
            raise ValueError("%s: an .npy file needs numpy, which this Python does not have" % source) from None
        return numpy.load(os.fspath(source), mmap_mode="r")
    series = loader(source) if loader else source
    if isinstance(series, dict) or not hasattr(series, "__len__") or not hasattr(series, "__getitem__"):
        raise ValueError("%s is no series: it has no rows that can be sliced" % type(series).__name__)
    return series


def _records(path: str, ending: str) -> Iterator[Any]:
    with open(path, "r", encoding="utf-8-sig", newline="") as handle:
        yield from csv.DictReader(handle) if ending == ".csv" else filter(str.strip, handle)


class Slice(object):
    """A task's own rows ``start``..``end`` (exclusive), and how many it may see before and after them."""

    def __init__(self, start: int, end: int, halo: int = 0, ahead: int = 0) -> None:
        for name, value in (("start", start), ("end", end), ("halo", halo), ("ahead", ahead)):
            check_whole(name, value, 0)
        if end < start:
            raise ValueError("end is %d, before start, which is %d" % (end, start))
        self.start, self.end, self.halo, self.ahead = start, end, halo, ahead
        self.first = max(0, start - halo)
        self.last = end + ahead  # not yet clipped: only load_series knows how long the series is
        self.lengths: Set[int] = set()
        self.rows: Any = None
        self.trimmed = False

    def load(self, source: Any, loader: Optional[Loader]) -> Any:
        if self.rows is not None and source is self.rows:
            return source
        loaded = rows_between(source, self.first, self.last, loader)
        if len(loaded) < self.end - self.first:
            text = "the series ends at row %d, before the end of this task's rows, %d to %d"
            raise ValueError(text % (self.first + len(loaded), self.start, self.end))
        self.lengths.add(len(loaded))
        return loaded

    def trim(self, values: Any) -> Any:
        if is_cumulative(values) or is_partial(values):
            raise ValueError("trim the terms before they are folded: what was folded cannot be trimmed")
        self.trimmed = True
        if isinstance(values, dict):
            return {name: self.trim(column) for name, column in values.items()}
        known = sorted(self.lengths or range(self.end - self.first, self.last - self.first + 1))
        if len(values) not in known:
            wanted = " or ".join(map(str, sorted({known[0], known[-1]})))
            text = "the output has %d rows and the loaded slice %s: trim_emission needs a row of output for each row loaded"
            raise ValueError(text % (len(values), wanted))
        skip = self.start - self.first
        return rows_between(values, skip, skip + self.end - self.start)


_active: List[Slice] = []


@contextlib.contextmanager
def series_slice(start: int, end: int, halo: int = 0, ahead: int = 0) -> Iterator[Slice]:
    """Make these rows the active slice of the process. Raises ValueError for numbers that are no slice."""
    _active.append(Slice(start, end, halo, ahead))
    try:
        yield _active[-1]
    finally:
        _active.pop()


def active_slice() -> Optional[Slice]:
    """Return the innermost ``series_slice``, else that of the task this process runs (HPC_KW_JSON), else None.

    A task has a slice when its kwargs hold whole numbers ``start`` and ``end``. Raises ValueError when they are others
    although there is a ``halo``.
    """
    return _active[-1] if _active else _slice_of_task(os.environ.get("HPC_KW_JSON", ""))


@functools.lru_cache(maxsize=None)
def _slice_of_task(text: str) -> Optional[Slice]:
    kwargs: Dict[str, Any] = json.loads(text) if text else {}
    bounds: List[Any] = [kwargs.get("start"), kwargs.get("end")]
    if "halo" not in kwargs and any(isinstance(row, bool) or not isinstance(row, int) for row in bounds):
        return None
    return Slice(bounds[0], bounds[1], kwargs.get("halo", 0), kwargs.get("ahead", 0))


def load_series(source: Any, loader: Optional[Loader] = None) -> Any:
    """Return the rows the task may see: its own, the halo before and the rows ahead, clipped at the ends of the series.

    ``source`` is a list, an array, a pandas object, or the path of a .csv (list of dicts of text), .jsonl or .npy file;
    ``loader(source)`` reads anything else. Without an active slice the whole series. Raises ValueError when the series
    ends before the task's rows do.
    """
    rows = active_slice()
    return rows.load(source, loader) if rows else rows_between(source, 0, None, loader)


def trim_emission(values: Any) -> Any:
    """Return the output of the task's own rows, without that of the halo and of the rows ahead.

    ``values`` has one row for each row loaded: a list, an array, a pandas object, or a dict of such columns. Without an
    active slice it is returned as it is. Raises ValueError when the lengths differ.
    """
    rows = active_slice()
    return rows.trim(values) if rows else values


def join(parts: Iterable[Any], series_length: Optional[int] = None) -> Any:
    """Return the emissions of all tasks as one, in the order of their rows.

    A part is (start, emission) or a mapping with ``start`` and ``values``. Emissions are lists, arrays, pandas objects, dicts of
    such columns, or what a monoid's ``cumulative`` gives, whose terms are folded here. Raises ValueError when rows
    are missing (at the end: where ``series_length`` is given) or there twice.
    """
    pairs = [(part["start"], part["values"]) if isinstance(part, Mapping) else part for part in parts]
    for start, _ in pairs:
        if isinstance(start, bool) or not isinstance(start, int):
            raise ValueError("a part begins at %r, which is no row" % (start,))
    pairs.sort(key=lambda pair: pair[0])
    if not pairs:
        raise ValueError("there are no parts to join")
    expected = 0
    for start, emission in pairs:
        if start != expected:
            raise ValueError("a part begins at row %d; row %d was expected" % (start, expected))
        expected += _rows_of(emission)
    if series_length is not None and expected != series_length:
        raise ValueError("the parts end at row %d, and the series at row %d" % (expected, series_length))
    return _joined([emission for _, emission in pairs])


def _rows_of(emission: Any) -> int:
    if is_cumulative(emission):
        return len(emission["terms"])
    if not isinstance(emission, dict):
        return len(emission)
    lengths = {_rows_of(column) for column in emission.values()}
    if len(lengths) != 1:
        raise ValueError("the columns of a part have different lengths, or there are none: %s" % sorted(lengths))
    return lengths.pop()


def _joined(emissions: List[Any]) -> Any:
    first = emissions[0]
    if is_cumulative(first):
        return join_cumulative(emissions)
    if isinstance(first, dict):
        if any(set(emission) != set(first) for emission in emissions):
            raise ValueError("the parts have different columns")
        return {name: _joined([emission[name] for emission in emissions]) for name in first}
    library = type(first).__module__.split(".")[0]
    if library in ("pandas", "polars", "numpy"):
        return getattr(sys.modules[library], "concatenate" if library == "numpy" else "concat")(emissions)
    return list(itertools.chain.from_iterable(emissions))
