"""How the rows of a function's output depend on the rows of its series, read off the source without running it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.axis.reach import NONE, Reach
from hpc_agent.experiment.axis.scope import Scope
from hpc_agent.experiment.axis.statements import Statements, parameters
from hpc_agent.experiment.axis.trail import Trail
from hpc_agent.experiment.axis.values import (
    Any_,
    Cell,
    Doubt,
    Folded,
    Group,
    Plain,
    Rows,
    Scalar,
    Sequential,
    Spread,
    Store,
)
from hpc_agent.experiment_kit.notebooks import code_cells

SPLITTABLE = ("independent", "bounded_halo", "associative")


@dataclass(frozen=True)
class Classification:
    """``kind``: that of a data axis, or no_loop_detected, unclassifiable, function_not_found.

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
        """The axis for plan_tasks and classify-axis; None where nothing can be proposed."""
        if self.kind not in (*SPLITTABLE, "sequential"):
            return None
        axis: dict[str, Any] = {"kind": self.kind}
        for name, text in (("halo", self.halo_expr), ("ahead", self.ahead_expr)):
            if text is not None:
                axis[name] = {"expr": text}
        return {**axis, "monoid": self.monoid} if self.monoid else axis


@dataclass(frozen=True)
class _Source:
    scope: Scope
    lines: dict[int | None, list[str]]  # by the notebook's cell; None for a file
    unread: list[str]


def classify(path: Path, run_name: str) -> Classification:
    """Classify the function ``run_name`` of a .py or .ipynb file.

    A halo is never smaller than the truth: where the source leaves a doubt the kind is unclassifiable, with the line
    that raised it. Raises SpecInvalid for a file that cannot be read as Python.
    """
    source = _read(path)
    functions = source.scope.functions
    name = next((n for n in (run_name, run_name.replace("-", "_")) if n in functions), None)
    if name is None:
        return Classification("function_not_found", tried=[f"function {n}" for n in sorted(functions)] + source.unread)
    function = functions[name]
    trail = Trail()
    cell = source.scope.cells.get(name)
    try:
        reader = Statements(source.scope, parameters(function), trail)
        reader.run(function.body)
        found = _verdict(function, trail)
    except Doubt as doubt:
        trail.evidence.append((doubt.line, doubt.why))
        found = Classification("sequential" if isinstance(doubt, Sequential) else "unclassifiable")
    return Classification(
        found.kind,
        found.halo_expr,
        found.ahead_expr,
        found.monoid,
        _evidence(trail, source.lines.get(cell, []), cell),
        [f"function {name}", *source.unread],
        _caveats(found, trail),
    )


def _verdict(function: ast.FunctionDef, trail: Trail) -> Classification:
    """What all values that leave the function have in common."""
    spread = [value for node, result in trail.returned for value in _flat(node, result)]
    for name, node in trail.used_as_number.items():
        if name in trail.used_as_series:
            raise Doubt(
                node if hasattr(node, "lineno") else function, f"'{name}' is used both as a series and as a number"
            )
    folds = [value for value in spread if isinstance(value, Folded)]
    others = [value for value in spread if not isinstance(value, Folded)]
    back, ahead = _reaches(spread)
    if folds:
        if others:
            raise Doubt(
                function, "it gives values of rows and running totals or totals: two functions would be two axes"
            )
        return _associative(function, folds, back, ahead)
    if not spread:
        if trail.evidence or trail.used_as_series:
            raise Doubt(function, "nothing that leaves the function depends on the rows")
        return Classification("no_loop_detected")
    if back.none and ahead.none:
        return Classification("independent")
    return Classification("bounded_halo", str(back), None if ahead.none else str(ahead))


def _associative(function: ast.FunctionDef, folds: list[Folded], back: Reach, ahead: Reach) -> Classification:
    if len({fold.running for fold in folds}) > 1:
        raise Doubt(function, "it gives running totals and totals: two functions would be two axes")
    monoids = {fold.monoid for fold in folds}
    if monoids == {"sum", "moments"}:
        monoids = {"moments"}
    if len(monoids) > 1:
        raise Doubt(
            function, f"it gives totals of several kinds ({', '.join(sorted(monoids))}): an axis has one monoid"
        )
    texts = [None if reach.none else str(reach) for reach in (back, ahead)]
    return Classification("associative", texts[0], texts[1], monoids.pop())


def _flat(node: ast.AST, value: Any_) -> list[Spread]:
    if isinstance(value, Group):
        return [part for item in value.items for part in _flat(node, item)]
    if isinstance(value, Scalar | Plain):
        return []
    if isinstance(value, Store) and value.content is not None:
        value = value.content
        return [Rows(value.back, value.ahead) if isinstance(value, Cell) else value]
    if isinstance(value, Rows | Folded):
        return [value]
    raise Doubt(node, "what leaves the function here cannot be told")


def _reaches(values: list[Spread]) -> tuple[Reach, Reach]:
    back = ahead = NONE
    for value in values:
        back, ahead = back.or_more(value.back), ahead.or_more(value.ahead)
    return back, ahead


def _evidence(trail: Trail, lines: list[str], cell: int | None) -> list[dict[str, Any]]:
    found = []
    for line, why in trail.evidence:
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        found.append({"line": line, "text": text, "shows": why, **({} if cell is None else {"cell": cell})})
    return found


def _caveats(found: Classification, trail: Trail) -> list[str]:
    if found.kind not in SPLITTABLE:
        return []
    numbers = sorted(trail.used_as_number)
    taken = [f"taken as numbers, not as series: {', '.join(numbers)}"] if numbers else []
    texts = f"{found.halo_expr or ''} {found.ahead_expr or ''}"
    positive = [name for name in numbers if re.search(rf"\b{name}\b", texts)]
    if positive and "max(" in texts:
        taken.append(f"the halo holds where these are not negative: {', '.join(positive)}")
    return [*trail.caveats, *taken]


def _read(path: Path) -> _Source:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    scope = Scope()
    if path.suffix != ".ipynb":
        try:
            scope.read(ast.parse(text).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _unreadable(path, str(error)) from error
        return _Source(scope, {None: text.splitlines()}, [])
    return _read_notebook(path, text, scope)


def _read_notebook(path: Path, text: str, scope: Scope) -> _Source:
    lines: dict[int | None, list[str]] = {}
    unread = []
    try:
        cells = code_cells(text)
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    for number, source in cells:
        lines[number] = source.splitlines()
        try:
            scope.read(ast.parse(source).body, number)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unread.append(f"cell {number} is not Python: {error}")
    return _Source(scope, lines, unread)


def _unreadable(path: Path, why: str) -> SpecInvalid:
    return SpecInvalid(
        f"{path} cannot be read as Python: {why}",
        field="source_path",
        remediation="Name a .py or .ipynb file: 'hpc-agent classify-axis-easy --source-path train.py --run-name train'.",
    )
