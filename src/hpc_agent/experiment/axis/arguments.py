"""What the readers of calls share: their arguments, their caveats, and what a whole column is folded into."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.values import Any_, Doubt, Folded, Group, Ring, Rows, Spread, Store

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.expressions import Expressions

DRIFT = (
    "pandas and polars take a window's sum from the one before by adding and subtracting a row, so its last digits "
    "depend on all rows before: check_elision tells whether the parts are equal on your data"
)
FADES = (
    "an exponential average never forgets: the halo makes the parts equal on ordinary data only; let check_elision "
    "verify it on yours"
)
EXACT_SUMS = (
    "the parts of a float sum are equal to the whole only where they are exact: SUM and MOMENTS (docs/series.md) do "
    "that, and the whole is then the exact sum, rounded once"
)
FILLS = "pct_change of pandas before 3 first carries the last value over gaps of any length: give fill_method=None"
SHORT = "the first or last rows get no value: emit one (such as NaN) for each row, or trim_emission refuses the output"

TOTALS = {
    "sum": "sum", "max": "max", "min": "min", "mean": "moments", "std": "moments", "var": "moments", "nansum": "sum",
    "fsum": "sum", "fmean": "moments", "count": "sum", "average": "moments",
}  # fmt: skip
ROLLED = frozenset(
    "apply count kurt max mean median min quantile rank sem skew std sum var agg aggregate cov corr".split()
)
IGNORED_KEYWORDS = frozenset(
    "min_periods min_samples fill_value win_type engine raw ddof dtype decimals n name closed_form".split()
)


def arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def keyword_of(node: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value
    return node.args[position] if position is not None and position < len(node.args) else None


def no_other_keywords(node: ast.Call, *known: str) -> None:
    for keyword in node.keywords:
        if keyword.arg not in known and keyword.arg not in IGNORED_KEYWORDS:
            raise Doubt(node, f"{keyword.arg}= is not looked into")


def constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else node


def flat(reader: Expressions, node: ast.AST, value: Any_) -> Any_:
    if isinstance(value, Group):
        return reader.combine(node, [flat(reader, node, item) for item in value.items])
    return reader.as_spread(node, value) if isinstance(value, Ring | Store) else value


def column_of(reader: Expressions, node: ast.AST, argument: ast.expr) -> Rows:
    value = reader.spread(argument)
    if not isinstance(value, Rows):
        raise Doubt(node, "it is not taken of a whole column")
    return value


def noted(reader: Expressions, node: ast.AST, why: str, value: Any_) -> Any_:
    reader.trail.note(node, why)
    return value


def running(reader: Expressions, node: ast.AST, monoid: str, column: Rows) -> Folded:
    if column.short:
        raise Doubt(node, "running totals of a shortened column")
    reader.trail.note(node, f"a running {monoid}" if monoid != "moments" else "running moments")
    if monoid in ("sum", "moments"):
        reader.trail.caveats[EXACT_SUMS] = None
    return Folded(column.back, column.ahead, monoid, running=True)


def total(reader: Expressions, node: ast.AST, monoid: str, column: Spread) -> Folded:
    if not isinstance(column, Rows) or column.short:
        raise Doubt(node, "a total of totals, or of a shortened column")
    reader.trail.note(node, f"a total of all rows ({monoid})")
    if monoid in ("sum", "moments"):
        reader.trail.caveats[EXACT_SUMS] = None
    return Folded(column.back, column.ahead, monoid)


def check_pure(reader: Expressions, node: ast.AST, function: ast.expr) -> None:
    name = reader.scope.dotted(function, set(reader.env))
    own = isinstance(function, ast.Name) and reader.scope.is_function(function.id) and function.id not in reader.env
    if isinstance(function, ast.Constant) and function.value in ROLLED - {"apply", "agg", "aggregate"}:
        return
    outer = {part.id for part in ast.walk(function) if isinstance(part, ast.Name)} & set(reader.env)
    if isinstance(function, ast.Lambda) and reader.scope.pure_function(function) and not outer - _given(function):
        return
    if (name is not None and reader.scope.pure_call(name)) or (own and reader.scope.pure(ast.unparse(function))):
        return
    raise Doubt(node, f"{ast.unparse(function)} may have a state")


def _given(function: ast.Lambda) -> set[str]:
    return {argument.arg for argument in function.args.args}
