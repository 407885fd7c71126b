"""The table: its columns, files and text; the rows of an answer, and how many bytes they take."""

import csv
import io
import json
import math
import tempfile
from pathlib import Path
from unittest import mock

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from hpc_agent.contract import envelope
from hpc_agent.contract.primitive import load_all
from hpc_agent.errors import PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.metric_names import direction_of
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.ops.aggregate import parquet
from hpc_agent.ops.aggregate.aggregate import AggregateRequest, Folded, with_intervals, write_table
from hpc_agent.ops.aggregate.intervals import half_width, paired, t_quantile, welch
from hpc_agent.ops.aggregate.rows import select
from hpc_agent.ops.aggregate.table import as_csv, as_text, table_columns
from hpc_agent.state.journal import RunRecord

values = st.integers(-(10**12), 10**12).map(lambda number: number / 1024)


def rows(*tasks, replicates=()):
    table = Table(replicates=replicates)
    for kwargs, metrics in tasks:
        table.add_task(kwargs, metrics)
    return with_intervals(table.rows())


def csv_of(made):
    return as_csv(table_columns(made))


def answer(tasks, folder, failed="", problems=(), **fields):
    """The answer of aggregate about a run of these tasks, and the bytes of its envelope."""
    request = AggregateRequest(**fields)
    table = Table(replicates=request.over)
    for kwargs, metrics in tasks:
        table.add_task(kwargs, metrics)
    included = encode_ranges(range(len(tasks)))
    wave = {"wave": 0, "tasks": len(tasks) + len(failed.split(",")) * bool(failed), "included": included, "fresh": True,
            "failed": failed, "usage": {"cpu_seconds": 1.5, "task_seconds": 2.5}}  # fmt: skip
    run = mock.MagicMock(record=RunRecord(run_id="horizon_sweep-1a2b3c4d", cluster="discovery"))
    result, _ = write_table(run, folder, Folded([wave], table, list(problems), []), request, 0.0)
    line = envelope.success(load_all()["aggregate"], result)
    return json.loads(line)["data"], len(line)


def test_single_values_are_written_to_the_last_digit():
    made = rows(({"x": 0.1}, {"y": 0.1 + 0.2}), ({"x": 1e-9}, {"y": 5e-324}))
    read = list(csv.DictReader(io.StringIO(csv_of(made))))
    assert [(float(row["x"]), float(row["y"])) for row in read] == [(1e-9, 5e-324), (0.1, 0.1 + 0.2)]


def test_replicates_get_their_spread_and_holes_stay_empty():
    made = rows(
        ({"a": 1, "s": 0}, {"y": 1}), ({"a": 1, "s": 1}, {"y": 3}), ({"a": 2, "s": 0}, {"z": 4}), replicates=["s"]
    )
    lines = csv_of(made).splitlines()
    assert lines[0] == "a,tasks,y_count,y_mean,y_std,y_ci95,y_min,y_max,z"
    assert lines[1].startswith("1,2,2,2.0,1.41421356")
    assert lines[2] == "2,1,,,,,,,4.0"


def test_a_cell_that_does_not_stand_on_one_value_of_each_task_says_on_how_many():
    made = rows(
        ({"a": 1, "s": 0}, {"y": 1.5, "z": float("nan")}), ({"a": 1, "s": 1}, {"z": 2}), ({"a": 2, "s": 0}, {"y": 2, "z": 1}),
        replicates=["s"],
    )  # fmt: skip
    read = list(csv.DictReader(io.StringIO(csv_of(made))))
    assert [(row["y_count"], row["y_mean"], row["z_count"], row["z_nan"]) for row in read] == [
        ("1", "1.5", "1", "1"), ("1", "2.0", "1", "0"),
    ]  # fmt: skip
    assert as_text(made).splitlines()[2].split() == ["1", "1.5", "n=1", "2", "n=1"]


def test_no_two_columns_have_one_name():
    made = rows(
        ({"x": 1, "s": 0, "tasks": 5}, {"x": 5, "y": 1, "y_mean": 2}), ({"x": 1, "s": 1, "tasks": 5}, {"x": 6, "y": 3}),
        replicates=["s"],
    )  # fmt: skip
    header = csv_of(made).splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert {"y_mean", "row.tasks"} <= set(header)
    assert "metric.y_mean_mean" not in header
    single = csv_of(rows(({"x": 1, "metric.x": 2}, {"x": 5})))
    assert single.splitlines() == ["metric.x,x,metric.metric.x", "2,1,5.0"]


def test_text_with_commas_quotes_and_newlines_survives_csv():
    hostile = 'a,b "c"\nd'
    made = rows(({"t": hostile, "l": [1, {"k": 2}]}, {"y": 1}))
    read = list(csv.DictReader(io.StringIO(csv_of(made))))
    assert read[0]["t"] == hostile
    assert read[0]["l"] == '[1, {"k": 2}]'
    assert len(as_text(made).splitlines()) == 3, "a newline in a value breaks no line"


def test_a_terminal_gets_aligned_columns_and_a_count_of_the_rest():
    text = as_text(rows(*(({"x": x, "t": "long" * x}, {"y": x / 3}) for x in range(60))))
    lines = text.splitlines()
    assert len({len(line) for line in lines[:32]}) == 1
    assert lines[-1] == "... and 20 more rows"


def test_the_quantile_is_that_of_scipy():
    for freedom in (*range(1, 100), 1.5, 2.25, 3.999, 123.4, 499.9, 500.1, 1e3, 1e5, 1e9):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


@given(st.floats(min_value=1, max_value=1e6))
def test_the_quantile_of_any_degree_of_freedom(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-11)


@given(st.lists(values, min_size=2, max_size=600), st.randoms())
def test_mean_deviation_and_interval_are_those_of_numpy_in_any_split(drawn, dice):
    parts = [Table(["seed"]) for _ in range(3)]
    for seed, value in enumerate(drawn):
        dice.choice(parts).add_task({"x": 1, "seed": seed}, {"y": value})
    whole = Table(["seed"])
    for part in dice.sample(parts, 3):
        whole.merge(Table.from_json(json.loads(json.dumps(part.to_json()))))
    [row] = with_intervals(whole.rows())
    facts, size = row["metrics"]["y"], max(map(abs, drawn))
    assert facts["mean"] == pytest.approx(numpy.mean(drawn), rel=1e-12, abs=1e-12 * size)
    # numpy's own rounding is as large as that of its mean
    assert facts["std"] == pytest.approx(numpy.std(drawn, ddof=1), rel=1e-9, abs=1e-12 * size)
    error = facts["std"] / math.sqrt(len(drawn))
    assert facts["ci95"] == pytest.approx(stats.t.ppf(0.975, len(drawn) - 1) * error, rel=1e-9)


@given(st.lists(values, min_size=2, max_size=30), st.lists(values, min_size=2, max_size=30))
def test_differences_are_those_of_scipy(first, second):
    size = max(map(abs, [*first, *second]))
    for found, one, two in ((welch(first, second), first, second), (welch(second, first), second, first)):
        assert found.difference == pytest.approx(numpy.mean(two) - numpy.mean(one), rel=1e-9, abs=1e-12 * size)
    pairs = list(zip(first, second, strict=False))
    if len(pairs) > 1:
        found = paired([a for a, _ in pairs], [b for _, b in pairs])
        differences = [b - a for a, b in pairs]
        assert found.difference == pytest.approx(numpy.mean(differences), rel=1e-9, abs=1e-12 * size)
    deviation = min(numpy.std(first), numpy.std(second))
    if deviation > 1e-6 * size:  # SciPy's variance has no digit left below
        low, high = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
        assert welch(first, second).ci95 == pytest.approx((high - low) / 2, rel=1e-6)


def test_there_is_an_interval_of_replicates_only():
    several = rows(({"x": 1}, {"y": [1, 2, 3]}), ({"x": 2}, {"y": [1]}))
    assert "ci95" not in several[0]["metrics"]["y"], "values of one task are no replicates"
    table = Table(["seed"])
    for seed in range(3):
        table.add_task({"seed": seed}, {"y": seed}, weight=seed + 1)
    assert half_width(table.rows()[0]["metrics"]["y"], 3) is None, "weighted"
    assert half_width({"count": 1, "std": None}, 1) is None
    lost = rows(({"s": 0}, {"y": 1}), ({"s": 1}, {"y": 3}), ({"s": 2}, {"y": math.nan}), replicates=["s"])
    assert lost[0]["metrics"]["y"]["ci95"] == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(2) / math.sqrt(2))


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", "min"), ("val_loss", "min"), ("valLoss", "min"), ("RMSE", "min"), ("log_loss", "min"), ("test/error", "min"),
        ("accuracy", "max"), ("test.top5_acc", "max"), ("f1", "max"), ("macroF1", "max"), ("r2", "max"), ("roc_auc", "max"),
        ("neg_mean_squared_error", "max"), ("neg_log_likelihood", "min"), ("score", "max"), ("brier_score", "min"),
        ("val_logloss", "min"),
        ("y", None), ("time_to_accuracy", None), ("", None), ("closs", None),
    ],
)  # fmt: skip
def test_the_name_of_a_metric_says_which_value_is_the_best(name, direction):
    assert direction_of(name) == direction


GRID = [
    ({"alpha": alpha, "seed": seed}, {"loss": alpha * 3 - seed % 2, "note": alpha})
    for alpha in (0.1, 1, 10)
    for seed in range(2)
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [(0.1, 0), (0.1, 1), (1, 0), (1, 1), (10, 0), (10, 1)]),
        ({"sort": "loss"}, [(0.1, 1), (0.1, 0), (1, 1), (1, 0), (10, 1), (10, 0)]),
        ({"sort": "loss", "direction": "max", "top": 2}, [(10, 0), (10, 1)]),
        ({"where": ["alpha>=1", "seed=0"]}, [(1, 0), (10, 0)]),
        ({"where": ["alpha > 0.1", "loss<5"]}, [(1, 0), (1, 1)]),
        ({"where": ["seed!=1"], "sort": "alpha", "direction": "max"}, [(10, 0), (1, 0), (0.1, 0)]),
        ({"where": ["seed=true"]}, []),
        ({"sort": "seed", "top": 1}, [(0.1, 0)]),
        ({"sort": "loss", "direction": "maximize", "top": 1}, [(10, 0)]),
        ({"sort": "note", "direction": "minimize", "top": 1}, [(0.1, 0)]),
    ],
)
def test_rows_are_chosen_and_ordered(wanted, found):
    columns = table_columns(rows(*GRID))
    order = select(columns, AggregateRequest(**wanted), "aggregate").order
    assert [(columns[0].values[row], columns[1].values[row]) for row in order] == found


@pytest.mark.parametrize(
    ("wanted", "field", "said"),
    [
        ({"sort": "los"}, "sort", "Did you mean 'loss'"),
        ({"where": ["alhpa=1"]}, "where", "Did you mean 'alpha'"),
        ({"where": ["run=1"], "over": ["run"]}, "where", "Leave run out of --over."),
        ({"where": ["alpha"]}, "where", "alpha>=0.1"),
        ({"where": ["alpha>x"]}, "where", "of that kind"),
        ({"direction": "max"}, "direction", "hpc-agent aggregate --sort loss --direction max"),
        ({"sort": "note"}, "direction", "hpc-agent aggregate --sort note --direction min"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_with_what_can(wanted, field, said):
    with pytest.raises(SpecInvalid) as caught:
        select(table_columns(rows(*GRID)), AggregateRequest(**wanted), "aggregate")
    assert caught.value.field == field
    assert said in caught.value.remediation


def test_a_condition_that_no_row_fulfils_is_told_with_the_values_that_there_are():
    def notes(made, *where):
        found = select(table_columns(made), AggregateRequest(where=list(where)), "aggregate")
        assert (found.order, found.matching) == ([], [])
        return found.notes

    assert notes(rows(*GRID), "alpha=3") == ["no row fulfils 'alpha=3': alpha is 0.1, 1, 10"]
    assert notes(rows(*GRID), "alpha=1", "loss>9", "seed=7") == ["no row fulfils 'loss>9': loss is 2.0, 3.0"]
    many = rows(*(({"x": x, "model": "ab"[x % 2]}, {"loss": x / 3}) for x in range(20)))
    assert notes(many, "x=99") == ["no row fulfils 'x=99': x is 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"]
    assert notes(many, "model=c") == ["no row fulfils 'model=c': model is a, b"]
    assert notes(many, "loss<0") == ["no row fulfils 'loss<0': loss is 0.0 to 6.33333"]


@pytest.mark.parametrize(("over", "told"), [(["seed"], False), (["alpha"], True), (["seed", "alpha"], True)])
def test_an_interval_over_what_is_no_repetition_by_its_name_says_so(tmp_path, over, told):
    found, _ = answer([*GRID, ({"alpha": 5, "seed": 0}, {"loss": 1, "note": 2})], tmp_path, over=over, sort="loss")
    said = [note for note in found.get("notes", []) if "ci95" in note]
    assert said == (["ci95 is right only if the values of alpha are repeats of one measurement"] if told else [])


def test_rows_without_a_value_come_last_and_are_told():
    made = rows(
        ({"x": 1}, {"loss": math.nan}), ({"x": 2}, {"loss": 2}), ({"x": 3}, {"other": 1}), ({"x": 4}, {"loss": 1})
    )
    for direction in ("min", "max"):
        found = select(table_columns(made), AggregateRequest(sort="loss", direction=direction), "aggregate")
        assert set(found.order[2:]) == {0, 2}
        assert found.notes == ["2 rows have no value of loss_mean: they come last"]
    found = select(table_columns(made), AggregateRequest(where=["loss<9"]), "aggregate")
    assert (found.order, found.matching) == ([1, 3], [1, 3])
    assert found.notes == ["2 rows have no value of loss_mean: they do not fulfil 'loss<9'"]


@given(
    st.lists(st.one_of(st.none(), values, st.integers()), min_size=1, max_size=30),
    st.sampled_from(["min", "max"]),
    st.integers(1, 40),
)
def test_the_best_rows_are_the_best_of_all(drawn, direction, top):
    made = [
        {"kwargs": {"x": x}, "count": 1, "metrics": {} if value is None else {"y": {"count": 1, "mean": value}}}
        for x, value in enumerate(drawn)
    ]
    if all(value is None for value in drawn):
        made[0]["metrics"] = {"y": {"count": 1, "mean": 0}}
        drawn = [0, *drawn[1:]]
    order = select(table_columns(made), AggregateRequest(sort="y", direction=direction, top=top), "aggregate").order
    known = sorted((value for value in drawn if value is not None), reverse=direction == "max")
    assert [drawn[row] for row in order] == (known + [None] * len(drawn))[: min(top, len(drawn))]
    assert len(set(order)) == len(order)


def study(points, seeds, metrics=("rmse", "mae", "r2")):
    def task(point, seed):
        found = {name: math.sin(point * 7 + seed + n) * 100 for n, name in enumerate(metrics)}
        return {"alpha": 10.0**-point, "horizon": 5, "seed": seed}, found

    return [task(point, seed) for point in range(points) for seed in range(seeds)]


def test_six_rows_of_three_metrics_take_a_kilobyte(tmp_path):
    told, size = answer(study(6, 5), tmp_path, over=["seed"], sort="rmse")
    print("6 rows, 5 replicates:", size)
    assert size <= 1000
    assert (len(told["rows"]), told["row_count"], told["constant"], told["direction"]) == (6, 6, {"horizon": 5}, "min")
    assert told["columns"] == ["alpha", "tasks", "mae_mean", "mae_std", "mae_ci95", "r2_mean", "r2_std", "r2_ci95",
                               "rmse_mean", "rmse_std", "rmse_ci95"]  # fmt: skip
    assert not {"truncated", "failed_tasks", "notes", "nan", "next_step"} & set(told), "what is empty is left out"
    told, size = answer(study(6, 5)[:-1], tmp_path, "29", over=["seed"], sort="rmse")
    print("the same with a failed task:", size)
    assert size <= 1000
    assert (told["failed_tasks"], told["complete"], sorted(row[1] for row in told["rows"])[:2]) == ("29", False, [4, 5])
    told, size = answer(study(6, 1), tmp_path)
    print("6 rows of single values:", size)
    assert size <= 1000


@pytest.mark.parametrize("metrics", [3, 15, 60])
def test_three_hundred_rows_take_two_kilobytes(tmp_path, metrics):
    names = [f"metric_{number}_loss" for number in range(metrics)]
    problems = [
        {"task": n, "field": f"field_{n}", "message": "left out: text", "value": "x" * 60, "count": 9, "tasks": "1-9"}
        for n in range(20)
    ]
    failed = ",".join(str(1000 + 2 * n) for n in range(300))
    for wanted in ({}, {"over": ["seed"], "sort": names[-1]}, {"sort": names[0], "where": ["seed>=1"]}):
        told, size = answer(study(300, 2, names), tmp_path, failed, problems, **wanted)
        print(metrics, "metrics:", size, len(told["rows"]), "rows")
        assert size <= 2000
        assert told["truncated"]
        assert told["rows"]
        assert told["row_count"] == (300 if "over" in wanted else 600)
        assert (told["failed_count"], told["total_tasks"], told["included_tasks"]) == (300, 900, 600)
        assert told["failed_tasks"].startswith("1000,1002")
        assert told["metrics_problem_count"] == 20
        assert ("columns_left_out" in told) == (metrics > 15 or ("over" in wanted and metrics > 3))
        if "sort" in wanted:
            assert told["sort"] in told["columns"]
    whole = json.loads((tmp_path / "table.json").read_text())
    assert (len(whole["rows"]), len(whole["metrics_problems"]), whole["failed_tasks"]) == (600, 20, failed)


def test_an_answer_with_long_text_is_cut_and_says_so(tmp_path):
    tasks = [({"prompt": f"{n}" * 500, "same": "y" * 500}, {"loss": n}) for n in range(2)]
    told, size = answer(tasks, tmp_path)
    assert (size < 1000, told["truncated"]) == (True, True)
    assert told["rows"][1][0] == "1" * 60 + "..."
    assert "y" * 500 in (tmp_path / "table.csv").read_text()


def test_what_is_no_number_is_told_of_the_whole_table(tmp_path):
    tasks = [({"x": n}, {"loss": math.nan if n == 250 else n, "gain": math.inf if n > 297 else 1}) for n in range(300)]
    told, _ = answer(tasks, tmp_path)
    assert (told["nan"], told["inf"]) == ({"loss": 1}, {"gain": 2})
    assert not any(row[told["columns"].index("loss_nan")] for row in told["rows"]), "those rows are not among the first"
    told, _ = answer(tasks, tmp_path, where=["x=250"])
    assert dict(zip(told["columns"], told["rows"][0], strict=True)) == {
        "x": 250, "gain_mean": 1, "gain_inf": 0, "loss_mean": None, "loss_nan": 1,
    }  # fmt: skip


def test_whole_numbers_and_parameters_keep_every_digit(tmp_path):
    tasks = [({"x": 0.1 + 0.2}, {"big": 123456789012345678901, "y": 1 / 3}), ({"x": 1}, {"big": 7, "y": 2.5})]
    told, _ = answer(tasks, tmp_path)
    assert told["rows"] == [[0.1 + 0.2, 123456789012345678901, 0.333333], [1, 7, 2.5]]
    assert told["digits"] == 6
    assert "digits" not in answer(tasks, tmp_path, where=["x=1"])[0]


TYPED = [
    ({"n": 1, "s": "a", "m": 1, "flag": True, "l": [1]}, {"y": 0.1, "big": 2**70 + 1}),
    ({"n": 2, "s": "", "m": "x", "flag": False, "l": None}, {"big": 1}),
    ({"n": 3, "s": 'quo"te\n', "m": None, "flag": None, "l": {"k": 1}}, {"y": 5e-324, "big": 2}),
]


@pytest.mark.parametrize("library", ["pyarrow", "duckdb"])
def test_parquet_has_what_the_table_has(tmp_path, monkeypatch, library):
    import pyarrow.parquet

    monkeypatch.setattr(parquet, "parquet_library", lambda: library)
    path = tmp_path / "it's a folder" / "table.parquet"
    columns = table_columns(rows(*TYPED))
    assert parquet.write_parquet(path, columns) == [
        "table.parquet has m, big as text: no number type holds every value exactly"
    ]
    read = pyarrow.parquet.read_table(path)
    assert read.column_names == [column.name for column in columns]
    assert sorted(read.to_pylist(), key=lambda row: row["n"]) == [
        {"flag": True, "l": "[1]", "m": "1", "n": 1, "s": "a", "big": str(2**70 + 1), "y": 0.1},
        {"flag": False, "l": None, "m": "x", "n": 2, "s": "", "big": "1.0", "y": None},
        {"flag": None, "l": '{"k": 1}', "m": None, "n": 3, "s": 'quo"te\n', "big": "2.0", "y": 5e-324},
    ]
    assert [path.name] == [found.name for found in path.parent.iterdir()]


def test_without_a_library_parquet_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PreconditionFailed, match="needs pyarrow or duckdb") as caught:
        parquet.parquet_library()
    assert "pip install 'hpc-agent[parquet]'" in caught.value.remediation


names = st.text("abcdefghijklmnop_", min_size=1, max_size=30)
cells = st.one_of(
    st.integers(), st.floats(), st.text(max_size=300), st.none(), st.booleans(), st.lists(st.integers(), max_size=99)
)


@given(
    st.lists(names, min_size=1, max_size=60, unique=True), st.lists(names, min_size=1, max_size=80, unique=True), st.data(),
    st.integers(1, 12), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_table_makes_a_long_answer_and_every_cut_is_told(parameters, metrics, data, points, sorts):
    tasks = []
    sample = st.lists(cells, min_size=len(parameters), max_size=len(parameters))
    shared = data.draw(sample)
    for point in range(points):
        kwargs = dict(zip(parameters, data.draw(sample) if point < 2 else shared, strict=True))
        metric = data.draw(st.sampled_from([math.nan, 1 / 3, math.inf, 123456789, -1e-300]))
        tasks.append(({**kwargs, "point": point}, dict.fromkeys(metrics, metric)))
    wanted = {"sort": "point", "direction": "max"} if sorts else {}
    with tempfile.TemporaryDirectory() as folder:
        told, size = answer(tasks, Path(folder), ",".join(str(100 + 2 * n) for n in range(200)), **wanted)
    assert size <= 2000
    assert len(told.get("rows", [])) >= 1
    assert all(len(row) == len(told["columns"]) for row in told["rows"])
    shown = len(told["columns"]) + len(told.get("constant", {})) + told.get("columns_left_out", 0)
    assert shown >= len(parameters) + 1 + len(metrics)
    if "truncated" not in told:
        assert (len(told["rows"]), "columns_left_out" in told) == (points, False)
        if points > 1:
            assert {row[told["columns"].index("point")] for row in told["rows"]} == set(range(points))
