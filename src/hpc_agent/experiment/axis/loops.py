"""Loops and comprehensions over rows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.arguments import SHORT
from hpc_agent.experiment.axis.filling import at_least, conditioned, moved, row_value, stored
from hpc_agent.experiment.axis.guards import Guard, guard
from hpc_agent.experiment.axis.iteration import assign_target, inner_values, row_values
from hpc_agent.experiment.axis.reach import ONE, ZERO, Linear, Reach, distance, rows
from hpc_agent.experiment.axis.values import (
    Any_,
    Carried,
    Cell,
    Doubt,
    Folded,
    Gone,
    Index,
    Ring,
    Rows,
    Sequential,
    Spread,
    Store,
    combine,
    join,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.statements import Loop, Statements

CHANGING = frozenset(
    "append appendleft extend insert pop popleft remove clear add update sort reverse rotate setdefault".split()
)


def run(reader: Statements, node: ast.For) -> None:
    """A loop over rows; inside of one, a loop over something else."""
    from hpc_agent.experiment.axis.statements import Loop

    if reader.loop:
        _inner(reader, node)
        return
    pass_over = row_values(reader, node.iter)
    reader.trail.note(node, "a loop over the rows")
    loop = Loop(body=node.body, start=pass_over.start, lower=pass_over.start)
    loop.changed = [box for name in _changed(node.body) if isinstance(box := reader.env.get(name), Store | Ring)]
    if any(isinstance(box, Store) and not box.array and box.content is not None for box in loop.changed):
        raise Doubt(node, "a list is filled by several loops")
    names = set(stored(node.body))
    reader.env.update({name: Carried(name) for name in names})
    assign_target(reader, node.target, pass_over.value)
    loop.before = dict(reader.env)
    reader.loop = loop
    try:
        reader.run(node.body)
    finally:
        reader.loop = None
    loop.ends.append(loop.filled)
    _finish(node, loop, pass_over.drop, reader)
    for name in names | {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}:
        reader.env[name] = _afterwards(reader.env[name])


def _afterwards(value: Any_) -> Any_:
    if isinstance(value, Folded) and value.running:
        return Folded(value.back, value.ahead, value.monoid, running=False, counts=value.counts)
    return Gone("it is what the last row left")


def _finish(node: ast.For, loop: Loop, drop: Linear, reader: Statements) -> None:
    """Lists that did not get a value for each row, and the edges of arrays that the loop leaves out."""
    for box in loop.changed:
        if not isinstance(box, Store) or box.content is None:
            continue
        if box.array:
            box.content = at_least(box.content, rows(loop.start), rows(drop))
        else:
            always = all(id(box) in filled for filled in loop.ends)
            if not always and id(box) in loop.by_value_only:
                raise Doubt(node, "rows are left out of the output depending on their values")
            if not always or box.lead != loop.start or drop != ZERO:
                _shorten(node, box, reader, always)


def _shorten(node: ast.For, box: Store, reader: Statements, always: bool) -> None:
    if isinstance(box.content, Folded):
        if not always:
            raise Doubt(node, "running totals without a value for each row")
        return
    assert box.content is not None
    if not always:
        reader.trail.caveats[SHORT] = None
    box.content = Rows(box.content.back, box.content.ahead, short=not always)


def _changed(body: list[ast.stmt]) -> Iterator[str]:
    """Names of what the body fills or changes in place."""
    for node in (part for statement in body for part in ast.walk(statement)):
        target = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
            target = node.func.value
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node.value
        if isinstance(target, ast.Name):
            yield target.id


def _inner(reader: Statements, node: ast.For) -> None:
    """Its body three times, which is enough to see whether what it reaches grows with each turn."""
    assert reader.loop is not None
    if any(isinstance(part, ast.Continue | ast.Break) for part in ast.walk(node)):
        raise Doubt(node, "an inner loop that is left early")
    value = inner_values(reader, node.iter)
    reader.loop.inner += 1
    seen: list[list[tuple[str, str, str]]] = []
    for _ in range(3):
        before = dict(reader.env)
        assign_target(reader, node.target, value)
        reader.run(node.body)
        reader.env = {name: join(node, before.get(name), after) for name, after in reader.env.items()}
        seen.append(
            [(name, str(v.back), str(v.ahead)) for name, v in sorted(reader.env.items()) if isinstance(v, Spread)]
        )
    reader.loop.inner -= 1
    if seen[1] != seen[2]:
        raise Doubt(node, "an inner loop reaches further with each turn")


# Rows by their number, and values of the row before.


def row_at(reader: Statements, node: ast.AST, index: Index) -> Cell:
    """x[i - k] and the like. Raises Doubt where i - k may be negative, which would be a row from the end."""
    loop = reader.loop
    if loop is None:
        raise Doubt(node, "a row number outside a loop over rows")
    known = index.safe or loop.lower.plus(index.low).at_least_zero()
    if not known and not (distance(index.low.times(-1)).none and distance(loop.start.times(-1)).none):
        raise Doubt(node, f"row i{_signed(index.low)} may lie before the first, where Python counts from the end")
    return Cell(distance(index.low.times(-1)), distance(index.high))


def _signed(linear: Linear) -> str:
    text = str(linear)
    return f" - {text[1:]}" if text.startswith("-") else f" + {text}"


def lag(reader: Statements, node: ast.AST, name: str) -> Any_:
    """The value that a variable got for the row before: of a row's values alone, so one row further back."""
    loop = reader.loop
    if loop is None or name in loop.lagging:
        raise Sequential(node, f"'{name}' is carried from row to row")
    statement = _only_assignment(loop.body, name)
    if statement is None or list(stored(loop.body)).count(name) != 1:
        raise Sequential(node, f"'{name}' is carried from row to row")
    env, lower = reader.env, loop.lower
    reader.env, loop.lower = dict(loop.before), loop.start
    loop.lagging.append(name)
    try:
        value = reader.visit(statement)
    finally:
        loop.lagging.pop()
        reader.env, loop.lower = env, lower
    found = combine(node, [value])
    if isinstance(found, Spread) and not isinstance(found, Cell):
        raise Sequential(node, f"'{name}' is carried from row to row")
    reader.trail.note(node, f"'{name}' of the row before")
    before = reader.of_row(node, found)
    return Cell(before.back.plus(rows(ONE)), before.ahead)


def _only_assignment(body: list[ast.stmt], name: str) -> ast.expr | None:
    """The value of ``name = value`` at the top of the body, where every row comes to it."""
    for statement in body:
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and statement.targets[0].id == name
        ):
            return statement.value
        if any(isinstance(part, ast.Continue | ast.Break | ast.Return) for part in ast.walk(statement)):
            return None
    return None


# Conditions.


def branch(reader: Statements, node: ast.If) -> None:
    """Both branches of a condition inside the loop; ``continue`` makes the rest of the body conditional too."""
    loop = reader.loop
    assert loop is not None
    last = [id(body[-1]) for body in (node.body, node.orelse) if body]
    if any(isinstance(part, ast.Continue) and id(part) not in last for part in ast.walk(node)):
        raise Doubt(node, "continue inside of several conditions")
    condition = guard(reader, node.test)
    outside = (loop.back, loop.ahead, loop.by_place, loop.by_value, loop.lower, loop.filled)
    filled: list[frozenset[int]] = []

    def within(body: list[ast.stmt], lower: Linear | None) -> None:
        _enter(loop, condition, lower, outside)
        reader.run(body)
        if _continues(body):
            loop.ends.append(loop.filled)
        else:
            filled.append(loop.filled)

    reader.both(node, lambda: within(node.body, condition.when_true), lambda: within(node.orelse, condition.when_false))
    loop.filled = frozenset.intersection(*filled) if filled else outside[5]
    ends = [_continues(node.body), _continues(node.orelse)]
    if not any(ends):
        loop.back, loop.ahead, loop.by_place, loop.by_value, loop.lower, _ = outside
    else:
        known = condition.when_false if ends[0] else condition.when_true
        _enter(loop, condition, known, (*outside[:5], loop.filled))


def _enter(
    loop: Loop, condition: Guard, lower: Linear | None, outside: tuple[Reach, Reach, bool, bool, Linear, frozenset[int]]
) -> None:
    loop.back, loop.ahead = outside[0].or_more(condition.back), outside[1].or_more(condition.ahead)
    loop.by_place, loop.by_value = outside[2] or condition.by_place, outside[3] or condition.by_value
    loop.lower = lower if lower is not None else outside[4]
    loop.filled = outside[5]


def _continues(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Continue)


def conditional_value(reader: Statements, node: ast.IfExp) -> Any_:
    """``x[i - 1] if i > 0 else 0.0``."""
    loop = reader.loop
    assert loop is not None
    condition = guard(reader, node.test)
    lower, values = loop.lower, []
    for part, known in ((node.body, condition.when_true), (node.orelse, condition.when_false)):
        loop.lower = known if known is not None else lower
        values.append(reader.visit(part))
    loop.lower = lower
    found = reader.combine(node, values)
    depends = condition.by_place or condition.by_value
    return reader.combine(node, [found, Cell(condition.back, condition.ahead)]) if depends else found


def comprehension(reader: Statements, node: ast.ListComp | ast.GeneratorExp) -> Any_:
    """A value for each row; inside a loop over rows, for each number or row of a window."""
    from hpc_agent.experiment.axis.statements import Loop

    if len(node.generators) != 1 or node.generators[0].is_async:
        raise Doubt(node, "a comprehension of several loops")
    generator, env, outer = node.generators[0], dict(reader.env), reader.loop
    try:
        if outer:
            assign_target(reader, generator.target, inner_values(reader, generator.iter))
            return reader.combine(
                node, [reader.visit(part) for part in generator.ifs] + [row_value(reader, node, node.elt)]
            )
        pass_over = row_values(reader, generator.iter)
        assign_target(reader, generator.target, pass_over.value)
        reader.loop = loop = Loop(body=[], start=pass_over.start, lower=pass_over.start)
        _filters(reader, loop, generator.ifs)
        found = conditioned(loop, row_value(reader, node, node.elt))
    finally:
        reader.env, reader.loop = env, outer
    reader.trail.note(node, "a value for each row")
    placed = moved(found, pass_over.start.times(-1))
    return _short_rows(reader, placed) if loop.by_place else Rows(placed.back, placed.ahead)


def _short_rows(reader: Statements, value: Spread) -> Rows:
    reader.trail.caveats[SHORT] = None
    return Rows(value.back, value.ahead, short=True)


def _filters(reader: Statements, loop: Loop, tests: list[ast.expr]) -> None:
    for test in tests:
        condition = guard(reader, test)
        if condition.by_value:
            raise Doubt(test, "rows are left out of the output depending on their values")
        _enter(
            loop,
            condition,
            condition.when_true,
            (loop.back, loop.ahead, loop.by_place, loop.by_value, loop.lower, loop.filled),
        )
