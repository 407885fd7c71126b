"""Views: the registry, what stands on a line, what stays whole, what is the same with rich and without."""

from __future__ import annotations

import importlib
import io
import sys

import pytest

from hpc_agent.cli import output
from hpc_agent.cli.confirm import NEVER_ASKED, PLANNERS
from hpc_agent.contract.catalogue import load_catalogue
from hpc_agent.view.terminal import words
from hpc_agent.view.terminal.blocks import Bar, Cell, Column, Facts, Gap, Line, Para, Raw, Table, Title
from hpc_agent.view.terminal.layout import as_shown, clean, lines_of
from hpc_agent.view.terminal.paint import paint, speaks_utf8
from hpc_agent.view.terminal.places import STAGES
from hpc_agent.view.terminal.views import VIEWS, failure, success, view_of

CATALOGUE = load_catalogue()
COMMAND = (
    "hpc-agent submit --cluster local --executor 'python3 executors/a_long_name_of_a_script.py --horizon 5 --start now'"
)


def text_of(blocks, width=80):
    return ["".join(cell.text for cell in line) for line in lines_of(blocks, width)]


def test_every_view_is_of_a_verb_and_is_there():
    assert set(VIEWS) - set(CATALOGUE) == set()
    assert all(callable(view_of(verb)) for verb in CATALOGUE)


def test_every_verb_that_submits_is_asked_or_says_why_not():
    submitting = {verb for verb, entry in CATALOGUE.items() if "submit" in entry.effects}
    assert set(PLANNERS) <= submitting
    assert set(NEVER_ASKED) <= submitting
    assert not set(PLANNERS) & set(NEVER_ASKED)


def test_a_view_imports_no_terminal():
    for module in {path.partition(":")[0] for path in VIEWS.values()}:
        source = importlib.import_module(f"hpc_agent.view.terminal.{module}").__file__
        with open(source, encoding="utf-8") as file:
            text = file.read()
        assert "rich" not in text
        assert "sys.stdout" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_ids_paths_and_commands_stay_whole(width):
    run_id = "a-run-with-a-rather-long-name-" + "x" * 30
    blocks = [
        Title([run_id, " on a cluster: ", Cell("failed", "bad")]),
        Para(f"Run '{COMMAND.replace(chr(39), '')}' or look at {run_id}."),
        Facts([("run", run_id), ("command", Cell(COMMAND, whole=True))]),
        Line(COMMAND, 2),
        Table([Column("run"), Column("reason", wraps=True)], [[run_id, "it waits for free nodes, cores or memory"]]),
    ]
    lines = text_of(blocks, width)
    assert sum(line.count(run_id) for line in lines) == 4
    assert sum(COMMAND in line for line in lines) == 2
    assert sum(COMMAND.replace("'", "") in line for line in lines) == 1
    for line in lines:
        assert len(line) <= width or run_id in line or "hpc-agent submit" in line


def test_a_table_that_fits_is_aligned_and_one_that_does_not_is_stacked():
    table = Table([Column("name"), Column("tasks", right=True)], [["a", "5"], ["longer", "12,000"]])
    assert text_of([table]) == ["name     tasks", "a            5", "longer  12,000"]
    assert text_of([Table(table.columns, [["x" * 38, "5"]])], 40) == [f"name   {'x' * 38}", "tasks  5"]


def test_text_is_broken_between_words_and_columns_of_sentences_grow_narrower():
    table = Table(
        [Column("n", right=True), Column("reason", wraps=True)], [["7", "a sentence that goes on and on and on " * 2]]
    )
    lines = text_of([table], 40)
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines[1:]).split()).startswith("7 a sentence that goes on and on and on a sentence")


def test_wide_letters_count_twice():
    assert text_of([Table([Column("a"), Column("b")], [["漢字", "x"], ["abcd", "y"]])])[1:] == ["漢字  x", "abcd  y"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("10%\r50%\r100%\n", "100%"),
        ("a\r\nb\r\n", "a\nb"),
        ("title\x1b]0;gone\x07", "title"),
        ("bell\x07 and \x00nul", "bell and nul"),
        ("a\tb", "a       b"),
    ],
)
def test_a_log_is_shown_and_not_obeyed(written, shown):
    assert as_shown(written) == shown
    assert "\x1b" not in clean(written)


def test_a_bar_has_every_state_that_has_a_task():
    (line,) = lines_of([Bar({"complete": 100_000, "failed": 1}, 100_002)], 80)
    assert [cell.style for cell in line] == ["good", "bad", "dim"]
    assert sum(len(cell.text) for cell in line) == 79
    assert lines_of([Bar({}, 0)], 80) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0234, "0.023 s"),
        (48.2, "48 s"),
        (119, "1 min 59 s"),
        (7200, "2 h"),
        (12000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(value, text):
    assert words.duration(value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("mem_mb", 1536, "1.5 GiB"),
        ("bytes", 54892, "54 KiB"),
        ("walltime_sec", 14400, "4 h"),
        ("force", True, "yes"),
        ("params", {"x": 0.5, "model": "ridge", "none": None}, "x=0.5, model=ridge"),
        ("values", [1, 2.5], "1, 2.5"),
        ("created_at", None, "-"),
    ],
)
def test_values_have_the_unit_that_their_name_tells(name, value, text):
    assert words.named(name, value) == text


def test_an_error_is_what_happened_and_what_to_type():
    answer = {
        "ok": False,
        "error_code": "run_not_found",
        "message": "no run 'x' is known",
        "remediation": "Run 'hpc-agent list-in-flight --all-states' to see the runs.",
        "field": "run_id",
        "details": {"known": ["a"]},
    }
    assert text_of(failure(answer)) == [
        "Error:   no run 'x' is known (run_not_found, run_id)",
        "Remedy:  Run 'hpc-agent list-in-flight --all-states' to see the runs.",
    ]


def test_the_evidence_is_shown_where_the_remedy_speaks_of_it():
    finding = {"severity": "error", "code": "c", "message": "task 3 has no x", "suggested_fix": "Give it one."}
    answer = {
        "ok": False,
        "error_code": "needs_resolution",
        "message": "m",
        "remediation": "Read 'details'.",
        "details": {"findings": [finding], "log_tail": "\n".join(map(str, range(50))), "other": 5},
    }
    lines = text_of(failure(answer))
    assert "error: task 3 has no x (c)" in lines
    assert "  Remedy: Give it one." in lines
    assert "  49" in lines
    assert "  30" not in lines
    assert "other  5" in lines


def test_an_answer_of_any_shape_is_no_json():
    data = {
        "run_id": "r-1",
        "count": 3,
        "empty": [],
        "nested": {"deep": {"deeper": {"deepest": {"x": [1, {"y": None}]}}}},
        "rows": [{"name": "a", "walltime_sec": 60, "many": {"p": 1}}, {"name": "b", "walltime_sec": 5}],
        "records": {"a": {"n": 1}, "b": {"n": 2}},
        "text": "two\nlines",
        "next_step": "hpc-agent status --run-id r-1",
    }
    lines = text_of(success("export-crate", {"ok": True, "data": data}))
    joined = "\n".join(lines)
    assert lines[0] == "r-1"
    assert not set('{}"') & set(joined)
    assert "  name  walltime  many" in lines
    assert "  a         60 s  p=1" in lines
    assert lines[-2:] == ["Next:", "  hpc-agent status --run-id r-1"]


def test_the_best_rows_come_first_where_all_rows_are_here():
    shown = {"columns": ["model", "year", "acc"], "rows": [["a", 2020, 0.5], ["b", 2021, 0.75], ["c", 2022, 0.625]]}
    data = {**shown, "run_id": "r", "complete": True, "total_tasks": 3, "included_tasks": 3, "row_count": 3}
    lines = text_of(success("aggregate", {"ok": True, "data": data}))
    assert lines[2:] == [
        "3 rows, highest acc first",
        "model  year    acc",
        "b      2021  0.75",
        "c      2022  0.625",
        "a      2020  0.5",
    ]
    part = text_of(success("aggregate", {"ok": True, "data": {**data, "row_count": 9}}))
    assert part[2] == "9 rows, the first 3 are here"
    assert part[4].startswith("a ")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


BLOCKS = [
    Title(["run: ", Cell("failed", "bad")]),
    Gap(),
    Table([Column("[bold]name"), Column("n", right=True)], [["[red]x", Cell("5", "good")]]),
    Raw("a [log] :smile: line"),
    Bar({"complete": 1, "failed": 1}, 3),
]


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_the_same_words_with_rich_and_without(monkeypatch, env):
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    lines = lines_of(BLOCKS, 60)
    for name, value in {"TERM": "xterm-256color", **env}.items():
        monkeypatch.setenv(name, value)
    coloured, plain = Terminal(), Terminal()
    paint(lines, coloured)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    paint(lines, plain)
    assert as_shown(coloured.getvalue()) == plain.getvalue().rstrip("\n")
    assert "\x1b[3" not in coloured.getvalue(), "no colour was asked for"
    assert "[red]x" in plain.getvalue()


def test_colours_where_they_are_wanted(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    paint(lines_of(BLOCKS, 60), stream)
    assert "\x1b[31m" in stream.getvalue()


def test_plain_letters():
    stream = Terminal()
    paint(lines_of([Bar({"complete": 2, "unknown": 1}, 4)], 41), stream, plain_letters=True)
    assert as_shown(stream.getvalue()).isascii()


@pytest.mark.parametrize(
    ("env", "spoken"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "en_US.utf8"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C"}, False),
        ({}, False),
        ({"LANG": "de_DE.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
    ],
)
def test_the_locale(env, spoken):
    assert speaks_utf8(env) is spoken


def test_an_answer_that_its_view_does_not_know_is_shown_all_the_same(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    line = b'{"ok": true, "idempotent": false, "data": {"run_id": "r-1", "odd": 5, "next_step": "hpc-agent status"}}'
    output.show(line, "submit", {})
    assert capsys.readouterr().out == "r-1\nodd  5\n\nNext:\n  hpc-agent status\n"


def test_every_stage_of_verbs_has_its_place():
    assert {entry.stage for entry in CATALOGUE.values()} <= set(STAGES)


def test_the_sentence_over_the_table_of_the_demo_is_wrapped_at_words():
    data = {"run_id": "demo-1", "columns": ["alpha"], "rows": [[0.1]], "table_csv": "/r/table.csv"}
    assert max(map(len, text_of(view_of("demo")(data), 40))) <= 40
