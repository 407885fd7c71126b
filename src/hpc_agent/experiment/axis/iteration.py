"""What a loop runs over: rows, their numbers, or something small inside the loop over rows."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.reach import ONE, ZERO, Linear
from hpc_agent.experiment.axis.values import (
    Any_,
    Cell,
    Doubt,
    Gone,
    Group,
    Index,
    Length,
    Plain,
    Ring,
    Rows,
    Scalar,
    Span,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.statements import Statements

RECORDS = frozenset("itertuples iter_rows to_dicts".split())


@dataclass(frozen=True)
class Pass:
    """``value`` of the loop variable; the first row number, and how many rows at the end are left out."""

    value: Any_
    start: Linear = ZERO
    drop: Linear = ZERO


def row_values(reader: Statements, node: ast.expr) -> Pass:
    """The loop variable of a loop over rows. Raises Doubt when it runs over something else."""
    name = reader.scope.dotted(node.func, set(reader.env)) if isinstance(node, ast.Call) else None
    if isinstance(node, ast.Call):
        if name == "range":
            return _range(reader, node)
        if name == "enumerate":
            return Pass(Group((_numbering(reader, node), row_values(reader, node.args[0]).value)))
        if name == "zip":
            return _zip(reader, node)
        if name in ("tqdm.tqdm", "tqdm.auto.tqdm"):
            return row_values(reader, node.args[0])
        if isinstance(node.func, ast.Attribute) and (found := _records(reader, node, node.func)) is not None:
            return Pass(found)
    value = reader.spread(node)
    if not isinstance(value, Rows) or value.short:
        raise Doubt(node, "what the loop runs over cannot be told")
    return Pass(Cell(value.back, value.ahead))


def _range(reader: Statements, node: ast.Call) -> Pass:
    if len(node.args) > 2:
        raise Doubt(node, "a loop in steps")
    first, last = (reader.visit(argument) for argument in (ast.Constant(0), *node.args)[-2:])
    start = getattr(first, "linear", None)
    if not isinstance(last, Length) or start is None:
        raise Doubt(node, "a loop that does not run over the rows")
    if last.shift.const > 0 and not last.shift.terms:
        raise Doubt(node, "a loop beyond the last row")
    return Pass(Index(), start, last.shift.times(-1))


def _numbering(reader: Statements, node: ast.Call) -> Index:
    begin = [keyword.value for keyword in node.keywords] or node.args[1:] or [ast.Constant(0)]
    number = reader.linear(begin[0], "the first number of enumerate")
    return Index(number, number)


def _zip(reader: Statements, node: ast.Call) -> Pass:
    if node.keywords and [keyword.arg for keyword in node.keywords] != ["strict"]:
        raise Doubt(node, "zip with other arguments")
    passes = [row_values(reader, argument) for argument in node.args]
    if any(part.start != ZERO or part.drop != ZERO for part in passes):
        raise Doubt(node, "row numbers that do not begin with the first row")
    return Pass(Group(tuple(part.value for part in passes)))


def _records(reader: Statements, node: ast.Call, function: ast.Attribute) -> Any_ | None:
    """Rows of a table: itertuples(), iterrows(), iter_rows(), to_dict("records")."""
    records = function.attr == "to_dict" and [ast.unparse(argument) for argument in node.args] == ["'records'"]
    if function.attr != "iterrows" and function.attr not in RECORDS and not records:
        return None
    table = reader.spread(function.value)
    if not isinstance(table, Rows) or table.short:
        raise Doubt(node, "what the loop runs over cannot be told")
    row = Cell(table.back, table.ahead)
    return Group((Gone("the label of a row"), row)) if function.attr == "iterrows" else row


def inner_values(reader: Statements, node: ast.expr) -> Any_:
    """The loop variable of a loop inside the loop over rows."""
    name = reader.scope.dotted(node.func, set(reader.env)) if isinstance(node, ast.Call) else None
    if isinstance(node, ast.Call) and name == "range":
        return _inner_range(reader, node)
    if isinstance(node, ast.Call) and name == "enumerate" and len(node.args) == 1:
        return Group((Scalar(), inner_values(reader, node.args[0])))
    if isinstance(node, ast.Call) and name == "zip":
        return Group(tuple(inner_values(reader, argument) for argument in node.args))
    value = reader.visit(node)
    if isinstance(value, Ring):
        return reader.window_of(node, value)
    if isinstance(value, Group):
        return reader.combine(node, list(value.items))
    if isinstance(value, Plain):  # a parameter with several numbers: if it is the series, this is noticed at the end
        return reader.combine(node, [value, Cell()])
    return reader.combine(node, [value])


def _inner_range(reader: Statements, node: ast.Call) -> Any_:
    if len(node.args) > 2:
        raise Doubt(node, "a loop in steps")
    first, last = (reader.visit(argument) for argument in (ast.Constant(0), *node.args)[-2:])
    low, high = getattr(first, "linear", None), getattr(last, "linear", None)
    if low is not None and high is not None:
        return Span(low, high.minus(ONE))
    if isinstance(first, Index) and isinstance(last, Index):
        return Index(first.low, last.high.minus(ONE), first.safe)
    raise Doubt(node, "how far an inner loop goes cannot be told")


def assign_target(reader: Statements, target: ast.expr, value: Any_) -> None:
    """Set the loop variable, or each of a tuple."""
    if isinstance(target, ast.Name):
        reader.env[target.id] = value
        return
    if isinstance(target, ast.Tuple | ast.List) and not any(isinstance(part, ast.Starred) for part in target.elts):
        parts = value.items if isinstance(value, Group) else (value,) * len(target.elts)
        if len(parts) == len(target.elts) and (isinstance(value, Group | Cell)):
            for part, item in zip(target.elts, parts, strict=True):
                assign_target(reader, part, item)
            return
    raise Doubt(target, "what the loop variable is cannot be told")
