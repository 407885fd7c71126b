"""Rows of runs matched by their parameters, and the differences between them."""

import json
import math
from unittest import mock

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpc_agent.contract import envelope
from hpc_agent.contract.primitive import load_all
from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.ops.aggregate import compare
from hpc_agent.ops.aggregate.aggregate import Folded
from hpc_agent.ops.aggregate.compare import _columns, _summary, _unmatched
from hpc_agent.ops.aggregate.match import match
from hpc_agent.world import World


def table(*tasks, weights=None):
    made = Table()
    for number, (kwargs, metrics) in enumerate(tasks):
        made.add_task(kwargs, metrics, weights[number] if weights else 1.0)
    return made


def runs(first, other):
    """Two runs of one grid point; the values by seed."""
    return [table(*(({"x": 1, "seed": seed}, {"y": value}) for seed, value in run.items())) for run in (first, other)]


values = st.integers(-(10**9), 10**9).map(lambda number: number / 1024)


@given(st.dictionaries(st.integers(0, 30), st.tuples(values, values), min_size=2))
def test_the_same_replicates_are_compared_by_pairs(drawn):
    first, other = ({seed: pair[side] for seed, pair in drawn.items()} for side in (0, 1))
    [row] = match(runs(first, other), ["seed"]).rows
    differences = [b - a for a, b in drawn.values()]
    size = max(abs(value) for pair in drawn.values() for value in pair)
    assert (row.found.test, row.n_first, row.n_other) == ("paired", len(drawn), len(drawn))
    assert row.found.difference == pytest.approx(numpy.mean(differences), rel=1e-9, abs=1e-12 * size)
    half = stats.t.ppf(0.975, len(drawn) - 1) * numpy.std(differences, ddof=1) / math.sqrt(len(drawn))
    assert row.found.ci95 == pytest.approx(half, rel=1e-9, abs=1e-9 * size)
    assert row.other == pytest.approx(numpy.mean(list(other.values())), rel=1e-9, abs=1e-12 * size)


@given(st.dictionaries(st.integers(0, 30), values, min_size=1), st.dictionaries(st.integers(0, 30), values, min_size=1))
def test_other_replicates_are_compared_as_samples(first, other):
    [row] = match(runs(first, other), ["seed"]).rows
    size = max(map(abs, [*first.values(), *other.values()]))
    assert row.found.difference == pytest.approx(
        numpy.mean(list(other.values())) - numpy.mean(list(first.values())), rel=1e-9, abs=1e-12 * size
    )
    if len(first) == 1 or len(other) == 1:
        assert (row.found.test, row.found.ci95) == ("", None)
    elif first.keys() != other.keys():
        assert row.found.test == "welch"
    swapped = match(runs(other, first), ["seed"]).rows[0].found
    assert (swapped.difference, swapped.ci95, swapped.test) == (-row.found.difference, row.found.ci95, row.found.test)


@given(st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9), min_size=1))
def test_each_row_of_each_run_is_matched_or_named(one, two):
    tables = [table(*(({"x": x, "z": "same"}, {"y": x}) for x in chosen)) for chosen in (one, two)]
    found = match(tables, [])
    if found.differs:  # one point each, of different x: that is what tells the runs apart
        assert (len(one), len(two), len(found.rows)) == (1, 1, 1)
        return
    assert sorted(row.point["x"] for row in found.rows) == sorted(one & two)
    assert all((row.found.difference, row.found.ci95) == (0, None) for row in found.rows)
    named = [(has, point["x"]) for has, _, point in found.unmatched]
    assert sorted(named) == sorted([(0, x) for x in one - two] + [(1, x) for x in two - one])


def test_a_parameter_that_tells_the_runs_apart_is_named_and_does_not_match():
    first = table(*(({"alpha": a, "optimizer": "adam"}, {"loss": a}) for a in (1, 2)))
    other = table(*(({"alpha": a, "optimizer": "sgd", "momentum": 0.9}, {"loss": a + 1}) for a in (2, 1)))
    found = match([first, other], [])
    assert found.differs == {"momentum": [None, 0.9], "optimizer": ["adam", "sgd"]}
    assert [(row.point, row.found.difference) for row in found.rows] == [({"alpha": 1}, 1), ({"alpha": 2}, 1)]


def test_three_runs_are_compared_with_the_first():
    tables = [table(*(({"x": x}, {"loss": x * scale, "gain": 1}) for x in (1, 2))) for scale in (1, 2, 5)]
    found = match(tables, [], ["loss"])
    assert [(row.run, row.point["x"], row.found.difference) for row in found.rows] == [
        (1, 1, 1),
        (1, 2, 2),
        (2, 1, 4),
        (2, 2, 8),
    ]
    columns = {column.name: column.values for column in _columns(found.rows, ["a", "b", "c"], "loss")}
    assert (columns["run"], columns["metric"]) == (["b", "b", "c", "c"], ["loss"] * 4)
    assert _summary(found.rows, ["a", "b", "c"]) == [
        {"metric": "loss", "run": "b", "single": 2}, {"metric": "loss", "run": "c", "single": 2},
    ]  # fmt: skip


def test_what_has_no_honest_interval_has_none():
    nan = runs({0: math.nan, 1: 1.0, 2: 2.0}, {0: 5.0, 1: 6.0, 2: 7.0})
    [row] = match(nan, ["seed"]).rows
    assert (row.found.test, row.n_first, row.n_other, row.first) == ("welch", 2, 3, 1.5), "no pair of the diverged one"
    lost = runs({0: math.nan}, {0: 5.0})
    [row] = match(lost, ["seed"]).rows
    assert (row.found, row.first, row.n_first) == (None, None, 0)
    weighted = [
        table(({"s": 0}, {"y": 1}), ({"s": 1}, {"y": 4}), weights=[1, 2]),
        table(({"s": 0}, {"y": 1}), ({"s": 1}, {"y": 5})),
    ]
    [row] = match(weighted, ["s"]).rows
    assert (row.first, row.found.ci95) == (3, None)


def test_repeated_tasks_and_lists_of_values():
    repeated = [table(*(({"x": 1}, {"y": value}) for value in found)) for found in ([1, 2, 3], [2, 4])]
    [row] = match(repeated, []).rows
    assert (row.found.test, row.n_first, row.n_other) == ("welch", 3, 2), "equal parameters cannot be paired"
    epochs = [table(*(({"s": s}, {"y": [s + shift, s + shift + 2]}) for s in (0, 1, 2))) for shift in (0, 10)]
    [row] = match(epochs, ["s"]).rows
    assert (row.found.test, row.n_first, row.first, row.found.difference, row.found.ci95) == ("paired", 3, 2, 10, 0)
    many = [table(*(({"s": s}, {"y": [float(s + shift)] * 600}) for s in (0, 1))) for shift in (0, 1)]
    [row] = match(many, ["s"]).rows
    assert (row.n_first, row.found.difference) == (2, 1)


def test_rows_that_only_one_run_has_are_counted_by_run():
    found = match(
        [table(({"x": 1}, {"y": 1}), ({"x": 2}, {"y": 1})), table(({"x": 2}, {"y": 1}), ({"x": 3}, {"y": 1}))], []
    )
    assert _unmatched(found, ["a", "b"]) == [
        {"run": "a", "not_in": "b", "count": 1, "rows": [{"x": 1}]}, {"run": "b", "not_in": "a", "count": 1, "rows": [{"x": 3}]},
    ]  # fmt: skip


@pytest.fixture
def comparing(tmp_path, monkeypatch):
    """Compare runs that are given as {run id: Folded}; return the data of the answer and the bytes of its envelope."""

    def call(folded, **fields):
        runs = [mock.MagicMock(**{"record.run_id": name, "repo.root": tmp_path}) for name in folded]
        monkeypatch.setattr(compare, "_runs", lambda request, world: runs)
        monkeypatch.setattr(compare, "fold_run", lambda run, waves, over: folded[run.record.run_id])
        answer = compare.compare(compare.CompareRequest(run_ids=list(folded), **fields), World(cwd=tmp_path))
        line = envelope.success(load_all()["compare"], answer)
        return json.loads(line)["data"], len(line)

    return call


def whole(made, tasks):
    return Folded([{"wave": 0, "tasks": tasks, "included": encode_ranges(range(tasks))}], made, [], [])


def test_the_rows_that_are_asked_for_and_their_summary(comparing):
    def made(shift):
        tasks = [
            ({"x": x, "seed": s}, {"loss": x + s + shift * x, "acc": x, "gain": 1.0}) for x in (0, 1, 2) for s in (0, 1)
        ]
        return whole(table(*tasks), 6)

    folded = {"a": made(0), "b": made(-1)}
    told, _ = comparing(folded, over=["seed"])
    assert told["summary"] == [
        {"metric": "acc", "run": "b", "equal": 3}, {"metric": "gain", "run": "b", "equal": 3},
        {"metric": "loss", "run": "b", "equal": 1, "lower": 2},
    ]  # fmt: skip
    told, _ = comparing(folded, over=["seed"], sort="loss", where=["x>0"])
    found = [dict(zip(told["columns"], row, strict=True)) for row in told["rows"]]
    assert [(row["x"], row["difference"]) for row in found] == [(2, -2), (1, -1)], "the greatest progress first"
    assert (told["summary"], told["matching_rows"]) == ([{"metric": "loss", "run": "b", "lower": 2}], 2)
    assert (told["sort"], told["direction"], "truncated" in told) == ("difference", "min", False)
    told, _ = comparing(folded, over=["seed"], sort="acc", metrics=["acc"])
    assert (told["direction"], len(told["rows"]), "matching_rows" in told) == ("max", 3, False)
    assert comparing(folded)[0]["summary"][0] == {"metric": "acc", "run": "b", "equal": 6}, "single values"
    with pytest.raises(SpecInvalid, match="no run has 'sed'") as caught:
        comparing(folded, over=["sed"])
    assert caught.value.remediation.startswith("Did you mean 'seed'? The runs have: seed, x")


def test_a_metric_that_one_run_of_a_matched_row_lacks_is_told(comparing):
    first = table(*(({"a": a}, {"loss": a, "acc": a}) for a in (1, 2)))
    other = table(({"a": 1}, {"loss": 1, "acc": 1}), ({"a": 2}, {"loss": 1, "f1": 1}))
    notes = comparing({"A": whole(first, 2), "B": whole(other, 2)})[0]["notes"]
    assert "acc is not compared in 1 matched row: B has none there" in notes
    assert "f1 is not compared in 1 matched row: A has none there" in notes
    only = comparing({"A": whole(first, 2), "B": whole(other, 2)}, metrics=["loss"])[0]
    assert not any("not compared" in note for note in only.get("notes", []))


def test_one_number_is_one_value_however_it_is_written():
    first, other = (table(*(({"a": a, "seed": a}, {"loss": a}) for a in found)) for found in ((1, 2), (1.0, 2.0)))
    found = match([first, other], ["seed"])
    assert ([row.found.difference for row in found.rows], found.unmatched, found.differs) == ([0, 0], [], {})
    both = table(({"a": 1}, {"loss": 1}), ({"a": 1.0}, {"loss": 2}))
    assert sorted(row.first for row in match([both, both], []).rows) == [1, 2], "a table that has both keeps both"


@pytest.mark.parametrize("count", [2, 8])
def test_an_answer_about_many_wide_runs_stays_short(tmp_path, comparing, count):
    ids = [f"a_sweep_with_a_long_name-{number:08x}" for number in range(count)]
    wide = {f"parameter_{n}": "text " * 30 for n in range(30)}
    folded = {}
    for number, name in enumerate(ids):
        points = [point for point in range(40) if point % 10 != number]
        made = table(*(({**wide, "x": x, "own": name * 9}, {f"m{k}": x * k for k in range(20)}) for x in points))
        wave = {
            "wave": 0,
            "tasks": 4000,
            "included": encode_ranges(range(36)),
            "failed": ",".join(map(str, range(100, 999, 2))),
        }
        folded[name] = Folded([wave], made, [], [])
    told, size = comparing(folded)
    print(count, "runs:", size, "bytes,", len(told["rows"]), "rows")
    assert size <= 2000
    assert (told["truncated"], told["row_count"]) == (True, 20 * 32 * (count - 1))
    written = json.loads((tmp_path / "results").glob("*/compare.json").__next__().read_text())
    assert (len(written["rows"]), len(written["differs"]["own"]), len(written["unmatched"])) == (
        told["row_count"],
        count,
        2 * (count - 1),
    )
