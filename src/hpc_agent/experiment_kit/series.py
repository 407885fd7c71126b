"""A series in parts that equal the whole: what an experiment imports to plan, load, emit, join and prove a split.

    TASKS = plan_tasks([{"window": 20}], {"kind": "bounded_halo", "halo": "window - 1"}, chunks=50, series_length=1000000)

    rows = load_series("prices.csv")       # this task's rows, and the halo before them
    values = trim_emission(averages(rows))   # the output of its own rows only

docs/series.md has the whole story.
"""

from .axis import DataAxis, chunk_bounds, data_axis, ema_halo, evaluate_rows, plan_tasks
from .monoids import MAX, MIN, MOMENTS, SUM, Monoid, carries
from .slices import Slice, active_slice, join, load_series, series_length, series_slice, trim_emission
from .split_check import Elision, check_elision, find_halo, first_difference

__all__ = [
    "MAX", "MIN", "MOMENTS", "SUM", "DataAxis", "Elision", "Monoid", "Slice", "active_slice", "carries",
    "check_elision", "chunk_bounds", "data_axis", "ema_halo", "evaluate_rows", "find_halo", "first_difference", "join",
    "load_series", "plan_tasks", "series_length", "series_slice", "trim_emission",
]  # fmt: skip
