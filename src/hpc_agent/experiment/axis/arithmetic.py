"""Arithmetic of numbers of rows: parameters, row numbers, counters and lengths."""

from __future__ import annotations

import ast

from hpc_agent.experiment.axis.reach import Linear, bracketed, term
from hpc_agent.experiment.axis.values import Any_, First, Group, Index, Length, Scalar, Span, Store


def is_number(node: ast.expr, number: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == number and not isinstance(node.value, bool)


def not_negative(linear: Linear) -> bool:
    """Where it is a number; a parameter is taken as one that makes sense, since Python would take other rows otherwise."""
    return linear.number >= 0 if linear.number is not None else all(times > 0 for _, times in linear.terms)


def moved(op: ast.operator, left: Any_, right: Any_) -> Any_ | None:
    """Row numbers and counters plus or minus something."""
    if isinstance(op, ast.Add) and isinstance(right, Index | Length):
        left, right = right, left
    low, high = ends(right)
    if low is None or high is None or not isinstance(op, ast.Add | ast.Sub):
        return None
    if isinstance(op, ast.Sub):
        low, high = high.times(-1), low.times(-1)
    if isinstance(left, Index):
        return Index(left.low.plus(low), left.high.plus(high))
    if isinstance(left, Length) and low == high:
        return Length(left.shift.plus(low))
    first, last = ends(left)
    return Span(first.plus(low), last.plus(high)) if first is not None and last is not None else None


def padding(value: Any_) -> Linear | None:
    """How many constants a list holds, if it holds nothing else."""
    if isinstance(value, Store) and not value.array and value.content is None:
        return value.lead
    if isinstance(value, Group) and all(isinstance(item, Scalar | First) for item in value.items):
        return Linear(len(value.items))
    return None


def ends(value: Any_) -> tuple[Linear | None, Linear | None]:
    if isinstance(value, Span):
        return value.low, value.high
    linear = getattr(value, "linear", None)
    return linear, linear


def arithmetic(op: ast.operator, left: Linear | None, right: Linear | None) -> Linear | None:
    if left is None or right is None:
        return None
    if isinstance(op, ast.Add):
        return left.plus(right)
    if isinstance(op, ast.Sub):
        return left.minus(right)
    if isinstance(op, ast.Mult):
        number, other = (left.number, right) if left.number is not None else (right.number, left)
        return other.times(number) if number is not None else term(f"{bracketed(left)} * {bracketed(right)}")
    if isinstance(op, ast.FloorDiv):
        if left.number is not None and right.number:
            return Linear(left.number // right.number)
        return term(f"{bracketed(left)} // {bracketed(right)}")
    if isinstance(op, ast.Div) and left.number is not None and right.number:
        return Linear(left.number / right.number)
    return None
