"""Laws of a run's table: it is that of the joined data, whatever happened before; and a table that is not is found out."""

import json
import os
import tempfile
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.node.fold.combine import combine
from hpc_agent.node.fold.verify import verify_aggregation
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, write_bytes, write_json
from hpc_agent.node.shared.ledger import Array, write_array
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import decode_ranges, encode_ranges
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_environment import digest


class Run:
    """A run on the cluster: its folder, without a scheduler; ``waves`` has the tasks of each."""

    def __init__(self, root, run_id, waves):
        self.root, self.run_id, self.waves = str(root), run_id, waves
        self.folder = RunFolder(f"{root}/runs/{run_id}")
        for path in (self.folder.jobs, self.folder.combiner, self.folder.records("00000")):
            make_folder(path)
        self.total = sum(map(len, waves))
        write_json(
            self.folder.document, {"run_id": run_id, "task_count": self.total, "scheduler": "slurm", "cmd_sha": run_id}
        )
        for number, tasks in enumerate(waves):
            write_array(self.folder, Array(f"a{number}", encode_ranges(tasks), wave=number, order=number))
        write_bytes(self.folder.digests, b"".join(digest(self.kwargs(task)) for task in range(self.total)))

    def kwargs(self, task):
        return {"run": self.run_id, "x": task % 3, "seed": task}

    def end(self, task, metrics, state="complete", **changes):
        kwargs = {**self.kwargs(task), **changes}
        write_json(self.folder.record(task), {"task": task, "state": state, "kwargs": kwargs, "metrics": metrics})

    def combine(self, **fields):
        return combine({"root": self.root, "run_id": self.run_id, "replicates": ["seed"], **fields})["waves"]

    def verify(self, *columns):
        return verify_aggregation({"root": self.root, "run_id": self.run_id, "columns": list(columns)})

    def partial(self, wave, **changes):
        path = Path(self.folder.combiner, f"wave_{wave}.json")
        document = {**json.loads(path.read_text()), **changes}
        write_json(str(path), document)
        return document


@pytest.fixture
def root(tmp_path):
    return tmp_path / "hpc-agent" / "repo"


@pytest.fixture
def run(root):
    """Two waves of three tasks, all complete and combined."""
    made = Run(root, "one", [[0, 1, 2], [3, 4, 5]])
    for task in range(6):
        made.end(task, {"loss": task / 7})
    made.combine()
    return made


number = st.integers(-(10**9), 10**9).map(lambda value: value / 1024)
events = st.lists(
    st.tuples(
        st.sampled_from(["end", "fail", "lose", "combine", "combine a wave", "combine otherwise"]),
        st.integers(0, 1), st.integers(0, 11), number,
    ),
    max_size=40,
)  # fmt: skip


@given(st.permutations(range(12)), st.integers(1, 11), events)
@settings(max_examples=60)
def test_the_table_is_that_of_the_joined_data_whatever_happened(order, cut, happened):
    """Any split, order, repeat and retry; two runs never mix; a task that is not complete is named and never counted."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "hpc-agent", "repo")
        runs = [Run(root, name, [sorted(order[:cut]), sorted(order[cut:])]) for name in ("one", "two")]
        kept = [{}, {}]
        failed = [set(), set()]
        for event, which, task, value in happened:
            run = runs[which]
            if event == "end":  # once complete, a task stays so
                kept[which].setdefault(task, value)
                failed[which].discard(task)
                run.end(task, {"loss": kept[which][task]})
            elif event in ("fail", "lose") and task not in kept[which]:
                if event == "fail":
                    run.end(task, {"loss": 1e30}, "failed")
                    failed[which].add(task)
                elif task in failed[which]:
                    os.unlink(run.folder.record(task))
                    failed[which].discard(task)
            elif event == "combine":
                run.combine()
            elif event == "combine a wave":
                run.combine(waves=[task % 2])
            else:
                run.combine(replicates=["x"])
        for run, values, broken in zip(runs, kept, failed, strict=True):
            waves = run.combine()
            total = Table(["seed"])
            for name in sorted(waves, reverse=bool(cut % 2)):
                total.merge_json(waves[name]["table"])
            found = {row["kwargs"]["x"]: (row["count"], row["metrics"]["loss"]) for row in total.rows()}
            assert {row["kwargs"]["run"] for row in total.rows()} <= {run.run_id}
            groups = {x: [value for task, value in values.items() if task % 3 == x] for x in range(3)}
            assert {x: count for x, (count, _) in found.items()} == {
                x: len(group) for x, group in groups.items() if group
            }
            for x, (_, facts) in found.items():
                group, size = groups[x], max(map(abs, groups[x]))
                assert facts["mean"] == pytest.approx(numpy.mean(group), rel=1e-12, abs=1e-12 * size)
                if len(group) > 1:
                    assert facts["std"] == pytest.approx(numpy.std(group, ddof=1), rel=1e-9, abs=1e-9 * size)
                assert facts["median"] == pytest.approx(numpy.median(group), rel=1e-12, abs=1e-12 * size)
            told = {
                name: sorted(t for w in waves.values() for t in decode_ranges(w[name]))
                for name in ("included", "failed", "missing")
            }
            assert told["included"] == sorted(values)
            assert told["failed"] == sorted(broken)
            assert told["missing"] == sorted(set(range(12)) - set(values) - broken)
            checked = run.verify()
            assert not any(checked["waves"].values()), checked
            assert (checked["included"], checked["repeated"], checked["unexpected"]) == (encode_ranges(values), "", "")
            assert (checked["missing"], checked["failed"]) == (
                encode_ranges(set(range(12)) - set(values)),
                encode_ranges(broken),
            )


def test_a_whole_table_is_found_whole(run):
    found = run.verify("loss")
    assert not any(found["waves"].values())
    assert (found["expected_waves"], found["included"], found["missing"], found["violations"]) == (2, "0-5", "", {})
    assert (found["repeated"], found["unexpected"], found["unexpected_keys"], found["columns"]) == (
        "",
        "",
        [],
        ["loss"],
    )


def foreign(run):
    other = Run(run.root, "two", run.waves)
    for task in range(6):
        other.end(task, {"loss": 100})
    other.combine()
    Path(run.folder.combiner, "wave_1.json").write_bytes(Path(other.folder.combiner, "wave_1.json").read_bytes())


def altered(run):
    table = run.partial(1)["table"]
    next(iter(table["groups"].values()))[1]["loss"] = 0.25
    run.partial(1, table=table)


def strange_key(run):
    table = run.partial(1)["table"]
    table["groups"] = {key.replace("one", "two"): group for key, group in table["groups"].items()}
    run.partial(1, table=table)


def record_of_another(run):
    """The file of task 4 says that the record is task 3's."""
    record = json.loads(Path(run.folder.record(4)).read_text())
    write_json(run.folder.record(4), {**record, "task": 3})


def later(run):
    """Task 4 was not complete when its wave was combined."""
    record = Path(run.folder.record(4))
    kept = record.read_bytes()
    record.unlink()
    Path(run.folder.status_cache).unlink()
    run.combine()
    record.write_bytes(kept)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: Path(run.folder.combiner, "wave_1.json").unlink(), {"missing": "1"}),
        (lambda run: Path(run.folder.combiner, "wave_1.json").write_text('{"wave": 1, '), {"damaged": "1"}),
        (lambda run: run.partial(1, included="3-4"), {"damaged": "1"}),
        (lambda run: run.partial(1, included="many"), {"damaged": "1"}),
        (lambda run: run.partial(1, included="3-99999999999999"), {"damaged": "1"}),
        (lambda run: run.partial(1, table=None), {"damaged": "1"}),
        (lambda run: run.partial(1, included="0-2"), {"stale": "1"}),
        (altered, {"damaged": "1"}),
        (strange_key, {"damaged": "1"}),
        (foreign, {"foreign": "1"}),
        (later, {"stale": "1"}),
        (lambda run: Path(run.folder.combiner, "wave_7.json").write_text("{}"), {"foreign": "7"}),
        (lambda run: run.end(4, {"loss": 4 / 7}, seed=99), {}),
        (record_of_another, {}),
        (lambda run: run.end(4, {"accuracy": 4 / 7}), {"damaged": "1"}),
    ],
)  # fmt: skip
def test_each_defect_of_a_table_is_found(run, harm, said):
    harm(run)
    found = run.verify("loss")
    assert {name: waves for name, waves in found["waves"].items() if waves} == said
    assert said or found["unexpected"] == "4", "parameters that were not submitted"
    if harm is strange_key:
        assert found["unexpected_key_count"] == 3
    assert (found["repeated"] == "0-2") == (found["unexpected"] == "0-2")
    # The next combine mends what a combine can mend.
    run.combine(force="damaged" in said)
    again = run.verify("loss")
    assert {name: waves for name, waves in again["waves"].items() if waves} == (
        {"foreign": "7"} if "7" in said.values() else {}
    )


def test_a_folder_in_place_of_a_partial_is_named(run):
    path = Path(run.folder.combiner, "wave_1.json")
    path.unlink()
    path.mkdir()
    assert run.verify("loss")["waves"]["damaged"] == "1"
    with pytest.raises(NodeError, match=r"wave_1\.json is a folder"):
        run.combine()


def test_a_metric_that_some_tasks_did_not_write_is_named(run):
    run.end(4, {"accuracy": 1.0})
    run.combine()
    found = run.verify("loss", "r2")
    assert found["violations"] == {"loss": "4", "r2": "0-5"}
    assert found["uneven"] == {"accuracy": "0-3,5"}
    assert run.verify()["violations"] == {}
    document = json.loads(Path(run.folder.document).read_text())
    write_json(run.folder.document, {**document, "results": {"expected_columns": ["loss"]}})
    assert run.verify()["violations"] == {"loss": "4"}


def test_a_partial_of_another_run_is_combined_again(run):
    foreign(run)
    wave = run.combine()["1"]
    assert (wave["fresh"], wave["run_id"]) == (True, "one")
    assert Table.from_json(wave["table"]).overall()["loss"]["max"] == 5 / 7


def test_a_complete_task_without_a_record_is_named(run):
    Path(run.folder.record(4)).unlink()
    found = run.verify("loss")
    assert (found["unreadable"], found["included"]) == ("4", "0-5")
    assert not any(found["waves"].values())
