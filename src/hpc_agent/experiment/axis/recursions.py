"""Variables that are carried from row to row and yet can be split: running sums and extremes, averages that fade."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.arguments import EXACT_SUMS, FADES
from hpc_agent.experiment.axis.guards import guard
from hpc_agent.experiment.axis.reach import ONE, ZERO, Linear, fading
from hpc_agent.experiment.axis.values import (
    Any_,
    Carried,
    Cell,
    Doubt,
    First,
    Folded,
    Plain,
    Scalar,
    Sequential,
    Spread,
    combine,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.statements import Statements

IsState = Callable[[ast.AST], bool]
EXTREMES = {"max": "max", "min": "min", "numpy.maximum": "max", "numpy.minimum": "min"}


def mentions(node: ast.AST, is_state: IsState) -> bool:
    return any(is_state(part) for part in ast.walk(node))


def named(name: str) -> IsState:
    return lambda node: isinstance(node, ast.Name) and node.id == name


def recursion(reader: Statements, node: ast.AST, value: ast.expr, is_state: IsState) -> Spread:
    """The value of a variable that ``value`` computes from what it was for the row before.

    Raises Sequential where nothing is known that would let the series be split.
    """
    if isinstance(value, ast.IfExp):
        value = _without_beginning(reader, value, is_state)
    if isinstance(value, ast.Call):
        return _extreme(reader, node, value, is_state)
    linear = _linear_in_state(reader, value, is_state)
    if linear is None:
        raise Sequential(node, "the state of the row before is used in a way that no partial or halo stands for")
    factor, rest = linear
    if factor == ONE:
        return _sum(reader, node, rest)
    return _average(reader, node, ONE.minus(factor), rest)


def _without_beginning(reader: Statements, value: ast.IfExp, is_state: IsState) -> ast.expr:
    """``x if y is None else a * x + (1 - a) * y`` without what holds for the first row only."""
    branches = [value.body, value.orelse]
    later = [branch for branch in branches if mentions(branch, is_state)]
    if len(later) != 1 or not _is_beginning(reader, value.test, is_state):
        raise Sequential(value, "the state of the row before decides what is done with the row")
    [first] = [branch for branch in branches if branch is not later[0]]
    if not isinstance(reader.visit(first), Cell | Scalar | Plain | First):
        raise Doubt(first, "the beginning of the recursion cannot be told")
    return later[0]


def _is_beginning(reader: Statements, test: ast.expr, is_state: IsState) -> bool:
    """``y is None``, ``not out``, ``i == 0`` and their opposites."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Name)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot):
        return is_state(test.left) and ast.unparse(test.comparators[0]) == "None"
    if isinstance(test, ast.Name) and not is_state(test):
        return ast.unparse(test) in {
            name for name, value in reader.env.items() if type(value).__name__ in ("Store", "Index")
        }
    if mentions(test, is_state):
        return False
    condition = guard(reader, test)
    return condition.by_place and not condition.by_value and condition.back.options == {ONE} and condition.ahead.none


def _extreme(reader: Statements, node: ast.AST, value: ast.Call, is_state: IsState) -> Folded:
    name = reader.scope.dotted(value.func, set(reader.env)) or ""
    others = [argument for argument in value.args if not is_state(argument)]
    if (
        name not in EXTREMES
        or len(value.args) != 2
        or len(others) != 1
        or value.keywords
        or mentions(others[0], is_state)
    ):
        raise Sequential(node, "the state of the row before is used in a way that no partial or halo stands for")
    return folded(reader, node, EXTREMES[name], reader.visit(others[0]))


def _sum(reader: Statements, node: ast.AST, rest: list[ast.expr]) -> Folded:
    term = reader.combine(node, [reader.visit(part) for part in rest])
    if not isinstance(term, Scalar):
        reader.trail.caveats[EXACT_SUMS] = None
    return folded(reader, node, "sum", term)


def folded(reader: Statements, node: ast.AST, monoid: str, term: Any_) -> Folded:
    """A running total of one term a row, which may be left out for some rows."""
    if not isinstance(term, Cell | Scalar | Plain):
        raise Sequential(node, "what is added up is itself carried from row to row")
    loop = reader.loop
    assert loop is not None
    cell = reader.of_row(node, term)
    counts = isinstance(term, Scalar) and monoid == "sum"
    reader.trail.note(node, "a running count" if counts else f"a running {monoid}")
    return Folded(cell.back.or_more(loop.back), cell.ahead.or_more(loop.ahead), monoid, running=True, counts=counts)


def _average(reader: Statements, node: ast.AST, alpha: Linear, rest: list[ast.expr]) -> Cell:
    term = reader.combine(node, [reader.visit(part) for part in rest])
    loop = reader.loop
    assert loop is not None
    reach = fading(alpha)
    if reach is None or not rest:
        raise Sequential(node, "the state of the row before does not fade")
    if loop.by_place or loop.by_value or loop.inner:
        raise Sequential(node, "an average that is not taken at every row may remember any number of rows")
    if not isinstance(term, Cell | Scalar | Plain):
        raise Sequential(node, "what is averaged is itself carried from row to row")
    cell = reader.of_row(node, term)
    reader.trail.caveats[FADES] = None
    reader.trail.note(node, f"an exponential average, which fades over {reach} rows")
    return Cell(cell.back.plus(reach), cell.ahead)


def _linear_in_state(reader: Statements, node: ast.expr, is_state: IsState) -> tuple[Linear, list[ast.expr]] | None:
    """(factor of the state, the terms without it), or None."""
    if is_state(node):
        return ONE, []
    if not mentions(node, is_state):
        return ZERO, [node]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _linear_in_state(reader, node.operand, is_state)
        return None if inner is None else (inner[0].times(-1), inner[1])
    if not isinstance(node, ast.BinOp):
        return None
    left, right = (_linear_in_state(reader, part, is_state) for part in (node.left, node.right))
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add | ast.Sub):
        return left[0].plus(right[0], 1 if isinstance(node.op, ast.Add) else -1), left[1] + right[1]
    if isinstance(node.op, ast.Mult):
        return _scaled(reader, left, node.right) if right[0] == ZERO else _scaled(reader, right, node.left)
    if isinstance(node.op, ast.Div) and right[0] == ZERO:
        divisor = _number(reader, node.right)
        return (
            None
            if divisor is None or not divisor.number
            else (left[0].times(1 / divisor.number), [*left[1], node.right])
        )
    return None


def _scaled(
    reader: Statements, part: tuple[Linear, list[ast.expr]], by: ast.expr
) -> tuple[Linear, list[ast.expr]] | None:
    factor = _number(reader, by)
    if factor is None or mentions_carried(reader, by):
        return None
    if part[0].number is not None:
        return factor.times(part[0].number), [*part[1], *([by] if part[1] else [])]
    if factor.number is not None:
        return part[0].times(factor.number), part[1]
    return None


def mentions_carried(reader: Statements, node: ast.AST) -> bool:
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    return any(isinstance(reader.env.get(name), Carried) for name in names)


def _number(reader: Statements, node: ast.expr) -> Linear | None:
    """The factor as arithmetic over parameters; None where it depends on the row."""
    if mentions_carried(reader, node):
        return None
    value = reader.visit(node)
    if isinstance(value, Plain):
        combine(node, [value])
        reader.trail.used_as_number.update(dict.fromkeys(value.names, node))
    return value.linear if isinstance(value, Scalar | Plain) else None
