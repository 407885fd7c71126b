"""Run a function of rows whole, in chunks and with single rows changed, to find the rows that its output depends on.

Started by path under the user's interpreter (Python 3.7 or newer), with the kit and ``sample_rows`` beside it.
stdin: the request as JSON; argv: the file that the answer is written to.
"""

from __future__ import annotations

import dataclasses
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

from hpc_agent.experiment.series.sample_rows import (
    FORMS,
    LONGEST,
    ROUNDS,
    Refused,
    Rows,
    arranged,
    differences,
    fading,
    is_numeric,
    random_column,
    rows_of,
    table,
    with_changed_row,
)  # fmt: skip


class Reach(NamedTuple):
    """Rows before and after a row that its output was seen to depend on; ``decay``: of an average, from row to row."""

    back: int = 0
    ahead: int = 0
    decay: float = 0.0


class Check:
    """One function with its parameters, and the evidence so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.rng = random.Random(request["seed"])
        self.until = time.monotonic() + request["seconds"] * 0.8
        self.lengths: set[int] = set()
        self.rounds: set[str] = set()
        self.not_tried: list[str] = []
        self.largest, self.calls, self.form = 0.0, 0, ""
        self.function, self.argument = load(request)
        self.substitute: Any = None

    def run(
        self, rows: Rows, params: dict[str, Any], piece: Optional[tuple[int, int, int, int]] = None
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
            lines, seen = table(output), min(active.last, len(rows)) - active.first
            if active.trimmed and len(lines) == end - start:
                return lines
            if len(lines) != seen:
                text = "the output has %d rows for %d rows of the series: only functions with a row for each row are checked"
                raise Refused("unclassifiable", text % (len(lines), seen))
            return lines[start - active.first :][: end - start]

    def perturbed(self, rows: Rows, params: dict[str, Any]) -> Reach:
        """Change single rows at both ends and in between; return the reach that shows."""
        whole, length = self.run(rows, params), len(rows)
        back, ahead, decay = 0, 0, 0.0
        for row in sorted({0, 1, length // 3, length // 2, length * 2 // 3, length - 2, length - 1}):
            for step in range(3):
                other = self.run(with_changed_row(rows, row, step), params)
                touched, _ = differences(whole, other)
                if touched:
                    back, ahead = max(back, touched[-1] - row), max(ahead, row - touched[0])
                if row == length // 3 and step == 0:
                    decay = fading(whole, other, row)
        return Reach(back, ahead, decay)

    def split(self, rows: Rows, params: dict[str, Any], reach: Reach, kind: str) -> None:
        """Compare the whole with its parts. Raises Refused where they differ by more than rounding."""
        whole, length = self.run(rows, params), len(rows)
        for count in sorted({2, 3, max(2, min(7, length // (reach.back + reach.ahead + 3)))}):
            joined: list[tuple[Any, ...]] = []
            for n in range(count):
                piece = (length * n // count, length * (n + 1) // count, reach.back, reach.ahead)
                joined += self.run(rows, params, piece)
            wrong, largest = differences(whole, joined)
            self.largest = max(self.largest, largest)
            if wrong:
                raise Refused("differs", "the parts differ from the whole", rows=kind, length=length, chunks=count,
                              first_differing_row=wrong[0], halo=reach.back, ahead=reach.ahead, params=params)  # fmt: skip
        self.rounds.add(kind)


def load(request: dict[str, Any]) -> tuple[Callable[[], Callable[..., Any]], Optional[str]]:
    """Return a maker of the function (a method's object is new for each call), and the name of its series' parameter."""
    from hpc_agent.experiment_kit.loading import load_function

    owner_name, _, method = request["function"].partition(".")
    owner = load_function("%s:%s" % (request["path"], owner_name), request["root"])

    def maker() -> Any:
        return getattr(owner(**request["init_params"]), method) if method else owner

    names = inspect.signature(maker()).parameters.values()
    named = [p for p in names if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.default is p.empty]
    free = [p.name for p in named if p.name not in request["params"]]
    if len(free) > 1:
        text = "give values of its parameters in params: %s"
        raise Refused("needs_params", text % ", ".join(free[1:]), missing=free[1:])
    return maker, free[0] if free else None


def literals(function: Any) -> int:
    """Return the largest whole number in a function's code and in the globals that it names."""
    plain = getattr(function, "__func__", function)
    found, codes = [0], [plain.__code__] if hasattr(plain, "__code__") else []
    for code in codes:
        values = [*code.co_consts, *(plain.__globals__.get(name) for name in code.co_names)]
        found += [value for value in values if type(value) is int]
        codes += [value for value in code.co_consts if hasattr(value, "co_consts")]
    return max(found)


def given_rows(check: Check) -> Rows:
    """Return the user's rows, or random ones, in the first form in which the function takes the whole and a part."""
    request = check.request
    if check.argument is None:
        return _loaded(check)
    forms = ["series", "array", "list", "frame"]
    rows = Rows({"": random_column("", check.rng)}, "series")
    if request["series"]:
        rows = rows_of(_file(request["series"], request["column"]))
        forms = forms[:3] if rows.container == "series" else [rows.container]
    whole_only: Optional[Rows] = None
    reasons: list[str] = []
    for form in forms:
        columns = rows.columns if form != "frame" or request["series"] else {"value": rows.columns[""]}
        taken, on_a_part = _taken(check, Rows(columns, form), reasons)
        if taken and on_a_part:
            check.not_tried += ["rows as a %s" % reason for reason in reasons]
            return taken
        whole_only = whole_only or taken
    if whole_only is None:
        text = "it runs on none of the rows; give its own in series (%s)"
        raise Refused("unclassifiable", text % "; ".join(reasons)[:500])
    return whole_only


def _taken(check: Check, rows: Rows, reasons: list[str]) -> tuple[Optional[Rows], bool]:
    """Return the rows that the function runs on, with the columns that it asks for; True where a part of them runs too."""
    third, taken = len(rows) // 3, None
    while True:
        try:
            check.run(rows, check.request["params"])
            taken = rows
            check.run(rows, check.request["params"], (third, 2 * third, min(9, third), 0))
            return rows, True
        except Refused:
            if taken:
                return rows, True
            raise
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            asked = re.search(r"'(\w+)'", str(error.args[:1])) if isinstance(error, KeyError) else None
            if check.request["series"] or rows.container != "frame" or not asked or asked.group(1) in rows.columns:
                reasons.append("%s: %s: %s" % (FORMS[rows.container], type(error).__name__, error))
                return taken, False
            rows = Rows({**rows.columns, asked.group(1): random_column(asked.group(1), check.rng)}, "frame")


def _loaded(check: Check) -> Rows:
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
    return rows_of(original(seen[0][0], 0, None, seen[0][1]))


def _file(path: str, column: Optional[str]) -> Any:
    try:
        import pandas
    except ImportError:
        pandas = None
    if pandas is None or path.endswith((".npy", ".jsonl", ".ndjson")):
        return importlib.import_module("hpc_agent.experiment_kit.slices").rows_between(path, 0, None)
    frame = (pandas.read_parquet if path.endswith(".parquet") else pandas.read_csv)(path).reset_index(drop=True)
    return frame[column] if column else frame


def decide(check: Check) -> dict[str, Any]:
    """Return the axis and the evidence. Raises Refused."""
    params, points = check.request["params"], check.request["points"]
    rows = given_rows(check)
    check.form = FORMS[rows.container]
    largest = max([value for value in params.values() if type(value) is int] + [literals(check.function()), 20])
    base = min(LONGEST // 4, max(120, 3 * largest + 40))
    if largest * 3 + 40 > base:
        check.not_tried.append(
            "series longer than %d rows, though a number in the function is %d" % (4 * base, largest)
        )
    probe = arranged(rows, "random", base, check.rng)
    if differences(check.run(probe, params), check.run(probe, params))[0]:
        raise Refused("unclassifiable", "two runs on the same rows differ: chance, the clock, or a state that stays")
    if check.argument and check.perturbed(probe, params).back >= base - 2:
        for monoid in ("sum", "max", "min"):
            if joins(check, rows, base, monoid):
                check.lengths.add(base)
                return {"kind": "associative", "halo": 0, "ahead": 0, "monoid": monoid}
    proposed = check.request["axes"] or [None] * len(points)
    reaches = [_of_point(check, rows, point, base, known) for point, known in zip(points, proposed)]
    for point, reach in zip(points, reaches):
        for kind in ROUNDS:
            for length in (base, base * 2 + 7):
                _round(check, rows, point, kind, length, reach)
    if check.argument is None or check.request["series"]:
        check.split(rows, params, reaches[0], "your rows")
    answer: dict[str, Any] = {}
    for name in ("back", "ahead"):
        counts = [getattr(reach, name) for reach in reaches]
        answer["halo" if name == "back" else name] = _expression(points, counts)
        if _expression(points, counts) is None:
            answer["halo" if name == "back" else name] = max(counts)
            check.not_tried.append("other values of the parameters: no expression fits the rows %s" % name)
    return {**answer, "kind": "independent" if answer == {"halo": 0, "ahead": 0} else "bounded_halo"}


def joins(check: Check, rows: Rows, length: int, monoid: str) -> bool:
    """Return True where the running values of parts join to the whole ones by this monoid, tried on whole numbers."""
    from hpc_agent.experiment_kit.series import check_elision

    axis = {"kind": "associative", "monoid": monoid}
    for kind in ("random", "sorted", "falling", "few values"):
        columns = arranged(rows, kind, length, check.rng).columns
        whole = {n: [float(round(v * 8)) for v in c] if is_numeric(c) else c for n, c in columns.items()}
        made = dataclasses.replace(rows, columns=whole).made()
        for count in (2, 7):
            try:
                if not check_elision(lambda part, **p: check.function()(**{str(check.argument): part}, **p), made, axis, count,
                                     **check.request["params"]).equal:  # fmt: skip
                    return False
            except Exception:  # noqa: BLE001 - the user's function may raise anything
                return False
    return True


def _of_point(check: Check, rows: Rows, point: dict[str, Any], base: int, proposed: Any) -> Reach:
    """Return the reach for one point: the one read off the source, else the one that changed rows show at two lengths."""
    check.lengths.update((base, 2 * base + 7))
    kinds = [kind for kind in ("random", "positive") if _runs(check, rows, point, kind, base)]
    if not kinds:
        raise Refused("unclassifiable", "it raises an error on random rows; give its own in series")
    if proposed is not None:
        return Reach(proposed[0], proposed[1])
    short, long = (check.perturbed(arranged(rows, kinds[0], n, check.rng), point) for n in (base, 2 * base + 7))
    if short.decay and abs(short.decay - long.decay) < 1e-3 * short.decay:
        return Reach(math.ceil(128 * math.log(2) / -math.log(short.decay)) + 1, long.ahead, short.decay)
    for which, one, other in (("later", short.back, long.back), ("earlier", short.ahead, long.ahead)):
        if other > one and other > base // 2:
            text = "one row changes the output %d rows %s than it in a series of %d rows, and %d rows in one of %d"
            raise Refused("length_dependent", text % (one, which, base, other, 2 * base + 7), params=point)
    return Reach(max(short.back, long.back), max(short.ahead, long.ahead))


def _runs(check: Check, rows: Rows, point: dict[str, Any], kind: str, length: int) -> bool:
    try:
        check.run(arranged(rows, kind, length, random.Random(1)), point)
        return True
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        note = "%s rows: %s: %s" % (kind, type(error).__name__, str(error)[:80])
        check.not_tried += [] if note in check.not_tried else [note]
        return False


def _round(check: Check, rows: Rows, point: dict[str, Any], kind: str, length: int, reach: Reach) -> None:
    """Split one kind of rows. Raises Refused when the reach that showed on random rows is not enough for them."""
    if not _runs(check, rows, point, kind, length):
        return
    series = arranged(rows, kind, length, check.rng)
    try:
        check.split(series, point, reach, kind)
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
        text = "a part of the series raises %s: %s" % (type(error).__name__, error)
        raise Refused("unclassifiable", text, rows=kind) from None


def _expression(points: list[dict[str, Any]], counts: list[int]) -> Any:
    """Return a number, or ``parameter + number`` (or twice it), that gives every observed count of rows."""
    if len(set(counts)) == 1:
        return counts[0]
    for name in points[0]:
        for factor in (1, 2, 3) if all(type(point[name]) is int for point in points) else ():
            rest = counts[0] - factor * points[0][name]
            if all(count - factor * point[name] == rest for point, count in zip(points, counts)):
                text = name if factor == 1 else "%d * %s" % (factor, name)
                return text if not rest else "%s %s %d" % (text, "-" if rest < 0 else "+", abs(rest))
    return None


def main() -> None:
    import resource

    request = json.load(sys.stdin)
    os.dup2(2, 1)  # the user's prints are no part of the answer
    size = request["memory_mb"] << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    check: Optional[Check] = None
    answer: dict[str, Any] = {"kind": "unclassifiable"}
    try:
        check = Check(request)
        answer = decide(check)
    except Refused as refused:
        answer = {"kind": refused.kind, "reason": refused.reason, "evidence": refused.evidence}
    except MemoryError:
        answer["reason"] = "it needs more than the %d MB of memory_mb" % request["memory_mb"]
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, SystemExit too
        answer["reason"] = "it raises %s: %s" % (type(error).__name__, str(error)[:300])
    if check is not None:
        answer.update(lengths=sorted(check.lengths), rounds=sorted(check.rounds), calls=check.calls, form=check.form,
                      max_difference=check.largest, not_tried=check.not_tried[:8])  # fmt: skip
    with open(sys.argv[1], "w", encoding="utf-8") as handle:
        json.dump(answer, handle, default=str)


if __name__ == "__main__":
    main()
