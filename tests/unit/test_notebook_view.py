"""How a result displays itself in a notebook."""

from __future__ import annotations

import re
from typing import Any

from hpc_agent.contract.primitive import PartialError, Result
from hpc_agent.view.notebook import ROWS_SHOWN, html


class Row(Result):
    name: str
    host: str = ""


class Sample(Result):
    run_id: str
    failed: int = 0
    checked_at: float | None = None
    last_status: dict[str, Any] = {}
    clusters: list[Row] = []
    plan: dict[str, Any] = {}
    columns: list[str] = []
    rows: list[list[Any]] = []
    job_ids: list[str] = []
    notes: list[str] = []
    next_step: str = ""


def texts(result: Result) -> list[str]:
    return [text for text in re.findall(r">([^<]*)<", result._repr_html_()) if text]


def test_nothing_of_a_result_is_taken_for_html():
    evil = "<script>alert('x')</script>&"
    result = Sample(
        run_id=evil, last_status={evil: 1}, clusters=[Row(name=evil)], columns=[evil], rows=[[evil]], notes=[evil],
        plan={"a": {evil: [evil, {evil: 1}]}}, job_ids=[evil],
    )  # fmt: skip
    assert "<script" not in html(result)
    assert html(result).count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;") >= 8


def test_what_is_empty_or_a_default_is_left_out():
    assert texts(Sample(run_id="r1")) == ["run_id", "r1"]
    status = {"complete": 3, "failed": 0, "checked_at": 1767225600.0, "done": False}
    shown = texts(Sample(run_id="r1", failed=2, last_status=status, job_ids=["1", "2"]))
    assert shown == [
        "run_id", "r1", "failed", "2", "last_status", "complete 3, checked_at 2026-01-01 00:00:00 UTC", "job_ids", "1, 2",
    ]  # fmt: skip


def test_rows_come_first_and_lists_are_tables():
    result = Sample(
        run_id="r1", columns=["lr", "loss"], rows=[[0.1, 0.123456789], [1, None]], next_step="hpc-agent status",
        clusters=[Row(name="a"), Row(name="b", host="h")], partial_errors=[PartialError("qstat", "away")],
    )  # fmt: skip
    assert texts(result) == [
        "lr", "loss", "0.1", "0.123457", "1", "run_id", "r1", "clusters", "name", "host", "a", "b", "h",
        "partial_errors", "code", "detail", "qstat", "away", "next_step", "hpc-agent status",
    ]  # fmt: skip


def test_objects_by_name_are_a_table_and_other_objects_are_facts():
    shown = texts(Sample(run_id="r", plan={"waves": {"0": {"complete": 1}, "1": {"complete": 2}}, "pack": 1}))
    assert shown == ["run_id", "r", "plan", "waves", "0: complete 1\n1: complete 2", "pack", "1"]
    shown = texts(Sample(run_id="r", plan={"a0": {"job": "7"}, "a1": {"job": "8"}}))
    assert shown == ["run_id", "r", "plan", "job", "a0", "7", "a1", "8"]


def test_a_long_list_is_cut_and_says_so():
    rows = [[n] for n in range(ROWS_SHOWN + 7)]
    result = Sample(run_id="r1", columns=["n"], rows=rows, job_ids=list(map(str, range(100))), notes=["x" * 1000])
    assert "and 7 more" in texts(result)
    assert any(text.endswith("19, and 80 more") for text in texts(result))
    assert max(map(len, texts(result))) < 400
