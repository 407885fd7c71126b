"""What makes a run: hashes of declared inputs, git's state, the interpreter of a command; and how two runs are compared."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.git_state import git_state
from hpc_agent.node.job import environment, packages
from hpc_agent.node.look import provenance
from hpc_agent.node.look.inputs import inputs_now
from hpc_agent.node.shared import input_hashes
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.input_hashes import Place, hash_input, hash_inputs, place
from hpc_agent.node.shared.run_folder import run_folder
from hpc_agent.ops.provenance import crate
from hpc_agent.ops.provenance.row_differences import compare_rows
from hpc_agent.ops.provenance.story import Event, _git, _shortened
from hpc_agent.ops.provenance.verify import _code, _environment
from hpc_agent.ops.run.declared_inputs import changes, hash_declared, notes_of
from hpc_agent.state.runs import sidecar_of


def hashed(folder: Path, declared: str, known: dict | None = None) -> dict:
    known = {} if known is None else known
    return hash_input(Place(declared, f"{folder}/{declared}", f"{folder}/"), known, known)


class TestInputs:
    def test_file_folder_and_pattern(self, tmp_path):
        for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.txt"):
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        assert hashed(tmp_path, "data/a.csv")["listed"].keys() == {"data/a.csv"}
        assert hashed(tmp_path, "data/*.csv")["files"] == 2
        assert hashed(tmp_path, "data/**/*.csv")["files"] == 3
        assert (whole := hashed(tmp_path, "data"))["files"] == 4
        assert whole["bytes"] == sum(len(name) for name in ("a.csv", "b.csv", "deep/c.csv", "deep/d.txt"))
        with pytest.raises(ValueError, match=r"nothing\* names no file"):
            hashed(tmp_path, "nothing*")

    def test_a_linked_folder_below_is_data_too_and_a_circle_ends(self, tmp_path):
        for folder in ("data/deep", "far"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "far" / "x").write_text("1")
        (tmp_path / "data" / "link").symlink_to(tmp_path / "far")
        (tmp_path / "data" / "deep" / "up").symlink_to(tmp_path / "data")
        first = hashed(tmp_path, "data")
        assert first["listed"].keys() == {"data/link/x"}
        (tmp_path / "far" / "x").write_text("22")
        assert hashed(tmp_path, "data")["sha256"] != first["sha256"]

    def test_a_folder_that_cannot_be_read_is_no_empty_one(self, tmp_path, monkeypatch):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "x").write_text("1")
        real = os.scandir
        monkeypatch.setattr(
            os, "scandir", lambda path: real(path + "/denied") if str(path).endswith("/data") else real(path)
        )
        with pytest.raises(ValueError, match="data/denied cannot be read"):
            hashed(tmp_path, "data")

    def test_the_hash_is_of_names_and_content_not_of_the_place(self, tmp_path):
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "x").write_text("1")
        first, second = (hashed(tmp_path / folder, "x") for folder in ("one", "two"))
        assert first["sha256"] == second["sha256"]
        (tmp_path / "two" / "x").rename(tmp_path / "two" / "y")
        assert hashed(tmp_path / "two", "y")["sha256"] != first["sha256"]

    def test_a_known_hash_is_used_until_the_file_changes(self, tmp_path, monkeypatch):
        (tmp_path / "x").write_text("1")
        known: dict = {}
        first = hashed(tmp_path, "x", known)
        with monkeypatch.context() as patched:
            patched.setattr(input_hashes, "hash_file", lambda *_: pytest.fail("read again"))
            assert hashed(tmp_path, "x", known) == first
        (tmp_path / "x").write_text("2")
        os.utime(tmp_path / "x", (1, 1))
        assert hashed(tmp_path, "x", known)["sha256"] != first["sha256"]

    def test_a_large_file_is_sampled_and_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(input_hashes, "WHOLE_BYTES", 1000)
        monkeypatch.setattr(input_hashes, "SAMPLES", 4)
        monkeypatch.setattr(input_hashes, "SAMPLE_BYTES", 10)
        data = bytearray(2000)
        (tmp_path / "x").write_bytes(data)
        first = hashed(tmp_path, "x")
        assert first["sampled"] == 1
        assert "1 of 1 files of x" in notes_of([first], {}, {"x": False})[0]
        for at, seen in ((0, True), (1999, True), (100, False)):  # between two samples a change is not seen
            changed = bytearray(data)
            changed[at] = 1
            (tmp_path / "x").write_bytes(changed)
            assert (hashed(tmp_path, "x")["sha256"] != first["sha256"]) is seen
        (tmp_path / "x").write_bytes(data + b"\0")
        assert hashed(tmp_path, "x")["sha256"] != first["sha256"]

    def test_the_cache_is_bounded_and_never_the_truth(self, tmp_path, monkeypatch):
        cache = tmp_path / "cache" / "inputs.json"
        for number in range(4):
            (tmp_path / str(number)).write_text(str(number))
        places = [Place(name, f"{tmp_path}/{name}") for name in "0123"]
        first = hash_inputs(places, str(cache))
        for torn in ("", "[1", "[]", "3", "{}"):
            cache.write_text(torn)
            assert hash_inputs(places, str(cache)) == first
        monkeypatch.setattr(input_hashes, "MOST_KNOWN", 3)
        (tmp_path / "1").write_text("another")
        assert hash_inputs(places[1:2], str(cache)) != first[1:2]
        assert list(json.loads(cache.read_text())) == [f"{tmp_path}/1"]
        assert hash_inputs(places[2:], str(cache)) == first[2:]
        assert len(json.loads(cache.read_text())) == 3

    def test_files_of_earlier_runs_in_a_pushed_folder_are_no_change(self, tmp_path):
        root = tmp_path / "hpc-agent" / "repo"
        shared = root / "shared" / "data"
        shared.mkdir(parents=True)
        (shared / "x").write_text("1")
        run = {"shared": {"data": str(shared)}, "inputs": [hashed(root / "shared", "data")]}
        assert inputs_now(str(root), run) == (run["inputs"], [])
        (shared / "earlier").write_text("2")
        assert inputs_now(str(root), run) == (run["inputs"], [])
        (shared / "x").write_text("3")
        assert inputs_now(str(root), run)[1] == ["data changed (data/earlier, data/x)"]
        elsewhere = tmp_path / "data"
        shared.rename(elsewhere)
        (elsewhere / "x").write_text("1")
        run["shared"]["data"] = str(elsewhere)
        assert inputs_now(str(root), run)[1] == ["data changed (data/earlier)"], "data of one's own: every file counts"

    def test_bounds(self, tmp_path, monkeypatch):
        for number in range(3):
            (tmp_path / str(number)).write_text("12345")
        with monkeypatch.context() as patched:
            patched.setattr(input_hashes, "MOST_FILES", 2)
            with pytest.raises(ValueError, match="more than 2 files"):
                hashed(tmp_path, "*")
        monkeypatch.setattr(input_hashes, "MOST_BYTES", 12)
        with pytest.raises(ValueError, match="to read"):
            hashed(tmp_path, "*")

    def test_where_an_input_lies(self):
        shared = {"data": "/scratch/d[1]"}
        assert place("/abs/x", shared) == Place("/abs/x", "/abs/x")
        assert place("data/*.csv", shared) == Place("data/*.csv", "/scratch/d[[]1]/*.csv", "/scratch/d[1]", "data")
        assert place("data", shared).pattern == "/scratch/d[[]1]"
        assert place("database/x", shared) is None

    def test_an_input_does_not_leave_its_folder(self, tmp_path):
        for text in ("../x", "data/../../x"):
            with pytest.raises(SpecInvalid, match="may leave its folder"):
                hash_declared(mock.Mock(), tmp_path, [text], {"data": "/scratch/data"}, tmp_path / "cache")

    def test_changes_name_paths_and_files(self):
        def one(path: str, sha: str, **listed: list) -> dict:
            return {"path": path, "sha256": sha, "files": 1, "listed": listed}

        before = [one("a", "1", x=[1, "1"], y=[1, "2"]), one("b", "1")]
        assert changes(before, before) == []
        assert changes(before, [one("a", "2", x=[1, "1"], y=[1, "3"])]) == [
            "a changed (y)",
            "b is not declared any more",
        ]
        assert changes([], before)[0] == "a was not declared before"

    def test_an_input_that_no_task_gets_is_told(self):
        one = {"path": "x", "files": 1, "sampled": 0, "listed": {"x": [1, "1"]}}
        assert notes_of([one], {}, {"x": False}) == []
        assert "not among the pushed files" in notes_of([one], {}, {})[0]
        assert notes_of([one], {"x": None}, {}) == []  # shared: linked, not pushed with the tree


class TestGit:
    def test_no_repository_and_no_git(self, tmp_path):
        assert git_state(tmp_path, os.environ, [])["unknown"] == "the folder is in no git repository"
        assert git_state(tmp_path, {"PATH": "/nowhere"}, [])["unknown"] == "git is not installed here"

    def test_commit_and_changes(self, tmp_path):
        def git(*words: str) -> None:
            subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", "-C", tmp_path, *words], check=True)

        git("init", "-q")
        assert "no commit yet" in git_state(tmp_path, os.environ, [])["unknown"]
        part = tmp_path / "part"
        part.mkdir()
        for name in ("a.py", "b c.py"):
            (part / name).write_text("1")
        (tmp_path / "other.py").write_text("1")
        git("add", "-A")
        git("commit", "-qm", "x")
        clean = git_state(part, os.environ, ["a.py"])
        assert (clean["dirty"], clean["changed"], len(clean["commit"])) == (False, [], 40)
        (part / "b c.py").write_text("2")
        (part / "new.py").write_text("2")
        (part / "result.txt").write_text("2")  # is not pushed
        (tmp_path / "other.py").write_text("2")  # of another part of the repository
        seen = git_state(part, os.environ, ["a.py", "b c.py", "new.py"])
        assert (seen["dirty"], seen["changed"], seen["changed_count"]) == (True, ["b c.py", "new.py"], 2)

    def test_ignored_files_and_submodules(self, tmp_path):
        """A pushed file that git ignores is not in the commit; the files of a submodule are, by their own commit."""

        def git(folder, *words: str) -> None:
            options = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "protocol.file.allow=always"]
            subprocess.run(["git", *options, "-C", folder, *words], check=True)

        inner, outer = tmp_path / "inner", tmp_path / "outer"
        for folder in (inner, outer):
            folder.mkdir()
            git(folder, "init", "-q")
            (folder / ".gitignore").write_text("conf.py")
            git(folder, "add", "-A")
            git(folder, "commit", "-qm", "x")
        git(outer, "submodule", "-q", "add", str(inner), "sub")
        git(outer, "commit", "-qm", "sub")
        (outer / "conf.py").write_text("X = 1")
        assert not git_state(outer, os.environ, [".gitignore", "sub/.gitignore"])["dirty"]
        assert git_state(outer, os.environ, [".gitignore", "conf.py"])["changed"] == ["conf.py"]
        (outer / "sub" / ".gitignore").write_text("")
        assert git_state(outer, os.environ, [".gitignore"])["changed"] == ["sub"]


COMMANDS = {
    'python3 train.py --lr "$LR"': (["python3"], True),
    "cd src && FOO=1 .venv/bin/python x.py | tee y": ([".venv/bin/python"], True),
    "A=1;python3 x.py --a=b,c:d>z": (["python3"], True),
    "(cd a&&python3 x.py)": (["python3"], True),
    "conda run -n env python x.py": (["conda", "run", "-n", "env", "python"], True),
    '"$PY" x.py': (["/opt/x/bin/python3.9"], True),
    "srun python x.py": (["python"], True),
    "uv run train.py": (["uv", "run", "python"], True),
    "./tool.py --x 1": (["python3.8"], True),
    "bash run.sh": (["python3"], False),
    'echo "an open quote': (["python3"], False),
    "": (["python3"], False),
}


class TestEnvironment:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_interpreter_of_a_command(self, tmp_path, command):
        (tmp_path / "tool.py").write_text("#!/usr/bin/env python3.8\n")
        env = {"PATH": os.environ["PATH"], "PY": "/opt/x/bin/python3.9"}
        assert environment.interpreter_words(command, env, str(tmp_path)) == COMMANDS[command]

    def test_a_look_that_hangs_ends_with_its_children(self, tmp_path):
        begun = time.monotonic()
        with mock.patch.object(environment, "LOOK_SEC", 0.3), pytest.raises(NodeError, match="did not answer"):
            environment._output(["sh", "-c", "sleep 60 & wait"], dict(os.environ), str(tmp_path))
        assert time.monotonic() - begun < 20

    def test_packages_by_the_folders_beside_them(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        for path in (first / "numpy-1.26.4.dist-info", second / "numpy-2.0.dist-info", second / "My_Tool.egg-info"):
            path.mkdir(parents=True)
        (second / "six-1.16.0-py3.6.egg-info").write_text("Version: 1.16.0\n")
        (second / "My_Tool.egg-info" / "PKG-INFO").write_text("Metadata-Version: 1.0\nVersion: 3.1\n")
        found = packages.packages([str(first), str(second), str(tmp_path / "none")])
        assert found == {"numpy": "1.26.4", "six": "1.16.0", "my-tool": "3.1"}

    def test_packages_of_this_interpreter_are_those_of_importlib(self):
        from importlib import metadata

        known = {name.lower().replace("_", "-").replace(".", "-"): metadata.version(name)
                 for dist in metadata.distributions() if (name := dist.metadata["Name"])}  # fmt: skip
        source = Path(packages.__file__).read_text()
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["packages"] == known

    def test_one_element_looks_and_a_claim_of_a_killed_one_is_taken(self, tmp_path):
        claim = str(tmp_path / "environment.json.claim")
        assert environment._begin(claim)
        assert not environment._begin(claim)
        os.utime(claim, (1, 1))
        assert environment._begin(claim)
        assert not environment._begin(claim)


NUMBER = st.one_of(st.floats(), st.integers(-(10**20), 10**20)).map(
    lambda value: str(value) if isinstance(value, float) and not math.isfinite(value) else value
)
ROWS = st.dictionaries(
    st.integers(0, 20).map(str),
    st.dictionaries(st.sampled_from("abc"), st.one_of(NUMBER, st.lists(NUMBER, max_size=3))),
)


class TestRows:
    @given(ROWS)
    def test_a_run_equals_itself(self, metrics):
        rows = {task: ["complete", values, {"x": int(task)}] for task, values in metrics.items()}
        for by_number in (True, False):
            found = compare_rows(rows, rows, by_number, 0.0, 0.0)
            assert (found.rows_compared, found.rows_equal, found.difference_count) == (len(rows), len(rows), 0)

    @given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1), st.floats(0, 1e3))
    def test_tolerances_are_those_of_numpy(self, before, now, rtol, atol):
        rows = [{"0": ["complete", {"y": value}, {}]} for value in (before, now)]
        found = compare_rows(*rows, True, rtol, atol)
        assert (found.rows_different == 0) == (abs(now - before) <= atol + rtol * abs(before))
        assert (found.rows_equal == 1) == (before == now)

    def test_nan_equals_nan_and_no_number(self):
        def rows(value: object) -> dict:
            return {"0": ["complete", {"y": value}, {}]}

        assert compare_rows(rows("nan"), rows("nan"), True, 0, 0).rows_equal == 1
        for other in (1.0, "inf", "-inf"):
            assert compare_rows(rows("nan"), rows(other), True, 9e9, 9e9).rows_different == 1
        assert compare_rows(rows([1, 2]), rows([1]), True, 9, 9).rows_different == 1
        assert compare_rows(rows(1), {"0": ["complete", {}, {}]}, True, 9, 9).rows_different == 1

    def test_failed_and_missing_rows(self):
        good, bad = ["complete", {"y": 1}, {}], ["failed", None, {}]
        found = compare_rows({"0": good, "1": bad, "2": good}, {"0": bad, "1": bad, "3": good}, True, 0, 0)
        assert (found.rows_compared, found.rows_in_one, found.failed_in_both) == (0, 3, 1)
        assert found.differences[0] == {"what": "task 0", "task": 0, "before": "complete", "now": "failed"}

    def test_rows_of_other_numbers_are_matched_by_their_parameters(self):
        first = {str(n): ["complete", {"y": n}, {"x": n}] for n in range(4)}
        second = {str(9 - n): ["complete", {"y": n}, {"x": n}] for n in range(4)}
        assert compare_rows(first, second, False, 0, 0).rows_equal == 4
        assert compare_rows(first, second, True, 0, 0).difference_count == 8

    def test_each_number_is_told_with_its_run(self):
        first = {"0": ["complete", {"y": 1}, {"x": "a"}], "7": ["complete", {"y": 1}, {"x": "gone"}]}
        second = {"3": ["complete", {"y": 2}, {"x": "a"}], "7": ["failed", None, {"x": "new"}]}
        found = compare_rows(first, second, False, 0, 0)
        assert [(one["what"], one["task"], one.get("task_before", "the same")) for one in found.differences] == [
            ("y of task 3", 3, 0), ("task 7", 7, None), ("task 7 of the run before", None, 7),
        ]  # fmt: skip
        same = compare_rows({"1": first["0"]}, {"1": second["3"]}, True, 0, 0)
        assert same.differences == [{"what": "y of task 1", "task": 1, "before": 1, "now": 2}]


def test_the_rows_of_a_large_run_come_in_parts(tmp_path, monkeypatch):
    """Each answer ends with the shard in which it is full; the parts are the whole, each task once."""
    root = tmp_path / "hpc-agent" / "repo"
    folder = run_folder(str(root), "r-1")
    tasks = [*range(5), *range(1000, 1003), 2500]
    for task in tasks:
        Path(folder.record(task)).parent.mkdir(parents=True, exist_ok=True)
        document = {"task": task, "state": "complete", "metrics": {"y": task, "z": [1, 2]}, "kwargs": {"x": task}}
        Path(folder.record(task)).write_text(json.dumps(document))
    Path(folder.document).write_text(json.dumps({"task_count": 3000}))
    question = {"root": str(root), "run_id": "r-1"}
    whole = provenance.rows({**question, "parameters": True})
    assert whole["next"] is None
    assert whole["rows"]["1002"] == ["complete", {"y": 1002, "z": [1, 2]}, {"x": 1002}]
    monkeypatch.setattr(provenance, "VALUES_AT_MOST", 15)
    first = provenance.rows(question)
    assert (len(first["rows"]), first["next"]) == (5, "00001")
    rest = provenance.rows({**question, "first": first["next"]})
    assert (rest["next"], sorted(map(int, first["rows"] | rest["rows"]))) == (None, tasks)


def test_a_crate_takes_the_place_of_an_older_one(tmp_path, monkeypatch):
    """A kill leaves the older crate; the next call removes what it left."""
    output = tmp_path / "crate"
    crate._write(output, {"a": b"1", "old": b"1"})
    (tmp_path / ".crate.building").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(crate, "write_bytes", mock.Mock(side_effect=OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            crate._write(output, {"a": b"2"})
    assert {path.name for path in tmp_path.iterdir()} == {"crate"}
    assert (output / "a").read_bytes() == b"1"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            crate._write(output, {"a": b"2"})
    assert (tmp_path / ".crate.old" / "old").read_bytes() == b"1"
    crate._write(output, {"a": b"3"})
    crate._write(tmp_path / "c.zip", {"a": b"3"})
    assert {path.name for path in tmp_path.iterdir()} == {"crate", "c.zip"}
    assert [(path.name, path.read_bytes()) for path in output.iterdir()] == [("a", b"3")]


class TestDifferences:
    def test_values_of_variables_are_not_shown(self):
        [one] = _code({"env": {"A": "secret-1", "B": "1"}}, {"env": {"A": "secret-2", "B": "1"}})
        assert one["what"] == "env A"
        assert "secret" not in str(one)

    def test_environment_names_packages_before_nodes(self):
        before = {"node": "n1", "python": {"version": "3.9"}, "packages": {"numpy": "1.0", "x": "1"}}
        now = {"node": "n2", "python": {"version": "3.9"}, "packages": {"numpy": "2.0", "y": "1"}}
        assert [(one["what"], one["before"], one["now"]) for one in _environment(before, now)] == [
            ("package numpy", "1.0", "2.0"), ("package x", "1", None), ("package y", None, "1"), ("node", "n1", "n2"),
        ]  # fmt: skip
        assert _environment(None, now)[0] == {"what": "environment.json", "before": "not recorded", "now": "recorded"}
        assert _environment(None, None) == []
        assert _environment({"packages": None}, now)[1]["before"] == "not known"


def test_a_long_story_keeps_its_ends():
    events = [Event(float(n), "journal", str(n)) for n in range(100)]
    shown, truncated = _shortened(events)
    assert truncated
    assert (shown[0].text, shown[-1].text, len(shown)) == ("0", "99", 31)
    assert "70 events are left out" in shown[15].text
    assert _shortened(events[:30]) == (events[:30], False)


def test_a_sidecar_of_an_earlier_version_is_read():
    needed = "run_id run_name cmd_sha tasks_py_sha tree_sha snapshot hpc_agent_version submitted_at executor".split()
    needed += "result_dir_template cluster scheduler remote_path".split()
    old = sidecar_of({**dict.fromkeys(needed, ""), "sidecar_schema_version": 3, "task_count": 1, "wave_map": {}}, [])
    assert (old.git, old.inputs, old.reproduces) == ({}, [], None)
    assert _git(old.git) == "git commit not known (not recorded)"
