"""Run a function of rows whole, in chunks and with single rows changed, to find the rows that its output depends on.

Started by path under the user's interpreter (Python 3.7 or newer), with the kit beside it: it imports nothing else of the
package. stdin: the request as JSON; argv: the file that the answer is written to.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import math
import os
import random
import re
import sys
import time
from typing import Any, Callable, NamedTuple, Optional

RELATIVE, ABSOLUTE = 1e-7, 1e-9  # differences below these are rounding: of a value, and of its column's largest one
FORMS = {
    "series": "pandas Series", "array": "numpy array", "list": "list", "frame": "pandas DataFrame", "records": "list of dicts"
}  # fmt: skip
LONGEST = 20_000  # rows of a series made here
ROUNDS = (
    "random",
    "positive",
    "sorted",
    "falling",
    "constant",
    "few values",
    "rare value",
    "rare spikes",
    "gaps",
    "large",
)


class Refused(Exception):
    """Why the function cannot be split, or not be run."""

    def __init__(self, kind: str, reason: str, **evidence: Any) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.evidence = kind, reason, evidence


class Reach(NamedTuple):
    """Rows before and after a row that its output was seen to depend on; ``decay``: of an average, from row to row."""

    back: int = 0
    ahead: int = 0
    decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rows:
    """A series as columns (a single one has the name ""), and the object that a function is given of it."""

    columns: dict[str, list[Any]]
    container: str

    def made(self) -> Any:
        if self.container == "list":
            return list(self.columns[""])
        if self.container == "records":
            names = list(self.columns)
            return [dict(zip(names, row)) for row in zip(*self.columns.values())]
        if self.container == "array":
            import numpy

            values = list(self.columns.values())
            return numpy.array(values[0] if list(self.columns) == [""] else list(zip(*values)))
        import pandas

        return pandas.Series(self.columns[""]) if self.container == "series" else pandas.DataFrame(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def rows_of(series: Any) -> Rows:
    """Return the columns of a list, an array or a pandas object."""
    if hasattr(series, "columns"):
        return Rows({str(name): series[name].tolist() for name in series.columns}, "frame")
    if hasattr(series, "iloc"):
        return Rows({"": series.tolist()}, "series")
    if getattr(series, "ndim", 1) == 2:
        return Rows({str(n): series[:, n].tolist() for n in range(series.shape[1])}, "array")
    if hasattr(series, "tolist"):
        return Rows({"": series.tolist()}, "array")
    if series and isinstance(series[0], dict):
        return Rows({name: [_number(row[name]) for row in series] for name in series[0]}, "records")
    return Rows({"": list(series)}, "list")


def _number(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def is_numeric(values: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def variant(rows: Rows, kind: str, length: int, rng: random.Random) -> Rows:
    """Return ``length`` rows of the same columns and kind of values, arranged as ``kind`` says."""
    return dataclasses.replace(
        rows, columns={name: _arranged(values, kind, length, rng) for name, values in rows.columns.items()}
    )


def _arranged(values: list[Any], kind: str, length: int, rng: random.Random) -> list[Any]:
    whole = all(isinstance(value, int) for value in values)
    if not is_numeric(values):
        different = list(dict.fromkeys(values))
        if len(different) == len(values) > 2:  # dates, or names of rows
            return [*values[:length], *_later(values, length - len(values))]
        return _repeated(different, kind, length, rng)
    finite = sorted(value for value in values if math.isfinite(value)) or [0.0]
    drawn = [rng.choice(finite) + (0 if whole else rng.random() * 1e-3 * (abs(finite[-1]) or 1)) for _ in range(length)]
    largest = max(map(abs, drawn)) or 1
    if kind == "positive":
        return [abs(value) or largest for value in drawn]
    if kind in ("sorted", "falling"):
        return sorted(drawn, reverse=kind == "falling")
    if kind == "constant":
        return [finite[len(finite) // 2]] * length
    if kind in ("few values", "rare value"):
        return _repeated([finite[0], finite[len(finite) // 2], finite[-1]], kind, length, rng)
    if kind == "rare spikes":
        calm = [value if whole else value * 1e-3 for value in drawn]
        for place in (length // 10, length // 2, length * 9 // 10):
            calm[place] = largest * 1000
        return calm
    if kind == "gaps" and not whole:
        return [
            math.nan if n % 11 == 3 or length // 3 < n < length * 3 // 5 else value for n, value in enumerate(drawn)
        ]
    return [value * 1_000_000 for value in drawn] if kind == "large" else drawn


def _later(values: list[Any], count: int) -> list[Any]:
    """Return dates that go on as the last two do; other texts are repeated."""
    try:
        return [values[-1] + (values[-1] - values[-2]) * (n + 1) for n in range(count)]
    except TypeError:
        return [values[-1]] * max(0, count)


def _repeated(different: list[Any], kind: str, length: int, rng: random.Random) -> list[Any]:
    if kind == "rare value":
        return [different[0] if n in (0, length - 1) else different[-1] for n in range(length)]
    return [different[n * len(different) // length] for n in range(length)] if kind in ("sorted", "constant") else [
        rng.choice(different) for _ in range(length)
    ]  # fmt: skip


def table(output: Any) -> list[tuple[Any, ...]]:
    """Return an output as rows of values. Raises Refused when it has no rows."""
    if isinstance(output, dict):
        columns = [table(column) for column in output.values()]
        return [tuple(value for part in row for value in part) for row in zip(*columns)]
    if hasattr(output, "columns"):
        return [tuple(row) for row in zip(*(output[name].tolist() for name in output.columns))]
    plain = output.tolist() if hasattr(output, "tolist") else output
    if not isinstance(plain, (list, tuple)):
        raise Refused("unclassifiable", "the function gives %s, and not a value for each row" % type(output).__name__)
    return [tuple(row) if isinstance(row, (list, tuple)) else (row,) for row in plain]


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def differences(whole: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> tuple[list[int], float]:
    """Return the rows that differ by more than rounding, and the largest difference of the others."""
    width = len(whole[0]) if whole else 0
    scales = [max((abs(row[c]) for row in whole if _finite(row[c])), default=0.0) for c in range(width)]
    found, largest = [], 0.0
    for number, (mine, theirs) in enumerate(zip(whole, other)):
        for scale, left, right in zip(scales, mine, theirs):
            if left is right or left == right or (left != left and right != right):
                continue
            numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
            gap = abs(left - right) if numbers else math.inf
            if not gap <= RELATIVE * abs(left) + ABSOLUTE * scale:
                found.append(number)
                break
            largest = max(largest, gap)
    return found, largest


class Check:
    """One function with its parameters, and the evidence so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.rng = random.Random(request["seed"])
        self.until = time.monotonic() + request["seconds"] * 0.8
        self.lengths: set[int] = set()
        self.rounds: list[str] = []
        self.not_tried: list[str] = []
        self.largest = 0.0
        self.form = ""
        self.calls = 0
        self.function, self.argument = load(request)
        self.substitute: Any = None

    def run(
        self, rows: Rows, params: dict[str, Any], piece: tuple[int, int, int, int] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the output of the whole series, or of the own rows of a piece (start, end, halo, ahead)."""
        from hpc_agent.experiment_kit import slices

        if time.monotonic() > self.until:
            raise Refused("unclassifiable", "the time limit of %g s came before an answer" % self.request["seconds"])
        self.calls += 1
        start, end, halo, ahead = piece or (0, len(rows), 0, 0)
        with slices.series_slice(start, end, halo, ahead) as active:
            if self.argument is None:
                self.substitute = rows.made()
                output = self.function()(**params)
            else:
                active.rows = active.load(rows.made(), None)
                output = self.function()(**{self.argument: active.rows}, **params)
            lines = table(output)
            wanted = end - start
            if active.trimmed and len(lines) == wanted:
                return lines
            if len(lines) != len(range(active.first, min(active.last, len(rows)))):
                text = "the output has %d rows for %d rows of the series: only functions with a row for each row are checked"
                raise Refused("unclassifiable", text % (len(lines), min(active.last, len(rows)) - active.first))
            return lines[start - active.first :][:wanted]

    def perturbed(self, rows: Rows, params: dict[str, Any]) -> Reach:
        """Change single rows; return the reach that shows. Rows at both ends and in between are tried."""
        whole = self.run(rows, params)
        length = len(rows)
        back = ahead = 0
        decay = 0.0
        for row in sorted({0, 1, length // 3, length // 2, length * 2 // 3, length - 2, length - 1}):
            for step in range(3):
                changed = dataclasses.replace(
                    rows, columns={n: _changed(v, row, step) for n, v in rows.columns.items()}
                )
                other = self.run(changed, params)
                touched, _ = differences(whole, other)
                if touched:
                    back, ahead = max(back, touched[-1] - row), max(ahead, row - touched[0])
                if row == length // 3 and step == 0:
                    decay = fading(whole, other, row)
        return Reach(back, ahead, decay)

    def split(self, rows: Rows, params: dict[str, Any], back: int, ahead: int, kind: str) -> None:
        """Compare the whole with its parts. Raises Refused where they differ by more than rounding."""
        whole, length = self.run(rows, params), len(rows)
        most = max(2, min(7, length // (back + ahead + 3)))
        for count in sorted({2, 3, most}):
            joined: list[tuple[Any, ...]] = []
            for number in range(count):
                start, end = length * number // count, length * (number + 1) // count
                joined += self.run(rows, params, (start, end, back, ahead))
            wrong, largest = differences(whole, joined)
            self.largest = max(self.largest, largest)
            if wrong:
                raise Refused("differs", "the parts differ from the whole", rows=kind, length=length, chunks=count,
                              first_differing_row=wrong[0], halo=back, ahead=ahead, params=params)  # fmt: skip


def fading(whole: list[tuple[Any, ...]], other: list[tuple[Any, ...]], row: int) -> float:
    """Return the constant factor by which a change of one row fades from row to row, 0.0 where there is none."""
    gaps = []
    for mine, theirs in list(zip(whole, other))[row + 2 : row + 14]:
        values = [abs(a - b) for a, b in zip(mine, theirs) if isinstance(a, float) and isinstance(b, float)]
        gaps.append(max(values, default=0.0))
    if len(gaps) < 6 or not all(gap > 0 and math.isfinite(gap) for gap in gaps[:6]):
        return 0.0
    ratios = [gaps[n + 1] / gaps[n] for n in range(5)]
    return ratios[0] if max(ratios) < 0.9999 and max(ratios) - min(ratios) < 1e-4 * max(ratios) else 0.0


def _changed(values: list[Any], row: int, step: int) -> list[Any]:
    if not is_numeric(values):
        different = list(dict.fromkeys(values))
        if len(different) == len(values) or len(different) < 2:
            return values
        return [*values[:row], next(v for v in different if v != values[row]), *values[row + 1 :]]
    finite = [value for value in values if math.isfinite(value)] or [0]
    others = [value for value in finite if value != values[row]] or [finite[0] + 1]
    far = (3 * max(map(abs, finite)) + 1, min(finite) - 1, others[len(others) // 2])[step]
    return [*values[:row], far, *values[row + 1 :]]


class _Holder:
    def __init__(self, function: Any) -> None:
        self.function = function


def _method(owner: Any, params: dict[str, Any], name: str) -> Callable[..., Any]:
    return getattr(owner(**params), name)  # type: ignore[no-any-return]


def load(request: dict[str, Any]) -> tuple[Callable[[], Callable[..., Any]], str | None]:
    """Return a maker of the function (a method's object is new for each call), and the name of its series' parameter."""
    from hpc_agent.experiment_kit.loading import load_function

    dotted = request["function"].split(".")
    owner = load_function("%s:%s" % (request["path"], dotted[0]), request["root"])
    if len(dotted) == 1:
        maker: Callable[[], Callable[..., Any]] = functools.partial(getattr, _Holder(owner), "function")
    else:
        maker = functools.partial(_method, owner, request["init_params"], dotted[1])
    names = [
        p
        for p in inspect.signature(maker()).parameters.values()
        if p.kind != p.VAR_KEYWORD and p.kind != p.VAR_POSITIONAL
    ]
    given = set(request["params"])
    free = [p.name for p in names if p.name not in given and p.default is p.empty]
    if len(free) > 1:
        text = "give values of its parameters in params: %s"
        raise Refused("needs_params", text % ", ".join(free[1:]), missing=free[1:])
    return maker, free[0] if free else None


def literals(function: Any) -> int:
    """Return the largest whole number in a function's code and in the globals that it names."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    found, codes = [0], [code] if code else []
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    while codes:
        one = codes.pop()
        found += [value for value in one.co_consts if type(value) is int]
        found += [names[name] for name in one.co_names if type(names.get(name)) is int]
        codes += [value for value in one.co_consts if hasattr(value, "co_consts")]
    return max(found)


def given_rows(check: Check) -> tuple[Rows, bool]:
    """Return the user's rows, or random ones, in the first container that the function takes; True for the user's."""
    request, rng = check.request, check.rng
    if check.argument is None:
        return _loaded(check)
    if request["series"]:
        rows = rows_of(_file(request["series"], request["column"]))
        single = list(rows.columns) == [""] and rows.container == "series"
        forms = (
            [dataclasses.replace(rows, container=name) for name in ("series", "array", "list")] if single else [rows]
        )
    else:
        values = [rng.gauss(0, 1) for _ in range(200)]
        forms = [Rows({"": values}, name) for name in ("series", "array", "list")] + [Rows({"value": values}, "frame")]
    whole_only: Optional[Rows] = None
    reasons: list[str] = []
    for rows in forms:
        taken, on_a_part = _taken(check, rows, reasons)
        if taken and not on_a_part:
            check.not_tried += ["rows as a %s" % reason for reason in reasons]
            return taken, bool(request["series"])
        whole_only = whole_only or taken
    if whole_only:
        return whole_only, bool(request["series"])
    raise Refused(
        "unclassifiable", "it runs on none of the rows; give its own in series (%s)" % "; ".join(reasons)[:500]
    )


def _taken(check: Check, rows: Rows, reasons: list[str]) -> tuple[Optional[Rows], bool]:
    """Return the rows that the function runs on, with the columns that it asks for, and True where a part raises an error."""
    third, taken = len(rows) // 3, None
    for _ in range(20):
        try:
            check.run(rows, check.request["params"])
            taken = rows
            check.run(rows, check.request["params"], (third, 2 * third, min(9, third), 0))
            return rows, False
        except Refused:
            if taken:
                return rows, False
            raise
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            name = _missing_column(error) if isinstance(error, KeyError) else ""
            if check.request["series"] or rows.container != "frame" or not name or name in rows.columns:
                reasons.append("%s: %s: %s" % (FORMS[rows.container], type(error).__name__, error))
                break
            rows = Rows({**rows.columns, name: _column(name, check.rng)}, "frame")
    return taken, True


def _missing_column(error: KeyError) -> str:
    named = re.search(r"'(\w+)'|(\w+)$", str(error.args[0] if error.args else ""))
    return (named.group(1) or named.group(2)) if named else ""


def _column(name: str, rng: random.Random) -> list[Any]:
    if "date" in name.lower() or "time" in name.lower():
        import pandas

        return list(pandas.date_range("2000-01-01", periods=LONGEST, freq="D"))[:200]
    if any(word in name.lower() for word in ("id", "group", "symbol", "ticker", "asset", "key", "label", "class")):
        return [rng.randrange(4) for _ in range(200)]
    return [rng.gauss(0, 1) for _ in range(200)]


def _loaded(check: Check) -> tuple[Rows, bool]:
    """Run the function once with its own file; the rows that load_series gave it are the series from then on."""
    slices: Any = importlib.import_module("hpc_agent.experiment_kit.slices")
    seen: list[Any] = []
    original = slices.rows_between

    def recorded(source: Any, start: int, end: Any, loader: Any = None) -> Any:
        if loader is None and not isinstance(source, (str, os.PathLike)):
            return original(source, start, end)  # the emission that is trimmed
        seen.append((source, loader))
        if check.substitute is not None:
            return original(check.substitute, start, end)
        return original(source, 0, None, loader)

    slices.rows_between = recorded
    check.function()(**check.request["params"])
    if len({str(source) for source, _ in seen}) != 1:
        raise Refused("unclassifiable", "it takes no rows and loads none (or several series) with load_series")
    source, loader = seen[0]
    return rows_of(original(source, 0, None, loader)), True


def _file(path: str, column: str | None) -> Any:
    try:
        import pandas
    except ImportError:
        pandas = None
    if path.endswith(".npy"):
        import numpy

        return numpy.load(path)
    if pandas is None or path.endswith((".jsonl", ".ndjson")):
        from hpc_agent.experiment_kit.series_files import rows_between

        return rows_between(path, 0, None)
    read = pandas.read_parquet if path.endswith(".parquet") else pandas.read_csv
    frame = read(path).reset_index(drop=True)
    return frame[column] if column else frame


def points_of(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the given values, and for each whole number among them two other ones."""
    found = [params]
    for name, value in params.items():
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            found += [{**params, name: other} for other in (value + 3, max(1, value // 2)) if other != value]
    return found


def decide(check: Check) -> dict[str, Any]:
    """Return the axis and the evidence. Raises Refused."""
    request = check.request
    rows, own = given_rows(check)
    check.form = FORMS[rows.container]
    params = request["params"]
    sizes = [value for value in params.values() if type(value) is int] + [literals(check.function()), 20]
    base = min(LONGEST // 4, max(120, 3 * max(sizes) + 40))
    if max(sizes) * 3 + 40 > base:
        check.not_tried.append(
            "series longer than %d rows, though a number in the function is %d" % (4 * base, max(sizes))
        )
    probe = variant(rows, "random", base, check.rng)
    if differences(check.run(probe, params), check.run(probe, params))[0]:
        raise Refused("unclassifiable", "two runs on the same rows differ: chance, the clock, or a state that stays")
    if check.perturbed(probe, params).back >= base - 2:
        monoid = monoid_of(check, rows, params, base)
        if monoid:
            check.lengths.add(base)
            return {"kind": "associative", "halo": 0, "ahead": 0, "monoid": monoid}
    proposals = [
        (point, _of_point(check, rows, point, base, request["axes"].get(_key(point)))) for point in points_of(params)
    ]
    found = proposals[0][1]
    for point, reach in proposals:
        for kind in ROUNDS:
            for length in (base, base * 2 + 7):
                _round(check, rows, point, kind, length, reach)
    if own:
        check.split(rows, params, found.back, found.ahead, "your rows")
        check.rounds.append("your rows")
    return _axis(check, proposals)


def monoid_of(check: Check, rows: Rows, point: dict[str, Any], base: int) -> str | None:
    """Return the monoid by which running values of parts join to the whole ones, tried on whole numbers; None without."""
    from hpc_agent.experiment_kit.series import check_elision

    function, name = check.function, check.argument
    if name is None:
        return None
    for monoid in ("sum", "max", "min"):
        axis = {"kind": "associative", "monoid": monoid}
        equal = True
        for kind in ("random", "sorted", "falling", "few values"):
            series = variant(rows, kind, base, check.rng)
            columns = {n: [float(round(v * 8)) for v in c] if is_numeric(c) else c for n, c in series.columns.items()}
            made = dataclasses.replace(series, columns=columns).made()
            try:
                equal = equal and all(
                    check_elision(
                        lambda part, **p: function()(**{str(name): part}, **p), made, axis, count, **point
                    ).equal
                    for count in (2, 7)
                )
            except Exception:  # noqa: BLE001 - the user's function may raise anything
                equal = False
        if equal:
            return monoid
    return None


def _key(point: dict[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _of_point(check: Check, rows: Rows, point: dict[str, Any], base: int, proposed: Any) -> Reach:
    """Return the reach for one point: what was read off the source, else what changed rows show at two lengths."""
    check.lengths.update((base, 2 * base + 7))
    kinds = [kind for kind in ("random", "positive") if _runs(check, rows, point, kind, base)]
    if not kinds:
        raise Refused("unclassifiable", "it raises an error on random rows; give its own in series")
    short, long = (check.perturbed(variant(rows, kinds[0], n, check.rng), point) for n in (base, 2 * base + 7))
    if proposed is not None:
        return Reach(proposed[0], proposed[1])
    if short.decay and abs(short.decay - long.decay) < 1e-3 * short.decay:
        return Reach(math.ceil(128 * math.log(2) / -math.log(short.decay)) + 1, long.ahead, short.decay)
    for name, one, other in (("before", short.back, long.back), ("after", short.ahead, long.ahead)):
        if other > one and other > base // 2:
            text = "one row changes the output %d rows %s it in a series of %d rows, and %d rows in one of %d"
            which = "later than" if name == "before" else "earlier than"
            raise Refused("length_dependent", text % (one, which, base, other, 2 * base + 7), params=point)
    return Reach(max(short.back, long.back), max(short.ahead, long.ahead))


def _runs(check: Check, rows: Rows, point: dict[str, Any], kind: str, length: int) -> bool:
    try:
        check.run(variant(rows, kind, length, random.Random(1)), point)
        return True
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        note = "%s rows: %s: %s" % (kind, type(error).__name__, str(error)[:80])
        if note not in check.not_tried:
            check.not_tried.append(note)
        return False


def _round(check: Check, rows: Rows, point: dict[str, Any], kind: str, length: int, reach: Reach) -> None:
    """Split one kind of rows. Raises Refused when the reach that showed on random rows is not enough for them."""
    if not _runs(check, rows, point, kind, length):
        return
    check.rounds.append(kind)
    series = variant(rows, kind, length, check.rng)
    try:
        check.split(series, point, reach.back, reach.ahead, kind)
    except Refused as refused:
        if refused.kind != "differs":
            raise
        seen = check.perturbed(series, point)
        data = seen.back > reach.back or seen.ahead > reach.ahead or kind not in ("random", "positive")
        text = "on %s rows the output of a row depends on rows %d before and %d after it, on random rows %d and %d"
        reason = text % (kind, seen.back, seen.ahead, reach.back, reach.ahead)
        if not data:
            reason = "a row's output depends on its position in the series, or on more rows than single changes show"
        raise Refused("data_dependent" if data else "unclassifiable", reason, **refused.evidence) from None
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        raise Refused(
            "unclassifiable", "a part of the series raises %s: %s" % (type(error).__name__, error), rows=kind
        ) from None


def _axis(check: Check, proposals: list[tuple[dict[str, Any], Reach]]) -> dict[str, Any]:
    expressions = {}
    for name in ("back", "ahead"):
        expressions[name] = _expression([(point, getattr(reach, name)) for point, reach in proposals])
    for name, text in expressions.items():
        if text is None:
            expressions[name] = max(getattr(reach, name) for _, reach in proposals)
            check.not_tried.append("other values of the parameters: no expression fits the rows %s" % name)
    wide = any(value not in (0, "0") for value in expressions.values())
    return {
        "kind": "bounded_halo" if wide else "independent",
        "halo": expressions["back"],
        "ahead": expressions["ahead"],
    }


def _expression(found: list[tuple[dict[str, Any], int]]) -> Any:
    """Return a number, or ``parameter + number`` (or twice it), that gives every observed count of rows."""
    counts = {count for _, count in found}
    if len(counts) == 1:
        return counts.pop()
    for name in found[0][0]:
        if all(type(point[name]) is int for point, _ in found):
            for factor in (1, 2, 3):
                rests = {count - factor * point[name] for point, count in found}
                if len(rests) == 1:
                    rest = rests.pop()
                    text = name if factor == 1 else "%d * %s" % (factor, name)
                    return text if not rest else "%s %s %d" % (text, "-" if rest < 0 else "+", abs(rest))
    return None


def limit(request: dict[str, Any]) -> None:
    import resource

    size = request["memory_mb"] << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    request = json.load(sys.stdin)
    os.dup2(2, 1)  # the user's prints are no part of the answer
    limit(request)
    check: Check | None = None
    try:
        check = Check(request)
        answer = decide(check)
    except Refused as refused:
        answer = {"kind": refused.kind, "reason": refused.reason, "evidence": refused.evidence}
    except MemoryError:
        answer = {
            "kind": "unclassifiable",
            "reason": "it needs more than the %d MB of memory_mb" % request["memory_mb"],
        }
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, SystemExit too
        answer = {"kind": "unclassifiable", "reason": "it raises %s: %s" % (type(error).__name__, str(error)[:300])}
    if check is not None:
        answer.update(lengths=sorted(check.lengths), rounds=sorted(set(check.rounds)), calls=check.calls, form=check.form,
                      max_difference=check.largest, not_tried=check.not_tried[:8])  # fmt: skip
    with open(sys.argv[1], "w", encoding="utf-8") as handle:
        json.dump(answer, handle, default=str)


if __name__ == "__main__":
    main()
