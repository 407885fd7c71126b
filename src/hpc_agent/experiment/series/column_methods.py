"""The table of column methods and functions: what is known of them, and the arguments that are accepted.

A method or a keyword that is not here makes the function unclassifiable.
"""

from __future__ import annotations

from typing import NamedTuple

# Values of a row depend on that row alone. Arguments are numbers, or (SERIES_ARGUMENTS) series of the same rows.
UNARY_METHODS = frozenset("abs isna isnull notna notnull to_numpy tolist to_list copy".split())
SERIES_ARGUMENTS = frozenset(
    "add sub mul div truediv floordiv mod pow radd rsub rmul rdiv rtruediv eq ne lt le gt ge".split()
)
NUMBER_ARGUMENTS = {"round": 1, "clip": 2, "fillna": 1, "between": 2, "clip_lower": 1, "fill_null": 1}
NUMBER_KEYWORDS = {"clip": {"lower", "upper"}, "fillna": {"value"}, "round": {"decimals"}}
CHOICES = frozenset({"where", "mask"})  # (condition, number or series)
TYPES = frozenset("float int bool float64 float32 int64 int32".split())

NUMPY_ELEMENTWISE = {
    **dict.fromkeys(
        "abs absolute fabs log log1p log2 log10 exp expm1 sqrt square sin cos tan tanh arctan sign floor ceil rint isnan "
        "isfinite isinf negative nan_to_num".split(),
        1,
    ),
    **dict.fromkeys("maximum minimum add subtract multiply divide power logical_and logical_or hypot".split(), 2),
    **dict.fromkeys(("where", "clip"), 3),
}
MATH = frozenset(
    "sqrt exp log log1p log2 log10 expm1 sin cos tan tanh atan fabs floor ceil isnan isfinite isinf copysign hypot pow".split()
)
SCALAR_BUILTINS = frozenset("abs float int bool round min max".split())
WINDOW_BUILTINS = frozenset("sum min max len".split())
WINDOW_NUMPY = frozenset("sum mean std var min max median ptp prod".split())

# Methods of .rolling(window), with their accepted keywords.
WINDOW_METHODS = {
    "sum": frozenset[str](), "mean": frozenset[str](), "min": frozenset[str](), "max": frozenset[str](),
    "median": frozenset[str](), "count": frozenset[str](), "skew": frozenset[str](), "kurt": frozenset[str](),
    "std": frozenset({"ddof"}), "var": frozenset({"ddof"}), "quantile": frozenset({"q", "quantile"}),
}  # fmt: skip
POLARS_WINDOWS = frozenset(
    "rolling_sum rolling_mean rolling_min rolling_max rolling_std rolling_var rolling_median".split()
)


class Fold(NamedTuple):
    """How the rows are folded: the monoid, and whether each row gets the value so far or the whole series one value."""

    monoid: str
    running: bool


RUNNING = {"cumsum": Fold("sum", True), "cummax": Fold("max", True), "cummin": Fold("min", True)}
EXPANDING = {
    "sum": Fold("sum", True), "max": Fold("max", True), "min": Fold("min", True), "mean": Fold("moments", True),
}  # fmt: skip
TOTALS = {
    "sum": Fold("sum", False), "max": Fold("max", False), "min": Fold("min", False), "mean": Fold("moments", False),
    "std": Fold("moments", False), "var": Fold("moments", False),
}  # fmt: skip
# numpy's std and var divide by the count, MOMENTS and pandas by one less.
NUMPY_TOTALS = {name: TOTALS[name] for name in ("sum", "max", "min", "mean")}
NUMPY_RUNNING = {
    "cumsum": Fold("sum", True), "maximum.accumulate": Fold("max", True), "minimum.accumulate": Fold("min", True),
}  # fmt: skip

READERS = frozenset(
    "read_csv read_parquet read_table read_feather read_json read_excel read_hdf read_pickle load loadtxt genfromtxt "
    "fromfile memmap scan_csv scan_parquet open read_text read_bytes".split()
)
READING_MODULES = frozenset("pandas numpy polars pyarrow".split())
WRITERS = frozenset("to_csv to_parquet to_json to_pickle to_feather write_csv write_parquet".split())
DECAY = "89 // {share} + 1"  # rows after which an average has forgotten all but 2 ** -128 of where it started
ROUNDING = (
    "pandas' rolling sums and averages round differently in parts: check-axis (or check_elision) tells by how much"
)
FADES = "an average forgets, but never wholly: check_elision or check-axis has to agree on your rows, without long runs of NaN"
EXACT = "a sum of rounded numbers differs in its last digits: emit SUM.of(terms) or SUM.cumulative(terms); rows must have no NaN"
