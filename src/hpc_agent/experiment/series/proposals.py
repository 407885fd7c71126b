"""Propose how a function's rows depend on the rows of its series, read off the source; nothing is run.

A proposal comes from the table of column methods or from a loop template. Anything else is unclassifiable, with its line.
"""

from __future__ import annotations

import ast
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpc_agent.experiment.series.column_methods import WRITERS
from hpc_agent.experiment.series.function_source import Source, parameters, read_source, reads_whole_file
from hpc_agent.experiment.series.loops import Reader
from hpc_agent.experiment.series.rows_needed import Doubt, Group, Notes, Reach, Series, Stateful, Value

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
    function = source.function(run_name)
    if function is None:
        return Classification("function_not_found", tried=[*map("function {}".format, source.known()), *source.unread])
    notes = Notes()
    try:
        for line, text in reads_whole_file(function, source.names):
            raise Doubt(line, text)
        found = _verdict(_run(function, source, notes), notes)
        caveats = notes.caveats if found.kind in SPLITTABLE else []
    except (Doubt, RecursionError) as error:
        doubt = error if isinstance(error, Doubt) else Doubt(function, "the expression is nested too deeply")
        notes.evidence.append((doubt.line, doubt.why))
        found = Classification("sequential" if isinstance(doubt, Stateful) else "unclassifiable")
        command = shlex.join(["--source-path", str(path), "--run-name", run_name])
        caveats = [f"reading does not decide; running does: hpc-agent check-axis {command}"]
    evidence = source.evidence(function, notes.evidence)
    return replace(found, evidence=evidence, tried=[f"function {function.name}", *source.unread], caveats=caveats)


def _run(function: ast.FunctionDef, source: Source, notes: Notes) -> list[tuple[ast.AST, Value]]:
    """Return what leaves the function: each returned or written value with its statement."""
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not (source.names.path_of(target) or "").startswith(REGISTER):
            raise Doubt(decorator, "a decorator may change the function")
    reader = Reader(source.names, notes, *parameters(function, source.names))
    body = [node for node in function.body if not _is_docstring(node)]
    returned: list[tuple[ast.AST, Value]] = []
    while body:
        node, *body = body
        if isinstance(node, ast.Return):
            if node.value is not None:
                returned.append((node, reader.value(node.value)))
            break
        if (written := _written(reader, node)) is not None:
            returned.append((node, written))
        else:
            reader.statement(node)
    return returned


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _written(reader: Reader, node: ast.stmt) -> Value | None:
    """Return the value of ``y.to_csv(path)`` or ``np.save(path, y)``, None for another statement."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return None
    call = node.value
    if reader.names.path_of(call.func) == "numpy.save" and len(call.args) == 2 and not call.keywords:
        return reader.value(call.args[1])
    if isinstance(call.func, ast.Attribute) and call.func.attr in WRITERS:
        return reader.value(call.func.value)
    return None


def _verdict(returned: list[tuple[ast.AST, Value]], notes: Notes) -> Classification:
    """Return what all values that leave the function have in common."""
    leaving = [(node, value) for node, one in returned for value in _flat(one)]
    last = returned[-1][0] if returned else 1
    if not leaving:
        if notes.series_used:
            raise Doubt(last, "nothing that leaves the function depends on the rows")
        return Classification("no_loop_detected")
    back, ahead = Reach(), Reach()
    for _, value in leaving:
        back, ahead = back.or_more(value.back), ahead.or_more(value.ahead)
    texts = [str(reach) if reach.alternatives else None for reach in (back, ahead)]
    folds = {value.fold for _, value in leaving}
    if folds != {None}:
        return _associative(last, folds, texts)
    if back.alternatives or ahead.alternatives:
        return Classification("bounded_halo", texts[0] or "0", texts[1])
    return Classification("independent")


def _associative(node: ast.AST | int, folds: set[Any], texts: list[str | None]) -> Classification:
    if None in folds or len({fold.running for fold in folds}) > 1:
        raise Doubt(node, "it gives rows, running totals or totals side by side: an axis has one kind")
    monoids = {fold.monoid for fold in folds}
    if monoids == {"sum", "moments"}:
        monoids = {"moments"}
    if len(monoids) > 1:
        raise Doubt(node, f"it gives totals of several kinds ({', '.join(sorted(monoids))}): an axis has one monoid")
    return Classification("associative", texts[0], texts[1], monoids.pop())


def _flat(value: Value) -> list[Series]:
    if isinstance(value, Group):
        return [part for item in value.items for part in _flat(item)]
    return [value] if isinstance(value, Series) else []
