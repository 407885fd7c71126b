"""Rows of a series: of an object in memory, which is only sliced, or of a CSV, JSON Lines or .npy file."""

import csv
import itertools
import json
import os
from typing import Any, Callable, Iterator, Optional

Loader = Callable[[Any], Any]
JSON_LINES = (".jsonl", ".ndjson")


def series_length(source: Any, loader: Optional[Loader] = None) -> int:
    """Rows of a series, for ``plan_tasks``. Raises ValueError for what has no rows, OSError for a file."""
    if loader is None and isinstance(source, (str, os.PathLike)):
        ending = _ending(source)
        if ending == ".npy":
            return len(_mapped(source))
        return sum(1 for _ in _records(source, ending))
    return _length(loader(source) if loader else source)


def rows_between(source: Any, start: int, end: Optional[int], loader: Optional[Loader] = None) -> Any:
    """The rows start..end (exclusive; None: to the last), clipped at the end of the series.

    A CSV gives a list of dicts of text, JSON Lines a list of values, .npy an array; only these rows are kept in memory.
    An object is sliced (pandas by position), so an array gives a view.
    """
    if loader is None and isinstance(source, (str, os.PathLike)):
        ending = _ending(source)
        if ending == ".npy":
            return _mapped(source)[start:end]
        decode = json.loads if ending in JSON_LINES else dict
        return [decode(record) for record in itertools.islice(_records(source, ending), start, end)]
    series = loader(source) if loader else source
    _length(series)
    return series.iloc[start:end] if hasattr(series, "iloc") else series[start:end]


def _length(series: Any) -> int:
    if isinstance(series, dict) or not hasattr(series, "__len__") or not hasattr(series, "__getitem__"):
        raise ValueError("%s is no series: it has no rows that can be sliced" % type(series).__name__)
    return len(series)


def _ending(source: Any) -> str:
    ending: str = os.path.splitext(os.fspath(source))[1].lower()
    if ending not in (".csv", ".npy") + JSON_LINES:
        raise ValueError("%s: only .csv, .jsonl, .ndjson and .npy are read; give a loader for others" % source)
    return ending


def _records(source: Any, ending: str) -> Iterator[Any]:
    """Undecoded records: blank lines are none."""
    with open(os.fspath(source), "r", encoding="utf-8-sig", newline="") as handle:
        if ending == ".csv":
            yield from csv.DictReader(handle)
        else:
            yield from (line for line in handle if line.strip())


def _mapped(source: Any) -> Any:
    try:
        import numpy
    except ImportError:
        raise ValueError("%s: an .npy file needs numpy, which this Python does not have" % source) from None
    return numpy.load(os.fspath(source), mmap_mode="r")
