"""What an expression of a function stands for: a number, or a series with the rows that each of its values needs."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, Literal, NamedTuple, Union

from hpc_agent.experiment.series.column_methods import DECAY, EXACT, FADES, NUMBERS, Fold
from hpc_agent.experiment.series.function_source import Doubt, Names
from hpc_agent.experiment_kit.axis import evaluate_rows

MOST_ALTERNATIVES = 8
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)


class Linear(NamedTuple):
    """A whole number plus whole multiples of terms; a term is a parameter's name or an expression's text."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        counts = Counter(dict(self.terms))
        counts.update({term: factor * count for term, count in other.terms})
        kept = tuple(sorted((term, count) for term, count in counts.items() if count))
        return Linear(self.constant + factor * other.constant, kept)

    def __str__(self) -> str:
        if not self.terms:
            return str(self.constant)
        single = {term: term if term.isidentifier() else f"({term})" for term, _ in self.terms}
        text = " + ".join(term if count == 1 else f"{count} * {single[term]}" for term, count in self.terms)
        return text + (f" {'-' if self.constant < 0 else '+'} {abs(self.constant)}" if self.constant else "")


ZERO, ONE = Linear(), Linear(1)


class Reach(NamedTuple):
    """The largest of some numbers of rows, each of which is at least 0; none: no rows."""

    alternatives: frozenset[Linear] = frozenset()

    def or_more(self, other: Reach) -> Reach:
        largest = dict(sorted((one.terms, one.constant) for one in self.alternatives | other.alternatives))
        if len(largest) > MOST_ALTERNATIVES:
            raise Doubt(1, "the rows that it needs make too long an expression")
        return Reach(frozenset(Linear(constant, terms) for terms, constant in largest.items()))

    def then(self, other: Reach) -> Reach:
        """Return the rows of a step that follows another one: their sum."""
        if not self.alternatives or not other.alternatives:
            return self.or_more(other)
        sums = [mine.plus(theirs) for mine in self.alternatives for theirs in other.alternatives]
        return Reach().or_more(Reach(frozenset(sums)))

    def __str__(self) -> str:
        texts = sorted(map(str, self.alternatives)) or ["0"]
        return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"


NO_ROWS = Reach()


def rows(linear: Linear | int) -> Reach:
    """Return the reach of a number of rows; 0 rows are no reach."""
    linear = Linear(linear) if isinstance(linear, int) else linear
    return NO_ROWS if linear == ZERO else Reach(frozenset({linear}))


def term(text: str, constant: int = 0) -> Linear:
    return Linear(constant, ((text, 1),))


@dataclass(frozen=True)
class Number:
    """A value without rows; ``linear`` where it can be a number of rows, ``parameter`` plus or minus a whole number."""

    linear: Linear | None = None


@dataclass(frozen=True)
class Position:
    """The number of a loop's row plus ``offset``; ``clipped`` where a negative one becomes 0."""

    offset: Linear = ZERO
    clipped: bool = False


@dataclass(frozen=True)
class Series:
    """A value for each row, from ``back`` rows before and ``ahead`` rows after it; or a fold of all rows.

    ``kind``: loaded (the object that was given, whose columns have names), trimmed (without the rows of the halo).
    """

    back: Reach = NO_ROWS
    ahead: Reach = NO_ROWS
    fold: Fold | None = None
    kind: Literal["column", "loaded", "trimmed", "list"] = "column"

    def beside(self, other: Series) -> Series:
        return Series(self.back.or_more(other.back), self.ahead.or_more(other.ahead))

    def after(self, back: Reach, ahead: Reach = NO_ROWS) -> Series:
        """Return the series of a step on this one."""
        return Series(self.back.then(back), self.ahead.then(ahead))


@dataclass(frozen=True)
class Window:
    """Several rows for each row; ``methods`` make one value of them, or a fold."""

    rows: Series
    methods: Mapping[str, Fold | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """An object that a loop fills or carries: a list, a deque of ``size`` rows, the first row of the series ``of``."""

    kind: Literal["list", "deque", "first"]
    size: Linear = ZERO
    of: str = ""


Value = Union[Number, Position, Series, Window, Container, "Group"]
Group = tuple[Value, ...]  # values that leave the function together


@dataclass
class Notes:
    """Lines with a sentence on each, and the conditions under which the proposal holds."""

    evidence: list[tuple[int, str]] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    series_used: bool = False

    def show(self, node: ast.expr | ast.stmt, text: str, caveat: str | None = None) -> None:
        self.evidence.append((node.lineno, text))
        if caveat and caveat not in self.caveats:
            self.caveats.append(caveat)


@dataclass
class Expressions(ast.NodeVisitor):
    """The rules of expressions over names. ``one_row``: the values are those of one row, as in a loop."""

    names: Names
    notes: Notes
    known: dict[str, Value]
    one_row: ClassVar[bool] = False

    def value(self, node: ast.AST) -> Value:
        """Return the meaning of an expression. Raises Doubt for one that no rule covers."""
        value: Value = self.visit(node)
        return value

    def number(self, node: ast.AST) -> Number:
        value = self.value(node)
        if not isinstance(value, Number):
            raise Doubt(node, "only a number may stand here")
        return value

    def rows_of(self, node: ast.AST) -> Linear:
        """Return an expression as a number of rows. Raises Doubt for any but ``parameter + number``."""
        linear = self.number(node).linear
        if linear is None:
            raise Doubt(node, "the number of rows is not known here")
        return linear

    def series(self, node: ast.AST, value: Value) -> Series:
        """Return ``value`` as rows that more can be computed of. Raises Doubt for a number, a fold and trimmed rows."""
        if isinstance(value, Position):
            raise Doubt(node, "the row's number goes into the value: it may stand in x[i - k] and in 'if i >= k' only")
        if not isinstance(value, Series):
            raise Doubt(node, "a number, a single row, a list or a window stands here, not a value for each row")
        if value.kind == "trimmed":
            raise Doubt(node, "the rows of the halo were trimmed before: trim what leaves the function")
        if value.fold:
            name = "a running total" if value.fold.running else "a figure of the whole series"
            raise Doubt(node, f"{name} goes into other values here")
        return value

    def combined(self, node: ast.AST, *values: Value) -> Number | Series:
        """Return the value of an operation on values of the same row."""
        found = [self.series(node, value) for value in values if not isinstance(value, Number)]
        if not isinstance(node, ast.Call) and any(series.kind == "list" for series in found):
            raise Doubt(node, "an operator takes a list as a whole, not row by row")
        return reduce(Series.beside, found, Series()) if found else Number()

    def folded(self, node: ast.expr | ast.stmt, value: Value, fold: Fold) -> Series:
        """Return a fold of all rows. Raises Doubt where rows of a halo would be folded too."""
        own_rows = isinstance(value, Series) and (value.kind == "trimmed" or value.beside(value) == Series())
        if not isinstance(value, Series) or value.fold or not own_rows:
            raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
        exact = EXACT if fold.monoid in ("sum", "moments") else None
        self.notes.show(node, f"a {'running ' if fold.running else ''}fold of all rows ({fold.monoid})", exact)
        return Series(value.back, value.ahead, fold)

    def forgotten(self, node: ast.expr, speed: str, given: ast.expr) -> Reach:
        """Return the rows after which an average with this speed, a key of DECAY, has forgotten its start."""
        linear = self.number(given).linear
        text = ast.unparse(given) if linear is None else str(linear)
        expression, more, largest = DECAY[speed]
        try:
            if linear is not None and text.isidentifier():
                reach = rows(term(expression.format(text), more))
            elif 1e-6 < float(text) <= largest:
                reach = rows(evaluate_rows("halo", expression.format(text), {}) + more)
            else:
                raise ValueError(text)
        except ValueError as error:
            raise Doubt(node, "the speed of the average is not known here") from error
        self.notes.show(node, f"an exponential average: forgotten after {reach} rows", FADES)
        return reach

    def generic_visit(self, node: ast.AST) -> Value:
        raise Doubt(node, f"no rule for {ast.unparse(node)[:80]}{' in a loop' if self.one_row else ''}")

    def visit_Constant(self, node: ast.Constant) -> Number:
        whole = type(node.value) is int or (isinstance(node.value, float) and node.value == 0)
        return Number(Linear(int(node.value)) if whole else None)  # type: ignore[arg-type]

    def visit_Name(self, node: ast.Name) -> Value:
        if node.id in self.known:
            value = self.known[node.id]
            if isinstance(value, Container):
                raise Doubt(node, f"'{node.id}' is not filled by a loop that a template has")
            return value
        constant = self.names.constant(node.id)
        if constant is None:
            raise Doubt(node, f"'{node.id}' may be anything")
        return Number(Linear(constant))

    def visit_Attribute(self, node: ast.Attribute) -> Value:
        return Number() if self.names.path_of(node) in NUMBERS else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> Value:
        if not isinstance(node.op, OPERATORS):
            return self.generic_visit(node)
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Add | ast.Sub) and isinstance(right, Number) and right.linear is not None:
            sign = 1 if isinstance(node.op, ast.Add) else -1
            if isinstance(left, Position) and not left.clipped:
                return Position(left.offset.plus(right.linear, sign))
            if isinstance(left, Number) and left.linear is not None and not right.linear.terms:
                return Number(left.linear.plus(right.linear, sign))
        return self.combined(node, left, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not) and not self.one_row:
            return self.generic_visit(node)
        operand = self.value(node.operand)
        linear = operand.linear if isinstance(operand, Number) else None
        if linear is not None and not linear.terms and isinstance(node.op, ast.USub):
            return Number(Linear(-linear.constant))
        return self.combined(node, operand)

    def visit_Compare(self, node: ast.Compare) -> Value:
        if (len(node.ops) > 1 and not self.one_row) or not all(isinstance(one, COMPARISONS) for one in node.ops):
            return self.generic_visit(node)
        return self.combined(node, *map(self.value, [node.left, *node.comparators]))
