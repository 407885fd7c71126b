"""Lists, arrays and deques that a loop fills, and variables that it carries on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.arguments import flat
from hpc_agent.experiment.axis.reach import NONE, ONE, ZERO, Linear, Reach, positive_part, rows
from hpc_agent.experiment.axis.recursions import EXTREMES, IsState, folded, mentions, named, recursion
from hpc_agent.experiment.axis.values import (
    Carried,
    Cell,
    Doubt,
    First,
    Folded,
    Index,
    Length,
    Plain,
    Ring,
    Rows,
    Scalar,
    Sequential,
    Spread,
    Store,
    combine,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.statements import Loop, Statements


def update(reader: Statements, node: ast.stmt, target: ast.expr, value: ast.expr) -> bool:
    """A variable computed from what it was for the row before; False for any other assignment."""
    loop = reader.loop
    if loop is None or not isinstance(target, ast.Name) or not isinstance(reader.env.get(target.id), Carried):
        return False
    if not mentions(value, named(target.id)):
        return False
    if list(stored(loop.body)).count(target.id) != 1:
        raise Sequential(node, f"'{target.id}' is carried from row to row and set in several places")
    reader.env[target.id] = recursion(reader, node, value, named(target.id))
    return True


def conditional_update(reader: Statements, node: ast.If) -> bool:
    """``if x > best: best = x``; ``if y is None: y = x`` with an else; the same with ``out.append``."""
    loop = reader.loop
    if loop is None or len(node.body) != 1:
        return False
    if not node.orelse:
        return _extreme(reader, node, node.body[0])
    if len(node.orelse) != 1:
        return False
    first, second = node.body[0], node.orelse[0]
    if isinstance(first, ast.Assign) and isinstance(second, ast.Assign):
        target = first.targets[0]
        if not isinstance(target, ast.Name) or ast.dump(target) != ast.dump(second.targets[0]):
            return False
        carried = isinstance(reader.env.get(target.id), Carried) and any(
            mentions(s.value, named(target.id)) for s in (first, second)
        )
        if not carried or list(stored(loop.body)).count(target.id) != 2:
            return False
        either = ast.copy_location(ast.IfExp(node.test, first.value, second.value), node)
        reader.env[target.id] = recursion(reader, node, either, named(target.id))
        return True
    return _either_append(reader, node, first, second)


def _either_append(reader: Statements, node: ast.If, first: ast.stmt, second: ast.stmt) -> bool:
    name, other = _appended_to(first), _appended_to(second)
    if name is None or name != other:
        return False
    values = [s.value.args[0] for s in (first, second) if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    if not any(mentions(value, _last_of(name)) for value in values):
        return False
    either = ast.copy_location(ast.IfExp(node.test, *values), node)
    assert isinstance(second, ast.Expr)
    assert isinstance(second.value, ast.Call)
    return append(reader, ast.copy_location(ast.Call(second.value.func, [either], []), node))


def _appended_to(statement: ast.stmt) -> str | None:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and len(call.args) == 1
    ):
        return call.func.value.id if isinstance(call.func.value, ast.Name) else None
    return None


def _extreme(reader: Statements, node: ast.If, body: ast.stmt) -> bool:
    """``if best is None or x > best: best = x``."""
    loop = reader.loop
    assert loop is not None
    if not isinstance(body, ast.Assign) or not isinstance(body.targets[0], ast.Name):
        return False
    name = body.targets[0].id
    test = node.test
    if (
        isinstance(test, ast.BoolOp)
        and isinstance(test.op, ast.Or)
        and ast.unparse(test.values[0]) == f"{name} is None"
    ):
        test = test.values[1]
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(reader.env.get(name), Carried):
        return False
    left, right, op = ast.unparse(test.left), ast.unparse(test.comparators[0]), type(test.ops[0])
    greater = {(True, ast.Gt), (True, ast.GtE), (False, ast.Lt), (False, ast.LtE)}
    if {left, right} != {name, ast.unparse(body.value)} or op not in (ast.Gt, ast.GtE, ast.Lt, ast.LtE):
        return False
    if list(stored(loop.body)).count(name) != 1 or mentions(body.value, named(name)):
        return False
    monoid = EXTREMES["max" if (right == name, op) in greater else "min"]
    reader.env[name] = folded(reader, node, monoid, reader.visit(body.value))
    return True


# Lists, arrays and deques that are filled.


def append(reader: Statements, node: ast.expr) -> bool:
    """``name.append(value)`` of a list or a deque; False for anything else."""
    name = _appended_to(ast.Expr(node))
    box = reader.env.get(name) if name else None
    if name is None or not isinstance(box, Ring | Store) or not isinstance(node, ast.Call):
        return False
    value, loop = node.args[0], reader.loop
    if loop is None:
        if isinstance(box, Ring) or box.content is not None or not isinstance(reader.visit(value), Scalar | First):
            raise Doubt(node, "what is appended outside the loop moves the rows")
        box.lead = box.lead.plus(ONE)
    elif loop.inner:
        raise Doubt(node, "an inner loop appends more than one value for a row")
    elif isinstance(box, Ring):
        _into_ring(reader, node, box, value)
    else:
        _into_list(reader, node, name, box, value)
    return True


def _into_ring(reader: Statements, node: ast.Call, ring: Ring, value: ast.expr) -> None:
    loop = reader.loop
    assert loop is not None
    if loop.by_place or loop.by_value or ring.filled:
        raise Sequential(node, "a deque that does not get each row once may hold rows from any time before")
    found = reader.combine(node, [flat(reader, node, reader.visit(value))])
    if not isinstance(found, Cell | Scalar | Plain):
        raise Sequential(node, "what the deque holds is itself carried from row to row")
    ring.content = reader.of_row(node, found)
    ring.filled = True
    reader.trail.note(node, f"a deque of the last {ring.size} rows")


def _last_of(name: str) -> IsState:
    return lambda node: isinstance(node, ast.Subscript) and ast.unparse(node) == f"{name}[-1]"


def _into_list(reader: Statements, node: ast.Call, name: str, box: Store, value: ast.expr) -> None:
    loop = reader.loop
    assert loop is not None
    if id(box) in loop.filled:
        raise Doubt(node, "more than one value is appended for a row")
    is_last = _last_of(name)
    found = recursion(reader, node, value, is_last) if mentions(value, is_last) else row_value(reader, node, value)
    loop.filled = loop.filled | {id(box)}
    if loop.by_value:
        loop.by_value_only.add(id(box))
    _take(node, box, moved(conditioned(loop, found), box.lead.minus(loop.start)))


def row_value(reader: Statements, node: ast.AST, value: ast.expr) -> Spread:
    found = reader.visit(value)
    return (
        found if isinstance(found, Folded) else reader.of_row(node, reader.combine(node, [flat(reader, node, found)]))
    )


def fill(reader: Statements, node: ast.stmt, box: Store, key: ast.expr, value: ast.expr) -> None:
    """``out[i + k] = value`` in a loop, ``out[a:b] = column`` and ``out[0] = value`` outside."""
    if reader.loop is None:
        _fill_at_once(reader, node, box, key, value)
        return
    place = reader.visit(key)
    if not isinstance(place, Index) or place.low != place.high:
        raise Doubt(node, "which row of the output it sets cannot be told")

    def is_row_before(part: ast.AST) -> bool:
        if not (
            isinstance(part, ast.Subscript)
            and isinstance(part.value, ast.Name)
            and reader.env.get(part.value.id) is box
        ):
            return False
        index = reader.visit(part.slice)
        return isinstance(index, Index) and index.low == index.high == place.low.minus(ONE)

    found = (
        recursion(reader, node, value, is_row_before)
        if mentions(value, is_row_before)
        else row_value(reader, node, value)
    )
    if place.low == ZERO or not isinstance(found, Folded):
        _take(node, box, moved(conditioned(reader.loop, found), place.low))
        return
    raise Doubt(node, "running totals are moved")


def _fill_at_once(reader: Statements, node: ast.stmt, box: Store, key: ast.expr, value: ast.expr) -> None:
    if isinstance(key, ast.Slice) and key.step is None:
        low = ZERO if key.lower is None else reader.linear(key.lower, "the first row")
        high = Length() if key.upper is None else reader.visit(key.upper)
        shift = high.shift if isinstance(high, Length) else getattr(high, "linear", None)
        column = reader.spread(value)
        if (
            shift is None
            or not _not_positive(shift)
            or not _not_positive(low.times(-1))
            or not isinstance(column, Rows)
        ):
            raise Doubt(node, "which rows of the output it sets cannot be told")
        placed = moved(Cell(column.back, column.ahead), low)
        _take(node, box, at_least(placed, rows(low), rows(shift.times(-1))))
        return
    number = reader.linear(key, "the row").number
    if number is None or not isinstance(reader.visit(value), Scalar | First | Plain):
        raise Doubt(node, "which row of the output it sets cannot be told")
    edge = rows(Linear(number + 1 if number >= 0 else -number))
    _take(node, box, Cell(edge, NONE) if number >= 0 else Cell(NONE, edge))


def _not_positive(linear: Linear) -> bool:
    return linear.number <= 0 if linear.number is not None else all(times < 0 for _, times in linear.terms)


def conditioned(loop: Loop, value: Spread) -> Spread:
    back, ahead = value.back.or_more(loop.back), value.ahead.or_more(loop.ahead)
    return Folded(back, ahead, value.monoid, True, value.counts) if isinstance(value, Folded) else Cell(back, ahead)


def moved(value: Spread, by: Linear) -> Spread:
    """A value that is put so many rows later than where it was computed."""
    if isinstance(value, Folded) or by == ZERO:
        return value
    if by.number is not None and by.number < 0:
        return Cell(value.back.less(by.times(-1)), value.ahead.plus(rows(by.times(-1))))
    if by.number is not None:
        return Cell(value.back.plus(rows(by)), value.ahead.less(by))
    return Cell(value.back.plus(positive_part(by)), value.ahead.plus(positive_part(by.times(-1))))


def _take(node: ast.AST, box: Store, value: Spread) -> None:
    if box.content is None:
        box.content = value
        return
    if isinstance(value, Folded) != isinstance(box.content, Folded):
        raise Doubt(node, "the output mixes running totals and other values")
    found = combine(node, [box.content, value])
    assert isinstance(found, Spread)
    box.content = found


def at_least(content: Spread, back: Reach, ahead: Reach) -> Spread:
    if isinstance(content, Folded):
        return content
    return Cell(content.back.or_more(back), content.ahead.or_more(ahead))


def stored(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
