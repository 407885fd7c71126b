"""A metric is exact, or it is named: what tools write into JSON and CSV files, and what becomes of each."""

import json
import os

import pytest

from hpc_agent.node.job.metrics import MAX_VALUES, Metrics, read
from hpc_agent.node.shared.metric_problems import COUNTED_AS_NAN, PLAIN_TEXT, MetricProblems


def taken(tmp_path, text, name="metrics.json"):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(data)
    return read(str(tmp_path), name)


def left_out(found):
    return {entry["field"]: entry["message"] for entry in found.left_out}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1, "b": {"c": 2.5, "d": {"e": -0.0}}, "f": [1, 2]}', {"a": 1, "b.c": 2.5, "b.d.e": -0.0, "f": [1, 2]}),
        ('{"a": NaN, "b": [Infinity, -Infinity, 1], "c": "NaN"}', {"a": "nan", "b": ["inf", "-inf", 1], "c": "nan"}),
        ('{"big": 9007199254740993, "written": 9007199254740993.0}', {"big": 2**53 + 1, "written": 2**53 + 1}),
        ("\ufeff" + '{"a": 1e-3}', {"a": 1e-3}),
        ("{}", {}),
    ],
)
def test_json_that_is_taken_as_it_is(tmp_path, text, values):
    assert taken(tmp_path, text) == Metrics(values)


@pytest.mark.parametrize(
    ("value", "kept", "message"),
    [
        ('"0.8729"', None, "without quotes"),
        ('"0,8729"', None, "decimal comma"),
        ('"1 234"', None, "separator of digits"),
        ('"1_000"', None, "separator of digits"),
        ('"12.5 ms"', None, "unit"),
        ('"<0.001"', None, "begins as a number"),
        ('"-1.#IND"', None, "begins as a number"),
        ('"tensor(0.5)"', None, PLAIN_TEXT),
        ('"diverged"', None, PLAIN_TEXT),
        ("true", None, "true or false"),
        ("null", "nan", COUNTED_AS_NAN),
        ("[2.0, null, 1.0]", [2.0, "nan", 1.0], COUNTED_AS_NAN),
        ('[2.0, "0.5"]', None, "a list with text that begins"),
        ("[1, true]", None, "a list with true or false"),
        ("[[5, 1], [2, 7]]", None, "a list with a nested list"),
        ('[{"epoch": 1}]', None, "a list with a nested list or object"),
        ("[]", None, "an empty list"),
        (json.dumps([0] * (MAX_VALUES + 1)), None, "more than 10000 values"),
    ],
)
def test_json_that_is_named(tmp_path, value, kept, message):
    found = taken(tmp_path, f'{{"x": {value}, "y": 1}}')
    assert found.values == ({"y": 1} if kept is None else {"x": kept, "y": 1})
    (field,) = left_out(found)
    assert field == "x"
    assert message in left_out(found)["x"]


@pytest.mark.parametrize("text", ['{"val": {"loss": 1.0}, "val.loss": 2.0}', '{"val": {"loss": 1, "loss": 1}}'])
def test_of_two_values_with_one_name_neither_is_taken(tmp_path, text):
    found = taken(tmp_path, text)
    assert (found.values, left_out(found)) == ({}, {"val.loss": "left out: the name occurs 2 times"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('{"a": 1}\n{"a": 2}\n', "more than one JSON document"),
        ("[1, 2]", "a JSON object"),
        ("0.5", "a JSON object"),
        ('{"a": 1', "cannot be read"),
        ('{"a": 0,5}', "cannot be read"),
        ('{"a": 1}'.encode("utf-16"), "cannot be read"),
        ("[" * 100000, "cannot be read"),
    ],
)
def test_json_files_that_are_told_as_a_whole(tmp_path, text, said):
    found = taken(tmp_path, text)
    assert not found.values
    assert said in found.problem


def test_many_names_are_counted(tmp_path):
    found = taken(tmp_path, json.dumps({f"t{k}": "text" for k in range(150)} | {"x": "0.5"}))
    assert len(found.left_out) == 101
    assert (found.left_out[0]["field"], found.left_out[-1]["message"]) == ("x", "and 51 more fields")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("loss,acc\n0.5,9\n", {"loss": 0.5, "acc": 9}),
        ("\ufeffloss;acc\r\n0.5;1\r\n\r\n0.25;2\r\n", {"loss": [0.5, 0.25], "acc": [1, 2]}),
        ("loss\tacc\n.5\t1e3\n", {"loss": 0.5, "acc": 1000.0}),
        ("loss, acc,\n 0.5, 1,\n", {"loss": 0.5, "acc": 1}),
        ("a\nnan\n-inf\nInfinity\nInf\n", {"a": ["nan", "-inf", "inf", "inf"]}),
        ("n\n9007199254740993\n9007199254740993.0\n", {"n": [2**53 + 1, 2**53 + 1]}),
        ('"a ""b"", c",d\n"1",2\n', {'a "b", c': 1, "d": 2}),
        ("loss\n0.5", {"loss": 0.5}),
    ],
)
def test_csv_that_is_taken_as_it_is(tmp_path, text, values):
    assert taken(tmp_path, text, "m.csv") == Metrics(values)
    assert taken(tmp_path, text, "m.TSV") == Metrics(values)


@pytest.mark.parametrize(
    ("text", "values", "messages"),
    [
        ('"rmse";"mae"\n0,512;3,5\n', {}, {"rmse": "decimal comma", "mae": "decimal comma"}),
        ('rmse,n\n"1,234",1\n', {"n": 1}, {"rmse": "separator"}),
        ("rmse,n\n1.5,1\n1_000,2\n", {"n": [1, 2]}, {"rmse": "separator"}),
        ("rmse,n\n12.5ms,1\n", {"n": 1}, {"rmse": "unit"}),
        ("rmse,n\n87%,1\n", {"n": 1}, {"rmse": "unit"}),
        ("rmse,n\n1.0D+00,1\n", {"n": 1}, {"rmse": "begins as a number"}),
        ("rmse,n\n0x1p3,1\n", {"n": 1}, {"rmse": "begins as a number"}),
        ("rmse,n\n\u0661\u0662,1\n", {"n": 1}, {"rmse": PLAIN_TEXT}),
        ("rmse,n\nTRUE,1\n", {"n": 1}, {"rmse": "true or false"}),
        ("rmse,n\n0.5,1\nNA,2\n", {"rmse": [0.5, "nan"], "n": [1, 2]}, {"rmse": COUNTED_AS_NAN}),
        ("rmse,n\n,1\n", {"rmse": "nan", "n": 1}, {"rmse": COUNTED_AS_NAN}),
        ("rmse,n\ndiverged,1\n0.5,2\n", {"rmse": ["nan", 0.5], "n": [1, 2]}, {"rmse": COUNTED_AS_NAN}),
        ("model,n\nresnet,1\n", {"n": 1}, {"model": PLAIN_TEXT}),
        ("rmse,rmse,n\n1,2,3\n", {"n": 3}, {"rmse": "occurs 2 times"}),
        (",rmse\n0,0.5\n", {"rmse": 0.5}, {"column 1": "name"}),
        ("0.5,0.7\n0.6,0.8\n", {}, {"0.5": "header line missing", "0.7": "header line missing"}),
        ("loss acc\n0.5 0.9\n", {}, {"loss acc": "separator"}),
    ],
)
def test_csv_that_is_named(tmp_path, text, values, messages):
    found = taken(tmp_path, text, "m.csv")
    assert found.values == values
    assert left_out(found).keys() == messages.keys()
    for field, message in messages.items():
        assert message in left_out(found)[field]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tick,time_ms\n1,174,166101\n", "line 2 has 3 fields, the header has 2"),
        ("rmse\n0,512\n", "line 2 has 2 fields, the header has 1 (a decimal comma?)"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields"),
        ("loss,acc\n", "header line and rows"),
        ("0.5\n", "header line and rows"),
        ("", "is empty"),
        ('a,b\n1,"2\n', "cannot be read"),
        ("a\n" + "1\n" * (MAX_VALUES + 1), "more than 10000 rows"),
    ],
)
def test_csv_files_that_are_told_as_a_whole(tmp_path, text, said):
    found = taken(tmp_path, text, "m.csv")
    assert (found.values, found.left_out) == ({}, [])
    assert said in found.problem


def test_a_file_that_is_there_is_never_told_as_not_written(tmp_path):
    assert read(str(tmp_path), None) == Metrics()
    assert "wrote no m.json" in read(str(tmp_path), "m.json").problem
    assert "wrote no" in read(str(tmp_path), "deeper/m.json").problem
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "round").symlink_to("round")
    for name, said in (("folder", "no regular file"), ("pipe", "no regular file"), ("nowhere", "is there but cannot be opened"),
                       ("round", "is there but cannot be opened")):  # fmt: skip
        assert said in read(str(tmp_path), name).problem


def test_equal_problems_are_one_entry_with_all_their_tasks():
    problems = MetricProblems()
    for task in range(3):
        problems.add([task], PLAIN_TEXT, "note", f"n{task}")
    problems.add([7], "the file cannot be read")
    problems.add([5], "left out: unit", "ms", "5 ms")
    again = MetricProblems()
    again.merge(problems.to_json()[::-1])
    assert again.to_json() == problems.to_json() == [
        {"task": 5, "field": "ms", "message": "left out: unit", "value": "5 ms", "count": 1, "tasks": "5"},
        {"task": 7, "message": "the file cannot be read", "count": 1, "tasks": "7"},
        {"task": 0, "field": "note", "message": PLAIN_TEXT, "value": "n0", "count": 3, "tasks": "0-2"},
    ]  # fmt: skip
