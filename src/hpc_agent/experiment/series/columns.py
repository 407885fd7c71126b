"""Straight-line code over columns: assignments and expressions whose parts are all in the table of column methods."""

from __future__ import annotations

import ast

from hpc_agent.experiment.series.column_methods import (
    CHOICES,
    DECAY,
    EXACT,
    EXPANDING,
    FADES,
    NUMBER_ARGUMENTS,
    NUMBER_KEYWORDS,
    NUMPY_ELEMENTWISE,
    NUMPY_RUNNING,
    NUMPY_TOTALS,
    POLARS_WINDOWS,
    ROUNDING,
    RUNNING,
    SERIES_ARGUMENTS,
    TOTALS,
    TYPES,
    UNARY_METHODS,
    WINDOW_METHODS,
    Fold,
)
from hpc_agent.experiment.series.names import Names
from hpc_agent.experiment.series.reach import Linear, Reach, named, rows
from hpc_agent.experiment.series.values import Container, Doubt, Frame, Group, Notes, Number, Series, Stateful, Value

KIT = "hpc_agent.experiment_kit.series."
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
ONE = Linear(1)


class Columns:
    """The names of a function, and the rules of its expressions."""

    def __init__(self, names: Names, notes: Notes, parameters: tuple[str | None, set[str]]) -> None:
        self.names = names
        self.notes = notes
        self.sources = 0
        self.known: dict[str, Value] = {name: Number(named(name)) for name in parameters[1]}
        if parameters[0]:
            self.known[parameters[0]] = self.load()

    def load(self) -> Frame:
        self.sources += 1
        self.notes.series_used = True
        return Frame()

    def statement(self, node: ast.stmt) -> None:
        """Take in one assignment. Raises Doubt for any other statement."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return
        targets: list[ast.expr]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        else:
            raise Doubt(node, f"no rule for a statement of the kind {type(node).__name__}")
        if len(targets) != 1:
            raise Doubt(node, "one value has several names here")
        found = self.value(value)
        target = targets[0]
        if isinstance(target, ast.Name):
            self.known[target.id] = found
        elif isinstance(target, ast.Subscript) and (name := _column(target)) is not None:
            frame = self.value(target.value)
            if not isinstance(frame, Frame) or not isinstance(found, Series | Number | Frame):
                raise Doubt(node, "this is no column of a frame")
            frame.columns[name] = found if isinstance(found, Number) else self.series(node, found, folds=True)
        else:
            raise Doubt(node, "no rule for an assignment to this")

    def series(self, node: ast.AST, value: Value, folds: bool = False) -> Series:
        """Return ``value`` as one series: of a frame, that of all columns. Raises Doubt for a number, and for a fold."""
        if isinstance(value, Frame):
            found = Series()
            for part in value.parts():
                if part.fold:
                    raise Doubt(node, "a column of it is a running total")
                found = found.with_(part)
            return found
        if not isinstance(value, Series):
            raise Doubt(node, "this is no series")
        if value.trimmed and not folds:
            raise Doubt(node, "the rows of the halo were trimmed before: trim what leaves the function")
        if value.fold and not folds:
            what = "a running total" if value.fold.running else "a figure of the whole series"
            raise Doubt(node, f"{what} goes into other values here")
        return value

    def number(self, node: ast.AST) -> Number:
        value = self.value(node)
        if not isinstance(value, Number):
            raise Doubt(node, "only a number may stand here")
        return value

    def rows_of(self, node: ast.AST) -> Linear:
        """Return an expression as a number of rows. Raises Doubt when it is none."""
        linear = self.number(node).linear
        if linear is None:
            raise Doubt(node, "the number of rows is not known here")
        return linear

    def value(self, node: ast.AST) -> Value:
        """Return what an expression stands for. Raises Doubt for one that no rule covers."""
        if isinstance(node, ast.Constant):
            constant = node.value if isinstance(node.value, int | float) and not isinstance(node.value, bool) else 0.5
            return Number(Linear(int(constant)) if constant == constant // 1 else None)
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self._negated(node)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], COMPARISONS):
            return self.row_by_row(node, [node.left, *node.comparators])
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return self._group(node)

    def _group(self, node: ast.AST) -> Group:
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            return Group(tuple(map(self.value, node.values)))
        if isinstance(node, ast.Tuple | ast.List):
            return Group(tuple(map(self.value, node.elts)))
        raise Doubt(node, f"no rule for {ast.unparse(node)[:80]}")

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.known:
            value = self.known[node.id]
            if isinstance(value, Container):
                raise Doubt(node, f"'{node.id}' is not filled by a loop that a template has")
            return value
        constant = self.names.constant(node.id)
        if constant is None:
            raise Doubt(node, f"'{node.id}' may be anything")
        return Number(constant)

    def row_by_row(self, node: ast.AST, parts: list[ast.expr]) -> Value:
        """Return the value of an operation that combines values of the same row."""
        values = [self.value(part) for part in parts]
        if any(isinstance(value, Group) for value in values):
            raise Doubt(node, "no rule for a list in an expression")
        found: Series | None = None
        for value in values:
            if not isinstance(value, Number):
                one = self.series(node, value)
                found = one if found is None else found.with_(one)
        return Number() if found is None else found

    def _operation(self, node: ast.BinOp) -> Value:
        if not isinstance(node.op, OPERATORS):
            raise Doubt(node, "a product of matrices or a shift of bits sees more than one row")
        found = self.row_by_row(node, [node.left, node.right])
        if isinstance(found, Number):
            left, right = self.number(node.left).linear, self.number(node.right).linear
            return Number(_linear(node.op, left, right))
        return found

    def _negated(self, node: ast.UnaryOp) -> Value:
        found = self.row_by_row(node, [node.operand])
        if isinstance(found, Number) and isinstance(node.op, ast.USub):
            linear = self.number(node.operand).linear
            return Number(linear.times(-1) if linear else None)
        return Number() if isinstance(found, Number) else found

    def _subscript(self, node: ast.Subscript) -> Value:
        frame = self.value(node.value)
        names = [_column(node)]
        if isinstance(node.slice, ast.List):
            names = [_name_of(item) for item in node.slice.elts]
        if not isinstance(frame, Frame) or None in names:
            raise Doubt(node, "only columns of a frame are known here, not rows")
        found = [frame.columns.get(str(name), frame.rest) for name in names]
        if isinstance(node.slice, ast.List):
            known = {str(name): value for name, value in zip(names, found, strict=True) if value is not None}
            return Frame(None, known)
        if found[0] is None:
            raise Doubt(node, "the frame has no such column")
        return found[0]

    def _attribute(self, node: ast.Attribute) -> Value:
        path = self.names.path_of(node)
        if path in ("math.pi", "math.e", "math.inf", "math.nan", "numpy.nan", "numpy.inf", "numpy.pi"):
            return Number()
        if path is None and node.attr == "values":
            return self.series(node, self.value(node.value))
        raise Doubt(node, f"'.{node.attr}' may be anything; write df['{node.attr}'] for a column")

    def _call(self, node: ast.Call) -> Value:
        if any(isinstance(part, ast.Starred) for part in node.args) or any(k.arg is None for k in node.keywords):
            raise Doubt(node, "no rule for * and ** in a call")
        path = self.names.path_of(node.func)
        if path is not None:
            return self._function(node, path)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        raise Doubt(node, f"{ast.unparse(node.func)[:60]} may do anything")

    def _function(self, node: ast.Call, path: str) -> Value:
        if path == KIT + "load_series":
            first = node.args[0] if node.args else None
            given = self.known.get(first.id) if isinstance(first, ast.Name) else None
            if isinstance(given, Frame):
                return given
            if self.sources:
                raise Doubt(node, "a second series is loaded: only one can be split by its rows")
            return self.load()
        module, _, name = path.partition(".")
        if path == KIT + "trim_emission" and len(node.args) == 1 and not node.keywords:
            value = self.value(node.args[0])
            return value if isinstance(value, Group | Number) else self._trimmed(node, value)
        if module == "numpy":
            return self._numpy(node, name)
        raise Doubt(node, f"no rule for {ast.unparse(node.func)[:60]}")

    def _trimmed(self, node: ast.AST, value: Value) -> Series:
        series = self.series(node, value)
        return Series(series.back, series.ahead, None, True)

    def _numpy(self, node: ast.Call, name: str) -> Value:
        keywords = {keyword.arg for keyword in node.keywords}
        if name in ("asarray", "array") and len(node.args) == 1 and keywords <= {"dtype"}:
            _check_type(self.names, node.keywords[0].value if keywords else None)
            return self.series(node, self.value(node.args[0]))
        if name == "diff" and len(node.args) == 1 and keywords == {"prepend"}:
            self.number(node.keywords[0].value)
            self.notes.show(node, "differences of neighbouring rows")
            return self.series(node, self.value(node.args[0])).after(rows(1), Reach())
        if keywords:
            raise Doubt(node, f"no rule for {name} with {', '.join(map(str, keywords))}")
        if NUMPY_ELEMENTWISE.get(name) == len(node.args):
            return self.row_by_row(node, node.args)
        fold = NUMPY_RUNNING.get(name) or NUMPY_TOTALS.get(name)
        if fold and len(node.args) == 1:
            return self._fold(node, node.args[0], fold)
        raise Doubt(node, f"no rule for this call of {name}")

    def _fold(self, node: ast.AST, argument: ast.AST, fold: Fold) -> Series:
        series = self.series(node, self.value(argument), folds=True)
        if series.fold or ((series.back.alternatives or series.ahead.alternatives) and not series.trimmed):
            raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
        exact = EXACT if fold.monoid in ("sum", "moments") else None
        self.notes.show(node, f"a {'running ' if fold.running else ''}fold of all rows ({fold.monoid})", exact)
        return Series(series.back, series.ahead, fold)

    def _method(self, node: ast.Call, method: ast.Attribute) -> Value:
        windows = self._windows(node, method)
        if windows is not None:
            return windows
        value, name, words = self.value(method.value), method.attr, {k.arg: k.value for k in node.keywords}
        if isinstance(value, Number | Group):
            raise Doubt(node, f"no rule for .{name}() of this")
        if isinstance(value, Series) and value.trimmed and name in ("tolist", "to_list", "to_numpy") and not node.args:
            return value
        fold = TOTALS.get(name) or RUNNING.get(name)
        if fold and not node.args and not words:
            return self._fold(node, method.value, fold)
        if name == "cumprod":
            raise Stateful(node, "a running product carries a state that no monoid holds exactly")
        if name == "copy" and isinstance(value, Frame) and not node.args and not words:
            return Frame(value.rest, dict(value.columns))
        series = self.series(node, value)
        found = self._same_row(node, method, series, words)
        return found or self._moved(node, name, series, words)

    def _same_row(
        self, node: ast.Call, method: ast.Attribute, series: Series, words: dict[str | None, ast.expr]
    ) -> Series | None:
        """Return the series of an elementwise method, None for another one."""
        name = method.attr
        if set(words) <= NUMBER_KEYWORDS.get(name, set()) and len(node.args) <= NUMBER_ARGUMENTS.get(name, -1):
            for part in [*node.args, *words.values()]:
                self.number(part)
            return series
        if words:
            return None
        if name in UNARY_METHODS and not node.args:
            return series
        if name == "astype" and len(node.args) == 1:
            _check_type(self.names, node.args[0])
            return series
        if (name in SERIES_ARGUMENTS and len(node.args) == 1) or (name in CHOICES and len(node.args) == 2):
            return self.series(node, self.row_by_row(node, [method.value, *node.args]))
        return series if name == "isin" and len(node.args) == 1 and _constants(node.args[0]) else None

    def _moved(self, node: ast.Call, name: str, series: Series, words: dict[str | None, ast.expr]) -> Series:
        """Return the series of shift, diff, pct_change, ffill or bfill. Raises Doubt for any other method."""
        accepted = {"shift": {"periods", "fill_value"}, "diff": {"periods"}, "pct_change": {"periods", "fill_method"}}
        if name in accepted and len(node.args) <= 1 and set(words) <= accepted[name]:
            if name == "pct_change" and not _is_none(words.get("fill_method")):
                raise Doubt(node, "pct_change fills gaps over any number of rows without fill_method=None")
            if "fill_value" in words:
                self.number(words["fill_value"])
            given = node.args[0] if node.args else words.get("periods")
            by = self.rows_of(given) if given is not None else ONE
            self.notes.show(node, f"{name} by {by}")
            return series.after(rows(by.positive_part()), rows(by.times(-1).positive_part()))
        if name in ("ffill", "bfill") and not node.args and set(words) == {"limit"}:
            limit = rows(self.rows_of(words["limit"]))
            self.notes.show(node, f"{name} over at most {limit} rows")
            return series.after(*((limit, Reach()) if name == "ffill" else (Reach(), limit)))
        raise Doubt(node, f"no rule for .{name}({', '.join(map(ast.unparse, [*node.args, *node.keywords]))[:60]})")

    def _windows(self, node: ast.Call, method: ast.Attribute) -> Series | None:
        """Return the series of ``x.rolling(w).mean()`` and the like, None for another call."""
        inner = method.value
        if method.attr in POLARS_WINDOWS:
            return self._window(node, node, self.value(method.value))
        if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute):
            return None
        kind, words = inner.func.attr, {keyword.arg for keyword in node.keywords}
        if self.names.path_of(inner.func) is not None or kind not in ("rolling", "ewm", "expanding"):
            return None
        if (
            kind == "expanding"
            and not (inner.args or inner.keywords or node.args or words)
            and method.attr in EXPANDING
        ):
            return self._fold(node, inner.func.value, EXPANDING[method.attr])
        if kind == "ewm" and method.attr == "mean" and not node.args and not words:
            return self._average(inner, self.value(inner.func.value))
        if kind == "rolling" and method.attr in WINDOW_METHODS and words <= WINDOW_METHODS[method.attr]:
            for part in [*node.args[:1], *(keyword.value for keyword in node.keywords)]:
                self.number(part)
            if len(node.args) <= (1 if method.attr == "quantile" else 0):
                return self._window(node, inner, self.value(inner.func.value))
        raise Doubt(node, f"no rule for .{kind}(...).{method.attr}(...) with these arguments")

    def _window(self, node: ast.Call, call: ast.Call, value: Value) -> Series:
        words = {keyword.arg: keyword.value for keyword in call.keywords}
        size = call.args[0] if len(call.args) == 1 else words.pop("window", None) or words.pop("window_size", None)
        if size is None or set(words) - {"min_periods", "min_samples", "center", "closed"}:
            raise Doubt(call, "no rule for a window with these arguments")
        width = self.rows_of(size)
        for name in ("min_periods", "min_samples"):
            if name in words:
                self.number(words[name])
        centred, closed = words.get("center"), words.get("closed")
        if (width.value is not None and width.value < 1) or not all(
            part is None or isinstance(part, ast.Constant) for part in (centred, closed)
        ):
            raise Doubt(call, "no rule for a window with these arguments")
        reach = rows(width if closed is not None else width.plus(ONE, -1))
        both = isinstance(centred, ast.Constant) and bool(centred.value)
        self.notes.show(call, f"a window of {width} rows" + (", centred" if both else ""), ROUNDING)
        return self.series(node, value).after(reach, reach if both else Reach())

    def _average(self, call: ast.Call, value: Value) -> Series:
        words = {keyword.arg: keyword.value for keyword in call.keywords}
        adjust = words.pop("adjust", None)
        if call.args or len(words) != 1 or not (adjust is None or isinstance(adjust, ast.Constant)):
            raise Doubt(call, "no rule for an exponential average with these arguments")
        [(name, given)] = words.items()
        reach = fading_of(str(name), given, self.number(given).linear)
        if reach is None:
            raise Doubt(call, "the speed of the average is not known here")
        self.notes.show(call, f"an exponential average: forgotten after {reach} rows", FADES)
        return self.series(call, value).after(reach, Reach())


def fading_of(name: str, node: ast.expr, linear: Linear | None) -> Reach | None:
    """Return the rows after which an average with this alpha, span, com or halflife has forgotten where it started."""
    constant = node.value if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None
    if constant is None and linear is not None:
        constant = linear.value
    if constant is not None:
        if constant <= 0 or (name == "alpha" and constant > 1) or isinstance(constant, bool):
            return None
        numbers = {
            "alpha": 89 / constant, "span": 89 * (constant + 1) / 2, "com": 89 * (constant + 1), "halflife": 128 * constant
        }  # fmt: skip
        return rows(int(numbers[name]) + 2) if name in numbers else None
    if linear is None:
        return None
    text = str(linear) if str(linear).isidentifier() else f"({linear})"
    terms = {
        "alpha": DECAY.format(share=text), "span": f"89 * ({text} + 1) // 2 + 2", "com": f"89 * ({text} + 1) // 1 + 2",
        "halflife": f"128 * {text} // 1 + 2",
    }  # fmt: skip
    if name not in terms:
        return None
    term, _, more = terms[name].rpartition(" + ")
    return rows(named(term).plus(Linear(int(more))))


def _linear(operator: ast.operator, left: Linear | None, right: Linear | None) -> Linear | None:
    if left is None or right is None:
        return None
    if isinstance(operator, ast.Add | ast.Sub):
        return left.plus(right, 1 if isinstance(operator, ast.Add) else -1)
    if isinstance(operator, ast.Mult) and (left.value is not None or right.value is not None):
        return left.times(right.value) if right.value is not None else right.times(left.value or 0)
    return None


def _column(node: ast.Subscript) -> str | None:
    return _name_of(node.slice)


def _name_of(node: ast.AST) -> str | None:
    """Return the name of a column. Text that pandas may read as a date is none."""
    text = node.value if isinstance(node, ast.Constant) else None
    return text if isinstance(text, str) and text[:1].isalpha() else None


def _constants(node: ast.AST) -> bool:
    return isinstance(node, ast.List | ast.Tuple | ast.Set) and all(
        isinstance(item, ast.Constant) for item in node.elts
    )


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _check_type(names: Names, node: ast.AST | None) -> None:
    """Raises Doubt for a type that is not a plain number's."""
    if node is None:
        return
    text = node.value if isinstance(node, ast.Constant) else (names.path_of(node) or "").rpartition(".")[2]
    if text not in TYPES:
        raise Doubt(node, "no rule for this type")
