"""The split of a series: the kind of its axis, the rows a task needs around its own, and the list of tasks.

The kinds: ``independent`` (a row needs no other row), ``bounded_halo`` (a row needs a known number of rows around it),
``associative`` (chunks give partials that are merged), ``sequential`` (one chunk), ``cartesian`` (no series at all: the
tasks are the points of the sweep).
"""

import ast
import math
import operator
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union

from .monoids import MONOIDS, Number

KINDS = ("independent", "bounded_halo", "associative", "sequential", "cartesian")
SLICE_NAMES = ("start", "end", "halo", "ahead")
LONGEST_EXPRESSION = 500
DEEPEST_EXPRESSION = 100
LARGEST_VALUE = 10**15

Rows = Union[int, str]
Rule = Callable[[Mapping[str, Any]], Number]  # gives a number for the parameters of a point
OPERATIONS: Dict[Any, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.UAdd: operator.pos, ast.USub: operator.neg, "min": lambda *values: min(values), "max": lambda *values: max(values),
}  # fmt: skip


class DataAxis(NamedTuple):
    """``halo`` and ``ahead``: rows before and after a task's own, an int or an expression over parameters."""

    kind: str
    halo: Rows = 0
    ahead: Rows = 0
    monoid: Optional[str] = None


Axis = Union[DataAxis, Mapping[str, Any]]


def data_axis(axis: Axis) -> DataAxis:
    """Return the checked axis of a mapping: kind, halo, ahead, monoid; ``halo`` may be {"expr": ...} as in axes.yaml.

    Raises ValueError for an unknown key or kind, and for a part that the kind does not have.
    """
    if not isinstance(axis, DataAxis):
        unknown = sorted(set(map(str, axis)) - {"kind", "halo", "halo_expr", "ahead", "ahead_expr", "monoid"})
        if unknown:
            raise ValueError("an axis has no %s; it has kind, halo, ahead and monoid" % ", ".join(unknown))
        axis = DataAxis(str(axis.get("kind")), _rows(axis, "halo"), _rows(axis, "ahead"), axis.get("monoid"))
    kind, wide = axis.kind, axis.halo != 0 or axis.ahead != 0
    if kind not in KINDS:
        raise ValueError("%r is not a kind of axis: %s" % (kind, ", ".join(KINDS)))
    if kind == "bounded_halo" and not wide:
        raise ValueError("an axis of the kind bounded_halo needs a halo, rows ahead, or both")
    if kind not in ("bounded_halo", "associative") and wide:
        raise ValueError("an axis of the kind %s has no halo" % kind)
    if kind == "associative" and axis.monoid not in list(MONOIDS):
        raise ValueError("an associative axis needs its monoid: %s" % ", ".join(MONOIDS))
    if kind != "associative" and axis.monoid is not None:
        raise ValueError("only an associative axis has a monoid")
    _rule_of("halo", axis.halo)
    _rule_of("ahead", axis.ahead)
    return axis


def _rows(axis: Mapping[str, Any], name: str) -> Rows:
    given = [axis[key] for key in (name, name + "_expr") if axis.get(key) is not None]
    if len(given) > 1:
        raise ValueError("%s and %s_expr are two names of one thing: give one" % (name, name))
    rows = given[0] if given else 0
    if isinstance(rows, Mapping):
        if list(rows) != ["expr"]:
            raise ValueError('%s is a number of rows, an expression or {"expr": expression}' % name)
        rows = rows["expr"]
    if isinstance(rows, bool) or not isinstance(rows, (int, str)):
        raise ValueError("%s is a number of rows or an expression, not %r" % (name, rows))
    return rows


def evaluate_rows(name: str, rows: Rows, point: Mapping[str, Any]) -> int:
    """Return the number of rows that an expression gives for the parameters of ``point``.

    The expression has whole and decimal numbers, names, ``+ - * //``, ``min``, ``max`` and brackets; nothing is executed.
    Raises ValueError when it is something else, names no parameter, or is not a whole number of at least 0.
    """
    rule = _rule_of(name, rows)
    try:
        value = rule(point)
    except ZeroDivisionError:
        raise ValueError("%s '%s': it divides by zero" % (name, rows)) from None
    except (ValueError, OverflowError) as error:
        raise ValueError("%s '%s': %s" % (name, rows, error)) from None
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("%s '%s' is %r, not a whole number of rows" % (name, rows, value))
    if value < 0:
        raise ValueError("%s '%s' is %d, and a number of rows is at least 0" % (name, rows, value))
    return int(value)


def _rule_of(name: str, rows: Rows) -> Rule:
    text = str(rows)
    if len(text) > LONGEST_EXPRESSION:
        raise ValueError("%s is longer than %d characters" % (name, LONGEST_EXPRESSION))
    try:
        return _rule(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("%s '%s' is not an expression: %s" % (name, text, error)) from None
    except ValueError as error:
        raise ValueError("%s '%s': %s" % (name, text, error)) from None


def _rule(node: ast.AST, depth: int = 0) -> Rule:
    """Return the rule of an expression. Raises ValueError for a node outside of the small language."""
    if depth > DEEPEST_EXPRESSION:
        raise ValueError("it is nested too deeply")
    if isinstance(node, ast.Name):
        name = node.id
        return lambda point: _parameter(name, point)
    key: Any = None
    operands: List[ast.AST] = []
    if isinstance(node, ast.BinOp):
        key, operands = type(node.op), [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        key, operands = type(node.op), [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        key, operands = node.func.id, list(node.args)
    if key in OPERATIONS:
        if not operands:
            raise ValueError("%s needs values" % key)
        rules = [_rule(operand, depth + 1) for operand in operands]
        return lambda point: _limited(OPERATIONS[key](*[rule(point) for rule in rules]))
    value = vars(node).get("value", vars(node).get("n"))  # of ast.Constant, or before Python 3.8 of ast.Num
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("only numbers, parameters, + - * //, min and max may stand in it")
    return lambda _point: _limited(value)


def _limited(value: Number) -> Number:
    if not -LARGEST_VALUE <= value <= LARGEST_VALUE:
        raise ValueError("a value in it is beyond %g" % LARGEST_VALUE)
    return value


def _parameter(name: str, point: Mapping[str, Any]) -> Number:
    if name not in point:
        known = ", ".join(sorted(map(str, point))) or "none"
        raise ValueError("'%s' is not a parameter of the sweep; there are: %s" % (name, known))
    value = point[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("the parameter '%s' is %r, not a number" % (name, value))
    return value


def ema_halo(alpha: float, bits: int = 128) -> int:
    """Return the rows after which y = alpha * x + (1 - alpha) * y remembers less than 2 ** -bits of where it started.

    Of the 128 bits, 53 make the remaining difference smaller than half a unit in the last place, 11 allow for values of
    different size, and 64 let the rounding errors of the two runs, which also shrink by 1 - alpha a row, meet: two runs
    that are one unit apart stay apart with a probability of about (1 - alpha) ** rows. As an expression that is never
    smaller: ``89 // alpha + 1``. No number of rows is enough for every series (see docs/series.md); ``check_elision``
    tells. Raises ValueError unless 0 < alpha <= 1.
    """
    if not 0 < alpha <= 1:
        raise ValueError("alpha is %r; it lies above 0 and is at most 1" % (alpha,))
    return 1 if alpha == 1 else math.ceil(bits * math.log(2) / -math.log1p(-alpha)) + 1


def check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError("%s is %r; it must be a whole number of at least %d" % (name, value, least))


def chunk_bounds(series_length: int, chunks: int) -> List[Tuple[int, int]]:
    """Return (start, end) of at most ``chunks`` chunks whose lengths differ by at most one row; none is empty."""
    check_whole("series_length", series_length, 1)
    check_whole("chunks", chunks, 1)
    count = min(chunks, series_length)
    return [(series_length * k // count, series_length * (k + 1) // count) for k in range(count)]


def plan_tasks(sweep: Iterable[Mapping[str, Any]], axis: Axis, chunks: int, series_length: int) -> List[Dict[str, Any]]:
    """Return the kwargs of every task: each point of the sweep with each chunk, points first.

    ``start`` and ``end`` are the task's own rows, ``end`` exclusive; ``halo`` (and ``ahead``, for an axis that looks ahead)
    the rows around them that it must also see, not yet clipped at the ends of the series. A cartesian axis gives the
    points alone. Raises ValueError: no points, a bad expression, a parameter named like a slice, more than one chunk of
    what cannot be split.
    """
    axis = data_axis(axis)
    points = [] if isinstance(sweep, Mapping) else [dict(point) for point in sweep]
    if not points:
        raise ValueError("the sweep is a list of dicts with at least one; [{}] is a sweep without parameters")
    taken = [name for name in SLICE_NAMES if any(name in point for point in points)]
    if taken:
        raise ValueError("'%s' names the rows of a task and cannot be a parameter of the sweep" % taken[0])
    bounds = chunk_bounds(series_length, chunks)
    if axis.kind in ("sequential", "cartesian") and chunks > 1:
        raise ValueError("an axis of the kind %s cannot be split: give one chunk, not %d" % (axis.kind, chunks))
    if axis.kind == "cartesian":
        return points
    tasks = []
    for point in points:
        around = {"halo": evaluate_rows("halo", axis.halo, point)}
        if axis.ahead != 0:
            around["ahead"] = evaluate_rows("ahead", axis.ahead, point)
        tasks += [dict(point, **around, start=start, end=end) for start, end in bounds]
    return tasks
