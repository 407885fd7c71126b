"""Laws of the exact partials: associative, rounded once, the same through JSON, and as the aggregate adds them."""

import json
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.experiment_kit.series import MAX, MIN, MOMENTS, SUM, carries
from hpc_agent.node.shared.metric_table import Table

finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.one_of(st.floats(), st.integers(), st.integers(min_value=-(10**30), max_value=10**30))
EVERY = pytest.mark.parametrize("monoid", [SUM, MOMENTS, MIN, MAX], ids=repr)


def flat(parts):
    return [value for part in parts for value in part]


def same(left, right):
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@EVERY
@given(data=st.data())
def test_partials_are_associative_and_survive_strict_json(monoid, data):
    parts = data.draw(st.lists(st.lists(anything, max_size=8), min_size=3, max_size=3))
    one, two, three = (json.loads(json.dumps(monoid.of(part), allow_nan=False)) for part in parts)
    left = monoid.merge([monoid.merge([one, two]), three])
    right = monoid.merge([one, monoid.merge([two, three])])
    assert same(left, right)
    assert same(left, monoid.of(flat(parts)))
    assert same(monoid.merge([monoid.of([]), one]), one)
    assert same(monoid.value(left), monoid.value(right))


@EVERY
@given(data=st.data())
def test_a_scan_with_the_carry_of_the_chunks_before_is_the_scan_of_all(monoid, data):
    parts = data.draw(st.lists(st.lists(anything, max_size=8), min_size=1, max_size=5))
    before = carries([monoid.of(part) for part in parts])
    scanned = [monoid.scan(part, carry) for part, carry in zip(parts, before, strict=True)]
    assert same(flat(scanned), monoid.scan(flat(parts)))


@given(st.lists(finite, max_size=40))
def test_a_sum_is_that_of_fsum(values):
    try:
        wanted = math.fsum(values) + 0.0
    except OverflowError:
        return
    assert SUM.value(SUM.of([*values, 0.0])) == wanted


@given(st.lists(st.integers(), max_size=20))
def test_a_sum_of_whole_numbers_is_a_whole_number(values):
    total = SUM.value(SUM.of(values))
    assert (total, type(total)) == (sum(values), int)
    assert SUM.metric(SUM.of(values)) == [sum(values)]


@given(st.lists(st.floats(min_value=-1e150, max_value=1e150), min_size=2, max_size=20))
def test_moments_are_rounded_once(values):
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    m2 = sum((value - mean) ** 2 for value in exact)
    found = MOMENTS.value(MOMENTS.of(values))
    assert found["count"] == len(values)
    assert found["mean"] == float(mean)
    assert found["m2"] == float(m2)
    assert found["variance"] == float(m2 / (len(values) - 1))
    assert found["std"] == math.sqrt(found["variance"])
    assert MOMENTS.value(MOMENTS.of(values), "mean") == statistics.mean(values)


@given(st.lists(st.one_of(finite, st.integers()), min_size=1, max_size=30))
def test_extremes(values):
    assert MAX.value(MAX.of(values)) == max(values)
    assert MIN.value(MIN.of(values)) == min(values)


def test_what_is_not_finite():
    nan, inf = math.nan, math.inf
    assert math.isnan(SUM.value(SUM.of([1, nan])))
    assert math.isnan(SUM.value(SUM.of([inf, -inf])))
    assert SUM.value(SUM.of([inf, 1])) == inf
    assert SUM.value(SUM.of([-inf, 1])) == -inf
    assert SUM.value(SUM.of([1e308, 1e308])) == inf
    assert SUM.value(SUM.of([-1e308, -1e308, 1e308])) == -1e308
    assert MOMENTS.value(MOMENTS.of([inf, 1]))["mean"] == inf
    assert math.isnan(MOMENTS.value(MOMENTS.of([inf, 1]))["std"])
    for monoid in (MAX, MIN):
        assert math.isnan(monoid.value(monoid.merge([monoid.of([1.0, nan]), monoid.of([5.0])])))
        assert monoid.value(monoid.of([])) is None
    assert MAX.value(json.loads(json.dumps(MAX.of([inf])))) == inf
    assert SUM.value(SUM.of([])) == 0
    assert MOMENTS.value(MOMENTS.of([])) == {"count": 0, "mean": None, "m2": None, "variance": None, "std": None}
    assert MOMENTS.value(MOMENTS.of([2.0]))["variance"] is None


def test_arrays_are_taken_and_other_things_refused():
    assert SUM.value(SUM.of(np.array([1, 2]))) == 3
    assert SUM.value(SUM.of([np.float32(0.1), np.int64(2), True])) == float(Fraction(float(np.float32(0.1))) + 3)
    for bad in ("1", None, 1j, Fraction(1, 3)):
        with pytest.raises(ValueError, match="is no int or float"):
            SUM.of([bad])
    with pytest.raises(ValueError, match="none of sum"):
        SUM.merge([MAX.of([1])])
    with pytest.raises(ValueError, match="has no figure"):
        MOMENTS.value(MOMENTS.of([1]), "median")
    with pytest.raises(ValueError, match="has no figure"):
        SUM.cumulative([1], "mean")


@given(st.lists(st.lists(st.floats(min_value=-1e300, max_value=1e300), max_size=10), min_size=1, max_size=6))
def test_the_aggregate_adds_up_the_metrics_of_chunks_exactly(parts):
    table = Table(replicates=["start", "end", "halo"])
    for start, part in enumerate(parts):
        metrics = {"total": SUM.metric(SUM.of([*part, 0.0])), "high": MAX.metric(MAX.of([*part, -1e301]))}
        table.add_task({"alpha": 1, "start": start, "end": start + 1, "halo": 0}, metrics)
    [row] = Table.from_json(json.loads(json.dumps(table.to_json()))).rows()
    everything = flat(parts)
    assert row["metrics"]["total"]["sum"] == math.fsum(everything)
    assert row["metrics"]["high"]["max"] == max([*everything, -1e301])


def test_a_sum_as_metrics_is_short():
    values = [math.ldexp(1 + n / 64, n % 200 - 100) for n in range(5000)]
    assert len(SUM.metric(SUM.of(values))) <= 6
    assert SUM.metric(SUM.of([0.0])) == [0.0]
    assert SUM.metric(SUM.of([math.inf])) == [math.inf]
    with pytest.raises(ValueError, match="moments have no metric"):
        MOMENTS.metric(MOMENTS.of(values))
    assert SUM.metric(SUM.of([1e308, 1e308])) == [math.inf]
