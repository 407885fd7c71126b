"""Propose how a function's rows depend on the rows of its series, read off the source; nothing is run.

A proposal comes from the table of column methods or from a loop template. Anything else is unclassifiable, with its line.
"""

from __future__ import annotations

import ast
import shlex
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from hpc_agent.experiment.series.column_methods import WRITERS, Fold
from hpc_agent.experiment.series.expressions import COLUMNS, KIT, Expressions
from hpc_agent.experiment.series.function_source import Doubt, Stateful, parameters, read_source, reads_whole_file
from hpc_agent.experiment.series.rows_needed import Number, Rows, Series, Start, Value

EXTREMES = ("builtins.max", "builtins.min")
SPLITTABLE = ("independent", "bounded_halo", "associative")


@dataclass(frozen=True)
class Classification:
    """Hold a proposal. ``kind``: that of a data axis, or no_loop_detected, unclassifiable, function_not_found.

    ``evidence``: line (of the file, or of the notebook's cell), its text and what it shows. ``tried``: what was looked for.
    """

    kind: str
    halo_expr: str | None = None
    ahead_expr: str | None = None
    monoid: str | None = None
    evidence: list[dict[str, Any]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)

    @property
    def data_axis(self) -> dict[str, Any] | None:
        """Return the axis for plan_tasks and classify-axis, None where nothing can be proposed."""
        if self.kind not in (*SPLITTABLE, "sequential"):
            return None
        texts = {"halo": self.halo_expr, "ahead": self.ahead_expr}
        rows = {name: {"expr": text} for name, text in texts.items() if text is not None}
        return {"kind": self.kind, **rows, **({"monoid": self.monoid} if self.monoid else {})}


def classify(path: Path, run_name: str) -> Classification:
    """Classify the function ``run_name`` of a .py or .ipynb file. Raises SpecInvalid for a file that is no Python."""
    source = read_source(path)
    function = None if "." in run_name else source.function(run_name)
    if function is None:
        return Classification("function_not_found", tried=[*map("function {}".format, source.known()), *source.unread])
    reader = Expressions(source.names, {})
    try:
        for line, text in reads_whole_file(function, source.names):
            raise Doubt(line, text)
        _begin(reader, function)
        found = _verdict(reader, function, _leaving(reader, function))
        caveats = [*dict.fromkeys(reader.caveats)] if found.kind in SPLITTABLE else []
    except (Doubt, RecursionError) as error:
        doubt = error if isinstance(error, Doubt) else Doubt(function, "the expression is nested too deeply")
        reader.evidence.append((doubt.line, doubt.why))
        found = Classification("sequential" if isinstance(doubt, Stateful) else "unclassifiable")
        command = shlex.join(["--source-path", str(path), "--run-name", run_name])
        caveats = [f"reading does not decide; running does: hpc-agent check-axis {command}"]
    evidence = source.evidence(function, reader.evidence)
    return replace(found, evidence=evidence, tried=[f"function {function.name}", *source.unread], caveats=caveats)


def _begin(reader: Expressions, function: ast.FunctionDef) -> None:
    """Take in the decorators and the parameters."""
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not (reader.names.path_of(target) or "").startswith(KIT):
            raise Doubt(decorator, "a decorator may change the function")
    series, numbers = parameters(function, reader.names)
    reader.known.update({name: Number(0, name) for name in numbers})
    reader.known.update({name: reader.load(function) for name in series})


def _leaving(reader: Expressions, function: ast.FunctionDef) -> list[Series]:
    """Return the series that leave the function, returned or written."""
    found: list[Series] = []
    for node in function.body:
        match node:
            case ast.Pass() | ast.Expr(ast.Constant()) | ast.Import() | ast.ImportFrom():
                pass
            case ast.Return(value):
                return found + (_series_of(reader, value) if value else [])
            case ast.Expr(ast.Call(ast.Attribute(value, writer))) if writer in WRITERS:
                found += _series_of(reader, value)
            case ast.Expr(ast.Call(called, [_, value], [])) if reader.names.path_of(called) == "numpy.save":
                found += _series_of(reader, value)
            case ast.Assign([ast.Name(name)], value):
                reader.known[name] = reader.value(value)
            case ast.For():
                inner, series = reader.loop(node.target, node.iter)
                try:
                    _read_loop(reader, node, inner, series)
                except Doubt:
                    _refuse_state(node.body)
                    raise
            case _:
                raise Doubt(node, f"no rule for this statement of the kind {type(node).__name__}")
    return found


def _mentions(node: ast.expr, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def _refuse_state(body: list[ast.stmt]) -> None:
    """Raise Stateful where a name is set from its own value."""
    seen: set[str] = set()
    for part in ast.walk(ast.Module(body, [])):
        match part:
            case ast.AugAssign(ast.Name(name), _, value) | ast.Assign([ast.Name(name)], value):
                if _mentions(value, name) != isinstance(part, ast.AugAssign) and name not in seen:
                    raise Stateful(part, f"'{name}' carries a state from row to row")
                seen.add(name)


def _read_loop(place: Expressions, node: ast.For, inner: Expressions, series: Series) -> None:
    if node.orelse or ast.unparse(node.target) in place.known:
        raise Doubt(node, "no rule for a loop with else, or over a name that another value has")
    state = _updated(inner, node.body[0], series)
    outputs = node.body[1:] if state else node.body
    for statement in outputs:
        match statement:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"), [value], [])) if (
                place.known.get(name) == Start()
            ):
                place.known[name] = inner.listed(value, series)
            case _:
                raise Doubt(statement, "no template has this statement of a loop")
    if state:
        last = inner.known[state]
        del place.known[state]  # after the loop it holds the last row's value, or the total
        if isinstance(last, Series) and last.fold:
            place.known[state] = replace(last, fold=Fold(last.fold.monoid, False), kind="column")
        elif not outputs:
            raise Doubt(node, "no template has this loop")


def _updated(inner: Expressions, node: ast.stmt, series: Series) -> str | None:
    """Take in a loop's first statement where it updates a deque, an average or a fold; return the name of that."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"), [value], [])):
            ring = inner.known.get(name)
            if not isinstance(ring, Start) or ring.back is None:
                return None
            inner.known[name] = inner.of_row(value).after(ring.back, Rows(), "rows")
        case ast.AugAssign(ast.Name(name), ast.Add() as plus, more):
            value = ast.copy_location(ast.BinOp(ast.Name(name), plus, more), node)
            inner.known[name] = _average_or_fold(inner, name, value, inner.known.pop(name, Start()), series)
        case ast.Assign([ast.Name(name)], value):
            inner.known[name] = _average_or_fold(inner, name, value, inner.known.pop(name, Start()), series)
        case _:
            return None
    return name


def _average_or_fold(inner: Expressions, name: str, value: ast.expr, start: Value, series: Series) -> Series:
    """Return the fold of ``s + value`` that starts at 0 or of ``max(s, value)``, or the average ``a * s + value``."""
    from_first = isinstance(start, Start) and start.of is series
    match value:
        case ast.BinOp(left, ast.Add(), right):
            monoid, begins = "sum", start == Number(0)
        case ast.Call(called, [left, right], []) if inner.names.path_of(called) in EXTREMES:
            # The first row may only begin the extreme of the rows themselves.
            from_row = from_first and inner.row in (ast.unparse(left), ast.unparse(right))
            monoid, begins = str(inner.names.path_of(called))[-3:], from_row or isinstance(start, Number)
        case _:
            raise Doubt(value, f"'{name}' is no average and no fold")
    own, other = (left, right) if _mentions(left, name) else (right, left)
    match own:
        case ast.Name(former) if begins and former == name:
            if inner.of_row(other) != Series(kind="row"):
                raise Doubt(value, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
            return replace(inner.folded(value, series, Fold(monoid, True)), kind="row")
        case ast.BinOp(one, ast.Mult(), two) if monoid == "sum" and (from_first or isinstance(start, Number)):
            factors = [part for part in (one, two) if ast.unparse(part) != name]
            if len(factors) == 1:
                match factors[0]:
                    case ast.BinOp(ast.Constant(1), ast.Sub(), alpha):
                        reach = inner.reach(value, "average", "1 - alpha", alpha)
                    case factor:
                        reach = inner.reach(value, "average", "factor", factor)
                return inner.of_row(other).after(*reach, "row")
    raise Doubt(value, f"'{name}' is no average and no fold")


def _series_of(reader: Expressions, node: ast.expr) -> list[Series]:
    match node:
        case ast.Tuple(parts):
            return [series for part in parts for series in _series_of(reader, part)]
        case ast.Dict(keys, parts) if all(isinstance(key, ast.Constant) for key in keys):
            return [series for part in parts for series in _series_of(reader, part)]
    value = reader.value(node)
    if isinstance(value, Series) and value.kind in (*COLUMNS, "trimmed"):
        return [value]
    if not isinstance(value, Number):
        raise Doubt(node, "only series, totals and numbers may leave the function")
    return []


def _verdict(reader: Expressions, function: ast.FunctionDef, leaving: list[Series]) -> Classification:
    """Return what all series that leave the function have in common."""
    last = function.body[-1]
    if not leaving:
        if reader.loaded:
            raise Doubt(last, "nothing that leaves the function depends on the rows")
        return Classification("no_loop_detected")
    both = reduce(Series.beside, leaving)
    back, ahead = (str(rows) if rows else None for rows in (both.back, both.ahead))
    folds = {series.fold for series in leaving}
    if len(folds) > 1:
        raise Doubt(
            last, "it gives rows, running totals or several totals side by side: an axis has one kind and monoid"
        )
    if both.fold:
        return Classification("associative", back, ahead, both.fold.monoid)
    return Classification("bounded_halo", back or "0", ahead) if back or ahead else Classification("independent")
