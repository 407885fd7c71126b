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

from hpc_agent.experiment.series.column_methods import WRITERS
from hpc_agent.experiment.series.columns import Columns
from hpc_agent.experiment.series.function_source import (
    Doubt,
    Source,
    Stateful,
    parameters,
    read_source,
    reads_whole_file,
)
from hpc_agent.experiment.series.rows_needed import Group, Notes, Number, Series, Value

SPLITTABLE = ("independent", "bounded_halo", "associative")
REGISTER = "hpc_agent.experiment_kit"


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
        axis: dict[str, Any] = {"kind": self.kind}
        for name, text in (("halo", self.halo_expr), ("ahead", self.ahead_expr)):
            if text is not None:
                axis[name] = {"expr": text}
        return {**axis, "monoid": self.monoid} if self.monoid else axis


def classify(path: Path, run_name: str) -> Classification:
    """Classify the function ``run_name`` of a .py or .ipynb file. Raises SpecInvalid for a file that is no Python."""
    source = read_source(path)
    function = None if "." in run_name else source.method(run_name)
    if function is None:
        return Classification("function_not_found", tried=[*map("function {}".format, source.known()), *source.unread])
    notes = Notes()
    try:
        for line, text in reads_whole_file(function, source.names):
            raise Doubt(line, text)
        found = _verdict(*_leaving(function, source, notes), notes)
        caveats = notes.caveats if found.kind in SPLITTABLE else []
    except (Doubt, RecursionError) as error:
        doubt = error if isinstance(error, Doubt) else Doubt(function, "the expression is nested too deeply")
        notes.evidence.append((doubt.line, doubt.why))
        found = Classification("sequential" if isinstance(doubt, Stateful) else "unclassifiable")
        command = shlex.join(["--source-path", str(path), "--run-name", run_name])
        caveats = [f"reading does not decide; running does: hpc-agent check-axis {command}"]
    evidence = source.evidence(function, notes.evidence)
    return replace(found, evidence=evidence, tried=[f"function {function.name}", *source.unread], caveats=caveats)


def _leaving(function: ast.FunctionDef, source: Source, notes: Notes) -> tuple[ast.AST, list[Series]]:
    """Return the series that leave the function, returned or written, and the last statement at which one does."""
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not (source.names.path_of(target) or "").startswith(REGISTER):
            raise Doubt(decorator, "a decorator may change the function")
    columns = Columns(source.names, notes, *parameters(function, source.names))
    found: list[Series] = []
    last: ast.AST = function
    for node in function.body:
        match node:
            case ast.Pass() | ast.Expr(ast.Constant()):
                continue
            case ast.Return(None):
                break
            case ast.Return(value):
                pass
            case ast.Expr(ast.Call(called, [_, value], [])) if source.names.path_of(called) == "numpy.save":
                pass
            case ast.Expr(ast.Call(ast.Attribute(value, writer))) if writer in WRITERS:
                pass
            case _:
                columns.statement(node)
                continue
        last = node
        found += _series_of(node, columns.value(value))
        if isinstance(node, ast.Return):
            break
    return last, found


def _series_of(node: ast.AST, value: Value) -> list[Series]:
    match value:
        case Group(items):
            return [part for item in items for part in _series_of(node, item)]
        case Series():
            return [value]
        case Number():
            return []
    raise Doubt(node, "only series, totals and numbers may leave the function")


def _verdict(last: ast.AST, leaving: list[Series], notes: Notes) -> Classification:
    """Return what all series that leave the function have in common."""
    if not leaving:
        if notes.series_used:
            raise Doubt(last, "nothing that leaves the function depends on the rows")
        return Classification("no_loop_detected")
    both = reduce(Series.beside, leaving)
    back, ahead = (str(reach) if reach.alternatives else None for reach in (both.back, both.ahead))
    folds = {fold for series in leaving if (fold := series.fold)}
    if folds:
        if not all(series.fold for series in leaving) or len({fold.running for fold in folds}) > 1:
            raise Doubt(last, "it gives rows, running totals or totals side by side: an axis has one kind")
        monoids = {fold.monoid for fold in folds}
        if len(monoids - {"sum"} or monoids) > 1 or (len(monoids) > 1 and "moments" not in monoids):
            raise Doubt(
                last, f"it gives totals of several kinds ({', '.join(sorted(monoids))}): an axis has one monoid"
            )
        return Classification("associative", back, ahead, "moments" if "moments" in monoids else monoids.pop())
    if back or ahead:
        return Classification("bounded_halo", back or "0", ahead)
    return Classification("independent")
