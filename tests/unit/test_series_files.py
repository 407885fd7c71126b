"""Rows of tasks joined into one file: equal to the whole, halo rows once, gaps told."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc_agent.node.fold.series import Part, _name, _Parameters, _Series
from hpc_agent.node.fold.series_files import FORMATS, Joined, row_count
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.run_folder import RunFolder

KINDS = (".csv", ".jsonl", ".json", ".npy", ".txt")


def write(path: Path, values: list[float]) -> None:
    kind = path.suffix
    if kind == ".npy":
        np.save(path, np.array(values, dtype="float64").reshape(len(values), 1))
    elif kind == ".json":
        path.write_text(json.dumps({"v": values}))
    elif kind == ".csv":
        with path.open("w", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(["v", "note"])
            rows.writerows([value, f'a "quoted"\nnote, {value}'] for value in values)
    else:
        path.write_text("\n".join(map(repr, values)))  # the last line has no newline


def read(path: Path) -> list[float]:
    kind = path.suffix
    if kind == ".npy":
        return [float(row[0]) for row in np.load(path)]
    if kind == ".json":
        return list(json.loads(path.read_text())["v"])
    if kind == ".csv":
        with path.open(newline="") as handle:
            return [float(row["v"]) for row in csv.DictReader(handle)]
    return [float(line) for line in path.read_text().split()]


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_joined_rows_are_the_whole_but_for_the_gaps(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("rows")
    kind = data.draw(st.sampled_from(KINDS))
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    halo, ahead = data.draw(st.integers(0, 8)), data.draw(st.integers(0, 3))
    total = sum(lengths)
    parts, missing, start = [], set(), 0
    for task, length in enumerate(lengths):
        end = start + length
        path = folder / f"{task}{kind}"
        if data.draw(st.sampled_from(["whole", "whole", "whole", "failed"])) == "failed":
            missing.update(range(start, end))
            parts.append(Part(start, end, task, halo, ahead, "", "failed"))
        else:
            trimmed = data.draw(st.booleans())
            first, last = (start, end) if trimmed else (max(0, start - halo), min(total, end + ahead))
            write(path, [row / 8 for row in range(first, last)])
            parts.append(Part(start, end, task, halo, ahead, str(path)))
        start = end
    facts = _Series(str(folder), "all", kind, data.draw(st.permutations(parts))).join(False)
    there = [row / 8 for row in range(total) if row not in missing]
    assert (facts["rows"], facts["length"]) == (len(there), total)
    assert [row / 8 for start, end in facts["segments"] for row in range(start, end)] == there
    told = {row for gap in facts["gaps"] for span in gap["rows"].split(",") for row in _numbers(span)}
    assert told == missing
    if there:
        assert read(folder / facts["file"]) == there
        assert facts["file"] == ("all.partial" if missing else "all") + kind
        again = _Series(str(folder), "all", kind, parts).join(False)
        assert again == {**facts, "fresh": False}
    else:
        assert facts["file"] == ""


def _numbers(span: str) -> range:
    first, _, last = span.partition("-")
    return range(int(first), int(last or first) + 1)


def test_a_file_of_the_wrong_length_and_rows_twice_are_gaps_with_their_reason(tmp_path):
    for name, rows in (("0", 4), ("1", 3), ("2", 4), ("3", 4)):
        write(tmp_path / f"{name}.csv", [0.0] * rows)
    spans = [(0, 4), (4, 8), (6, 10), (12, 16)]
    parts = [Part(*span, task, 0, 0, str(tmp_path / f"{task}.csv")) for task, span in enumerate(spans)]
    facts = _Series(str(tmp_path), "all", ".csv", parts).join(False)
    assert facts["gaps"] == [
        {"why": "1.csv: it has 3 rows, and the task 4", "rows": "4-7", "tasks": "1"},
        {"why": "rows that an earlier task gave too", "rows": "8-9", "tasks": "2"},
        {"why": "no task has these rows", "rows": "10-11", "tasks": ""},
    ]
    assert (facts["segments"], facts["file"]) == ([[0, 4], [12, 16]], "all.partial.csv")


def test_a_series_that_becomes_whole_has_one_file(tmp_path):
    write(tmp_path / "0.txt", [1.0])
    write(tmp_path / "1.txt", [2.0])
    first = Part(0, 1, 0, 0, 0, str(tmp_path / "0.txt"))
    lost = Part(1, 2, 1, 0, 0, "", "failed")
    assert _Series(str(tmp_path), "all", ".txt", [first, lost]).join(False)["file"] == "all.partial.txt"
    whole = [first, lost._replace(path=str(tmp_path / "1.txt"), why="")]
    more = _Series(str(tmp_path), "all", ".txt", whole).join(True)
    assert more["file"] == "all.partial.txt", "other tasks may have rows after these"
    assert _Series(str(tmp_path), "all", ".txt", whole).join(False)["file"] == "all.txt"
    assert sorted(path.name for path in tmp_path.glob("all*")) == ["all.parts.json", "all.txt"]


def test_parts_of_other_columns_or_types_are_refused_by_task(tmp_path):
    (tmp_path / "0.csv").write_text("a,b\n1,2\n")
    (tmp_path / "1.csv").write_text("b,a\n1,2\n")
    parts = [Part(task, task + 1, task, 0, 0, str(tmp_path / f"{task}.csv")) for task in (0, 1)]
    with pytest.raises(NodeError, match=r"task 1 do not fit: its columns are b,a, and those of the parts before a,b"):
        _Series(str(tmp_path), "all", ".csv", parts).join(False)
    assert not list(tmp_path.glob("all*"))
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="no array of rows"):
        row_count(str(tmp_path / "x.npy"))
    (tmp_path / "torn.csv").write_text('a\n"1\n')
    with pytest.raises(ValueError, match="does not end"):
        row_count(str(tmp_path / "torn.csv"))
    (tmp_path / "folded.json").write_text('{"cumulative": "sum", "terms": [[1.0]], "figure": ""}')
    with pytest.raises(ValueError, match=r"series\.join folds"):
        row_count(str(tmp_path / "folded.json"))
    (tmp_path / "uneven.json").write_text('{"a": [1], "b": []}')
    with pytest.raises(ValueError, match="neither a list"):
        row_count(str(tmp_path / "uneven.json"))


def test_npy_keeps_type_and_shape(tmp_path):
    parts = [np.arange(12, dtype="int16").reshape(3, 2, 2), np.arange(12, 20, dtype="int16").reshape(2, 2, 2)]
    joined = Joined(str(tmp_path / "all.npy"), 5)
    for number, part in enumerate(parts):
        np.save(tmp_path / f"{number}.npy", part)
        joined.append(str(tmp_path / f"{number}.npy"), 0, len(part))
    joined.close()
    found = np.load(tmp_path / "all.npy")
    assert found.dtype == np.int16
    assert np.array_equal(found, np.concatenate(parts))


def test_names_of_series_differ():
    taken: set[str] = set()
    names = [_name(parameters, taken) for parameters in ({"a": 1}, {"a": "1/"}, {"a": "1_"}, {}, {"a": "x" * 300})]
    assert len(set(names)) == 5
    assert names[0] == "a=1"
    assert max(map(len, names)) <= 100
    assert ".csv" in FORMATS


@pytest.mark.parametrize(
    "kind", ["<f8", "<U5", "S3", "<M8[ns]", "?", [("a", "<i4"), ("b", "<f8", (2,))], [("x", [("y", "<i2")])]]
)
def test_an_array_that_is_not_as_long_as_its_header_says_is_no_part(tmp_path, kind):
    rows = np.zeros((6, 2), dtype=kind)
    part, whole = tmp_path / "part.npy", tmp_path / "whole.npy"
    np.save(part, rows)
    assert row_count(str(part)) == 6
    joined = Joined(str(whole), 4)
    joined.append(str(part), 1, 4)
    joined.close()
    assert np.load(whole).tobytes() == rows[1:5].tobytes()
    data = part.read_bytes()
    for cut in (data[:-6], data[: len(data) // 2 + 64], data + b"0"):
        part.write_bytes(cut)
        with pytest.raises(ValueError, match="not as long"):
            row_count(str(part))


def test_a_tasks_py_that_cannot_be_imported_is_tried_once(tmp_path):
    folder = RunFolder(str(tmp_path))
    Path(folder.work, ".hpc").mkdir(parents=True)
    Path(folder.work, ".hpc", "tasks.py").write_text(
        f"open({str(tmp_path / 'tried')!r}, 'a').write('x'); import nowhere"
    )
    Path(folder.digests).write_bytes(bytes(12))
    parameters = _Parameters(folder)
    assert [parameters.of(task) for task in range(3)] == [None] * 3
    assert (tmp_path / "tried").read_text() == "x"
