"""Methods of pandas and polars objects and of numpy arrays, and what they reach."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis.arguments import (
    DRIFT,
    FADES,
    FILLS,
    ROLLED,
    TOTALS,
    arguments,
    check_pure,
    constant,
    flat,
    keyword_of,
    no_other_keywords,
    noted,
    running,
    total,
)
from hpc_agent.experiment.axis.reach import NONE, ONE, Linear, Reach, fading_of_ewm, positive_part, rows
from hpc_agent.experiment.axis.scope import PURE_METHODS
from hpc_agent.experiment.axis.values import (
    Any_,
    Cell,
    Doubt,
    Fading,
    First,
    Folded,
    Growing,
    Handle,
    Plain,
    Rows,
    Scalar,
    Sequential,
    Spread,
    Store,
    Window,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.expressions import Expressions

ELEMENTWISE = frozenset(
    "abs add alias astype between cast clip collect copy cos div eq exp floordiv ge gt is_nan is_null isin isna "
    "isnull lazy le log log10 log1p lt mask mod mul ne neg not_ notna notnull pow radd rename rmul round rsub "
    "rtruediv select sign sin sqrt sub tan tanh to_frame to_list to_numpy tolist truediv where with_columns fillna "
    "fill_null fill_nan".split()
)
EXACT_WINDOWS = frozenset("apply count max median min quantile rank".split())
POLARS_ROLLED = frozenset("rolling_" + name for name in "max mean median min quantile skew std sum var".split())
RUNNING = {"cumsum": "sum", "cum_sum": "sum", "cummax": "max", "cum_max": "max", "cummin": "min", "cum_min": "min"}
WRITERS = frozenset("to_csv to_parquet to_json to_pickle to_feather write_csv write_parquet".split())


def method(reader: Expressions, node: ast.Call, function: ast.Attribute) -> Any_:
    value = reader.visit(function.value)
    name = function.attr
    if isinstance(value, Window | Fading | Growing):
        return _taken(reader, node, name, value)
    if isinstance(value, Cell | Scalar | First) and name in PURE_METHODS:
        return reader.combine(node, [value, *(flat(reader, node, reader.visit(a)) for a in arguments(node))])
    if isinstance(value, Handle):
        reader.trail.returned += [(node, reader.visit(argument)) for argument in arguments(node)]
        return Handle()
    if isinstance(value, Store):
        value = reader.finished(node, value)
    if isinstance(value, Folded) and name in ("tolist", "to_list", "to_numpy") and not node.args:
        return value
    if not isinstance(value, Plain | Rows):
        raise Doubt(node, f".{name}() is not known")
    column = reader.as_spread(node, value)
    assert isinstance(column, Rows)
    return _of_column(reader, node, name, column)


def _of_column(reader: Expressions, node: ast.Call, name: str, column: Rows) -> Any_:
    if name in RUNNING:
        no_other_keywords(node, "skipna")
        return running(reader, node, RUNNING[name], column)
    if name in ("cumprod", "cum_prod"):
        raise Sequential(node, "a running product of floats has no exact partial that could be merged")
    if column.short and (name in _METHODS or name in POLARS_ROLLED):
        raise Doubt(node, f".{name}() of a shortened column")
    if special := _METHODS.get(name):
        return special(reader, node, column)
    if name in POLARS_ROLLED:
        return _polars_rolled(reader, node, name, column)
    if name in TOTALS or name in ("median", "any", "all"):
        return _reduced(reader, node, name, column)
    if name in WRITERS:
        reader.trail.returned.append((node, column))
        return Handle()
    if name in ELEMENTWISE:
        return _elementwise(reader, node, name, column)
    raise Doubt(node, f".{name}() is not known")


def _elementwise(reader: Expressions, node: ast.Call, name: str, column: Rows) -> Any_:
    named = _names(node) if name in ("with_columns", "select") else []
    no_other_keywords(node, "errors", "columns", "lower", "upper", "inclusive", *named)
    if name in ("fillna", "fill_null") and not node.args and not node.keywords:
        raise Doubt(node, f".{name}() without a value")
    if name in ("fillna", "fill_null") and not isinstance(reader.visit(arguments(node)[0]), Scalar):
        raise Doubt(node, f".{name}() with more than a constant")
    return reader.combine(node, [column, *(flat(reader, node, reader.visit(a)) for a in arguments(node))])


def _names(node: ast.Call) -> list[str]:
    return [keyword.arg for keyword in node.keywords if keyword.arg]


def _rolling(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    """pandas: rolling(window, min_periods, center, ..., closed)."""
    no_other_keywords(node, "window", "center", "closed")
    if len(node.args) > 2:
        raise Doubt(node, "rolling() with many unnamed arguments")
    window = reader.linear(keyword_of(node, "window", 0), "the window")
    closed = constant(keyword_of(node, "closed"))
    if closed not in (None, "right", "both", "left", "neither"):
        raise Doubt(node, "closed= is not a constant")
    back, ahead = _window_reach(window, constant(keyword_of(node, "center")))
    if closed in ("both", "left"):
        back = back.plus(rows(ONE))
    reader.trail.note(node, f"a window of {window} rows")
    return Window(column.back.plus(back), column.ahead.plus(ahead))


def _window_reach(window: Linear, center: object) -> tuple[Reach, Reach]:
    reach = rows(window.minus(ONE))
    if center in (None, False):
        return reach, NONE
    return reach, reach  # centred, or not known whether: more than half on each side


def _polars_rolled(reader: Expressions, node: ast.Call, name: str, column: Rows) -> Any_:
    no_other_keywords(node, "window_size", "center", "weights", "quantile", "interpolation")
    place = 1 if name == "rolling_quantile" and node.args[1:] else 0
    window = reader.linear(keyword_of(node, "window_size", place), "the window")
    back, ahead = _window_reach(window, constant(keyword_of(node, "center")))
    reader.trail.note(node, f"a window of {window} rows")
    if name.removeprefix("rolling_") not in EXACT_WINDOWS:
        reader.trail.caveats[DRIFT] = None
    return Rows(column.back.plus(back), column.ahead.plus(ahead), column.short)


def _taken(reader: Expressions, node: ast.Call, name: str, window: Spread) -> Any_:
    """What is taken of rolling, ewm or expanding."""
    if isinstance(window, Growing):
        monoids = {
            "sum": "sum",
            "count": "sum",
            "max": "max",
            "min": "min",
            "mean": "moments",
            "std": "moments",
            "var": "moments",
        }
        if name not in monoids:
            raise Doubt(node, f"expanding().{name}() has no partial that could be merged")
        return running(reader, node, monoids[name], Rows(window.back, window.ahead))
    if isinstance(window, Fading):
        if name != "mean":
            raise Doubt(node, f"ewm().{name}() is not looked into")
        reader.trail.caveats[FADES] = None
        return Rows(window.back, window.ahead)
    if name not in ROLLED:
        raise Doubt(node, f"rolling().{name}() is not known")
    others = [argument for argument in node.args if not isinstance(argument, ast.Lambda)]
    if name in ("apply", "agg", "aggregate"):
        _check_applied(reader, node)
        others = []
    if name not in EXACT_WINDOWS:
        reader.trail.caveats[DRIFT] = None
    found = reader.combine(node, [Rows(window.back, window.ahead), *(reader.visit(other) for other in others)])
    return _widened(found, window) if name in ("cov", "corr") else found


def _widened(found: Any_, window: Spread) -> Any_:
    """Another column in the same window."""
    assert isinstance(found, Rows)
    return Rows(found.back.plus(window.back), found.ahead.plus(window.ahead), found.short)


def _check_applied(reader: Expressions, node: ast.Call) -> None:
    no_other_keywords(node, "func")
    for argument in arguments(node)[:1]:
        applied = argument.elts if isinstance(argument, ast.List) else [argument]
        for function in applied:
            check_pure(reader, node, function)


def _ewm(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    """pandas: ewm(com, span, halflife, alpha); polars: ewm_mean(com=, span=, half_life=, alpha=)."""
    no_other_keywords(node, "com", "span", "halflife", "half_life", "alpha", "adjust", "ignore_na", "ignore_nulls")
    given = [
        (name, keyword_of(node, name, 0 if name == "com" else None))
        for name in ("com", "span", "halflife", "half_life", "alpha")
    ]
    chosen = [(name.replace("_", ""), value) for name, value in given if value is not None]
    if len(chosen) != 1:
        raise Doubt(node, "its decay is not known")
    name, argument = chosen[0]
    reach = fading_of_ewm(name, reader.linear(argument, name))
    if reach is None:
        raise Doubt(node, f"{name} is out of its range")
    reader.trail.note(node, f"an exponential average, which fades over {reach} rows")
    return Fading(column.back.plus(reach), column.ahead)


def _ewm_mean(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    faded = _ewm(reader, node, column)
    reader.trail.caveats[FADES] = None
    return Rows(faded.back, faded.ahead, column.short) if isinstance(faded, Fading) else faded


def _shifted(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    """shift(n), diff(n), pct_change(n): n rows back, or ahead where n is negative."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    no_other_keywords(node, "periods", "n", "fill_method")
    if len(node.args) > 1:
        raise Doubt(node, f"{name}() with more than one unnamed argument")
    lag = reader.linear(
        keyword_of(node, "periods", 0) or keyword_of(node, "n") or ast.Constant(1), f"the lag of {name}"
    )
    fill = keyword_of(node, "fill_method")
    if name == "pct_change" and not (isinstance(fill, ast.Constant) and fill.value is None):
        reader.trail.caveats[FILLS] = None
    reader.trail.note(node, f"{name} by {lag}")
    return Rows(column.back.plus(positive_part(lag)), column.ahead.plus(positive_part(lag.times(-1))), column.short)


def _filled(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    """ffill(limit=k), bfill(limit=k); without a limit any number of rows."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    limit = keyword_of(node, "limit", 0)
    if limit is None or constant(limit) is None:
        raise Doubt(node, f".{name}() carries a value over any number of rows; give limit=")
    no_other_keywords(node, "limit")
    reach = rows(reader.linear(limit, "the limit"))
    reader.trail.note(node, f"{name} over at most {reach} rows")
    forward = name in ("ffill", "forward_fill")
    return Rows(
        column.back.plus(reach if forward else NONE), column.ahead.plus(NONE if forward else reach), column.short
    )


def _mapped(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    """x.map(f), and table.apply(f, axis=1)."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name == "apply" and constant(keyword_of(node, "axis", 1)) not in (1, "columns"):
        raise Doubt(node, ".apply() without axis=1 gets whole columns of a table; use .map() for single values")
    no_other_keywords(node, "axis", "na_action", "func")
    check_pure(reader, node, arguments(node)[0])
    return noted(reader, node, "a function of each row alone", column)


def _assigned(reader: Expressions, node: ast.Call, column: Rows) -> Any_:
    if node.args or any(isinstance(keyword.value, ast.Lambda) for keyword in node.keywords):
        raise Doubt(node, ".assign() with a function")
    return reader.combine(node, [column, *(flat(reader, node, reader.visit(k.value)) for k in node.keywords)])


def _expanding(reader: Expressions, node: ast.Call, column: Rows) -> Any_:  # noqa: ARG001
    no_other_keywords(node)
    return Growing(column.back, column.ahead)


def _reduced(reader: Expressions, node: ast.Call, name: str, column: Rows) -> Any_:
    axis = constant(keyword_of(node, "axis", 0))
    if axis in (1, -1, "columns"):
        return column
    if name not in TOTALS or axis not in (None, 0):
        raise Doubt(node, f".{name}() of a whole column")
    no_other_keywords(node, "axis", "skipna")
    return total(reader, node, TOTALS[name], column)


_METHODS: dict[str, Callable[[Expressions, ast.Call, Rows], Any_]] = {
    "rolling": _rolling,
    "ewm": _ewm,
    "ewm_mean": _ewm_mean,
    "expanding": _expanding,
    "shift": _shifted,
    "diff": _shifted,
    "pct_change": _shifted,
    "ffill": _filled,
    "bfill": _filled,
    "forward_fill": _filled,
    "backward_fill": _filled,
    "map": _mapped,
    "apply": _mapped,
    "assign": _assigned,
}
