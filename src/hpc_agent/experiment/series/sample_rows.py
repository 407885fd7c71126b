"""Rows to run a function on: the user's or random ones, arranged in several ways, and the comparison of outputs.

Runs under the user's interpreter (Python 3.7 or newer) beside the kit, and imports nothing of the package.
"""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any, Callable

RELATIVE, ABSOLUTE = 1e-7, 1e-9  # differences below these are rounding: of a value, and of its column's largest one
LONGEST = 20_000  # rows of a series made here
ROUNDS = (
    "random", "positive", "sorted", "falling", "constant", "large", "few values", "rare value", "rare spikes", "gaps",
    "shared values",
)  # fmt: skip
GROUPS = ("id", "group", "symbol", "ticker", "asset", "key", "label", "class")


class Refused(Exception):
    """Why the function cannot be split, or not be run."""

    def __init__(self, reason: str, kind: str = "unclassifiable", **evidence: Any) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.evidence = kind, reason, evidence


@dataclasses.dataclass(frozen=True)
class Rows:
    """A series as columns (a single one has the name ""), and the kind of object that a function is given of it."""

    columns: dict[str, list[Any]]
    container: str

    def made(self) -> Any:
        """Return a new object of these rows."""
        values = list(self.columns.values())
        if self.container == "list":
            return list(values[0])
        if self.container == "list of dicts":
            return [dict(zip(self.columns, row)) for row in zip(*values)]
        if self.container == "numpy array":
            import numpy

            return numpy.array(values[0] if list(self.columns) == [""] else list(zip(*values)))
        import pandas

        return pandas.Series(self.columns[""]) if self.container == "pandas Series" else pandas.DataFrame(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def mapped(self, change: Callable[..., list[Any]], *words: Any) -> Rows:
        """Return the rows with ``change(values, *words)`` in place of the values of each column."""
        return Rows({name: change(values, *words) for name, values in self.columns.items()}, self.container)

    def arranged(self, kind: str, length: int, rng: random.Random) -> Rows:
        """Return ``length`` rows of the same kind, arranged as ``kind`` says.

        In "shared values" each number stands once in every column of its type, in another row.
        """
        if kind != "shared values":
            return self.mapped(arranged, kind, length, rng)
        drawn = self.arranged("random", length, rng)
        pools = {type(values[0]): values for values in drawn.columns.values() if is_numeric(values)}
        return drawn.mapped(lambda values: rng.sample(pools[type(values[0])], length) if is_numeric(values) else values)


def rows_of(series: Any) -> Rows:
    """Return the columns of a list, an array or a pandas object."""
    if hasattr(series, "columns"):
        return Rows({str(name): series[name].tolist() for name in series.columns}, "pandas DataFrame")
    if getattr(series, "ndim", 1) == 2:
        return Rows({str(n): series[:, n].tolist() for n in range(series.shape[1])}, "numpy array")
    if hasattr(series, "tolist"):
        return Rows({"": series.tolist()}, "pandas Series" if hasattr(series, "iloc") else "numpy array")
    if series and isinstance(series[0], dict):
        return Rows({name: [_number(row[name]) for row in series] for name in series[0]}, "list of dicts")
    return Rows({"": list(series)}, "list")


def _number(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def random_column(name: str, rng: random.Random, count: int = 200) -> list[Any]:
    """Return values for a column of that name: dates, a few group numbers, or decimal numbers."""
    if "date" in name.lower() or "time" in name.lower():
        import pandas

        return list(pandas.date_range("2000-01-01", periods=count, freq="D"))
    return [rng.randrange(4) if any(word in name.lower() for word in GROUPS) else rng.gauss(0, 1) for _ in range(count)]


def is_numeric(values: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def whole_numbers(values: list[Any]) -> list[Any]:
    """Return numbers that add up without rounding, as floats; other values stay."""
    return [float(round(value * 8)) for value in values] if is_numeric(values) else values


def arranged(values: list[Any], kind: str, length: int, rng: random.Random) -> list[Any]:
    """Return ``length`` values of the same kind as these, arranged as ``kind`` says."""
    whole = all(isinstance(value, int) for value in values)
    if not is_numeric(values):
        different = list(dict.fromkeys(values))
        if len(different) == len(values) > 2:  # dates, or names of rows
            return [*values[:length], *_later(values, length - len(values))]
        return _repeated(different, kind, length, rng)
    finite = sorted(value for value in values if math.isfinite(value)) or [0.0]
    noise = 0 if whole else 1e-3 * (abs(finite[-1]) or 1)
    drawn = [rng.choice(finite) + (noise and noise * rng.random()) for _ in range(length)]
    largest = max(map(abs, drawn)) or 1
    if kind == "rare spikes":
        spikes = (length // 10, length // 2, length * 9 // 10)
        return [largest * 1000 if n in spikes else v if whole else v * 1e-3 for n, v in enumerate(drawn)]
    if kind == "gaps" and not whole:
        return [math.nan if n % 11 == 3 or length // 3 < n < length * 3 // 5 else v for n, v in enumerate(drawn)]
    middle = finite[len(finite) // 2]
    if kind in ("few values", "rare value", "constant"):
        return _repeated([middle] if kind == "constant" else [finite[0], middle, finite[-1]], kind, length, rng)
    if kind in ("sorted", "falling"):
        return sorted(drawn, reverse=kind == "falling")
    changes = {"positive": lambda value: abs(value) or largest, "large": lambda value: value * 1_000_000}
    return list(map(changes[kind], drawn)) if kind in changes else drawn


def _later(values: list[Any], count: int) -> list[Any]:
    """Return dates that go on as the last two do; other texts are repeated."""
    try:
        return [values[-1] + (values[-1] - values[-2]) * (n + 1) for n in range(count)]
    except TypeError:
        return [values[-1]] * max(0, count)


def _repeated(different: list[Any], kind: str, length: int, rng: random.Random) -> list[Any]:
    if kind == "rare value":
        return [different[0] if n in (0, length - 1) else different[-1] for n in range(length)]
    in_order = kind in ("sorted", "constant")
    return [different[n * len(different) // length] if in_order else rng.choice(different) for n in range(length)]


def with_changed_row(values: list[Any], row: int, step: int) -> list[Any]:
    """Return the values with another one in one row: far above, below, or a common one."""
    if is_numeric(values):
        finite = [value for value in values if math.isfinite(value)] or [0]
        others = [value for value in finite if value != values[row]] or [finite[0] + 1]
        new = (3 * max(map(abs, finite)) + 1, min(finite) - 1, others[len(others) // 2])[step]
    else:
        different = list(dict.fromkeys(values))
        if len(different) == len(values) or len(different) < 2:
            return values
        new = next(v for v in different if v != values[row])
    return [*values[:row], new, *values[row + 1 :]]


def table(output: Any) -> list[tuple[Any, ...]]:
    """Return an output as rows of values. Raises Refused when it has no rows."""
    if isinstance(output, dict) or hasattr(output, "columns"):
        columns = [table(column) for _, column in output.items()]
        return [tuple(value for part in row for value in part) for row in zip(*columns)]
    plain = output.tolist() if hasattr(output, "tolist") else output
    if not isinstance(plain, (list, tuple)):
        raise Refused("the function gives %s, and not a value for each row" % type(output).__name__)
    return [tuple(row) if isinstance(row, (list, tuple)) else (row,) for row in plain]


def differences(whole: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> tuple[list[int], float]:
    """Return the rows that differ by more than rounding, and the largest difference of the others."""
    finite = [[abs(v) for v in c if isinstance(v, (int, float)) and math.isfinite(v)] for c in zip(*whole)]
    scales = [max(column, default=0.0) for column in finite]
    found, largest = [], 0.0
    for number, (mine, theirs) in enumerate(zip(whole, other)):
        for scale, left, right in zip(scales, mine, theirs):
            if left is right or left == right or (left != left and right != right):
                continue
            numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
            if not (numbers and abs(left - right) <= RELATIVE * abs(left) + ABSOLUTE * scale):
                found.append(number)
                break
            largest = max(largest, abs(left - right))
    return found, largest


def fading(whole: list[tuple[Any, ...]], other: list[tuple[Any, ...]], row: int) -> float:
    """Return the constant factor by which a change of one row fades from row to row, 0.0 where there is none."""
    pairs = list(zip(whole, other))[row + 2 : row + 8]
    gaps = [max((abs(a - b) for a, b in zip(*pair) if isinstance(a, float)), default=0.0) for pair in pairs]
    if len(gaps) < 6 or not all(gap > 0 and math.isfinite(gap) for gap in gaps):
        return 0.0
    ratios = [gaps[n + 1] / gaps[n] for n in range(5)]
    return ratios[0] if max(ratios) < 0.9999 and max(ratios) - min(ratios) < 1e-4 * max(ratios) else 0.0
