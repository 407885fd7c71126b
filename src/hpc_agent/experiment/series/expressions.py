"""The rules of expressions: in a function over numbers and columns, in a loop over numbers and rows near its own."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from functools import reduce

from hpc_agent.experiment.series import column_methods as table
from hpc_agent.experiment.series.function_source import Doubt, Names, Stateful
from hpc_agent.experiment.series.rows_needed import Number, Position, Rows, Series, Start, Value

KIT = "hpc_agent.experiment_kit"
OPERATORS = frozenset(
    "Add Sub Mult Div FloorDiv Mod Pow BitAnd BitOr BitXor Not USub UAdd Invert Lt LtE Gt GtE Eq NotEq".split()
)
COLUMNS = ("column", "loaded", "list")
NO_OPERAND = {
    "Position": "the row's number goes into the value: it may stand in x[i - k] and in 'if i >= k' only",
    "trimmed": "the rows of the halo were trimmed before: trim what leaves the function",
    "list": "an operator takes a list as a whole, not row by row",
    "fold": "a total or a running total goes into other values here",
}


@dataclass
class Expressions:
    """The names that are known at a place of the source, with what was seen so far: lines with a sentence, and caveats."""

    names: Names
    known: dict[str, Value]
    evidence: list[tuple[int, str]] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    loaded: list[Series] = field(default_factory=list)  # the series that is split, at most one
    row: str = ""  # the text of a loop's own row: v, x[i]

    def show(self, node: ast.expr | ast.stmt, text: str, *caveats: str) -> None:
        self.evidence.append((node.lineno, text))
        self.caveats += caveats

    def assume(self, parameter: str) -> None:
        self.caveats += [f"the halo holds where {parameter} is not negative"] if parameter else []

    def load(self, node: ast.AST) -> Series:
        if self.loaded:
            raise Doubt(node, "it uses two series: only one can be split by its rows")
        self.loaded.append(Series(kind="loaded"))
        return self.loaded[0]

    def value(self, node: ast.AST) -> Value:
        """Return the meaning of an expression. Raises Doubt for one that no rule covers."""
        match node:
            case ast.Constant(constant):
                return Number(constant if type(constant) in (int, float) else None)  # type: ignore[arg-type]
            case ast.Name(name):
                return self._named(node, name)
            case ast.Attribute() if self.names.path_of(node) in table.NUMBERS:
                return Number()
            case ast.Attribute(owner, "values"):
                return self.series(node, self.value(owner))
            case ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return self._operation(node)
            case ast.IfExp() if self.row:
                return self._choice(node)
            case ast.Subscript(owner, part):
                return self._part(node, self.value(owner), part)
            case ast.Call():
                path = self.names.path_of(node.func)
                return self._function(node, path) if path else self._method(node)
            case ast.ListComp(element, [ast.comprehension(target, source, [], 0)]):
                inner, series = self.loop(target, source)
                return inner.listed(element, series)
            case ast.List([]):
                return Start()
        raise Doubt(node, f"no rule for {ast.unparse(node)[:80]}")

    def _named(self, node: ast.AST, name: str) -> Value:
        constant = self.names.meaning(name)
        found = self.known.get(name, Number(constant) if isinstance(constant, int) else Start())
        if isinstance(found, Start):
            raise Doubt(node, f"'{name}' may be anything, or is not filled by a loop that a template has")
        return found

    def number(self, node: ast.AST) -> Number:
        value = self.value(node)
        if not isinstance(value, Number):
            raise Doubt(node, "only a number may stand here")
        return value

    def series(self, node: ast.AST, value: Value, kinds: tuple[str, ...] = COLUMNS) -> Series:
        """Return ``value`` as rows that more can be computed of. Raises Doubt for a number, a fold and other kinds."""
        if isinstance(value, Series) and not value.fold and value.kind in kinds:
            return value
        kind = ("fold" if value.fold else value.kind) if isinstance(value, Series) else type(value).__name__
        why = "a number, a single row, a list or a window stands here, not a value for each row"
        raise Doubt(node, NO_OPERAND.get(kind, why))

    def combined(self, node: ast.AST, *values: Value) -> Number | Series:
        """Return the value of an operation on numbers and values of the same row."""
        kinds = ("row",) if self.row else COLUMNS if isinstance(node, ast.Call) else ("column", "loaded")
        found = [self.series(node, value, kinds) for value in values if not isinstance(value, Number)]
        return reduce(Series.beside, found, Series(kind=kinds[0])) if found else Number()

    def folded(self, node: ast.expr | ast.stmt, value: Value, fold: table.Fold) -> Series:
        """Return a fold of all rows. Raises Doubt where rows of a halo would be folded too."""
        series = self.series(node, value, (*COLUMNS, "trimmed", "expanding"))
        if series.kind != "trimmed" and (series.back or series.ahead):
            raise Doubt(node, "rows of the halo would be counted twice: fold trim_emission(...) of the terms")
        text = f"a {'running ' if fold.running else ''}fold of all rows ({fold.monoid})"
        self.show(node, text, *table.CAVEATS.get(fold.monoid, ()))
        return Series(series.back, series.ahead, fold)

    def reach(self, node: ast.expr, name: str, argument: str, given: ast.expr) -> tuple[Rows, Rows]:
        """Return the rows before and after that a method or an average needs for an argument, a key of REACHES."""
        number, rule = self.number(given), table.REACHES[argument]
        try:
            if number.constant is None or not (number.term or rule.least <= number.constant <= rule.largest):
                raise ValueError(f"the number of rows, or the speed of the average, is not known here ({argument})")
            back, ahead = (number.rows(side, rule.more) if side else Rows() for side in (rule.back, rule.ahead))
        except ValueError as error:
            raise Doubt(node, str(error)) from error
        self.show(node, rule.shows.format(number, name=name, rows=back), *table.CAVEATS.get(name, ()))
        return back, ahead

    def _operation(self, node: ast.BinOp | ast.UnaryOp | ast.Compare) -> Value:
        parts = [*ast.iter_child_nodes(node)]
        operators = [type(part).__name__ for part in parts if not isinstance(part, ast.expr)]
        if not OPERATORS.issuperset(operators) or (not self.row and (len(operators) > 1 or operators == ["Not"])):
            raise Doubt(node, f"no rule for {ast.unparse(node)[:80]}")
        values = [self.value(part) for part in parts if isinstance(part, ast.expr)]
        match operators[0], values:
            case "USub", [Number() as one]:
                return Number(0).plus(one, -1)
            case "Add" | "Sub" as name, [Number() as left, Number() as right]:
                return left.plus(right, 1 if name == "Add" else -1)
            case "Add", [Position(clipped=False) as at, Number(int(more), term)] if not (at.plus and term):
                return replace(at, constant=at.constant + more, plus=at.plus or term)
            case "Sub", [Position(clipped=False) as at, Number(int(less), term)] if not (at.minus and term):
                return replace(at, constant=at.constant - less, minus=at.minus or term)
        return self.combined(node, *values)

    def _choice(self, node: ast.IfExp) -> Value:
        """Return ``a if i >= k else b``: the rows before k see another branch. Other conditions are of values only."""
        inside = self
        match node.test:
            case ast.Compare(ast.Name(row), [ast.GtE()], [bound]) if isinstance(own := self.known.get(row), Position):
                begins = self.number(bound)
                if type(begins.constant) is not int or begins.constant < 0:
                    raise Doubt(node, "the row's number may be negative here, or is not known")
                self.assume(begins.term)
                inside = replace(self, known={**self.known, row: replace(own, first=begins)})
                test: Value = Series(begins.rows(), kind="row")
            case condition:
                test = self.value(condition)
        return self.combined(node, test, inside.value(node.body), self.value(node.orelse))

    def _part(self, node: ast.Subscript, owner: Value, part: ast.expr) -> Value:
        """Return a named column or the first row; in a loop ``x[i - k]`` or the rows ``x[max(0, i - k) : i + 1]``.

        Text that pandas may read as a date is no name.
        """
        match owner, part:
            case Series(kind="loaded"), ast.Constant(str(name)) if name[:1].isalpha():
                return Series()
            case Series(), ast.Constant(0):
                return Start(of=owner)
            case Series(), ast.Slice(ast.expr() as lower, ast.expr() as upper, None):
                return replace(self._near(lower, owner).beside(self._near(upper, owner, -1)), kind="rows")
            case Series(), ast.Name() | ast.BinOp() | ast.Call():
                return self._near(part, owner)
        raise Doubt(node, "only single columns of the given series are known here, and in a loop rows near its own")

    def _near(self, node: ast.expr, series: Series, more: int = 0) -> Series:
        """Return the row with the number ``node + more`` of the loop's series. A parameter counts as not negative."""
        at = self.value(node)
        if not isinstance(at, Position) or at.of is not series or (at.plus and at.minus):
            raise Doubt(node, "this row's number is not the loop's own plus or minus a number of rows")
        least = at.constant + int(at.first.constant or 0)
        if not at.clipped and (least < 0 or at.minus not in ("", at.first.term)):
            why = "the row's number may be negative here, which is read from the end of the series: use max(0, ...)"
            raise Doubt(node, why)
        self.assume(at.plus or at.minus)
        after = at.constant + more
        back = Number(-after if at.minus else max(0, -after), at.minus)
        ahead = Number(after if at.plus else max(0, after), at.plus)
        return Series(back.rows(), ahead.rows(), kind="row")

    def loop(self, target: ast.expr, source: ast.expr) -> tuple[Expressions, Series]:
        """Return the names of a loop's body, and its series. Raises Doubt for any loop but over x and range(len(x))."""
        text = ast.unparse(source)
        by_number = re.fullmatch(r"range\(len\((\w+)\)\)", text)
        name = by_number.group(1) if by_number else text
        builtin = [*map(self.names.meaning, ("range", "len"))] == ["builtins.range", "builtins.len"]
        if not isinstance(target, ast.Name) or not name.isidentifier() or not (name == text or builtin):
            raise Doubt(source, "no template has this loop")
        series = self.series(source, self._named(source, name))
        own = Series(kind="row") if name == text else Position(series)
        row = target.id if name == text else f"{name}[{target.id}]"
        return replace(self, known={**self.known, target.id: own}, row=row), series

    def listed(self, node: ast.expr, series: Series) -> Series:
        """Return the series of a value that is appended for each row of ``series``."""
        value = self.value(node)
        if isinstance(value, Series) and value.fold and value.kind == "row":
            return replace(value, kind="list")
        own = self.of_row(node)
        if own.back or own.ahead:
            self.show(node, f"a stencil of {own.back} rows before and {own.ahead} after")
        return series.after(own.back, own.ahead, "list")

    def of_row(self, node: ast.expr) -> Series:
        """Return a number or a value of the loop's row as the rows that it needs."""
        found = self.combined(node, self.value(node))
        return found if isinstance(found, Series) else Series(kind="row")

    def _function(self, node: ast.Call, path: str) -> Value:
        words = {word.arg: word.value for word in node.keywords}
        if path == f"{KIT}.series.load_series":
            given = self.known.get(ast.unparse(node.args[0])) if node.args else None
            return given if isinstance(given, Series) and given.kind == "loaded" else self.load(node)
        if path == "collections.deque" and not node.args and [*words] == ["maxlen"]:
            return Start(back=self.reach(node, "deque", "window", words["maxlen"])[0])
        match [self.value(argument) for argument in node.args], [*words]:
            case [value], [] if path == f"{KIT}.series.trim_emission":
                return replace(self.series(node, value), kind="trimmed")
            case [value], ["prepend"] if path == "numpy.diff":
                self.number(words["prepend"])
                return self.series(node, value).after(*self.reach(node, "diff", "periods", ast.Constant(1)), "column")
            case [Series(kind="rows") as window], [] if path in table.WINDOW_FUNCTIONS:
                return replace(window, kind="row")
            case [Number(0, ""), Position() as position], [] if path == "builtins.max":
                return replace(position, clipped=True)
            case [value], [] if path in table.NUMPY_FOLDS:
                return self.folded(node, value, table.NUMPY_FOLDS[path])
            case values, [] if table.NUMPY_ELEMENTWISE.get(path) == len(values):
                return self.combined(node, *values)
            case values, [] if self.row and path in table.SCALAR_FUNCTIONS:
                return self.combined(node, *values)
        raise Doubt(node, f"no rule for {ast.unparse(node)[:60]}")

    def _method(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Attribute):
            raise Doubt(node, f"{ast.unparse(node.func)[:60]} may do anything")
        owner, name = self.value(node.func.value), node.func.attr
        if name == "cumprod":
            raise Stateful(node, "a running product carries a state that no monoid holds exactly")
        if isinstance(owner, Series) and not node.args and not node.keywords:
            result = table.METHODS.get(owner.kind, table.METHODS["column"]).get(name)
            if isinstance(result, table.Fold):
                return self.folded(node, owner, result)
            if result:
                return owner if result == "same" or owner.kind == "trimmed" else replace(owner, kind=result)
        series = self.series(node, owner)
        if name == "astype" and [*map(self.names.path_of, node.args)] in table.TYPES and not node.keywords:
            return self.combined(node, series)
        given = self._given(node, name)
        for word in given.keys() - table.SERIES_ARGUMENTS:
            self.number(given[word])
        if name in table.MOVING:
            return self._moved(node, name, series, given)
        return self.combined(node, series, *map(self.value, given.values()))

    def _given(self, node: ast.Call, name: str) -> dict[str, ast.expr]:
        """Return the arguments of a method by their names. Raises Doubt for a method or an argument not in the table."""
        positional, _, others = table.ARGUMENTS.get(name, "").partition("*")
        names = positional.split()
        given = dict(zip(names, node.args, strict=False)) | {str(word.arg): word.value for word in node.keywords}
        unknown = given.keys() - {*names, *others.split()}
        if name not in table.ARGUMENTS or unknown or len(given) != len(node.args) + len(node.keywords):
            raise Doubt(node, f"no rule for .{name}({', '.join(map(ast.unparse, [*node.args, *node.keywords]))[:60]})")
        return given

    def _moved(self, node: ast.Call, name: str, series: Series, given: dict[str, ast.expr]) -> Series:
        """Return the series of a method whose values depend on other rows; a window for rolling and ewm."""
        if table.MOVING[name].startswith("periods"):
            given = {"periods": ast.Constant(1), **given}
        counts = given.keys() & table.REACHES.keys()
        texts = {word: ast.unparse(part) for word, part in given.items()}
        if len(counts) != 1 or (name == "pct_change" and texts.get("fill_method") != "None"):
            raise Doubt(node, f"no rule for .{name} with these arguments")
        [argument] = counts
        back, ahead = self.reach(node, name, argument, given[argument])
        if "closed" in given:
            back = back.then(Number(1).rows())
        if texts.get("center", "False") != "False":
            ahead = back
        back, ahead = (ahead, back) if name == "bfill" else (back, ahead)
        return series.after(back, ahead, name if name in table.METHODS else "column")
