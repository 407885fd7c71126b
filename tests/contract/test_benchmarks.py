"""benchmarks/: RESULTS.md is what results.json gives, and names every row and every budget."""

from __future__ import annotations

import pytest
from benchmarks.budgets import BUDGETS, reasons
from benchmarks.registry import all_rows
from benchmarks.results import PAGE, Book, load, save
from benchmarks.results_page import page

ROWS = all_rows()


def test_the_page_is_made_from_the_results():
    assert PAGE.read_text() == page(load(), ROWS, reasons()), "run: python -m benchmarks --page"


def test_what_is_read_again_has_the_same_page(tmp_path):
    known = load()
    book = Book({name: known.machine[name] for name in sorted(known.machine, reverse=True)}, known.rows)
    save(book, "", tmp_path / "results.json", tmp_path / "page.md")
    assert page(load(tmp_path / "results.json"), ROWS, {}) == page(book, ROWS, {})


def test_the_page_names_every_row_and_every_budget():
    text = PAGE.read_text()
    for row in ROWS:
        assert f"\n## {row.id}\n" in text
        assert row.title in text
    for budget in BUDGETS:
        assert f"| {budget.what} | [{budget.row}](#{budget.row}) |" in text
        assert budget.limit() in text


def test_each_budget_is_about_a_row_and_has_one_limit():
    assert len({budget.id for budget in BUDGETS}) == len(BUDGETS)
    assert {budget.row for budget in BUDGETS} <= {row.id for row in ROWS}
    assert all((budget.at_most is None) != (budget.at_least is None) for budget in BUDGETS)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_each_row_says_how_it_is_measured(row):
    assert row.method
    assert row.title


def test_every_missed_budget_says_why():
    book, why = load(), reasons()
    figures = {budget: budget.figure(book) for budget in BUDGETS}
    missed = [one.id for one, figure in figures.items() if figure is not None and not one.met(figure)]
    assert [one for one in missed if not why.get(one)] == [], "write it into benchmarks/why.yaml"
    assert set(why) <= {budget.id for budget in BUDGETS}


def test_a_full_run_should_take_at_most_40_minutes():
    assert sum(row.aim_sec for row in ROWS) <= 40 * 60
