"""Laws of the combiner's statistics: exact, and the same digits in whatever order the parts come together."""

import json
import math
import os
import random
import statistics
from fractions import Fraction
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.node.fold.combine import combine
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import Array, write_array
from hpc_agent.node.shared.metric_problems import MetricProblems
from hpc_agent.node.shared.metric_table import EXACT_LIMIT, Metric, Table
from hpc_agent.node.shared.moments import UNIT_BITS, exact_in, exact_out
from hpc_agent.node.shared.quantiles import bin_of, middle_of
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.ops.aggregate.aggregate import AggregateRequest, Folded, write_table
from hpc_agent.state.journal import RunRecord

finite = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(min_value=-1e6, max_value=1e6, allow_subnormal=False)
anything = st.one_of(st.floats(), st.integers(), st.integers(min_value=-(10**400), max_value=10**400))
weights = st.one_of(st.just(1.0), st.floats(min_value=1e-3, max_value=1e3), st.integers(min_value=1, max_value=10**20))
pairs = st.tuples(anything, weights)


def metric(values, weight=1.0):
    made = Metric()
    for value in values:
        made.add(value, weight)
    return made


def weighted(items):
    made = Metric()
    for value, weight in items:
        made.add(value, weight)
    return made


def merged(*parts):
    made = Metric()
    for part in parts:
        made.merge(part)
    return made


def text(document):
    """Strict JSON: raises when a NaN or an infinity has got in."""
    return json.dumps(document, sort_keys=True, allow_nan=False)


def state(made):
    return text(made.to_json()), text(made.summary())


def through_json(made):
    return Metric.from_json(json.loads(text(made.to_json())))


@given(st.lists(pairs, max_size=40), st.randoms(use_true_random=False), st.integers(min_value=0, max_value=40))
def test_the_order_of_observations_and_the_cut_into_parts_change_no_digit(items, rng, cut):
    whole = weighted(items)
    shuffled = list(items)
    rng.shuffle(shuffled)
    first, second = weighted(shuffled[:cut]), weighted(shuffled[cut:])
    assert state(merged(first, second)) == state(whole)
    assert state(merged(second, first)) == state(whole)


@given(st.lists(pairs, max_size=15), st.lists(pairs, max_size=15), st.lists(pairs, max_size=15))
def test_merging_is_associative(a, b, c):
    a, b, c = weighted(a), weighted(b), weighted(c)
    assert state(merged(merged(a, b), c)) == state(merged(a, merged(b, c)))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 700), min_size=1, max_size=4), st.booleans())
def test_the_switch_to_the_sketch_depends_on_the_count_alone(seed, cuts, with_weights):
    rng = random.Random(seed)
    items = [
        (rng.choice((rng.gauss(0, 1), rng.randrange(-5, 5), -0.0, 10.0 ** rng.uniform(-300, 300))),
         rng.uniform(0.1, 9) if with_weights else 1.0)
        for _ in range(700)
    ]  # fmt: skip
    bounds = [0, *sorted(cuts), len(items)]
    parts = [weighted(items[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
    rng.shuffle(parts)
    whole = weighted(items)
    assert state(merged(*[through_json(part) for part in parts])) == state(whole)
    assert whole.summary()["quantiles"] == "sketch"


@given(st.lists(pairs, max_size=30))
def test_json_brings_back_the_same_metric(items):
    made = weighted(items)
    assert state(through_json(made)) == state(made)


def test_json_brings_back_a_folded_metric():
    made = weighted([(0.1 * k, 1 + k % 3) for k in range(-300, 301)] + [(math.nan, 1), (math.inf, 1)])
    assert state(through_json(made)) == state(made)
    assert made.summary()["quantiles"] == "sketch"


def test_a_merge_leaves_its_argument_alone():
    part = metric(range(600))
    before = state(part)
    total = merged(part, part)
    total.add(5)
    assert state(part) == before
    assert total.summary()["count"] == 1201


def test_merging_a_metric_with_itself_doubles_it():
    for values in ([1.5, 2.5], range(400), range(600)):
        made = metric(values)
        made.merge(made)
        assert state(made) == state(metric([*values, *values]))


@given(st.one_of(finite, st.integers(-(10**30), 10**30)), st.floats(min_value=1e-3, max_value=1e3))
def test_one_observation_is_its_own_mean_digit_for_digit(value, weight):
    for made in (metric([value]), metric([value], weight)):
        summary = made.summary()
        for name in ("mean", "min", "max", "q05", "q25", "median", "q75", "q95"):
            assert summary[name] == value
        assert summary["variance"] is summary["std"] is None
    assert metric([value]).summary()["sum"] == value


@given(st.lists(st.floats(min_value=-1e300, max_value=1e300), min_size=2, max_size=60))
def test_sum_and_mean_are_correctly_rounded(values):
    summary = metric(values).summary()
    assert summary["sum"] == math.fsum(values)
    assert summary["mean"] == float(sum(map(Fraction, values)) / len(values))


@given(st.lists(moderate, min_size=2, max_size=60))
def test_variance_is_the_correctly_rounded_sample_variance(values):
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    summary = metric(values).summary()
    assert summary["variance"] == float(variance) >= 0
    assert summary["std"] == pytest.approx(math.sqrt(variance), rel=1e-15)


def test_variance_survives_a_large_offset():
    assert metric([1e16, 1e16 + 2, 1e16 + 4]).summary()["variance"] == 4.0
    assert metric([0.1] * 1000).summary()["variance"] == 0.0


@given(st.lists(st.tuples(moderate, st.floats(min_value=1e-3, max_value=1e3)), min_size=2, max_size=30))
def test_weighted_mean_and_variance(items):
    total = sum(Fraction(w) for _, w in items)
    mean = sum(Fraction(w) * Fraction(x) for x, w in items) / total
    spread = sum(Fraction(w) * (Fraction(x) - mean) ** 2 for x, w in items) / total
    summary = weighted(items).summary()
    assert summary["mean"] == float(mean)
    assert summary["variance"] == float(spread * len(items) / (len(items) - 1))


@given(st.lists(moderate, min_size=2, max_size=EXACT_LIMIT))
def test_quantiles_interpolate_linearly_while_all_values_are_kept(values):
    summary = metric(values).summary()
    reference = statistics.quantiles(values, n=100, method="inclusive")
    assert summary["quantiles"] == "exact"
    for name, percent in (("q05", 5), ("q25", 25), ("median", 50), ("q75", 75), ("q95", 95)):
        assert summary[name] == pytest.approx(reference[percent - 1], rel=1e-12, abs=1e-9)
    assert summary["min"] <= summary["q05"] <= summary["q25"] <= summary["median"] <= summary["q75"] <= summary["max"]


@given(st.lists(moderate, min_size=2, max_size=30), st.floats(min_value=1e-3, max_value=1e3))
def test_equal_weights_do_not_change_quantiles(values, weight):
    plain, heavy = metric(values).summary(), metric(values, weight).summary()
    assert [plain[name] for name in ("q05", "median", "q95")] == [heavy[name] for name in ("q05", "median", "q95")]


@given(finite, st.lists(st.floats(min_value=1e-3, max_value=1e3), min_size=2, max_size=20))
def test_weights_do_not_move_the_quantiles_of_equal_values(value, heaviness):
    summary = weighted([(value, weight) for weight in heaviness]).summary()
    assert {summary[name] for name in ("min", "q05", "q25", "median", "q75", "q95", "max", "mean")} == {value}


def test_quantiles_follow_the_weights():
    light_tail = weighted([(1.0, 1000), (2.0, 1000), (1000.0, 1e-3)]).summary()
    assert 1.0 <= light_tail["median"] <= 2.0
    assert weighted([(1.0, 1), (2.0, 1e6), (3.0, 1)]).summary()["q05"] == pytest.approx(2.0, abs=1e-4)
    lopsided = weighted([(0.0, 9)] * 300 + [(1.0, 1)] * 300).summary()
    assert lopsided["quantiles"] == "sketch"
    assert lopsided["q75"] == 0.0
    assert lopsided["q95"] == pytest.approx(1.0, rel=0.01)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(["normal", "lognormal", "wide", "ints"]))
def test_the_sketch_is_within_one_percent(seed, kind):
    rng = random.Random(seed)
    draw = {
        "normal": lambda: rng.gauss(0, 1),
        "lognormal": lambda: rng.lognormvariate(0, 3),
        "wide": lambda: rng.choice((-1, 1)) * 10.0 ** rng.uniform(-200, 200),
        "ints": lambda: rng.randrange(-1000, 1000),
    }[kind]
    values = sorted(draw() for _ in range(EXACT_LIMIT + 1 + rng.randrange(500)))
    summary = metric(values).summary()
    for name, percent in (("q05", 5), ("q25", 25), ("median", 50), ("q75", 75), ("q95", 95)):
        true = values[percent * (len(values) - 1) // 100]
        assert abs(summary[name] - true) <= 0.01 * abs(true), name


@given(st.floats(min_value=1e-300, allow_infinity=False))
def test_a_bin_holds_its_values_within_one_percent(value):
    for signed in (value, -value):
        middle = middle_of(bin_of(signed))
        assert abs(middle - signed) <= 0.01 * value
    assert bin_of(value) > 0 > bin_of(-value)


@given(st.floats(min_value=0, allow_infinity=False), st.floats(min_value=0, allow_infinity=False))
def test_bins_are_in_the_order_of_their_values(a, b):
    assert (a <= b) <= (bin_of(a) <= bin_of(b))


def test_a_median_between_extremes_does_not_overflow():
    assert metric([-1.7e308, 1.7e308]).summary()["median"] == 0.0


def test_nan_and_infinity_are_counted_and_change_nothing_else():
    dirty = metric([1.0, math.nan, 2.0, math.inf, -math.inf, 10**400, 3.0])
    clean = metric([1.0, 2.0, 3.0]).summary()
    assert dirty.summary() == {**clean, "nan_count": 1, "inf_count": 3}
    assert state(through_json(dirty)) == state(dirty)


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, 10**400])
def test_a_value_with_an_unusable_weight_is_counted_apart(weight):
    made = metric([1.0])
    made.add(99.0, weight)
    assert (made.summary()["mean"], made.nan_count) == (1.0, 1)


def test_nothing_finite_gives_no_figures():
    for made in (Metric(), metric([math.nan])):
        summary = made.summary()
        assert summary["count"] == 0
        assert {summary[name] for name in ("mean", "sum", "min", "max", "std", "variance", "median")} == {None}
        assert state(through_json(made)) == state(made)


def test_a_figure_beyond_the_range_of_a_float_is_none_and_the_others_stay():
    summary = metric([1.5e308, 1.7e308]).summary()
    assert (summary["sum"], summary["variance"]) == (None, None)
    assert summary["mean"] == 1.6e308
    assert summary["std"] == pytest.approx(0.2e308 / math.sqrt(2))
    assert metric([1e-200, 3e-200]).summary()["std"] == pytest.approx(math.sqrt(2) * 1e-200)


def test_one_spelling_of_equal_numbers():
    assert state(metric([1, -0.0])) == state(metric([0.0, 1.0]))


def test_one_plain_number_serialises_as_itself():
    assert metric([0.25]).to_json() == 0.25
    assert Metric.from_json(0.25).summary() == Metric.from_json([0.25]).summary()
    assert weighted([(0.25, 3)]).to_json() == [[0.25, 3.0]]
    assert metric([2**70 + 1]).to_json() == str(2**70 + 1)


@given(st.lists(st.tuples(st.integers(-(2**80), 2**80), st.integers(-1200, 1200)), max_size=8))
def test_exact_sums_round_trip(terms):
    total = sum(mantissa << (exponent + 2 * UNIT_BITS) for mantissa, exponent in terms)
    back = exact_in(json.loads(json.dumps(exact_out(total, 2))), 2)
    value = sum((Fraction(m) * Fraction(2) ** e for m, e in terms), Fraction(0))
    assert Fraction(back, 2 ** (2 * UNIT_BITS)) == value
    assert exact_out(back, 2) == exact_out(total, 2)


@pytest.mark.parametrize("document", [{"bins": {}}, "x", [[1, 2, 3]], {"values": ["1.5"]}, None])
def test_a_malformed_partial_is_refused(document):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Metric.from_json(document)


def test_table_groups_by_kwargs_without_the_replicates():
    table = Table(replicates=["seed"])
    for seed in range(3):
        for rate in (0.5, 0.1):
            table.add_task(
                {"seed": seed, "rate": rate, "opts": {"b": 1, "a": 2}}, {"loss": rate + seed, "note": "text"}
            )
    rows = table.rows()
    assert [row["kwargs"] for row in rows] == [{"rate": rate, "opts": {"a": 2, "b": 1}} for rate in (0.1, 0.5)]
    assert [row["count"] for row in rows] == [3, 3]
    assert rows[1]["metrics"].keys() == {"loss"}
    assert rows[1]["metrics"]["loss"]["mean"] == 1.5
    assert table.overall()["loss"]["count"] == 6


def test_table_counts_tasks_and_takes_lists_but_not_booleans():
    table = Table()
    table.add_task({"x": 1}, {"loss": [1.0, 2.0, True, "no"], "ok": True, "none": None})
    table.add_task({"x": 1}, {})
    (row,) = table.rows()
    assert row["count"] == 2
    assert {name: summary["count"] for name, summary in row["metrics"].items()} == {"loss": 2}


def test_table_weighs_a_task():
    table = Table()
    table.add_task({}, {"accuracy": 0.5}, weight=10)
    table.add_task({}, {"accuracy": 1.0}, weight=30)
    assert table.overall()["accuracy"]["mean"] == 0.875


def test_rows_are_ordered_numbers_first_then_text():
    table = Table()
    for value in ("b", 10, 9, "a", 2.5, None, True):
        table.add_task({"x": value}, {})
    assert [row["kwargs"]["x"] for row in table.rows()] == [2.5, 9, 10, "a", "b", None, True]
    twice = Table()
    for a, b in ((2, 1), (1, 10), (1, 9)):
        twice.add_task({"b": b, "a": a}, {})
    assert [tuple(row["kwargs"][name] for name in "ab") for row in twice.rows()] == [(1, 9), (1, 10), (2, 1)]


tasks = st.lists(
    st.tuples(
        st.fixed_dictionaries({"x": st.integers(0, 3), "seed": st.integers(0, 2)}),
        st.dictionaries(
            st.sampled_from(["loss", "time"]), st.one_of(anything, st.lists(finite, max_size=3)), max_size=2
        ),
        weights,
    ),
    max_size=25,
)


def table_of(rows):
    made = Table(replicates=["seed"])
    for kwargs, metrics, weight in rows:
        made.add_task(kwargs, metrics, weight)
    return made


@given(tasks, st.integers(0, 25), st.randoms(use_true_random=False))
def test_tables_merge_to_the_same_digits_in_any_order(rows, cut, rng):
    whole = table_of(rows)
    shuffled = list(rows)
    rng.shuffle(shuffled)
    parts = [table_of(shuffled[:cut]), table_of(shuffled[cut:])]
    for order in (parts, parts[::-1]):
        total, read = Table(replicates=["seed"]), Table(replicates=["seed"])
        for part in order:
            total.merge(Table.from_json(json.loads(text(part.to_json()))))
            read.merge_json(json.loads(text(part.to_json())))
        assert text(total.to_json()) == text(read.to_json()) == text(whole.to_json())
        assert text([total.rows(), total.overall()]) == text([whole.rows(), whole.overall()])


def test_tables_of_other_replicate_axes_do_not_merge():
    with pytest.raises(ValueError, match="replicate"):
        Table(replicates=["seed"]).merge(Table(replicates=["fold"]))


def test_a_hundred_thousand_grid_points_are_small():
    table = Table()
    for task in range(100_000):
        table.add_task({"x": task, "y": task % 7}, {"loss": task / 8})
    document = json.dumps(table.to_json())
    total = Table()
    total.merge(Table.from_json(json.loads(document)))
    assert len(document) < 5_000_000
    assert total.overall()["loss"]["count"] == 100_000


def test_quantiles_of_the_largest_floats_do_not_overflow():
    largest = 1.7976931348623157e308
    assert weighted([(largest, 1.0), (largest, 1.5)]).summary()["median"] == largest
    assert weighted([(-largest, 1.0), (largest, 1.5)]).summary()["max"] == largest


@pytest.fixture
def three_tasks(tmp_path):
    """A run of three tasks: its folder, the request of a combine, and a function that writes a record."""
    folder = RunFolder(str(tmp_path / "hpc-agent/repo/runs/r"))
    for path in (folder.jobs, folder.records("00000")):
        make_folder(path)
    write_json(folder.document, {"run_id": "r", "task_count": 3, "scheduler": "slurm"})
    write_array(folder, Array("a0", "0-2"))
    request = {"root": str(tmp_path / "hpc-agent/repo"), "run_id": "r"}
    return folder, request, lambda task, **fields: write_json(folder.record(task), {"task": task, **fields})


def test_a_kept_partial_is_answered_with_the_failures_of_now(three_tasks):
    _, request, write_record = three_tasks
    write_record(0, state="complete", kwargs={"x": 1}, metrics={"loss": 0.5})
    first = combine(request)["waves"]["0"]
    assert (first["fresh"], first["included"], first["missing"], first["failed"]) == (True, "0", "1-2", "")
    write_record(2, state="failed")
    again = combine(request)["waves"]["0"]
    assert (again["fresh"], again["table"], again["missing"], again["failed"]) == (False, first["table"], "1", "2")
    assert combine({**request, "replicates": ["x"]})["waves"]["0"]["fresh"]


def test_a_task_counts_once_though_several_arrays_name_it(three_tasks):
    folder, request, write_record = three_tasks
    for task in range(3):
        write_record(task, state="complete", kwargs={}, metrics={"loss": task})
    write_array(folder, Array("a1", "1-2,0", wave=1))
    write_array(folder, Array("a2", "0-1,1"))
    waves = combine(request)["waves"]
    assert [(wave["tasks"], wave["included"]) for wave in waves.values()] == [(3, "0-2"), (0, "")]
    table = Table.from_json(waves["0"]["table"])
    table.merge(Table.from_json(waves["1"]["table"]))
    assert (table.rows()[0]["count"], table.overall()["loss"]["count"], table.overall()["loss"]["sum"]) == (3, 3, 3.0)


def test_the_answer_of_an_earlier_runtime_has_fewer_fields(three_tasks, tmp_path):
    _, request, write_record = three_tasks
    write_record(0, state="complete", kwargs={}, metrics={"loss": 0.5})
    wave = combine(request)["waves"]["0"]
    for name in ("format", "oom_killed", "metrics_problems"):
        del wave[name]
    folded = Folded([wave], Table.from_json(wave["table"]), MetricProblems().to_json(), [])
    record = RunRecord(run_id="r")
    result, rows = write_table(mock.MagicMock(record=record), tmp_path, folded, AggregateRequest(), 0.0)
    assert (rows[0]["metrics"]["loss"]["mean"], result.metrics_problems, result.notes) == (0.5, [], [])
    assert (result.missing_tasks, result.missing_count, result.complete) == ("1-2", 2, False)


def test_the_first_value_of_a_folded_axis_is_kept(three_tasks, tmp_path):
    """A campaign that begins at a row of the table has to give its tasks a seed."""
    _, request, write_record = three_tasks
    for task, seed in ((0, 7), (1, 3)):
        write_record(task, state="complete", kwargs={"lr": 0.1, "seed": seed}, metrics={"loss": 0.5})
    wave = combine({**request, "replicates": ["seed"]})["waves"]["0"]
    assert wave["first"] == {"seed": 7}
    later = {**wave, "wave": 1, "first": {"seed": 9, "fold": 1}}
    folded = Folded([wave, later, {}], Table.from_json(wave["table"]), [], [])
    assert folded.first_of_axes() == {"seed": 7, "fold": 1}


def test_a_partial_of_an_earlier_version_is_folded_again(three_tasks):
    folder, request, write_record = three_tasks
    write_record(0, state="complete", kwargs={}, metrics={"loss": 0.5})
    assert combine(request)["waves"]["0"]["fresh"]
    path = os.path.join(folder.combiner, "wave_0.json")
    kept = json.loads(open(path).read())
    del kept["format"]
    write_json(path, dict(kept, table={"replicates": [], "groups": {"{}": [2, {"loss": [0.5, 0.5]}]}}))
    again = combine(request)["waves"]["0"]
    assert (again["fresh"], again["table"]["groups"]) == (True, {"{}": [1, {"loss": 0.5}]})


@pytest.mark.parametrize("weight", [None, 0, -1, "nan", [1, 2]])
def test_a_task_without_a_usable_weight_is_named_and_counted(three_tasks, weight):
    folder, request, write_record = three_tasks
    write_json(folder.document, {"run_id": "r", "task_count": 3, "scheduler": "slurm", "results": {"weight": "n"}})
    write_record(0, state="complete", kwargs={}, metrics={"loss": 1.0, "n": 10})
    write_record(1, state="complete", kwargs={}, metrics={"loss": 9.0, **({} if weight is None else {"n": weight})})
    wave = combine(request)["waves"]["0"]
    loss = Table.from_json(wave["table"]).overall()["loss"]
    assert (loss["mean"], loss["count"], loss["nan_count"]) == (1.0, 1, 1)
    assert [(told["task"], told["field"]) for told in wave["metrics_problems"]] == [(1, "n")]


def test_problems_of_metrics_are_grouped_over_the_tasks(three_tasks):
    _, request, write_record = three_tasks
    for task in range(3):
        left_out = [{"field": "acc", "message": "left out: text", "value": f"0.{task}"}]
        write_record(task, state="complete", kwargs={}, metrics={"loss": 1}, metrics_left_out=left_out)
    expected = {"task": 0, "field": "acc", "message": "left out: text", "value": "0.0", "count": 3, "tasks": "0-2"}
    assert combine(request)["waves"]["0"]["metrics_problems"] == [expected]
