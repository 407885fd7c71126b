"""Choose the rows of an answer: conditions, order, the number asked for; then as many as an answer may hold."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import msgspec

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.contract.primitive import Result
from hpc_agent.contract.vocabulary import Direction as Directions
from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.metric_names import best_end
from hpc_agent.ops.aggregate.table import TASKS, VALUE, Column, cell_text
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import Positive, doc

DIGITS, SPREAD_DIGITS = 6, 3
ANSWER_BYTES = 1900  # the envelope needs some of 2,000
HEADER_BYTES, CONSTANT_BYTES = 600, 250
CELL_CHARACTERS = 60
RANGES_SHOWN = 100  # characters
NAMES_SHOWN = 20  # of columns or parameters
VALUES_SHOWN = 8  # of a parameter that has no value such as was asked for

_CONDITION = re.compile(r"\s*(?P<name>.+?)\s*(?P<sign>>=|<=|!=|==|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


# Fields of the requests that show rows.
Sort = Annotated[
    str | None, doc("metric or column whose best rows come first; in the order of the parameters by default")
]
Direction = Annotated[Directions, doc("the best value of --sort; auto: by its name (loss: min, accuracy: max)")]
Top = Annotated[Positive | None, doc("show so many rows at most")]
Where = Annotated[
    list[str], doc("show rows that fulfil every condition, such as 'alpha>=0.1' or 'model=rf': =, !=, <, <=, >, >=")
]


class Choice(Protocol):
    """A request with those fields."""

    sort: Sort
    direction: Direction
    top: Top
    where: Where
    over: list[str]


class Shown(Result, omit_defaults=True, kw_only=True):
    """The rows of an answer. Fields that are empty are left out; the files have everything."""

    whole_table: ClassVar[str] = "table_csv"  # the field with the path of the file that has every row
    row_count: Annotated[int, doc("rows of the whole table")]
    columns: Annotated[
        list[str],
        doc(
            "as in table.csv: parameters; tasks (of a row); of a metric its value, or _mean, _std, _ci95 (half the width of "
            "the 95 % interval by Student's t), _count where tasks have no value, or several; _nan and _inf where there are any"
        ),
    ] = []
    rows: Annotated[list[list[Any]], doc("values in the order of columns; null where there is none")] = []
    matching_rows: Annotated[int | None, doc("rows that fulfil --where; left out without it")] = None
    constant: Annotated[dict[str, Any], doc("parameters that are the same in every row")] = {}
    sort: Annotated[str, doc("column by which rows are sorted")] = ""
    direction: Annotated[str, doc("min: the lowest value comes first; max: the highest")] = ""
    digits: Annotated[
        int | None, doc("significant digits of the figures in rows, 3 of _std and _ci95; left out: all digits")
    ] = None
    columns_left_out: Annotated[int, doc("columns that did not fit into the answer")] = 0
    truncated: Annotated[
        bool, doc("true: the answer has less than the table: rows, columns, text or ranges were cut")
    ] = False

    def records(self) -> list[dict[str, Any]]:
        """Return the rows of the answer as objects by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_pandas(self) -> Any:
        """Return every row of the table, with all digits, as a data frame of pandas; best first where it was sorted."""
        import pandas

        path = getattr(self, self.whole_table)
        frame = pandas.read_csv(path) if path else pandas.DataFrame(self.rows, columns=self.columns)
        if self.sort in frame.columns:
            frame = frame.sort_values(self.sort, ascending=self.direction != "max", kind="stable", ignore_index=True)
        return frame


class Selection(NamedTuple):
    """Positions of the rows in the table: those of the answer, in its order, and those that fulfil the conditions."""

    order: list[int]
    matching: list[int] | None  # None without conditions
    sort: Column | None
    direction: str
    notes: list[str]


def select(columns: Sequence[Column], chosen: Choice, verb: str) -> Selection:
    """Return the rows that fulfil the conditions, best first. Raises SpecInvalid for an unknown column or direction."""
    if chosen.direction != "auto" and not chosen.sort:
        names = dict.fromkeys(column.metric for column in columns if column.metric)
        request: Any = chosen
        ways = [command_line(verb, msgspec.structs.replace(request, sort=name)) for name in list(names)[:3]]
        message = "direction says which value of --sort is the best, and no --sort is given"
        raise SpecInvalid(message, field="direction", remediation=f"Run one of: {'; '.join(ways)}" if ways else None)
    order = list(range(len(columns[0].values) if columns else 0))
    notes: list[str] = []
    for text in chosen.where:
        column, check = _condition(text, columns, chosen.over)
        found = [row for row in order if check(column.values[row])]
        empty = 0 if check(None) else sum(column.values[row] is None for row in order)
        if empty and column.metric:
            notes.append(f"{empty} rows have no value of {column.name}: they do not fulfil '{text}'")
        if order and not found:
            notes.append(_no_match(text, column, order))
        order = found
    matching = list(order) if chosen.where else None
    sort = _column(chosen.sort, columns, "sort", chosen.over) if chosen.sort else None
    direction = ""
    if sort:
        direction = _direction(sort, chosen, verb)
        absent = [row for row in order if sort.values[row] is None]
        order = _ranked(sort, order, direction == "max") + absent
        if absent:
            notes.append(f"{len(absent)} rows have no value of {sort.name}: they come last")
    return Selection(order[: chosen.top], matching, sort, direction, notes)


def _no_match(text: str, column: Column, rows: list[int]) -> str:
    """Return a note about a condition that none of these rows fulfils: the values that they have."""
    values = list(dict.fromkeys(str(cell_text(_cell(column, row))) for row in _ranked(column, rows)))
    shown = ", ".join(values[:VALUES_SHOWN])
    if len(values) > VALUES_SHOWN:
        shown = f"{values[0]} to {values[-1]}" if column.metric else f"{shown} and {len(values) - VALUES_SHOWN} more"
    return f"no row fulfils '{text}'" + (f": {column.name} is {shown}" if shown else "")


def _condition(text: str, columns: Sequence[Column], over: list[str]) -> tuple[Column, Callable[[Any], bool]]:
    found = _CONDITION.fullmatch(text)
    if not found:
        example = "Write a name, a sign and a value: --where 'alpha>=0.1'."
        raise SpecInvalid(f"where: {text!r} is not a condition", field="where", remediation=example)
    column = _column(found["name"], columns, "where", over)
    try:
        wanted = json.loads(found["value"])
    except ValueError:
        wanted = found["value"]
    sign = found["sign"]
    if sign not in _SIGNS:
        if isinstance(wanted, (int, float)) and not any(_is_same(cell, wanted) for cell in column.values):
            wanted = found["value"] if found["value"] in column.values else wanted  # text such as "10"
        return column, lambda cell: _is_same(cell, wanted) == (sign != "!=")
    compare = _SIGNS[sign]
    sample = next((cell for cell in column.values if cell is not None), None)
    if sample is not None and not any(_comparable(cell, wanted) for cell in column.values):
        message = f"where: {text!r} compares {wanted!r} with values such as {sample!r}"
        raise SpecInvalid(message, field="where", remediation="Compare it with a value of that kind.")
    return column, lambda cell: _comparable(cell, wanted) and compare(cell, wanted)


def _is_same(cell: Any, wanted: Any) -> bool:
    """Return True for equal values; 1 and true are different values of a parameter."""
    return bool(cell == wanted) and isinstance(cell, bool) == isinstance(wanted, bool)


def _comparable(cell: Any, wanted: Any) -> bool:
    numbers = isinstance(cell, (int, float)) and isinstance(wanted, (int, float))
    return numbers or (isinstance(cell, str) and isinstance(wanted, str))


def _column(name: str, columns: Sequence[Column], field: str, over: list[str]) -> Column:
    """Return the column of that name; of a metric that has several, its mean. ``over``: parameters that no row has."""
    by_name = {column.name: column for column in columns}
    means = {column.metric: column for column in columns if column.part in (VALUE, "mean")}
    if found := by_name.get(name) or by_name.get(f"{name}_mean") or means.get(name):
        return found
    if name in over:
        message = f"{field}: no row has one {name}, because --over {name} joins the tasks that differ in {name}"
        raise SpecInvalid(message, field=field, remediation=f"Leave {name} out of --over.")
    raise unknown_name(field, name, list(by_name), "the table has no column", "The columns are")


def unknown_name(field: str, name: str, known: Sequence[str], absent: str, others: str) -> SpecInvalid:
    """Return the error about a name; ``absent`` says what has no such name, ``others`` introduces those that there are."""
    remedy = f"{did_you_mean(name, known)}{others}: {', '.join(known[:NAMES_SHOWN])}"
    more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
    return SpecInvalid(f"{field}: {absent} {name!r}", field=field, remediation=f"{remedy}{more}.")


def _direction(column: Column, chosen: Choice, verb: str) -> str:
    by_part = {"count": "max", TASKS: "max", "std": "min", "ci95": "min", "nan": "min", "inf": "min"}
    plain = by_part.get(column.part) or ("" if column.metric else "min")
    found = best_end(chosen.direction) or plain or best_end("auto", column.metric)
    if found is None:
        request: Any = chosen
        low = command_line(verb, msgspec.structs.replace(request, direction="min"))
        raise SpecInvalid(
            f"the name {column.metric!r} does not say if its best value is the lowest or the highest",
            field="direction",
            remediation=f"Give --direction max where the highest is the best; where the lowest is: {low}",
        )
    return found


def _ranked(column: Column, rows: list[int], descending: bool = False) -> list[int]:
    """Return the rows that have a value in the order of their values, numbers before text. Equal rows keep their order."""

    def rank(row: int) -> tuple[int, Any]:
        cell = column.values[row]
        return (0, cell) if isinstance(cell, (int, float)) else (1, str(cell_text(cell)))

    return sorted((row for row in rows if column.values[row] is not None), key=rank, reverse=descending)


def fill(shown: Shown, columns: Sequence[Column], selection: Selection) -> None:
    """Put the chosen rows into an answer, as many as fit. The other fields of ``shown`` have their values already.

    Columns come first that every answer needs: parameters, then the column of the order. Parameters that are the same in
    every row stand in ``constant`` instead.
    """
    total = len(columns[0].values) if columns else 0
    same = [c for c in columns if not c.metric and c.part != TASKS and total > 1 and _is_constant(c.values)]
    shown.constant = bounded({c.name: shortened(c.values[0]) for c in same}, CONSTANT_BYTES)
    telling = [c for c in columns if c not in same and _is_telling(c, columns)]
    kept = _fitting(telling, selection)
    shown.columns_left_out = len(telling) + len(same) - len(kept) - len(shown.constant)
    cut = shown.columns_left_out > 0 or any(shown.constant.get(c.name) != c.values[0] for c in same)
    shown.matching_rows = None if selection.matching is None else len(selection.matching)
    if selection.sort:
        shown.sort, shown.direction = selection.sort.name, selection.direction
    shown.columns = [column.name for column in kept]
    lines: list[list[Any]] = []
    room = ANSWER_BYTES - len(msgspec.json.encode(shown)) - len(b'"rows":[],"digits":6,"truncated":true,')
    for row in selection.order:
        line = [_cell(column, row) for column in kept]
        room -= len(msgspec.json.encode(line)) + 1
        if room < 0 and lines:
            break
        lines.append(line)
        changed = [column for column, cell in zip(kept, line, strict=True) if cell != column.values[row]]
        if any(column.metric for column in changed):
            shown.digits = DIGITS
        cut = cut or not all(column.metric for column in changed)
    shown.rows = lines
    of = total if shown.matching_rows is None else shown.matching_rows
    shown.truncated = shown.truncated or cut or len(lines) < of


def _is_constant(values: list[Any]) -> bool:
    return all(type(value) is type(values[0]) and value == values[0] for value in values)


def _is_telling(column: Column, columns: Sequence[Column]) -> bool:
    """Return True for a column that tells more than the others of its metric."""
    if column.part in ("min", "max"):
        return False
    if column.part in ("std", "ci95"):
        return any(value is not None for value in column.values)
    if column.part != "count":
        return True
    rows = len(column.values)
    tasks = next((other.values for other in columns if other.part == TASKS), [1] * rows)
    unusual = [c.values for c in columns if c.metric == column.metric and c.part in ("nan", "inf")]
    values = [sum((more[row] or 0 for more in unusual), column.values[row] or 0) for row in range(rows)]
    return values != tasks


def bounded(facts: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return the first entries, as many as ``limit`` bytes of JSON hold."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        limit -= len(msgspec.json.encode({name: value}))
        if limit >= 0:
            found[name] = value
    return found


def first_ranges(text: str) -> str:
    """Return the first ranges, as many as an answer shows."""
    return text if len(text) <= RANGES_SHOWN else text[: RANGES_SHOWN + 1].rpartition(",")[0] or text[:RANGES_SHOWN]


def named_ranges(text: str) -> str:
    """Return the first ranges for a sentence, which says when there are more."""
    shown = first_ranges(text)
    return shown if shown == text else f"{shown} and more"


def _fitting(columns: list[Column], selection: Selection) -> list[Column]:
    """Return the columns that fit into HEADER_BYTES with their names and the cells of the first row, at least two."""
    sort = selection.sort
    metric = sort.metric if sort else ""
    kept: list[Column] = []
    size = 0
    for column in sorted(columns, key=lambda c: (c is not sort, bool(c.metric), c.metric != metric)):
        size += len(msgspec.json.encode([column.name, *[_cell(column, row) for row in selection.order[:1]]]))
        if size <= HEADER_BYTES or len(kept) < 2:
            kept.append(column)
    return [column for column in columns if column in kept]


def _cell(column: Column, row: int) -> Any:
    value = column.values[row]
    if column.metric and isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{SPREAD_DIGITS if column.part in ('std', 'ci95') else DIGITS}g}")
    return value if column.metric else shortened(value)


def shortened(value: Any) -> Any:
    text = cell_text(value)
    return f"{text[:CELL_CHARACTERS]}..." if isinstance(text, str) and len(text) > CELL_CHARACTERS else value
