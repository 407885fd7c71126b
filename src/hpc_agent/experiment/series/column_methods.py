"""The table of column methods and functions, with the arguments that are accepted.

A method or a keyword that is not here makes the function unclassifiable.
"""

from __future__ import annotations

from typing import NamedTuple


class Fold(NamedTuple):
    """How the rows are folded: the monoid, and True where each row gets the value so far, not the whole series one value."""

    monoid: str
    running: bool


SAME = frozenset({"tolist", "to_numpy", "copy"})  # the values themselves
# Arguments by position, and after * by name only. A value of those in MOVING depends on rows around it, of the others on its
# own row alone. The arguments SERIES_ARGUMENTS may be series, all others are numbers.
MOVING = {
    "shift": "periods * fill_value", "diff": "periods", "pct_change": "periods * fill_method", "ffill": "* limit",
    "bfill": "* limit", "rolling": "window * min_periods center closed", "ewm": "* alpha span com halflife adjust",
}  # fmt: skip
ARGUMENTS = {
    **dict.fromkeys(("abs", "isna", "isnull", "notna", "notnull"), ""), "round": "decimals", "clip": "lower upper",
    "fillna": "value", "between": "left right", "astype": "dtype", "where": "cond other", "mask": "cond other",
    **dict.fromkeys("add sub mul div truediv pow eq ne lt le gt ge".split(), "other"), **MOVING,
}  # fmt: skip
SERIES_ARGUMENTS = frozenset({"cond", "other"})
TYPES = [[path] for path in "builtins.float builtins.int builtins.bool numpy.float64 numpy.float32 numpy.int64".split()]
NUMPY_ELEMENTWISE = {
    **dict.fromkeys(
        "asarray array abs absolute log log1p log2 log10 exp expm1 sqrt square sin cos tan tanh sign floor ceil isnan "
        "isfinite negative nan_to_num".split(),
        1,
    ),
    **dict.fromkeys("maximum minimum add subtract multiply divide power logical_and logical_or hypot".split(), 2),
    **dict.fromkeys(("where", "clip"), 3),
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

# Of .rolling(...), .ewm(...) and .expanding(): the fold of all rows, None where each value has its own rows.
ROLLING = dict.fromkeys("sum mean min max median count skew kurt std var".split())
AVERAGE = dict.fromkeys(("mean",))
EXPANDING = {
    "sum": Fold("sum", True), "max": Fold("max", True), "min": Fold("min", True), "mean": Fold("moments", True),
}  # fmt: skip
METHOD_FOLDS = {
    "cumsum": Fold("sum", True), "cummax": Fold("max", True), "cummin": Fold("min", True), "sum": Fold("sum", False),
    "max": Fold("max", False), "min": Fold("min", False), **dict.fromkeys(("mean", "std", "var"), Fold("moments", False)),
}  # fmt: skip
# numpy's std and var divide by the count, MOMENTS and pandas by one less.
NUMPY_FOLDS = {
    "cumsum": Fold("sum", True), "maximum.accumulate": Fold("max", True), "minimum.accumulate": Fold("min", True),
    **{name: METHOD_FOLDS[name] for name in ("sum", "max", "min", "mean")},
}  # fmt: skip

# Rows after which an average has forgotten all but 2 ** -128 of where it started: an expression over the number that is
# given, rows to add, and the largest such number. The last two are the factor of the average before, in a loop.
DECAY = {
    "alpha": ("89 // {0}", 1, 1), "span": ("89 * ({0} + 1) // 2", 2, 1e9), "com": ("89 * ({0} + 1) // 1", 2, 1e9),
    "halflife": ("128 * {0} // 1", 2, 1e9), "1 - alpha": ("89 // min({0}, 2 - {0})", 1, 2 - 1e-6),
    "factor": ("89 // min(1 - {0}, {0} + 1)", 1, 1 - 1e-6),
}  # fmt: skip

READERS = frozenset(
    "read_csv read_parquet read_table read_feather read_json read_excel read_hdf read_pickle load loadtxt genfromtxt "
    "fromfile memmap scan_csv scan_parquet open read_text read_bytes".split()
)
READING_MODULES = frozenset("pandas numpy polars pyarrow builtins io".split())
WRITERS = frozenset("to_csv to_parquet to_json to_pickle to_feather write_csv write_parquet".split())
ROUNDING = (
    "rolling sums and averages of pandas round differently in parts: check-axis or check_elision measures by how much"
)
FADES = "an average forgets, but never wholly: check_elision or check-axis has to agree on your rows, without long runs of NaN"
EXACT = "a sum of rounded numbers differs in its last digits: emit SUM.of(terms) or SUM.cumulative(terms); rows must have no NaN"
