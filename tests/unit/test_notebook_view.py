"""How a result displays itself in a notebook: as a terminal shows it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from hpc_agent.contract.primitive import PartialError, Result
from hpc_agent.ops.monitor.list_in_flight import ListInFlightResult
from hpc_agent.ops.monitor.questions import LogsResult
from hpc_agent.ops.run.checks import Finding, ValidationResult
from hpc_agent.view import notebook
from hpc_agent.view.notebook import ROWS_SHOWN, html
from hpc_agent.view.terminal.blocks import STYLES, Bar, Cell, Column, Facts, Gap, Heading, Line, Para, Raw, Table, Title
from hpc_agent.view.terminal.layout import lines_of
from hpc_agent.view.terminal.views import success

EVIL = "<script>alert('x')</script>&\x1b[31m"


class Sample(Result):
    run_id: str
    clusters: list[dict[str, Any]] = []
    plan: dict[str, Any] = {}
    notes: list[str] = []
    next_step: str = ""


def texts(page: str) -> list[str]:
    """The texts of well-formed HTML."""
    found, stack = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

        def handle_data(self, data):
            found.append(data)

    Reader().feed(page)
    assert stack == []
    return found


@pytest.mark.parametrize(
    "block",
    [
        Title(EVIL), Heading(EVIL), Para([EVIL, Cell(EVIL, "bad")]), Line(Cell(EVIL, "dim")), Raw(EVIL), Gap(),
        Facts([(EVIL, EVIL), (Cell(EVIL, "warn"), [EVIL])]), Table([Column(EVIL)], [[EVIL], [Cell(EVIL, "good")]]),
    ],
    ids=lambda block: type(block).__name__,
)  # fmt: skip
def test_nothing_of_a_result_is_taken_for_html(block):
    page = notebook._block(block)
    texts(page)
    assert "<script" not in page
    assert "\x1b" not in page
    if not isinstance(block, Gap):
        assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;" in page


def test_it_says_what_the_terminal_says():
    sample = Sample(
        run_id="r1", clusters=[{"name": "a", "host": EVIL}, {"name": "b"}], plan={"waves": {"0": {"complete": 1}}, "pack": 2},
        notes=["a note"], next_step="hpc-agent status --run-id r1", partial_errors=[PartialError("qstat", "away")],
    )  # fmt: skip
    data = {name: getattr(sample, name) for name in ("run_id", "clusters", "plan", "notes", "next_step")}
    shown = success("", {"data": data, "partial_errors": [{"code": "qstat", "detail": "away"}]})
    here = re.findall(r"\w+", " ".join(texts(html(sample))))
    there = re.findall(r"\w+", " ".join(cell.text for line in lines_of(shown, 200) for cell in line))
    assert sorted(here) == sorted(there)
    assert {"r1", "note", "qstat", "away", "Next"} <= set(here)


def test_a_result_has_the_view_of_its_verb():
    finding = Finding("validate-input-dataset", "error", "row_missing", "row 7 is not there", "Repair it.")
    page = html(ValidationResult(overall="fail", findings=[finding]))
    assert "row 7 is not there" in page
    assert "Error" in page or "error" in page
    log = LogsResult(run_id="r1", logs=[{"task": 3, "content": "first\nsecond <b>\n", "state": "failed", "path": "/x"}])
    assert "first\nsecond &lt;b&gt;" in html(log)
    assert texts(html(ListInFlightResult(runs=[], total_matching=0)))


def test_a_long_table_is_cut_and_says_so():
    rows = [[str(n)] for n in range(ROWS_SHOWN + 7)]
    assert texts(notebook._block(Table([Column("n")], rows)))[-1] == "and 7 more"
    assert notebook._block(Table([Column("n")])) == notebook._block(Facts([])) == ""


def test_a_bar_has_the_share_of_each_state():
    page = notebook._block(Bar({"complete": 2, "failed": 1, "pending": 0, EVIL: 1}, 4))
    assert re.findall(r'title="(\w+ \d)" style="width:([\d.]+)%', page) == [
        ("complete 2", "50.00"),
        ("failed 1", "25.00"),
    ]
    assert texts(page) == []


def test_every_style_of_a_terminal_is_known():
    assert set(notebook._STYLES) == set(STYLES) - {""}
