"""Three templates of loops: a stencil or a deque, an exponential average, and a running fold."""

from __future__ import annotations

import ast
from dataclasses import replace

from hpc_agent.experiment.series.column_methods import SCALAR_FUNCTIONS, WINDOW_FUNCTIONS, Fold
from hpc_agent.experiment.series.function_source import Doubt, Stateful
from hpc_agent.experiment.series.rows_needed import (
    ONE,
    ZERO,
    Container,
    Expressions,
    Linear,
    Number,
    Position,
    Reach,
    Series,
    Value,
    Window,
    rows,
)

LIST = Container("list")
EXTREMES = ("builtins.max", "builtins.min")


def refuse_state(body: list[ast.stmt]) -> None:
    """Raise Stateful where a name is set from its own value."""
    seen: set[str] = set()
    for part in ast.walk(ast.Module(body, [])):
        match part:
            case ast.AugAssign(ast.Name(name), _, value) | ast.Assign([ast.Name(name)], value):
                own = any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(value))
                if own != isinstance(part, ast.AugAssign) and name not in seen:
                    raise Stateful(part, f"'{name}' carries a state from row to row")
                seen.add(name)


class Loop(Expressions):
    """One loop over the rows of ``series``: the values near its own row, called ``row``, and what it fills and carries."""

    one_row = True

    def __init__(self, outer: Expressions, target: ast.expr, source: ast.expr) -> None:
        """Read the head of a loop. Raises Doubt for any other than over x or range(len(x))."""
        own: Value = Series()
        match target, source:
            case ast.Name(row), ast.Name(series):
                pass
            case ast.Name(row), ast.Call(outside, [ast.Call(inside, [ast.Name(series)], [])], []) if [
                outer.names.path_of(outside),
                outer.names.path_of(inside),
            ] == ["builtins.range", "builtins.len"]:
                own = Position()
            case _:
                raise Doubt(source, "no template has this loop")
        found = outer.known.get(series)
        if not isinstance(found, Series):
            raise Doubt(source, "the loop does not run over the rows of a series that has a name")
        numbers = {name: value for name, value in outer.known.items() if isinstance(value, Number)}
        super().__init__(outer.names, outer.notes, {**numbers, row: own})
        self.outer, self.row, self.series_name, self.source = outer, row, series, found
        self.first = ZERO  # the smallest row number at this place, after ``i >= k``

    def run(self, node: ast.For) -> None:
        if node.orelse or self.row in self.outer.known:
            raise Doubt(node, "no rule for a loop with else, or over a name that another value has")
        carried = self._carried(node.body[0])
        outputs = node.body[1:] if carried else node.body
        known = self.outer.known
        for statement in outputs:
            match statement:
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"), [value], [])) if (
                    known.get(name) == LIST
                ):
                    known[name] = self.listed(node, self.value(value))
                case _:
                    raise Doubt(statement, "no template has this statement of a loop")
        if carried:
            state = self.known[carried]
            del known[carried]  # after the loop it holds the last row's value, or the total
            if isinstance(state, Series) and state.fold:
                known[carried] = replace(state, fold=Fold(state.fold.monoid, False))
            elif not outputs:
                raise Doubt(node, "no template has this loop")

    def listed(self, node: ast.expr | ast.stmt, value: Value) -> Series:
        """Return the series of a value that is appended for each row."""
        if isinstance(value, Series) and value.fold:
            return value
        own, source = self.combined(node, value), self.series(node, self.source)
        if isinstance(own, Number):
            own = Series()
        if own != Series():
            self.notes.show(node, f"a stencil of {own.back} rows before and {own.ahead} after")
        return replace(source.after(own.back, own.ahead), kind="list")

    def _own(self, node: ast.expr) -> Series:
        value = self.combined(node, self.value(node))
        return value if isinstance(value, Series) else Series()

    def _carried(self, node: ast.stmt) -> str | None:
        """Take in a loop's first statement where it updates a deque, an average or a fold; return the name of that."""
        match node:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"), [value], [])):
                ring = self.outer.known.get(name)
                if not isinstance(ring, Container) or ring.kind != "deque":
                    return None
                self.known[name] = Window(self._own(value).after(rows(ring.size.plus(ONE, -1))))
                self.notes.show(node, f"a deque of {ring.size} rows")
                return name
            case ast.AugAssign(ast.Name(name), ast.Add() as plus, more):
                value = ast.copy_location(ast.BinOp(ast.Name(name), plus, more), node)
            case ast.Assign([ast.Name(name)], value):
                pass
            case _:
                return None
        start = self.outer.known.get(name)
        if not isinstance(start, Number) and start != Container("first", of=self.series_name):
            raise Doubt(node, f"'{name}' is not known before the loop")
        self.known.pop(name, None)
        self.known[name] = self._updated(node, name, value, start)
        return name

    def _updated(self, node: ast.stmt, name: str, value: ast.expr, start: Value | None) -> Series:
        """Return the fold of ``s + value`` that starts at 0 or of ``max(s, value)``, or the average ``a * y + value``."""
        match value:
            case ast.BinOp(left, ast.Add(), right):
                monoid, begins = "sum", start == Number(ZERO)
            case ast.Call(function, [left, right], []) if self.names.path_of(function) in EXTREMES:
                monoid = ast.unparse(function)[-3:]
                # The first row may only begin the extreme of the rows themselves.
                own_row = {self.row, f"{self.series_name}[{self.row}]"}
                begins = isinstance(start, Number) or bool(own_row & {ast.unparse(left), ast.unparse(right)})
            case _:
                raise Doubt(node, f"'{name}' is no average and no fold")
        for own, other in ((left, right), (right, left)):
            if begins and ast.unparse(own) == name:
                if self._own(other) != Series():
                    raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
                return self.folded(node, self.source, Fold(monoid, True))
            match own:
                case ast.BinOp(one, ast.Mult(), two) if monoid == "sum":
                    factors = [part for part in (one, two) if ast.unparse(part) != name]
                    if len(factors) == 1:
                        return self._own(other).after(self._memory(factors[0]))
        raise Doubt(node, f"'{name}' is no average and no fold")

    def _memory(self, factor: ast.expr) -> Reach:
        match factor:
            case ast.BinOp(ast.Constant(1), ast.Sub(), alpha):
                return self.forgotten(factor, "1 - alpha", alpha)
        return self.forgotten(factor, "factor", factor)

    def visit_Name(self, node: ast.Name) -> Value:
        if node.id not in self.known and node.id in self.outer.known:
            raise Doubt(node, f"'{node.id}' is not known in this loop: it knows numbers and rows of its series")
        return super().visit_Name(node)

    def visit_Call(self, node: ast.Call) -> Value:
        path = self.names.path_of(node.func) or ""
        if node.keywords or path not in SCALAR_FUNCTIONS | WINDOW_FUNCTIONS:
            return self.generic_visit(node)
        match [self.value(argument) for argument in node.args]:
            case [Number(linear), Position(offset, False)] if path == "builtins.max" and linear == ZERO:
                return Position(offset, True)
            case [Window(one)] if path in WINDOW_FUNCTIONS:
                return one
            case values if path in SCALAR_FUNCTIONS:
                return self.combined(node, *values)
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> Value:
        """Return ``a if i >= k else b``: the rows before k see another branch. Other conditions are of values only."""
        match node.test:
            case ast.Compare(ast.Name(self.row), [operator], [bound]) if self.known[self.row] == Position():
                begins = self.rows_of(bound)
            case _:
                return self.combined(node, *map(self.value, (node.test, node.body, node.orelse)))
        if not isinstance(operator, ast.GtE) or _may_be_negative(begins):
            raise Doubt(
                node, "no rule for this condition on the row's number: use 'if i >= k' of a row k of the series"
            )
        self._assume_not_negative(begins)
        values = [self.value(node.orelse)]
        before, self.first = self.first, begins
        values.append(self.value(node.body))
        self.first = before
        return self.combined(node, *values, Series(rows(begins)))

    def visit_Subscript(self, node: ast.Subscript) -> Value:
        """Return ``x[i - k]`` or ``x[max(0, i - k) : i + 1]``."""
        if ast.unparse(node.value) != self.series_name:
            raise Doubt(node, "only rows of the series that is looped over are known here")
        match node.slice:
            case ast.Slice(ast.expr() as lower, ast.expr() as upper, None):
                end = self._offset(upper).plus(ONE, -1)
                return Window(self._near(node, self._offset(lower)).beside(self._near(node, end)))
            case ast.Slice():
                raise Doubt(node, "the slice grows with the series, or leaves rows out")
        return self._near(node, self._offset(node.slice))

    def _offset(self, node: ast.AST) -> Linear:
        """Return the rows after row i of ``i``, ``i - 3``, ``i + k + 1``. Raises Doubt for a number that may be negative."""
        at = self.value(node)
        if not isinstance(at, Position):
            raise Doubt(node, "this row's number is not the loop's own plus or minus a number of rows")
        if not at.clipped and _may_be_negative(self.first.plus(at.offset)):
            why = "the row's number may be negative here, which is read from the end of the series: use max(0, ...)"
            raise Doubt(node, why)
        return at.offset

    def _near(self, node: ast.AST, offset: Linear) -> Series:
        """Return the row ``offset`` rows after the loop's own. A parameter in it counts as not negative."""
        signs = {count > 0 for _, count in offset.terms}
        if len(signs) > 1:
            raise Doubt(node, "the parameters decide if this row is before or after the loop's own")
        self._assume_not_negative(offset)
        before = ZERO.plus(offset, -1)
        back = rows(before if signs == {False} else max(0, before.constant))
        return Series(back, rows(offset if signs == {True} else max(0, offset.constant)))

    def _assume_not_negative(self, linear: Linear) -> None:
        caveats = [f"the halo holds where {name} is not negative" for name, _ in linear.terms]
        self.notes.caveats += [caveat for caveat in caveats if caveat not in self.notes.caveats]


def _may_be_negative(linear: Linear) -> bool:
    """Return False where a row's number is at least 0 for parameters that are not negative."""
    return linear.constant < 0 or any(count < 0 for _, count in linear.terms)
