"""The table of column methods and functions, with the arguments that are accepted.

A method or a keyword that is not here makes the function unclassifiable.
"""

from __future__ import annotations

from typing import NamedTuple


class Fold(NamedTuple):
    """A fold of the rows: the monoid, and True where each row gets the value so far, not the whole series one value."""

    monoid: str
    running: bool


class Reach(NamedTuple):
    """The rows before and after, as expressions over an argument, {0} or in brackets {1}; ``more`` rows are added to both."""

    back: str
    ahead: str = ""
    more: int = 0
    shows: str = "an exponential average: forgotten after {rows} rows"
    least: float = 1e-6  # of the argument
    largest: float = 1e15


# Arguments by position, and after * by name only. A value of those in MOVING depends on rows around it, of the others on its
# own row alone. The arguments SERIES_ARGUMENTS may be series, all others are numbers or constants.
MOVING = {
    "shift": "periods * fill_value", "diff": "periods", "pct_change": "periods * fill_method", "ffill": "* limit",
    "bfill": "* limit", "rolling": "window * min_periods center closed", "ewm": "* alpha span com halflife adjust",
}  # fmt: skip
ARGUMENTS = {
    **dict.fromkeys(("abs", "isna", "isnull", "notna", "notnull"), ""), "round": "decimals", "clip": "lower upper",
    "fillna": "value", "between": "left right", "where": "cond other", "mask": "cond other",
    **dict.fromkeys("add sub mul div truediv pow eq ne lt le gt ge".split(), "other"), **MOVING,
}  # fmt: skip
SERIES_ARGUMENTS = frozenset({"cond", "other"})
# The argument that decides. An average has then forgotten all but 2 ** -128 of where it started; the last two are the factor
# of the average before, in a loop.
REACHES = {
    "periods": Reach("max(0, {0})", "max(0, -{1})", shows="{name} by {0}", least=-1e15),
    "limit": Reach("{0}", shows="{name} over at most {0} rows", least=0),
    "window": Reach("{0}", more=-1, shows="a window of {0} rows", least=1),
    "alpha": Reach("89 // {1}", more=1, largest=1),
    "span": Reach("89 * ({0} + 1) // 2", more=2),
    "com": Reach("89 * ({0} + 1) // 1", more=2),
    "halflife": Reach("128 * {1} // 1", more=2),
    "1 - alpha": Reach("89 // min({0}, 2 - {1})", more=1),
    "factor": Reach("89 // min(1 - {1}, {0} + 1)", more=1),
}
TYPES = [[path] for path in "builtins.float builtins.int builtins.bool numpy.float64 numpy.float32 numpy.int64".split()]
# Functions of values of one row, those of numpy with the number of values.
NUMPY_ELEMENTWISE = {
    f"numpy.{name}": count
    for count, names in (
        (1, "asarray array abs absolute log log1p log2 log10 exp expm1 sqrt square sin cos tan tanh sign floor ceil"),
        (1, "isnan isfinite negative nan_to_num"),
        (2, "maximum minimum add subtract multiply divide power logical_and logical_or hypot"),
        (3, "where clip"),
    )
    for name in names.split()
}
SCALAR_FUNCTIONS = frozenset(
    "math.sqrt math.exp math.log math.log1p math.log2 math.log10 math.expm1 math.sin math.cos math.tan math.tanh math.atan "
    "math.fabs math.floor math.ceil math.isnan math.isfinite math.copysign math.hypot builtins.abs builtins.float "
    "builtins.int builtins.bool builtins.round builtins.min builtins.max".split()
)
WINDOW_FUNCTIONS = frozenset(
    "builtins.sum builtins.min builtins.max builtins.len numpy.sum numpy.mean numpy.std numpy.var numpy.min numpy.max "
    "numpy.median".split()
)
NUMBERS = frozenset("math.pi math.e math.inf math.nan numpy.nan numpy.inf numpy.pi".split())

FOLDS = {
    "cumsum": Fold("sum", True), "cummax": Fold("max", True), "cummin": Fold("min", True), "sum": Fold("sum", False),
    "max": Fold("max", False), "min": Fold("min", False), **dict.fromkeys(("mean", "std", "var"), Fold("moments", False)),
}  # fmt: skip
# numpy's std and var divide by the count, MOMENTS and pandas by one less.
NUMPY_FOLDS = {
    "numpy.maximum.accumulate": Fold("max", True), "numpy.minimum.accumulate": Fold("min", True),
    **{f"numpy.{name}": FOLDS[name] for name in ("cumsum", "sum", "max", "min", "mean")},
}  # fmt: skip
# Methods without arguments of a series and of its windows: a fold of all rows, or the kind of series that they give.
METHODS: dict[str, dict[str, Fold | str]] = {
    "column": {"tolist": "list", "to_numpy": "same", "copy": "same", "expanding": "expanding", **FOLDS},
    "rolling": dict.fromkeys("sum mean min max median count skew kurt std var".split(), "column"),
    "ewm": {"mean": "column"},
    "expanding": {name: Fold(FOLDS[name].monoid, True) for name in ("sum", "max", "min", "mean")},
}

READERS = frozenset(
    "read_csv read_parquet read_table read_feather read_json read_excel read_hdf read_pickle load loadtxt genfromtxt "
    "fromfile memmap scan_csv scan_parquet open read_text read_bytes".split()
)
READING_MODULES = frozenset("pandas numpy polars pyarrow builtins io".split())
WRITERS = frozenset("to_csv to_parquet to_json to_pickle to_feather write_csv write_parquet".split())
FADES = "an average forgets, but never wholly: check_elision or check-axis has to agree on your rows, without long runs of NaN"
ROUNDING = (
    "rolling sums and averages of pandas round differently in parts: check-axis or check_elision measures by how much"
)
EXACT = "a sum of rounded numbers differs in its last digits: emit SUM.of(terms) or SUM.cumulative(terms); rows must have no NaN"
NO_NAN = "rows must have no NaN"
CAVEATS = {
    "rolling": [ROUNDING], "ewm": [FADES], "average": [FADES], "sum": [EXACT], "moments": [EXACT], "max": [NO_NAN],
    "min": [NO_NAN],
}  # fmt: skip
