"""Calls of pandas, polars, numpy, itertools and Python itself, and what they reach."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc_agent.experiment.axis import methods
from hpc_agent.experiment.axis.arguments import (
    SHORT,
    TOTALS,
    arguments,
    check_pure,
    column_of,
    constant,
    flat,
    keyword_of,
    no_other_keywords,
    noted,
    running,
    total,
)
from hpc_agent.experiment.axis.reach import ONE, ZERO, rows, term
from hpc_agent.experiment.axis.scope import PURE_NUMPY
from hpc_agent.experiment.axis.values import (
    Any_,
    Cell,
    Doubt,
    First,
    Folded,
    Group,
    Handle,
    Index,
    Length,
    Plain,
    Ring,
    Rows,
    Scalar,
    Store,
)

if TYPE_CHECKING:
    from hpc_agent.experiment.axis.expressions import Expressions

READERS = frozenset(
    "read_csv read_parquet read_json read_feather read_pickle load loadtxt genfromtxt scan_csv scan_parquet".split()
)
REORDERING = frozenset("all any dict enumerate frozenset reversed set sorted zip".split())
HARMLESS = frozenset({"os", "pathlib", "logging"})
KIT = "hpc_agent.experiment_kit.series"


def call(reader: Expressions, node: ast.Call) -> Any_:
    """The value of a call. Raises Doubt for one that is not known."""
    if any(isinstance(part, ast.Starred) for part in node.args) or any(k.arg is None for k in node.keywords):
        raise Doubt(node, "arguments are unpacked")
    name = reader.scope.dotted(node.func, set(reader.env))
    if name is not None:
        return _named(reader, node, name)
    if isinstance(node.func, ast.Name) and reader.scope.is_function(node.func.id) and node.func.id not in reader.env:
        return _own(reader, node, node.func.id)
    if isinstance(node.func, ast.Attribute):
        return methods.method(reader, node, node.func)
    raise Doubt(node, f"{ast.unparse(node.func)} is not known")


# Functions by their dotted name.


def _named(reader: Expressions, node: ast.Call, name: str) -> Any_:
    module, _, last = name.rpartition(".")
    if special := _SPECIAL.get(name):
        return special(reader, node)
    if module == KIT or (module.startswith("hpc_agent.") and last in ("load_series", "trim_emission")):
        return _kit(reader, node, last)
    if last in READERS and module.split(".")[0] in ("pandas", "polars", "numpy"):
        return Rows()
    values = [reader.visit(argument) for argument in arguments(node)]
    if module.split(".")[0] in HARMLESS or name in HARMLESS:
        return Scalar() if all(isinstance(value, Scalar | Plain) for value in values) else Handle()
    if any(isinstance(value, Plain | Rows | Store) for value in values) and _folds(name, node, values):
        return total(reader, node, TOTALS[last], reader.as_spread(node, values[0]))
    if module in ("math", "cmath") and any(isinstance(value, Group) for value in values):
        raise Doubt(node, f"{name} of a collection")
    if reader.scope.pure_call(name):
        return _pure(reader, node, name, values)
    raise Doubt(node, f"{name} is not known")


def _folds(name: str, node: ast.Call, values: list[Any_]) -> bool:
    """Whether it makes one number of a whole column. Over the other axis it makes one of each row."""
    module, _, last = name.rpartition(".")
    axis = constant(keyword_of(node, "axis", 1 if module == "numpy" else None))
    if axis in (1, -1):
        return False
    return last in TOTALS and (module in ("numpy", "math", "statistics") or (not module and len(values) == 1))


def _pure(reader: Expressions, node: ast.Call, name: str, values: list[Any_]) -> Any_:
    module, _, last = name.rpartition(".")
    columns = [
        value for value in values if isinstance(value, Rows | Store) or (isinstance(value, Folded) and value.running)
    ]
    whole = bool(columns) or (module == "numpy" and any(isinstance(value, Plain) for value in values))
    if whole and (not module or module == "statistics") and last not in ("abs", "round", "list", "tuple"):
        raise Doubt(node, f"{name} of a whole column")
    by_row = last in _NUMPY_BY_ELEMENT or constant(keyword_of(node, "axis", 1)) in (1, -1)
    if whole and module == "numpy" and not by_row:
        raise Doubt(node, f"{name} of a whole column")
    if not module and last in ("list", "tuple") and len(values) == 1 and isinstance(values[0], Plain | Rows | Store):
        return reader.as_spread(node, values[0])
    if module == "numpy":
        _check_numpy(node, last)
    if module == "numpy" and any(_holds_rows(value) for value in values):
        raise Doubt(node, f"{name} of a collection of columns")
    if name == "numpy.where" and len(values) != 3:
        raise Doubt(node, "numpy.where with a condition alone gives the numbers of rows")
    if not module and name in REORDERING and any(isinstance(value, Plain) for value in values):
        raise Doubt(node, f"{name} of a whole column")
    linear = _scalar_call(last if not module else "", values)
    if linear is not None:
        return linear
    found = reader.combine(node, [flat(reader, node, value) for value in values])
    if module == "numpy" and isinstance(found, Plain):
        return reader.as_spread(node, found)
    return found


def _check_numpy(node: ast.Call, last: str) -> None:
    """No ``out``, by name or as the second argument of a function of one."""
    for keyword in node.keywords:
        if keyword.arg not in NUMPY_KEYWORDS:
            raise Doubt(node, f"{keyword.arg}= is not looked into")
    if len(node.args) > NUMPY_ARGUMENTS.get(last, 1):
        raise Doubt(node, f"numpy.{last} with so many arguments")


NUMPY_KEYWORDS = frozenset("a a_max a_min axis ddof decimals dtype keepdims max method min nan q weights x".split())
NUMPY_ARGUMENTS = {
    **dict.fromkeys(
        "add arctan2 copysign divide fmax fmin hypot maximum minimum mod multiply power remainder subtract".split(), 2
    ),
    **dict.fromkeys("array asarray round dot quantile percentile nan_to_num corrcoef cov".split(), 2),
    **dict.fromkeys("all any argmax argmin average max mean median min prod ptp std sum var".split(), 2),
    **dict.fromkeys("nanmax nanmean nanmedian nanmin nanstd nansum nanvar".split(), 2),
    "where": 3,
    "clip": 3,
}
_NUMPY_BY_ELEMENT = PURE_NUMPY - frozenset(
    "all any argmax argmin average corrcoef cov dot max mean median min nanmax nanmean nanmedian nanmin nanstd nansum "
    "nanvar percentile prod ptp quantile std sum var".split()
)


def _holds_rows(value: Any_) -> bool:
    return isinstance(value, Group) and any(isinstance(item, Rows | Store | Group | Folded) for item in value.items)


def _scalar_call(name: str, values: list[Any_]) -> Any_ | None:
    """max(a, b), min(a, b) and int(a) of numbers; max(0, i - k) and min(n, i + k) of row numbers."""
    if name in ("max", "min") and len(values) == 2:
        first, second = values if isinstance(values[0], Index) else reversed(values)
        if isinstance(first, Index):
            number = getattr(second, "linear", None)
            if name == "max" and number == ZERO:
                return Index(first.low, first.high, safe=True)
            if name == "min" and isinstance(second, Length) and not second.shift.terms and second.shift.const <= 0:
                return first
            return None
    linears = [value.linear for value in values if isinstance(value, Scalar | Plain) and value.linear is not None]
    if not values or len(linears) != len(values):
        return None
    names = frozenset[str]().union(*(value.names for value in values if isinstance(value, Plain)))
    if name == "int":
        return Plain(linears[0], names) if names else Scalar(linears[0])
    if name in ("max", "min") and len(linears) > 1:
        return Plain(term(f"{name}({', '.join(map(str, linears))})"), names)
    return None


def _kit(reader: Expressions, node: ast.Call, last: str) -> Any_:
    if last == "load_series":
        return Rows()
    if last == "trim_emission" and len(node.args) == 1:
        value = reader.visit(node.args[0])
        return value if isinstance(value, Group) else reader.as_spread(node, value)
    raise Doubt(node, f"{last} is not looked into")


def _length(reader: Expressions, node: ast.Call) -> Any_:
    return reader.length(node.args[0])


def _deque(reader: Expressions, node: ast.Call) -> Any_:
    size = keyword_of(node, "maxlen", 1)
    if size is None or constant(size) is None:
        return Store(array=False)
    if node.args and not (isinstance(node.args[0], ast.List | ast.Tuple) and not node.args[0].elts):
        raise Doubt(node, "a deque that does not begin empty")
    return Ring(reader.linear(size, "the length of the deque"))


def _blank(reader: Expressions, node: ast.Call) -> Any_:
    """numpy.zeros(len(x)), full(len(x), nan), empty_like(x), ..."""
    shape = reader.visit(node.args[0])
    if isinstance(shape, Group) and shape.items:
        shape = shape.items[0]
    like = ast.unparse(node.func).endswith("_like")
    if not isinstance(
        reader.combine(node, [reader.visit(argument) for argument in arguments(node)[1:]]), Scalar | Plain
    ):
        raise Doubt(node, "an array that is filled with more than a constant")
    if isinstance(shape, Length) and shape.shift == ZERO and not like:
        return Store(array=True)
    if like:
        reader.as_spread(node, shape)
        return Store(array=True)
    raise Doubt(node, "an array that is not as long as the series")


def _difference(reader: Expressions, node: ast.Call) -> Any_:
    """numpy.diff: n - 1 rows, each of a row and the next; with prepend n rows, each of a row and the one before."""
    no_other_keywords(node, "n", "prepend", "axis")
    order = reader.linear(keyword_of(node, "n", 1) or ast.Constant(1), "n")
    column = column_of(reader, node, node.args[0])
    if column.short or order.number is None:
        raise Doubt(node, "differences of a shortened column, or of unknown order")
    if (before := keyword_of(node, "prepend")) is not None:
        if not isinstance(reader.visit(before), Scalar | First) or order != ONE:
            raise Doubt(node, "prepend= is more than one value")
        return noted(reader, node, "the difference to the row before", Rows(column.back.plus(rows(ONE)), column.ahead))
    reader.trail.caveats[SHORT] = None
    reach = rows(order)
    return noted(
        reader,
        node,
        "differences of rows that follow each other",
        Rows(column.back.plus(reach), column.ahead.plus(reach), True),
    )


def _windows(reader: Expressions, node: ast.Call) -> Any_:
    """Numpy's sliding_window_view(x, window): n - window + 1 rows of windows that begin there."""
    no_other_keywords(node, "window_shape", "axis")
    column = column_of(reader, node, node.args[0])
    reach = rows(reader.linear(keyword_of(node, "window_shape", 1), "the window").minus(ONE))
    reader.trail.caveats[SHORT] = None
    return noted(
        reader, node, f"windows of {reach} + 1 rows", Rows(column.back.plus(reach), column.ahead.plus(reach), True)
    )


def _accumulated(reader: Expressions, node: ast.Call) -> Any_:
    """itertools.accumulate(x, max), numpy.maximum.accumulate(x), numpy.cumsum(x)."""
    name = reader.scope.dotted(node.func, set(reader.env)) or ""
    how = keyword_of(node, "func", 1) if name == "itertools.accumulate" else None
    chosen = (
        reader.scope.dotted(how)
        if how is not None
        else {"numpy.maximum.accumulate": "max", "numpy.minimum.accumulate": "min"}.get(name, "sum")
    )
    monoid = {"max": "max", "min": "min", "sum": "sum", "operator.add": "sum"}.get(chosen or "")
    if monoid is None or keyword_of(node, "initial") is not None or constant(keyword_of(node, "axis")) not in (None, 0):
        raise Doubt(node, "what is accumulated is not known")
    return running(reader, node, monoid, column_of(reader, node, node.args[0]))


def _map(reader: Expressions, node: ast.Call) -> Any_:
    function, *columns = node.args
    check_pure(reader, node, function)
    found = reader.combine(node, [column_of(reader, node, column) for column in columns])
    return noted(reader, node, "a function of each row alone", found)


def _written(place: int) -> _Special:
    """json.dump(value, file), numpy.save(path, value): the argument leaves the function."""

    def write(reader: Expressions, node: ast.Call) -> Any_:
        reader.trail.returned.append((node, reader.visit(node.args[place])))
        return Handle()

    return write


_Special = Callable[["Expressions", ast.Call], Any_]
_SPECIAL: dict[str, _Special] = {
    "len": _length,
    "collections.deque": _deque,
    "numpy.diff": _difference,
    "numpy.lib.stride_tricks.sliding_window_view": _windows,
    "itertools.accumulate": _accumulated,
    "numpy.cumsum": _accumulated,
    "numpy.maximum.accumulate": _accumulated,
    "numpy.minimum.accumulate": _accumulated,
    "map": _map,
    "polars.col": lambda reader, node: Rows(),  # noqa: ARG005
    "print": lambda reader, node: Handle(),  # noqa: ARG005
    "open": lambda reader, node: Handle(),  # noqa: ARG005
}
_SPECIAL.update(
    {"json.dump": _written(0), "pickle.dump": _written(0), "numpy.save": _written(1), "numpy.savetxt": _written(1)}
)
for _name in ("zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like"):
    _SPECIAL["numpy." + _name] = _blank


# Functions of this module.


def _own(reader: Expressions, node: ast.Call, name: str) -> Any_:
    values = [reader.visit(argument) for argument in arguments(node)]
    kinds = {type(value) for value in values}
    if kinds & {Plain, Rows, Store} and Cell not in kinds:
        return reader.inline(node, reader.scope.functions[name])
    if not reader.scope.pure(name):
        raise Doubt(node, f"{name} may have a state or a side effect")
    if kinds & {Rows, Store, Group} or any(isinstance(value, Folded) and value.running for value in values):
        raise Doubt(node, f"{name} of single rows and whole columns")
    return reader.combine(node, [flat(reader, node, value) for value in values])
