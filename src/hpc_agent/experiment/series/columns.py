"""Straight-line code over columns: assignments and expressions whose parts are all in the table of column methods."""

from __future__ import annotations

import ast

from hpc_agent.experiment.series.column_methods import (
    DECAY,
    EXACT,
    EXPANDING,
    FADES,
    METHOD_FOLDS,
    MOVING_KEYWORDS,
    NUMBER_ARGUMENTS,
    NUMBER_KEYWORDS,
    NUMBERS,
    NUMPY_ELEMENTWISE,
    NUMPY_FOLDS,
    ROUNDING,
    SERIES_ARGUMENTS,
    TYPES,
    WINDOW_METHODS,
    Fold,
)
from hpc_agent.experiment.series.function_source import Names
from hpc_agent.experiment.series.rows_needed import (
    ONE,
    Container,
    Doubt,
    Group,
    Linear,
    Notes,
    Number,
    Reach,
    Series,
    Stateful,
    Value,
    rows,
    term,
)
from hpc_agent.experiment_kit.axis import evaluate_rows

KIT = "hpc_agent.experiment_kit.series."
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
Words = dict[str | None, ast.expr]


class Columns:
    """The names of a function, and the rules of its expressions. A rule that does not fit raises Doubt."""

    def __init__(self, names: Names, notes: Notes, series: str | None, numbers: set[str]) -> None:
        self.names = names
        self.notes = notes
        self.known: dict[str, Value] = {name: Number(term(name)) for name in numbers}
        if series:
            self.known[series] = self.load()

    def load(self) -> Series:
        self.notes.series_used = True
        return Series(loaded=True)

    def statement(self, node: ast.stmt) -> None:
        """Take in ``name = expression``. Raises Doubt for any other statement."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise Doubt(node, f"no rule for this statement of the kind {type(node).__name__}")
        self.known[node.targets[0].id] = self.value(node.value)

    def series(self, node: ast.AST, value: Value) -> Series:
        """Return ``value`` as rows that more can be computed of. Raises Doubt for a number, a fold and trimmed rows."""
        if not isinstance(value, Series):
            raise Doubt(node, "this is no series")
        if value.trimmed:
            raise Doubt(node, "the rows of the halo were trimmed before: trim what leaves the function")
        if value.fold:
            name = "a running total" if value.fold.running else "a figure of the whole series"
            raise Doubt(node, f"{name} goes into other values here")
        return value

    def number(self, node: ast.AST) -> Number:
        value = self.value(node)
        if not isinstance(value, Number):
            raise Doubt(node, "only a number may stand here")
        return value

    def rows_of(self, node: ast.AST) -> Linear:
        """Return an expression as a number of rows. Raises Doubt for any but ``parameter + number``."""
        linear = self.number(node).linear
        if linear is None:
            raise Doubt(node, "the number of rows is not known here")
        return linear

    def value(self, node: ast.AST) -> Value:
        """Return the meaning of an expression. Raises Doubt for one that no rule covers."""
        if isinstance(node, ast.Constant):
            whole = type(node.value) is int or (isinstance(node.value, float) and node.value == 0)
            return Number(Linear(int(node.value)) if whole else None)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
            return self._operation(node)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self._negated(node)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], COMPARISONS):
            return self.row_by_row(node, [node.left, *node.comparators])
        if isinstance(node, ast.Subscript):
            return self._column(node)
        if isinstance(node, ast.Attribute) and self.names.path_of(node) in NUMBERS:
            return Number()
        if isinstance(node, ast.Attribute) and node.attr == "values" and self.names.path_of(node) is None:
            return self.series(node, self.value(node.value))
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
            return Group(tuple(map(self.value, node.values)))
        if isinstance(node, ast.Tuple):
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
        return Number(Linear(constant))

    def row_by_row(self, node: ast.AST, parts: list[ast.expr]) -> Number | Series:
        """Return the value of an operation that combines values of the same row."""
        found: Series | None = None
        for value in map(self.value, parts):
            if not isinstance(value, Number):
                one = self.series(node, value)
                found = found.beside(one) if found else one.beside(Series())
        return found or Number()

    def _operation(self, node: ast.BinOp) -> Value:
        found = self.row_by_row(node, [node.left, node.right])
        if isinstance(found, Number) and isinstance(node.op, ast.Add | ast.Sub):
            left, right = self.number(node.left).linear, self.number(node.right).linear
            if left and right and not right.terms:
                return Number(left.plus(right, 1 if isinstance(node.op, ast.Add) else -1))
        return found

    def _negated(self, node: ast.UnaryOp) -> Value:
        found = self.row_by_row(node, [node.operand])
        linear = self.number(node.operand).linear if isinstance(found, Number) else None
        if linear and not linear.terms and isinstance(node.op, ast.USub):
            return Number(Linear(-linear.constant))
        return found

    def _column(self, node: ast.Subscript) -> Value:
        """Return a named column of the loaded series. Text that pandas may read as a date is no name."""
        value = self.value(node.value)
        name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if isinstance(value, Series) and value.loaded and isinstance(name, str) and name[:1].isalpha():
            return Series()
        raise Doubt(node, "only single columns of the given series are known here, not rows")

    def _call(self, node: ast.Call) -> Value:
        if any(isinstance(part, ast.Starred) for part in node.args) or any(k.arg is None for k in node.keywords):
            raise Doubt(node, "no rule for * and ** in a call")
        path, words = self.names.path_of(node.func), {k.arg: k.value for k in node.keywords}
        if path is not None:
            return self._function(node, path, words)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, words)
        raise Doubt(node, f"{ast.unparse(node.func)[:60]} may do anything")

    def _function(self, node: ast.Call, path: str, words: Words) -> Value:
        module, _, name = path.partition(".")
        if path == KIT + "load_series":
            first = node.args[0] if node.args else None
            given = self.known.get(first.id) if isinstance(first, ast.Name) else None
            if isinstance(given, Series) and given.loaded:
                return given
            if self.notes.series_used:
                raise Doubt(node, "a second series is loaded: only one can be split by its rows")
            return self.load()
        if path == KIT + "trim_emission" and len(node.args) == 1 and not words:
            series = self.series(node, self.value(node.args[0]))
            return Series(series.back, series.ahead, None, True)
        if path == "numpy.diff" and len(node.args) == 1 and set(words) == {"prepend"}:
            self.number(words["prepend"])
            self.notes.show(node, "differences of neighbouring rows")
            return self.series(node, self.value(node.args[0])).after(rows(1))
        if module == "numpy" and not words:
            if NUMPY_ELEMENTWISE.get(name) == len(node.args):
                return self.row_by_row(node, node.args)
            if name in NUMPY_FOLDS and len(node.args) == 1:
                return self.folded(node, self.value(node.args[0]), NUMPY_FOLDS[name])
        raise Doubt(node, f"no rule for {ast.unparse(node)[:60]}")

    def folded(self, node: ast.AST, value: Value, fold: Fold) -> Series:
        """Return a fold of all rows. Raises Doubt where rows of a halo would be folded too."""
        if not isinstance(value, Series) or value.fold or not (value.trimmed or value.beside(value) == Series()):
            raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
        exact = EXACT if fold.monoid in ("sum", "moments") else None
        self.notes.show(node, f"a {'running ' if fold.running else ''}fold of all rows ({fold.monoid})", exact)
        return Series(value.back, value.ahead, fold)

    def _method(self, node: ast.Call, method: ast.Attribute, words: Words) -> Value:
        inner, name = method.value, method.attr
        window = inner.func if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) else method
        if window.attr in ("rolling", "ewm", "expanding") and self.names.path_of(window) is None:
            if node.args or words or window is method or not isinstance(inner, ast.Call):
                raise Doubt(node, f"no rule for .{name} with these arguments")
            return self._window_method(inner, name, self.value(window.value))
        value = self.value(inner)
        if name == "cumprod":
            raise Stateful(node, "a running product carries a state that no monoid holds exactly")
        if name in ("tolist", "to_numpy", "copy") and isinstance(value, Series) and not node.args and not words:
            return value
        if name in METHOD_FOLDS and not node.args and not words:
            return self.folded(node, value, METHOD_FOLDS[name])
        series = self.series(node, value)
        if len(node.args) <= NUMBER_ARGUMENTS.get(name, -1) and set(words) <= NUMBER_KEYWORDS.get(name, set()):
            for part in [*node.args, *words.values()]:
                self.number(part)
            return series.beside(Series())
        if name == "astype" and len(node.args) == 1 and not words and self.names.path_of(node.args[0]) in TYPES:
            return series.beside(Series())
        if SERIES_ARGUMENTS.get(name) == len(node.args) and not words:
            return self.row_by_row(node, [inner, *node.args])
        return self._moved(node, name, series, words)

    def _moved(self, node: ast.Call, name: str, series: Series, words: Words) -> Series:
        """Return the series of shift, diff, pct_change, ffill or bfill. Raises Doubt for any other method."""
        unfilled = name != "pct_change" or ("fill_method" in words and ast.unparse(words["fill_method"]) == "None")
        if name in MOVING_KEYWORDS and len(node.args) <= 1 and set(words) <= MOVING_KEYWORDS[name] and unfilled:
            if "fill_value" in words:
                self.number(words["fill_value"])
            given = [*node.args, *(words[word] for word in words if word == "periods")]
            by = self.rows_of(given[0]) if given else ONE
            self.notes.show(node, f"{name} by {by}")
            if not by.terms:
                return series.after(rows(max(0, by.constant)), rows(max(0, -by.constant)))
            opposite = f"-{by}" if str(by).isidentifier() else f"-({by})"
            return series.after(rows(term(f"max(0, {by})")), rows(term(f"max(0, {opposite})")))
        if name in ("ffill", "bfill") and not node.args and set(words) == {"limit"}:
            limit = rows(self.rows_of(words["limit"]))
            self.notes.show(node, f"{name} over at most {limit} rows")
            return series.after(limit) if name == "ffill" else series.after(Reach(), limit)
        raise Doubt(node, f"no rule for .{name}({', '.join(map(ast.unparse, [*node.args, *node.keywords]))[:60]})")

    def _window_method(self, call: ast.Call, name: str, value: Value) -> Series:
        """Return the series of ``x.rolling(w).mean()``, ``x.ewm(alpha=a).mean()`` or ``x.expanding().sum()``."""
        kind, words = call.func.attr, {k.arg: k.value for k in call.keywords}  # type: ignore[attr-defined]
        if kind == "expanding" and name in EXPANDING and not call.args and not words:
            return self.folded(call, value, EXPANDING[name])
        if kind == "ewm" and name == "mean" and not call.args:
            adjust = words.pop("adjust", None)
            if len(words) == 1 and (adjust is None or isinstance(adjust, ast.Constant)):
                [(speed, given)] = words.items()
                return self.series(call, value).after(self._average(call, str(speed), given))
        if kind == "rolling" and name in WINDOW_METHODS and len(call.args) <= 1:
            return self._rolling(call, self.series(call, value), words)
        raise Doubt(call, f"no rule for .{kind}(...).{name}() with these arguments")

    def _rolling(self, call: ast.Call, series: Series, words: Words) -> Series:
        sizes = [*call.args, *(words[word] for word in words if word == "window")]
        if len(sizes) != 1 or set(words) - {"window", "min_periods", "center", "closed"}:
            raise Doubt(call, "no rule for a window with these arguments")
        width, constants = self.rows_of(sizes[0]), [words[w] for w in words if w in ("center", "closed")]
        if "min_periods" in words:
            self.number(words["min_periods"])
        if (not width.terms and width.constant < 1) or not all(isinstance(part, ast.Constant) for part in constants):
            raise Doubt(call, "no rule for a window with these arguments")
        both = "center" in words and ast.unparse(words["center"]) != "False"
        reach = rows(width if "closed" in words else width.plus(ONE, -1))
        self.notes.show(call, f"a window of {width} rows" + (", centred" if both else ""), ROUNDING)
        return series.after(reach, reach if both else None)

    def _average(self, call: ast.Call, speed: str, given: ast.expr) -> Reach:
        """Return the rows after which an average with this alpha, span, com or halflife has forgotten its start."""
        text, linear = ast.unparse(given), self.number(given).linear
        number = given.value if isinstance(given, ast.Constant) and type(given.value) in (int, float) else None
        if number is None and linear is not None:
            text, number = str(linear), None if linear.terms else linear.constant
        known = text.isidentifier() if number is None else 1e-6 < float(str(number)) <= (1 if speed == "alpha" else 1e9)
        if speed not in DECAY or not known:
            raise Doubt(call, "the speed of the average is not known here")
        expression, more = DECAY[speed]
        return self.forgotten(call, expression.format(text), more, number is not None)

    def forgotten(self, node: ast.AST, expression: str, more: int, is_number: bool) -> Reach:
        """Return the rows that an expression gives for the memory of an average, and some more."""
        reach = rows(evaluate_rows("halo", expression, {}) + more if is_number else term(expression, more))
        self.notes.show(node, f"an exponential average: forgotten after {reach} rows", FADES)
        return reach
