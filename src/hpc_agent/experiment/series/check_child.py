"""Run a function of rows whole, in chunks and with single rows changed, to find the rows that its output depends on.

Started by path under the user's interpreter (Python 3.7 or newer), with the kit and ``sample_rows`` beside it.
stdin: the request as JSON; argv: the file that the answer is written to.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import os
import random
import re
import resource
import sys
import time
from typing import Any, Callable, NamedTuple, Optional

from hpc_agent.experiment.series import sample_rows
from hpc_agent.experiment.series.sample_rows import Refused, Rows, differences, random_column, rows_of
from hpc_agent.experiment_kit import slices
from hpc_agent.experiment_kit.series import check_elision, chunk_bounds
from hpc_agent.experiment_kit.task import load_function


class Reach(NamedTuple):
    """Rows before and after a row that its output was seen to depend on; ``decay``: of an average, from row to row."""

    back: int = 0
    ahead: int = 0
    decay: float = 0.0


def attempt(action: Callable[..., Any], *words: Any) -> tuple[Any, Optional[Exception]]:
    """Return the value of ``action(*words)``, and the error of the user's function in it."""
    try:
        return action(*words), None
    except (Refused, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        return None, error


class Check:
    """One function with its parameters, and the evidence so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request, self.params = request, request["params"]
        self.rng = random.Random(request["seed"])
        self.until = time.monotonic() + request["time_limit_sec"] * 0.8
        self.lengths: list[int] = []
        self.rounds: set[str] = set()
        self.not_tried: dict[str, None] = {}  # notes, each once
        self.largest, self.calls, self.form = 0.0, 0, ""
        self.argument: Optional[str] = None  # the parameter that the series is given to
        self.substitute: Any = None  # what load_series slices in place of the function's own file

    def load(self) -> None:
        """Import the function and find the parameter of its series. Raises Refused where other parameters have no value."""
        owner, _, self.method = self.request["function"].partition(".")
        self.owner = load_function("%s:%s" % (self.request["source_path"], owner), self.request["root"])
        named = inspect.signature(self.function()).parameters.values()
        needed = [p.name for p in named if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.default is p.empty]
        free = [name for name in needed if name not in self.params]
        if len(free) > 1:
            text = "give values of its parameters in params: %s"
            raise Refused(text % ", ".join(free[1:]), "needs_params", missing=free[1:])
        self.argument = free[0] if free else None

    def function(self) -> Any:
        """Return the function; a method's object is new for each call."""
        return getattr(self.owner(**self.request["init_params"]), self.method) if self.method else self.owner

    def call(self, series: Any, params: dict[str, Any]) -> Any:
        return self.function()(**{self.argument: series}, **params) if self.argument else self.function()(**params)

    def run(self, rows: Rows, params: dict[str, Any], *piece: int) -> list[tuple[Any, ...]]:
        """Return the output of the whole series, or of the own rows of a piece: start, end, halo, ahead."""
        if time.monotonic() > self.until:
            raise Refused("the time limit of %g s came before an answer" % self.request["time_limit_sec"])
        self.calls += 1
        start, end, halo, ahead = piece or (0, len(rows), 0, 0)
        with slices.series_slice(start, end, halo, ahead) as active:
            if self.argument:
                active.rows = active.load(rows.made(), None)
            else:
                self.substitute = rows.made()
            lines = sample_rows.table(self.call(active.rows, params))
            seen = min(active.last, len(rows)) - active.first
            if active.trimmed and len(lines) == end - start:
                return lines
            if len(lines) != seen:
                text = "the output has %d rows for %d rows of the series: only functions with a row for each row are checked"
                raise Refused(text % (len(lines), seen))
            return lines[start - active.first :][: end - start]

    def is_possible(self, series: Rows, params: dict[str, Any], name: str) -> bool:
        """Return True where the function runs on these rows, else note its error."""
        _, error = attempt(self.run, series, params)
        if error is not None:
            self.not_tried["%s: %s: %s" % (name, type(error).__name__, str(error)[:80])] = None
        return error is None

    def perturbed(self, rows: Rows, params: dict[str, Any]) -> Reach:
        """Change single rows at both ends and in between; return the reach that shows."""
        whole, length = self.run(rows, params), len(rows)
        back, ahead, decay = 0, 0, 0.0
        for row in sorted({0, 1, length // 3, length // 2, length * 2 // 3, length - 2, length - 1}):
            for step in range(3):
                other = self.run(rows.mapped(sample_rows.with_changed_row, row, step), params)
                touched, _ = differences(whole, other)
                if touched:
                    back, ahead = max(back, touched[-1] - row), max(ahead, row - touched[0])
                if row == length // 3 and step == 0:
                    decay = sample_rows.fading(whole, other, row)
        return Reach(back, ahead, decay)

    def first_difference(self, rows: Rows, params: dict[str, Any], reach: Reach) -> Optional[dict[str, int]]:
        """Compare the whole with the joined parts; return where they differ by more than rounding."""
        whole, length = self.run(rows, params), len(rows)
        for count in sorted({2, 3, max(2, min(7, length // (reach.back + reach.ahead + 3)))}):
            pieces = [(start, end, reach.back, reach.ahead) for start, end in chunk_bounds(length, count)]
            wrong, largest = differences(whole, [line for piece in pieces for line in self.run(rows, params, *piece)])
            self.largest = max(self.largest, largest)
            if wrong:
                return {"length": length, "chunks": count, "first_differing_row": wrong[0]}
        return None


def main() -> None:
    request = json.load(sys.stdin)
    os.dup2(2, 1)  # the user's prints are no part of the answer
    size = request["memory_mb"] << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    check = Check(request)
    axis, refused = None, Refused("", "")
    try:
        check.load()
        axis = decide(check)
    except Refused as error:
        refused = error
    except MemoryError:
        refused = Refused("it needs more than the %d MB of memory_mb" % request["memory_mb"])
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, SystemExit too
        refused = Refused("it raises %s: %s" % (type(error).__name__, str(error)[:300]))
    evidence = dict(lengths=check.lengths, rounds=sorted(check.rounds), calls=check.calls, form=check.form,
                    max_difference=check.largest, **refused.evidence)  # fmt: skip
    answer = {"kind": axis["kind"] if axis else refused.kind, "data_axis": axis, "reason": refused.reason[:400],
              "evidence": evidence, "not_tried": list(check.not_tried)[:8]}  # fmt: skip
    with open(sys.argv[1], "w", encoding="utf-8") as handle:
        json.dump(answer, handle, default=str)


def decide(check: Check) -> dict[str, Any]:
    """Return the data axis. Raises Refused."""
    points, proposal = check.request["points"], check.request["proposal"]
    rows = given_rows(check)
    check.form = rows.container
    base = length_of_series(check)
    probe = rows.arranged("random", base, check.rng)
    if differences(check.run(probe, check.params), check.run(probe, check.params))[0]:
        raise Refused("two runs on the same rows differ: chance, the clock, or a state that stays")
    # A proposal stays: its window may only be longer than this series, and then looks like a running total.
    if check.argument and check.perturbed(probe, check.params).back >= base - 2 and not proposal:
        for monoid in ("sum", "max", "min"):
            if joins(check, rows, base, monoid):
                check.lengths = [base]
                check.not_tried["rows with NaN"] = None
                return {"kind": "associative", "monoid": monoid}
    check.lengths = [base, base * 2 + 7]
    proposed = proposal["rows"] if proposal else [None] * len(points)
    reaches = [reach_of(check, rows, point, known) for point, known in zip(points, proposed)]
    rounds = [kind for kind in sample_rows.ROUNDS if kind != "shared values" or len(rows.columns) > 1]
    for point, reach in zip(points, reaches):
        for kind, length in itertools.product(rounds, check.lengths):
            compare(check, rows.arranged(kind, length, check.rng), point, kind, reach)
    if check.argument is None or check.request["series"]:
        compare(check, rows, check.params, "your rows", reaches[0])
    around = {}
    for name, side in (("halo", "back"), ("ahead", "ahead")):
        counts = [getattr(reach, side) for reach in reaches]
        text = proposal[name] if proposal else expression(points, counts)
        if text is None:
            text = max(counts)
            check.not_tried["other values of the parameters: no expression fits the rows %s" % side] = None
        if text not in (0, "0"):
            around[name] = {"expr": text}
    return {"kind": "bounded_halo" if around else "independent", **around}


def given_rows(check: Check) -> Rows:
    """Return the user's rows, or random ones, in the first form in which the function takes the whole and a part."""
    request = check.request
    if check.argument is None:
        return loaded_rows(check)
    rows = Rows({"": random_column("", check.rng)}, "pandas Series")
    if request["series"]:
        rows = rows_of(read_file(request["series"], request["column"]))
    forms = ("pandas Series", "numpy array", "list") if rows.container == "pandas Series" else (rows.container,)
    choices = [Rows(rows.columns, form) for form in forms]
    if not request["series"]:
        choices.append(Rows({"value": rows.columns[""]}, "pandas DataFrame"))
    reasons: list[str] = []
    whole_only: Optional[Rows] = None
    for choice in choices:
        choice, error = with_asked_columns(check, choice)
        if error is None:
            third = len(choice) // 3
            _, error = attempt(check.run, choice, check.params, third, 2 * third, min(9, third), 0)
            if error is None:
                check.not_tried.update(dict.fromkeys("rows as a %s" % reason for reason in reasons))
                return choice
            whole_only = whole_only or choice
        reasons.append("%s: %s: %s" % (choice.container, type(error).__name__, error))
    if whole_only is None:
        text = "it runs on none of the rows; give its own in series (%s)"
        raise Refused(text % "; ".join(reasons)[:500])
    return whole_only


def with_asked_columns(check: Check, rows: Rows) -> tuple[Rows, Optional[Exception]]:
    """Run the function, and give a random frame the columns that it asks for; return the last error, None without one."""
    is_random = rows.container == "pandas DataFrame" and not check.request["series"]
    while True:
        _, error = attempt(check.run, rows, check.params)
        asked = re.search(r"'(\w+)'", str(error.args[:1])) if isinstance(error, KeyError) else None
        if not is_random or not asked or asked.group(1) in rows.columns:
            return rows, error
        rows = Rows({**rows.columns, asked.group(1): random_column(asked.group(1), check.rng)}, "pandas DataFrame")


def loaded_rows(check: Check) -> Rows:
    """Run the function once with its own file; the rows that load_series gave it are the series from then on."""
    seen: dict[str, Rows] = {}
    original = slices.rows_between

    def rows_between(source: Any, start: int, end: Optional[int], loader: Any = None) -> Any:
        if loader is None and not isinstance(source, (str, os.PathLike)):  # an emission that is trimmed
            return original(source, start, end)
        if check.substitute is not None:
            return original(check.substitute, start, end)
        found = original(source, start, end, loader)
        seen[str(source)] = rows_of(found)
        return found

    slices.rows_between = rows_between
    check.call(None, check.params)
    if len(seen) != 1:
        raise Refused("it takes no rows and loads none (or several series) with load_series")
    return seen.popitem()[1]


def read_file(path: str, column: Optional[str]) -> Any:
    try:
        import pandas
    except ImportError:
        pandas = None
    if pandas is None or path.endswith((".npy", ".jsonl", ".ndjson")):
        return slices.rows_between(path, 0, None)
    frame = (pandas.read_parquet if path.endswith(".parquet") else pandas.read_csv)(path).reset_index(drop=True)
    return frame[column] if column else frame


def length_of_series(check: Check) -> int:
    """Return the shorter length to try: above three times the largest whole number of the parameters and of the code."""
    function = check.function()
    plain = getattr(function, "__func__", function)
    numbers, codes = [20, *check.params.values()], [plain.__code__] if hasattr(plain, "__code__") else []
    for code in codes:
        numbers += [*code.co_consts, *(plain.__globals__.get(name) for name in code.co_names)]
        codes += [value for value in code.co_consts if hasattr(value, "co_consts")]
    largest = max(value for value in numbers if type(value) is int)
    base = min(sample_rows.LONGEST // 4, max(120, 3 * largest + 40))
    if largest * 3 + 40 > base:
        text = "series longer than %d rows, though a number in the function is %d"
        check.not_tried[text % (4 * base, largest)] = None
    return base


def joins(check: Check, rows: Rows, length: int, monoid: str) -> bool:
    """Return True where the running values of parts join to the whole ones by this monoid, tried on whole numbers."""
    axis = {"kind": "associative", "monoid": monoid}
    try:
        for kind in ("random", "sorted", "falling", "few values"):
            series = rows.arranged(kind, length, check.rng).mapped(sample_rows.whole_numbers).made()
            for count in (2, 7):
                if not check_elision(lambda part, **p: check.call(part, p), series, axis, count, **check.params).equal:
                    return False
    except Exception:  # noqa: BLE001 - the user's function may raise anything
        return False
    return True


def reach_of(check: Check, rows: Rows, point: dict[str, Any], proposed: Any) -> Reach:
    """Return the reach for one point: the one read off the source, else the one that changed rows show at two lengths."""
    base, longer = check.lengths
    trials = {kind: rows.arranged(kind, base, random.Random(1)) for kind in ("random", "positive")}
    kinds = [kind for kind, trial in trials.items() if check.is_possible(trial, point, kind + " rows")]
    if not kinds:
        raise Refused("it raises an error on random rows; give its own in series")
    if proposed is not None:
        return Reach(*proposed)
    short, long = (check.perturbed(rows.arranged(kinds[0], n, check.rng), point) for n in check.lengths)
    if short.decay and abs(short.decay - long.decay) < 1e-3 * short.decay:
        return Reach(math.ceil(128 * math.log(2) / -math.log(short.decay)) + 1, long.ahead, short.decay)
    for which, one, other in (("later", short.back, long.back), ("earlier", short.ahead, long.ahead)):
        if other > one and other > base // 2:
            text = "one row changes the output %d rows %s than it in a series of %d rows, and %d rows in one of %d"
            raise Refused(text % (one, which, base, other, longer), "length_dependent", params=point)
    return Reach(max(short.back, long.back), max(short.ahead, long.ahead))


def compare(check: Check, series: Rows, point: dict[str, Any], kind: str, reach: Reach) -> None:
    """Split one kind of rows. Raises Refused when the reach that showed on random rows is not enough for them."""
    name = kind if kind == "your rows" else kind + " rows"
    if not check.is_possible(series, point, name):
        return
    wrong, error = attempt(check.first_difference, series, point, reach)
    if error is not None:
        raise Refused("a part of the series raises %s: %s" % (type(error).__name__, error), rows=kind)
    if wrong is None:
        check.rounds.add(kind)
        return
    seen = check.perturbed(series, point)
    data = seen.back > reach.back or seen.ahead > reach.ahead or kind not in ("random", "positive")
    text = "on %s the output of a row depends on rows %d before and %d after it, on random rows %d and %d"
    reason = text % (name, seen.back, seen.ahead, reach.back, reach.ahead)
    if not data:
        reason = "a row's output depends on its position in the series, or on more rows than single changes show"
    raise Refused(reason, "data_dependent" if data else "unclassifiable", rows=kind, **wrong,
                  halo=reach.back, ahead=reach.ahead, params=point)  # fmt: skip


def expression(points: list[dict[str, Any]], counts: list[int]) -> Any:
    """Return a number, or ``parameter + number`` (or twice it), that gives every observed count of rows."""
    if len(set(counts)) == 1:
        return counts[0]
    for name, factor in itertools.product(points[0], (1, 2, 3)):
        if all(type(point[name]) is int for point in points):
            rest, *others = {count - factor * point[name] for point, count in zip(points, counts)}
            if not others:
                text = name if factor == 1 else "%d * %s" % (factor, name)
                return text if not rest else "%s %s %d" % (text, "-" if rest < 0 else "+", abs(rest))
    return None


if __name__ == "__main__":
    main()
