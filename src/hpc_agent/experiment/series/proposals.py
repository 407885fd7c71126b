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

from hpc_agent.experiment.series import column_methods as table
from hpc_agent.experiment.series.function_source import (
    Doubt,
    Names,
    Source,
    Stateful,
    parameters,
    read_source,
    reads_whole_file,
)
from hpc_agent.experiment.series.loops import Loop, refuse_state
from hpc_agent.experiment.series.rows_needed import (
    NO_ROWS,
    ONE,
    Container,
    Expressions,
    Linear,
    Notes,
    Number,
    Series,
    Value,
    Window,
    rows,
    term,
)

SPLITTABLE = ("independent", "bounded_halo", "associative")
KIT = "hpc_agent.experiment_kit"
Given = dict[str, ast.expr]


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
    function = None if "." in run_name else source.function(run_name)
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
        if not (source.names.path_of(target) or "").startswith(KIT):
            raise Doubt(decorator, "a decorator may change the function")
    columns = Columns(source.names, notes, *parameters(function, source.names))
    found: list[Series] = []
    last: ast.AST = function
    for node in function.body:
        match node:
            case ast.Pass() | ast.Expr(ast.Constant()):
                continue
            case ast.Return(ast.expr() as value):
                pass
            case ast.Return():
                break
            case ast.Expr(ast.Call(called, [_, value], [])) if source.names.path_of(called) == "numpy.save":
                pass
            case ast.Expr(ast.Call(ast.Attribute(value, writer))) if writer in table.WRITERS:
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
        case tuple():
            return [part for item in value for part in _series_of(node, item)]
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


class Columns(Expressions):
    """The names of a function, and the rules of its statements and expressions. A rule that does not fit raises Doubt."""

    def __init__(self, names: Names, notes: Notes, series: str | None, numbers: set[str]) -> None:
        super().__init__(names, notes, {name: Number(term(name)) for name in numbers})
        if series:
            self.known[series] = self.load()

    def load(self) -> Series:
        self.notes.series_used = True
        return Series(kind="loaded")

    def statement(self, node: ast.stmt) -> None:
        """Take in an assignment to one name or a loop. Raises Doubt for any other statement."""
        match node:
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.For():
                loop = Loop(self, node.target, node.iter)
                try:
                    loop.run(node)
                except Doubt:
                    refuse_state(node.body)
                    raise
            case ast.Assign([ast.Name(name)], value):
                self.known[name] = self.value(value)
            case _:
                raise Doubt(node, f"no rule for this statement of the kind {type(node).__name__}")

    def visit_ListComp(self, node: ast.ListComp) -> Value:
        match node.generators:
            case [ast.comprehension(target, source, [], 0)]:
                loop = Loop(self, target, source)
                return loop.listed(node, loop.value(node.elt))
        raise Doubt(node, "rows are left out or loops are nested here")

    def visit_List(self, node: ast.List) -> Value:
        return self.generic_visit(node) if node.elts else Container("list")

    def visit_Dict(self, node: ast.Dict) -> Value:
        constant = all(isinstance(key, ast.Constant) for key in node.keys)
        return tuple(map(self.value, node.values)) if constant else self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> Value:
        return tuple(map(self.value, node.elts))

    def visit_Attribute(self, node: ast.Attribute) -> Value:
        if node.attr == "values" and self.names.path_of(node) is None:
            return self.series(node, self.value(node.value))
        return super().visit_Attribute(node)

    def visit_Subscript(self, node: ast.Subscript) -> Value:
        """Return a named column of the loaded series, or its first row. Text that pandas may read as a date is no name."""
        value = self.value(node.value)
        match node:
            case ast.Subscript(_, ast.Constant(str(name))) if (
                isinstance(value, Series) and value.kind == "loaded" and name[:1].isalpha()
            ):
                return Series()
            case ast.Subscript(ast.Name(name), ast.Constant(0)) if isinstance(value, Series):
                return Container("first", of=name)
        raise Doubt(node, "only single columns of the given series are known here, not rows")

    def visit_Call(self, node: ast.Call) -> Value:
        path = self.names.path_of(node.func)
        if path is not None:
            return self._function(node, path, {str(word.arg): word.value for word in node.keywords})
        if isinstance(node.func, ast.Attribute):
            return self._method(node, self.value(node.func.value), node.func.attr)
        raise Doubt(node, f"{ast.unparse(node.func)[:60]} may do anything")

    def _function(self, node: ast.Call, path: str, words: Given) -> Value:
        if path == f"{KIT}.series.load_series":
            given = self.known.get(ast.unparse(node.args[0])) if node.args else None
            if isinstance(given, Series) and given.kind == "loaded":
                return given
            if self.notes.series_used:
                raise Doubt(node, "a second series is loaded: only one can be split by its rows")
            return self.load()
        if path == "collections.deque" and not node.args and [*words] == ["maxlen"]:
            return Container("deque", self._width(node, words["maxlen"]))
        module, _, name = path.partition(".")
        known = path.startswith(("numpy.", KIT))
        match [self.value(argument) for argument in node.args if known], [*words]:
            case [value], [] if path == f"{KIT}.series.trim_emission":
                return replace(self.series(node, value), kind="trimmed")
            case [value], ["prepend"] if path == "numpy.diff":
                self.number(words["prepend"])
                self.notes.show(node, "differences of neighbouring rows")
                return self.series(node, value).after(rows(1))
            case [value], [] if module == "numpy" and name in table.NUMPY_FOLDS:
                return self.folded(node, value, table.NUMPY_FOLDS[name])
            case values, [] if module == "numpy" and table.NUMPY_ELEMENTWISE.get(name) == len(values):
                return self.combined(node, *values)
        raise Doubt(node, f"no rule for {ast.unparse(node)[:60]}")

    def _method(self, node: ast.Call, owner: Value, name: str) -> Value:
        bare = not node.args and not node.keywords
        if isinstance(owner, Window):
            if name not in owner.methods or not bare:
                raise Doubt(node, f"no rule for .{name} of this window, or with these arguments")
            fold = owner.methods[name]
            return self.folded(node, owner.rows, fold) if fold else owner.rows
        if name == "cumprod":
            raise Stateful(node, "a running product carries a state that no monoid holds exactly")
        if bare and isinstance(owner, Series) and name in table.SAME:
            return owner
        if bare and isinstance(owner, Series) and name == "expanding":
            return Window(owner, table.EXPANDING)
        if bare and name in table.METHOD_FOLDS:
            return self.folded(node, owner, table.METHOD_FOLDS[name])
        series, given = self.series(node, owner), self._given(node, name)
        if name in table.MOVING:
            return self._moved(node, name, series, given)
        if name == "astype":
            if [*map(self.names.path_of, given.values())] not in table.TYPES:
                raise Doubt(node, "no rule for this type")
            return self.combined(node, series)
        others = [
            self.value(one) if word in table.SERIES_ARGUMENTS else self.number(one) for word, one in given.items()
        ]
        return self.combined(node, series, *others)

    def _given(self, node: ast.Call, name: str) -> Given:
        """Return the arguments of a method by their names. Raises Doubt for a method or an argument not in the table."""
        positional, _, others = table.ARGUMENTS.get(name, "").partition("*")
        names = positional.split()
        given = dict(zip(names, node.args, strict=False)) | {str(word.arg): word.value for word in node.keywords}
        unknown = given.keys() - {*names, *others.split()}
        if name not in table.ARGUMENTS or unknown or len(given) != len(node.args) + len(node.keywords):
            text = ", ".join(map(ast.unparse, [*node.args, *node.keywords]))
            raise Doubt(node, f"no rule for .{name}({text[:60]})")
        return given

    def _moved(self, node: ast.Call, name: str, series: Series, given: Given) -> Series | Window:
        """Return the series of a method whose values depend on other rows; a window for rolling and ewm."""
        if name == "rolling":
            return Window(self._rolling(node, series, given), table.ROLLING)
        if name == "ewm":
            adjust = given.pop("adjust", None)
            if len(given) != 1 or not (adjust is None or isinstance(adjust, ast.Constant)):
                raise Doubt(node, "no rule for .ewm with these arguments")
            [(speed, number)] = given.items()
            return Window(series.after(self.forgotten(node, speed, number)), table.AVERAGE)
        if name in ("ffill", "bfill"):
            if not given:
                raise Doubt(node, f"no rule for .{name}() without a limit")
            limit = rows(self.rows_of(given["limit"]))
            self.notes.show(node, f"{name} over at most {limit} rows")
            return series.after(limit) if name == "ffill" else series.after(NO_ROWS, limit)
        if name == "pct_change" and ("fill_method" not in given or ast.unparse(given["fill_method"]) != "None"):
            raise Doubt(node, "no rule for .pct_change without fill_method=None, which fills gaps of any length")
        if "fill_value" in given:
            self.number(given["fill_value"])
        by = self.rows_of(given["periods"]) if "periods" in given else ONE
        self.notes.show(node, f"{name} by {by}")
        if not by.terms:
            return series.after(rows(max(0, by.constant)), rows(max(0, -by.constant)))
        opposite = f"-{by}" if str(by).isidentifier() else f"-({by})"
        return series.after(rows(term(f"max(0, {by})")), rows(term(f"max(0, {opposite})")))

    def _rolling(self, node: ast.Call, series: Series, given: Given) -> Series:
        constants = [given[word] for word in ("center", "closed") if word in given]
        if "window" not in given or not all(isinstance(part, ast.Constant) for part in constants):
            raise Doubt(node, "no rule for a window with these arguments")
        width = self._width(node, given["window"])
        if "min_periods" in given:
            self.number(given["min_periods"])
        both = "center" in given and ast.unparse(given["center"]) != "False"
        reach = rows(width if "closed" in given else width.plus(ONE, -1))
        self.notes.show(node, f"a window of {width} rows" + (", centred" if both else ""), table.ROUNDING)
        return series.after(reach, reach if both else NO_ROWS)

    def _width(self, node: ast.Call, given: ast.expr) -> Linear:
        width = self.rows_of(given)
        if not width.terms and width.constant < 1:
            raise Doubt(node, "no rule for a window with these arguments")
        return width
