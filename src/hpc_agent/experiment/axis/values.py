"""What an expression can be, as far as the rows of the series matter."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpc_agent.experiment.axis.reach import NONE, ONE, ZERO, Linear, Reach, largest


class Doubt(Exception):
    """It cannot be told what the rows depend on."""

    def __init__(self, node: ast.AST, why: str) -> None:
        super().__init__(why)
        self.line = getattr(node, "lineno", 0)
        self.why = why


class Sequential(Doubt):
    """A row depends on the state that all rows before have left."""


@dataclass(frozen=True, eq=False)
class Value:
    """Two values are the same only if they are one object."""


@dataclass(frozen=True, eq=False)
class Scalar(Value):
    """Does not depend on the rows. ``text``: a name, as of a column."""

    linear: Linear | None = None
    text: bool = False


@dataclass(frozen=True, eq=False)
class Plain(Value):
    """Made of parameters alone, which may be numbers or the series itself."""

    linear: Linear | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Spread(Value):
    """Depends on so many rows before and after the row it belongs to."""

    back: Reach = NONE
    ahead: Reach = NONE


@dataclass(frozen=True, eq=False)
class Rows(Spread):
    """A value for each row. ``short``: the first or last rows have none."""

    short: bool = False


@dataclass(frozen=True, eq=False)
class Cell(Spread):
    """The value of one row, inside a loop over rows; or a window of them."""


@dataclass(frozen=True, eq=False)
class Window(Spread):
    """``rolling(...)`` before anything is taken of it."""

    drifts: bool = True


@dataclass(frozen=True, eq=False)
class Fading(Spread):
    """``ewm(...)`` before its mean is taken."""


@dataclass(frozen=True, eq=False)
class Growing(Spread):
    """``expanding()`` before anything is taken of it."""


@dataclass(frozen=True, eq=False)
class Folded(Spread):
    """Of all rows up to this one (``running``), or of all rows: a monoid's value, or figures computed of it."""

    monoid: str = "sum"
    running: bool = False
    counts: bool = False


@dataclass(frozen=True, eq=False)
class Index(Value):
    """Row numbers from i + low to i + high; ``safe``: never negative, so that they do not wrap around."""

    low: Linear = ZERO
    high: Linear = ZERO
    safe: bool = False


@dataclass(frozen=True, eq=False)
class Span(Value):
    """A number from low to high, of an inner loop."""

    low: Linear
    high: Linear


@dataclass(frozen=True, eq=False)
class Length(Value):
    """The number of rows, plus ``shift``."""

    shift: Linear = ZERO


@dataclass(frozen=True, eq=False)
class First(Value):
    """The first row: good for the beginning of a recursion, and for nothing else."""


@dataclass(eq=False)
class Ring:
    """A deque with a maximal length."""

    size: Linear
    content: Spread | None = None
    filled: bool = False  # this row's value is already in it


@dataclass(eq=False)
class Store:
    """A list or array that is filled row by row. ``lead``: elements that were there before the first."""

    array: bool
    lead: Linear = ZERO
    content: Spread | None = None


@dataclass(frozen=True, eq=False)
class Group(Value):
    """A tuple, list or dict that the source spells out."""

    items: tuple[Any_, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class Handle(Value):
    """Something that is only written to."""


@dataclass(frozen=True, eq=False)
class Carried(Value):
    """A variable at the beginning of a loop's body that the body changes."""

    name: str = ""


@dataclass(frozen=True, eq=False)
class Gone(Value):
    """A variable that cannot be read."""

    why: str = ""


Any_ = Value | Ring | Store

NAMES = {
    Index: "the number of the row",
    Length: "the number of rows",
    Span: "a counter",
    First: "the first row of the series",
    Window: "a window of which nothing is taken",
    Fading: "an average of which nothing is taken",
    Growing: "an expanding window of which nothing is taken",
    Ring: "a deque",
    Store: "a list that is being filled",
    Group: "a collection",
    Handle: "a file",
}


def combine(node: ast.AST, values: Iterable[Any_]) -> Any_:
    """What an elementwise operation makes of its operands. Raises Doubt."""
    rest = [value for value in values if not isinstance(value, Scalar)]
    if rest and all(isinstance(value, First) for value in rest):
        return rest[0]
    if any(isinstance(value, Folded) for value in rest):
        rest = [_as_count(value) for value in rest]
    for value in rest:
        _check_operand(node, value)
    spread = [value for value in rest if isinstance(value, Spread)]
    if not spread:
        names = frozenset[str]().union(*(value.names for value in rest if isinstance(value, Plain)))
        return Plain(None, names) if rest else Scalar()
    kinds = {type(value) for value in spread}
    if len(kinds) > 1:
        raise Doubt(node, "it mixes single rows, whole columns and totals")
    back, ahead = largest(v.back for v in spread), largest(v.ahead for v in spread)
    if back.too_wide or ahead.too_wide:
        raise Doubt(node, "it reaches too many different numbers of rows")
    if kinds == {Folded}:
        return _folded(node, [value for value in spread if isinstance(value, Folded)], back, ahead)
    if kinds == {Cell}:
        return Cell(back, ahead)
    shortened = any(value.short for value in spread if isinstance(value, Rows))
    if shortened and len(spread) > 1:
        raise Doubt(node, "it combines columns of different lengths")
    return Rows(back, ahead, shortened)


def _check_operand(node: ast.AST, value: Any_) -> None:
    if isinstance(value, Gone):
        raise Doubt(node, value.why)
    if isinstance(value, Carried):
        raise Sequential(node, f"'{value.name}' is carried from row to row")
    if type(value) in NAMES:
        raise Doubt(node, f"{NAMES[type(value)]} is used in a calculation")


def _as_count(value: Any_) -> Any_:
    """The number of rows, or of the rows so far, beside totals of them."""
    if isinstance(value, Length) and value.shift == ZERO:
        return Folded(counts=True)
    if isinstance(value, Index) and value.low == value.high == ONE:
        return Folded(counts=True, running=True)
    return value


def _folded(node: ast.AST, folds: list[Folded], back: Reach, ahead: Reach) -> Folded:
    if len({fold.running for fold in folds}) > 1:
        raise Doubt(node, "it mixes running totals with those of all rows")
    monoids = {fold.monoid for fold in folds}
    if monoids == {"sum"} and any(fold.counts for fold in folds) and not all(fold.counts for fold in folds):
        monoids = {"moments"}
    if monoids == {"sum", "moments"}:
        monoids = {"moments"}
    if len(monoids) > 1 or (len(folds) > 1 and not monoids <= {"sum", "moments"}):
        raise Doubt(node, "it combines different kinds of totals")
    return Folded(back, ahead, monoids.pop(), folds[0].running, all(fold.counts for fold in folds))


def join(node: ast.AST, left: Any_ | None, right: Any_ | None) -> Any_:
    """A variable after two branches."""
    if left is right and left is not None:
        return left
    if left is None or right is None:
        return Gone("a variable is set in one branch only")
    pair = {type(left): left, type(right): right}
    if set(pair) == {Carried, Folded}:
        return pair[Folded]  # what is added for some rows only
    if type(left) is type(right) and isinstance(left, Index) and isinstance(right, Index):
        return left if (left.low, left.high) == (right.low, right.high) else Gone("row numbers differ between branches")
    try:
        return combine(node, [left, right])
    except Doubt as doubt:
        return Gone(doubt.why)
