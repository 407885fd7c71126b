import csv
import io
import json
import math

from hpc_agent.node.shared.metric_table import Table
from hpc_agent.ops.aggregate.aggregate import _of_rows, _shown
from hpc_agent.ops.aggregate.table import as_csv, as_text


def rows(*tasks, replicates=()):
    table = Table(replicates=replicates)
    for kwargs, metrics in tasks:
        table.add_task(kwargs, metrics)
    return table.rows()


def test_single_values_are_written_to_the_last_digit():
    made = rows(({"x": 0.1}, {"y": 0.1 + 0.2}), ({"x": 1e-9}, {"y": 5e-324}))
    read = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert [(float(row["x"]), float(row["y"])) for row in read] == [(1e-9, 5e-324), (0.1, 0.1 + 0.2)]


def test_replicates_get_their_spread_and_holes_stay_empty():
    made = rows(
        ({"a": 1, "s": 0}, {"y": 1}), ({"a": 1, "s": 1}, {"y": 3}), ({"a": 2, "s": 0}, {"z": 4}), replicates=["s"]
    )
    lines = as_csv(made).splitlines()
    assert lines[0] == "a,y_count,y_mean,y_std,y_min,y_max,z"
    assert lines[1].startswith("1,2,2.0,1.41421356")
    assert lines[2] == "2,,,,,,4.0"


def test_a_cell_that_does_not_stand_on_one_value_of_each_task_says_on_how_many():
    made = rows(
        ({"a": 1, "s": 0}, {"y": 1.5, "z": float("nan")}), ({"a": 1, "s": 1}, {"z": 2}), ({"a": 2, "s": 0}, {"y": 2, "z": 1}),
        replicates=["s"],
    )  # fmt: skip
    read = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert [(row["y_count"], row["y_mean"], row["z_count"], row["z_nan"]) for row in read] == [
        ("1", "1.5", "1", "1"), ("1", "2.0", "1", "0"),
    ]  # fmt: skip
    assert as_text(made).splitlines()[2].split() == ["1", "1.5", "n=1", "2", "n=1"]


def test_no_two_columns_have_one_name():
    made = rows(
        ({"x": 1, "s": 0}, {"x": 5, "y": 1, "y_mean": 2}), ({"x": 1, "s": 1}, {"x": 6, "y": 3}), replicates=["s"]
    )
    header = as_csv(made).splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert "y_mean" in header
    assert "metric.y_mean_mean" not in header
    single = as_csv(rows(({"x": 1, "metric.x": 2}, {"x": 5})))
    assert single.splitlines() == ["metric.x,x,metric.metric.x", "2,1,5.0"]


def test_text_with_commas_quotes_and_newlines_survives_csv():
    hostile = 'a,b "c"\nd'
    read = list(csv.DictReader(io.StringIO(as_csv(rows(({"t": hostile, "l": [1, {"k": 2}]}, {"y": 1}))))))
    assert read[0]["t"] == hostile
    assert read[0]["l"] == '[1, {"k": 2}]'


def test_a_terminal_gets_aligned_columns_and_a_count_of_the_rest():
    text = as_text(rows(*(({"x": x}, {"y": x / 3}) for x in range(50))), limit=3)
    lines = text.splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[-1] == "... and 47 more rows"


def test_the_answer_of_aggregate_is_short_and_says_what_it_leaves_out(tmp_path):
    metrics = {"odd": math.nan}
    made = rows(*(({"seed": task % 3, "alpha": task // 3}, {"loss": float(task), **metrics}) for task in range(300)))
    shown = _shown(made)
    assert 0 < len(json.dumps(shown)) < 5000
    assert shown[0] == {
        "kwargs": {"alpha": 0, "seed": 0},
        "count": 1,
        "metrics": {"loss": {"count": 1, "mean": 0.0}, "odd": {"count": 0, "mean": None, "nan_count": 1}},
    }
    notes = _of_rows(made, shown, {"seed", "alpha"}, tmp_path)
    assert notes == [
        f"rows has the first {len(shown)} of 300: {tmp_path / 'table.csv'} has all",
        "--replicates seed makes one row of those that differ in it only",
    ]
    assert _of_rows(made[:1], made[:1], {"seed", "alpha"}, tmp_path) == []
