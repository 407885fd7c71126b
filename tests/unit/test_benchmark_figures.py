"""The statistics of the benchmarks, the budgets, and the page that is written from what was measured."""

from __future__ import annotations

import pytest
from benchmarks.budgets import Budget
from benchmarks.figures import median, ratio, rounded, spread, written
from benchmarks.registry import Row, chosen
from benchmarks.results import Book, Measure, Result, Skipped, load, save
from benchmarks.results_page import budget_table, page, row_section, side_table
from hypothesis import given
from hypothesis import strategies as st

ROW = Row("r", "A row", "How.", 10, "", lambda _bench: None)
FLOORS = {"spawn": 0.001, "fork": 0.0005}


def result(*measures: Measure, **facts: object) -> Result:
    return Result("r", "2030-01-01 00:00 UTC", 1.5, "abc", FLOORS, {"hpc-agent": "1"}, list(measures), **facts)


def measure(name: str, *values: float, **facts: object) -> Measure:
    return Measure(name, values=list(values), **facts)


def test_median_spread_and_ratio():
    assert median([3, 1, 2]) == 2
    assert spread([1.0, 2.0, 3.0]) == 0.5
    assert spread([7.0]) == 0
    assert spread([0.0, 0.0]) == 0
    assert ratio([6.0], [1.0, 3.0], [1.0]) == 2
    for nothing in (lambda: median([]), lambda: ratio([1.0], [0.0]), lambda: ratio([], [1.0])):
        with pytest.raises(ValueError, match="nothing"):
            nothing()


@given(st.lists(st.floats(0.001, 1e6), min_size=1))
def test_a_spread_is_between_the_extremes(values):
    assert 0 <= spread(values) * median(values) <= max(values) - min(values) + 1e-9
    assert ratio(values, values) == 1


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "s", "12.3 s"),
        (0.0123, "s", "12.3 ms"),
        (0.00042, "s", "420 us"),
        (3e-8, "s", "30 ns"),
        (0, "s", "0 s"),
        (4182, "", "4,182"),
        (4096, "B", "4.1 KB"),
        (17, "B", "17 B"),
        (2.5e9, "B", "2.5 GB"),
    ],
)
def test_values_are_written_in_a_unit_that_fits(value, unit, text):
    assert written(value, unit) == text


def test_rounded_keeps_three_digits():
    assert [rounded(v) for v in (0.0, 1.0, 0.01234, 99.96, 1234.5, 0.000012345)] == [
        "0", "1", "0.0123", "100", "1,234", "0.000012",
    ]  # fmt: skip


def test_a_budget_is_a_ratio_or_a_value_and_is_met_or_not():
    book = Book(rows={"r": result(measure("a", 3.0), measure("b", 1.0, 1.0), measure("c", 0.5))})
    assert Budget("x", "what", "r", "a", ("b", "c"), at_most=2.0).figure(book) == 2.0
    assert Budget("x", "what", "r", "a").figure(book) == 3.0
    assert Budget("x", "what", "r", "a", ("d",)).figure(book) is None
    assert Budget("x", "what", "other", "a").figure(book) is None
    assert Budget("x", "w", "r", "a", at_most=3.0).met(3.0)
    assert not Budget("x", "w", "r", "a", at_most=3.0).met(3.1)
    assert not Budget("x", "w", "r", "a", at_least=3.0).met(2.9)


def test_the_table_of_budgets_tells_met_missed_and_unmeasured(monkeypatch):
    budgets = (
        Budget("met", "one", "r", "a", ("b",), at_most=4.0),
        Budget("missed", "two", "r", "a", ("b",), at_most=2.0),
        Budget("skipped", "three", "r", "a", ("peer",), at_most=1.0),
        Budget("later", "four", "q", "a", at_least=1.0, unit="s"),
    )
    monkeypatch.setattr("benchmarks.results_page.BUDGETS", budgets)
    book = Book(rows={"r": result(measure("a", 3.0), measure("b", 1.0), skipped=[Skipped("peer", "no index")])})
    lines = budget_table(book, {"missed": "the disk is slow | a ram disk"}).splitlines()[4:]
    assert lines == [
        "| one | [r](#r) | 3 x | at most 4 x | met |",
        "| two | [r](#r) | 3 x | at most 2 x | **not met**: the disk is slow \\| a ram disk |",
        "| three | [r](#r) |  | at most 1 x | not measured: peer: no index |",
        "| four | [q](#q) |  | at least 1 s | not measured yet |",
    ]


def test_sides_stand_beside_the_first_of_their_unit_and_the_floor():
    taken = result(
        measure("ours", 2.0, 4.0, count=1000, floor="spawn"),
        measure("theirs", 6.0, count=1000, floor="fork"),
        measure("bytes", 500.0, unit="B", note="pulled"),
    )
    assert side_table(taken)[2:5] == [
        "| ours | 3 s | 33% | 2 | 1 x | 3 |  |",
        "| theirs | 6 s |  | 1 | 2 x | 12 |  |",
        "| bytes | 500 B |  | 1 |  |  | pulled |",
    ]


def test_a_row_tells_what_was_skipped_and_why_it_was_broken_off():
    text = row_section(ROW, result(skipped=[Skipped("peer", "no index")], broken_off="it took over 10 s"))
    for part in ("## r", "A row. How.", "- peer: skipped, no index", "- broken off: it took over 10 s",
                 "Nothing was measured.", "posix_spawn of `true` 1 ms", "commit abc"):  # fmt: skip
        assert part in text
    assert "Not measured yet." in row_section(ROW, None)


def test_what_is_saved_is_read_again_and_replaces_only_its_row(tmp_path):
    results, markdown = tmp_path / "results.json", tmp_path / "RESULTS.md"
    assert load(results) == Book()
    book = Book({"cores": "2"}, {"r": result(measure("a", 1.0)), "q": result()})
    save(book, page(book, [ROW], {}), results, markdown)
    assert load(results) == book
    assert "Machine: cores 2" in markdown.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RESULTS.md", "results.json"]


def test_repetitions_of_a_side_are_added():
    taken = result()
    taken.add(measure("a", 1.0))
    taken.add(measure("b", 5.0))
    taken.add(measure("a", 2.0))
    assert (taken.values("a"), taken.values("b"), taken.values("c")) == ([1.0, 2.0], [5.0], [])


def test_rows_are_chosen_by_name_or_pattern():
    rows = [Row(name, "", "", 1, "", lambda _bench: None) for name in ("a-local", "a-slurm", "b")]
    assert [row.id for row in chosen(rows, [])] == ["a-local", "a-slurm", "b"]
    assert [row.id for row in chosen(rows, ["b", "a-*"])] == ["a-local", "a-slurm", "b"]
    assert [row.id for row in chosen(rows, ["*-local"])] == ["a-local"]
    with pytest.raises(ValueError, match="nothing-such"):
        chosen(rows, ["b", "nothing-such"])
