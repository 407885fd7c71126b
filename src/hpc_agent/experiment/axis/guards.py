"""Conditions inside a loop over rows: those that depend on where a row lies, and those that depend on values."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.reach import NONE, ONE, ZERO, Linear, Reach, distance, positive_part, rows
from hpc_agent.experiment.axis.values import Cell, Doubt, Index, Length, Plain, Ring, Rows, Scalar

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.statements import Statements


@dataclass(frozen=True)
class Guard:
    """``when_true`` and ``when_false``: the row number is at least this in that branch."""

    back: Reach = NONE
    ahead: Reach = NONE
    by_place: bool = False
    by_value: bool = False
    when_true: Linear | None = None
    when_false: Linear | None = None


def guard(reader: Statements, test: ast.expr) -> Guard:
    """What a condition depends on. Raises Doubt."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = guard(reader, test.operand)
        return replace(inner, when_true=inner.when_false, when_false=inner.when_true)
    if isinstance(test, ast.BoolOp):
        return _several([guard(reader, part) for part in test.values], isinstance(test.op, ast.And))
    if isinstance(test, ast.Compare):
        operands = [test.left, *test.comparators]
        pairs = [
            _pair(reader, left, op, right) for left, op, right in zip(operands, test.ops, operands[1:], strict=False)
        ]
        return _several(pairs, every=True)
    value = reader.visit(test)
    if isinstance(value, Index):
        return _at_least(value, ast.NotEq(), ZERO, test)
    return _of_value(reader, test, value)


def _several(parts: list[Guard], every: bool) -> Guard:
    found = Guard()
    for part in parts:
        found = Guard(
            found.back.or_more(part.back),
            found.ahead.or_more(part.ahead),
            found.by_place or part.by_place,
            found.by_value or part.by_value,
            (part.when_true or found.when_true) if every else None,
            (part.when_false or found.when_false) if not every or len(parts) == 1 else None,
        )
    return found


def _pair(reader: Statements, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Guard:
    for part in (left, right):
        if (ring := _measured(reader, part)) is not None:
            return Guard(back=rows(ring.size.plus(ONE)), by_place=True)
    first, second = reader.visit(left), reader.visit(right)
    if isinstance(second, Index) and not isinstance(first, Index):
        first, second, op = second, first, _mirrored(op)
    if not isinstance(first, Index):
        found = reader.combine(left, [first, second])
        is_none = isinstance(op, ast.Is | ast.IsNot) and ast.unparse(right) == "None"
        if is_none and isinstance(found, Cell):  # only the first rows find nothing there
            return Guard(found.back, found.ahead, by_place=True)
        return _of_value(reader, left, found)
    if isinstance(second, Length):
        return Guard(ahead=positive_part(first.high.minus(second.shift).plus(ONE)), by_place=True)
    linear = getattr(second, "linear", None)
    if linear is None:
        raise Doubt(left, "the number of the row is compared with something unknown")
    return _at_least(first, op, linear, left)


def _measured(reader: Statements, node: ast.expr) -> Ring | None:
    """The deque of ``len(deque)``."""
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "len"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Name)
    ):
        ring = reader.env.get(node.args[0].id)
        return ring if isinstance(ring, Ring) else None
    return None


def _mirrored(op: ast.cmpop) -> ast.cmpop:
    pairs: dict[type[ast.cmpop], ast.cmpop] = {
        ast.Lt: ast.Gt(),
        ast.Gt: ast.Lt(),
        ast.LtE: ast.GtE(),
        ast.GtE: ast.LtE(),
    }
    return pairs.get(type(op), op)


def _at_least(index: Index, op: ast.cmpop, number: Linear, node: ast.AST) -> Guard:
    """I + shift against a number: rows below the limit are the beginning of the series."""
    if index.low != index.high:
        raise Doubt(node, "several row numbers are compared at once")
    limit = number.minus(index.low)
    if isinstance(op, ast.Eq | ast.NotEq) and limit == ZERO:
        lower = (None, ONE) if isinstance(op, ast.Eq) else (ONE, None)
        return Guard(back=rows(ONE), by_place=True, when_true=lower[0], when_false=lower[1])
    above = limit.plus(ONE)
    known: dict[type[ast.cmpop], tuple[Linear | None, Linear | None]] = {
        ast.Lt: (None, limit), ast.LtE: (None, above), ast.Gt: (above, None), ast.GtE: (limit, None),
    }  # fmt: skip
    if type(op) not in known:
        raise Doubt(node, "the number of the row is used in a calculation")
    when_true, when_false = known[type(op)]
    return Guard(
        back=distance(when_true or when_false or above), by_place=True, when_true=when_true, when_false=when_false
    )


def _of_value(reader: Statements, node: ast.AST, value: object) -> Guard:
    if isinstance(value, Scalar):
        return Guard()
    if isinstance(value, Plain):
        reader.trail.used_as_number.update(dict.fromkeys(value.names, node))
        return Guard()
    if isinstance(value, Cell) and not isinstance(value, Rows):
        return Guard(value.back, value.ahead, by_value=True)
    raise Doubt(node, "what the condition depends on cannot be told")
