"""Straight-line code over columns: assignments and expressions whose parts are all in the table of column methods."""

from __future__ import annotations

import ast
from dataclasses import replace

from hpc_agent.experiment.series import column_methods as table
from hpc_agent.experiment.series.function_source import Doubt, Names, Stateful
from hpc_agent.experiment.series.loops import Loop, read_loop
from hpc_agent.experiment.series.rows_needed import (
    NO_ROWS,
    ONE,
    Container,
    Expressions,
    Group,
    Linear,
    Notes,
    Number,
    Series,
    Value,
    Window,
    rows,
    term,
)

KIT = "hpc_agent.experiment_kit.series."
Given = dict[str, ast.expr]


class Columns(Expressions):
    """The names of a function, and the rules of its statements and expressions. A rule that does not fit raises Doubt."""

    def __init__(self, names: Names, notes: Notes, series: str | None, numbers: set[str]) -> None:
        super().__init__(names, notes, {name: Number(Linear(0, ((name, 1),))) for name in numbers})
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
                read_loop(self, node)
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
        return Group(tuple(map(self.value, node.values))) if None not in node.keys else self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> Value:
        return Group(tuple(map(self.value, node.elts)))

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
        if path == KIT + "load_series":
            given = self.known.get(ast.unparse(node.args[0])) if node.args else None
            if isinstance(given, Series) and given.kind == "loaded":
                return given
            if self.notes.series_used:
                raise Doubt(node, "a second series is loaded: only one can be split by its rows")
            return self.load()
        if path == "collections.deque" and not node.args and [*words] == ["maxlen"]:
            return Container("deque", self._width(node, words["maxlen"]))
        module, _, name = path.partition(".")
        match [self.value(argument) for argument in node.args], [*words]:
            case [value], [] if path == KIT + "trim_emission":
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
        if name != "astype":
            for parameter in given.keys() - table.SERIES_ARGUMENTS:
                self.number(given[parameter])
            return self.combined(
                node, series, *(self.value(given[one]) for one in given if one in table.SERIES_ARGUMENTS)
            )
        if self.names.path_of(given["dtype"]) not in table.TYPES:
            raise Doubt(node, "no rule for this type")
        return self.combined(node, series)

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
