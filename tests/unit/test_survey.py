"""The survey of a run: what the records say about results, time and resources, for the page of a report."""

import json
import os

import pytest

from hpc_agent.node.look import run_status
from hpc_agent.node.schedulers.base import AccountingRow
from hpc_agent.node.shared import run_folder
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import Array, write_array
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord
from hpc_agent.node.why.survey import MOST_WAVES, survey

START = 1_000_000.0
ASKED = {"walltime_sec": 3600, "mem_mb": 1000, "cpus": 4}


@pytest.fixture
def run(tmp_path):
    """A run: ``run(records, arrays)`` writes its files, and returns the survey with further fields of the request."""
    root = tmp_path / "hpc-agent" / "repo"
    folder = run_folder.run_folder(str(root), "run")

    def asked(records, arrays, keep=False, **request):
        if os.path.exists(folder.survey) and not keep:  # other records of a complete task than before: for tests only
            os.remove(folder.survey)
        for path in (folder.jobs, folder.records("00000"), folder.logs):
            make_folder(path)
        document = {
            "run_id": "run",
            "task_count": request.pop("total", len(records)),
            "scheduler": "local",
            "executor": "true",
            "early_stop": request.pop("early_stop", None),
        }
        write_json(folder.document, document)
        for number, array in enumerate(arrays):
            facts = {
                "job_id": str(number + 1),
                "state": "submitted",
                "order": number,
                "resources": ASKED,
                "submitted_at": START - 60,
            }
            write_array(
                folder, array._replace(**{**facts, **({"resources": array.resources} if array.resources else {})})
            )
        for record in records:
            write_json(folder.record(record.task), record.to_json())
        site = {"local_state": str(tmp_path / "state")}
        answer = survey(
            {"root": str(root), "run_id": "run", "site": site, "metric": None, "replicates": None, **request}
        )
        return json.loads(json.dumps(answer, allow_nan=False))

    asked.folder = folder
    return asked


def ended(task, *, seconds=100.0, at=0.0, state=COMPLETE, cpu=None, **facts):
    known = {"element": task, "array": "a0", "host": "n1", "job": "1", "cpu_seconds": seconds if cpu is None else cpu}
    times = {"seconds": seconds, "started_at": START + at, "ended_at": START + at + seconds}
    facts = {**known, **times, "kwargs": {"x": task}, "max_rss_mb": 200.0, **facts}
    if state == COMPLETE:
        facts = {"metrics": {"val_loss": float(task)}, **facts}
    return TaskRecord(task=task, state=state, **facts)


def test_core_hours_are_computing_idle_and_lost(run):
    """Every attempt counts with the cores of its own array: those of failed tasks, and failed ones before a complete one."""
    earlier = {
        "generation": 1,
        "state": FAILED,
        "cause": "exit",
        "seconds": 1800.0,
        "host": "n2",
        "ended_at": START + 1800,
    }
    again = Array(array="r1", tasks="1", generation=2, elements=1, resources={**ASKED, "cpus": 8})
    records = [
        ended(0, seconds=3600.0, cpu=3600.0),
        ended(1, seconds=3600.0, cpu=36_000.0, at=2000, array="r1", generation=2, history=[earlier], attempt=2),
        ended(2, seconds=900.0, state=FAILED, cause="exit", exit_code=1, message="exit code 1"),
    ]
    found = run(records, [Array(array="a0", tasks="0-2", elements=3), again])["usage"]
    hours = {"computing": 1 + 8, "idle": 3, "failed": 1800 * 4 / 3600 + 900 * 4 / 3600}
    assert found["core_hours"] == pytest.approx(hours), (
        "more CPU time than the cores of the array could give is cut to theirs"
    )
    assert found["asked"]["cpus"] == [4, 8]
    assert found["unmeasured"] == 0


def test_a_task_without_a_record_counts_as_accounting_says(run, monkeypatch):
    class Scheduler:
        def queue(self, jobs):
            return []

        def accounting(self, jobs, since):
            return [AccountingRow("1", n, "out_of_memory", "OUT_OF_MEMORY", 0, None, "n1", 1800.0) for n in (1, 2)]

    monkeypatch.setattr(run_status, "load", lambda name, site: Scheduler())
    found = run([ended(0)], [Array(array="a0", tasks="0-2", elements=3)], total=3)
    assert found["usage"]["core_hours"]["failed"] == pytest.approx(2 * 1800 * 4 / 3600)
    assert (found["missing"]["failed"], found["usage"]["unmeasured"]) == ("1-2", 0)
    packed = run([ended(0)], [Array(array="a0", tasks="0-5", elements=3, pack=2)], total=6)
    assert packed["usage"]["unmeasured"] == 4, "accounting measures the element, not its tasks"


def test_a_packed_element_is_measured_as_one(run):
    records = [
        ended(task, seconds=100.0, element=task // 3, at=100 * (task % 3), max_rss_mb=100.0 * task) for task in range(6)
    ]
    found = run(records, [Array(array="a0", tasks="0-5", elements=2, pack=3)])["usage"]
    assert (found["seconds"]["n"], found["seconds"]["min"], found["seconds"]["max"]) == (2, 300, 300)
    assert (found["memory_mb"]["min"], found["memory_mb"]["max"]) == (200, 500), "the largest of its tasks"
    assert found["pack"] == 3


def test_time_line_and_waves(run):
    records = [ended(task, at=1000.0 * (task // 2), seconds=500.0) for task in range(4)]
    arrays = [Array(array="a0", tasks="0-1", wave=0), Array(array="a1", tasks="2-3", wave=1)]
    records = [record._replace(array=f"a{record.task // 2}") for record in records]
    found = run(records, arrays)
    line = found["time_line"]
    assert (line["start"], line["step"] * len(line["running"])) == (START, 1500.0)
    assert sum(line["running"]) * line["step"] == pytest.approx(4 * 500.0, rel=1e-2), (
        "the area is the time of all tasks"
    )
    assert line["failed"] == [0] * 60
    assert [(w["first"], w["last"], w["complete"]) for w in found["waves"]["shown"]] == [
        (START, START + 500, 2), (START + 1000, START + 1500, 2),
    ]  # fmt: skip
    assert found["waves"]["total"] == 2 <= MOST_WAVES


def test_seeds_are_joined_unless_the_request_says_otherwise(run):
    records = [ended(n, kwargs={"x": n // 3, "seed": n % 3}, metrics={"val_loss": n / 10}) for n in range(6)]
    arrays = [Array(array="a0", tasks="0-5", elements=6)]
    joined, apart = run(records, arrays), run(records, arrays, replicates=[])
    assert (joined["replicates"], joined["rows"]["total"], joined["spread"]["total"]) == (["seed"], 2, 2)
    assert joined["rows"]["rows"][0] == [0, 3, [pytest.approx(0.1), pytest.approx(0.1), 3]]
    assert joined["spread"]["within"] == pytest.approx(0.1)
    assert (apart["replicates"], apart["rows"]["total"], apart["spread"]) == ([], 6, None)


def test_what_is_missing_and_not_a_number_is_told(run):
    records = [
        ended(0),
        ended(1, metrics={"val_loss": "nan"}),
        ended(2, metrics={}),
        ended(3, state=FAILED, cause="exit", exit_code=1, message="exit code 1", log_tail="ValueError: <b>"),
    ]
    found = run(records, [Array(array="a0", tasks="0-4", elements=5)], total=5)
    assert found["state"]["counts"]["complete"] == 3
    assert found["missing"]["failed"] == "3"
    assert (found["without_metrics"], found["without_metrics_count"]) == ("2", 1)
    assert found["not_finite"] == {"val_loss": 1}
    assert [group["tasks"] for group in found["groups"]] == ["3"]
    assert found["environment"] is None


def test_tasks_that_ended_early_are_no_results_of_their_parameters(run):
    """Their values are of an early step: they have a row, but no chart, and none is the best. The step is no metric."""
    stopped = ended(0, metrics={"val_loss": 0.01, "stopped_at": 3})
    records = [stopped, *(ended(n) for n in range(1, 4))]
    arrays = [Array(array="a0", tasks="0-3", elements=4)]
    plain = run(records, arrays)
    assert "stopped_at" in plain["binned"]["metrics"], "without a rule it is a metric of the user"
    found = run(records, arrays, early_stop={"metric": "val_loss", "direction": "minimize"})
    assert found["main"] == "val_loss"
    assert found["binned"]["metrics"] == ["val_loss"]
    assert found["binned"]["histograms"]["val_loss"]["n"] == 3
    assert (found["rows"]["total"], found["rows"]["unranked"], found["uncharted"]) == (4, [0], 1)
    assert found["state"]["stopped_early"] == 1


def test_an_answer_is_kept_until_a_task_has_another_end(run, monkeypatch):
    reads = []
    monkeypatch.setattr("hpc_agent.node.why.survey._Seen.add", lambda self, record: reads.append(record.task))
    bad = ended(1, state=FAILED, cause="exit", exit_code=1, message="exit code 1")
    arrays = [Array(array="a0", tasks="0-1", elements=2)]
    first = run([ended(0), bad], arrays)
    assert reads == [0, 1]
    again = run([ended(0), bad], arrays, keep=True)
    assert reads == [0, 1], "nothing is read again"
    assert {**again, "state": None} == {**first, "state": None}
    run([ended(0), bad], arrays, keep=True, metric="val_loss")
    assert reads == [0, 1, 0, 1], "another question"
    run([ended(0), bad._replace(attempt=2)], arrays, keep=True)
    assert len(reads) == 6, "another attempt"
    with open(run.folder.survey, "w") as handle:
        handle.write("{torn")
    run([ended(0), bad._replace(attempt=2)], arrays, keep=True)
    assert len(reads) == 8


def test_the_environment_is_passed_on(run):
    make_folder(run.folder.path)
    write_json(run.folder.path + "/environment.json", {"git": {"commit": "abc"}, "packages": {"numpy": "2.0"}})
    assert run([ended(0)], [Array(array="a0", tasks="0")])["environment"]["git"] == {"commit": "abc"}
    with open(run.folder.path + "/environment.json", "w") as handle:
        handle.write("{torn")
    assert "cannot be read" in run([ended(0)], [Array(array="a0", tasks="0")])["environment"]


def test_the_answer_does_not_grow_with_the_tasks(run):
    def size(tasks):
        records = [ended(n, kwargs={"x": n * 0.37 % 1, "y": n, "path": f"/data/{n}"}) for n in range(tasks)]
        return len(json.dumps(run(records, [Array(array="a0", tasks=f"0-{tasks - 1}", elements=tasks)])))

    assert size(990) < 1.1 * size(800)


def test_nor_with_the_metrics_and_long_constants(run):
    def size(metrics, text):
        values = {f"m{n:04}": 1.0 * n for n in range(metrics)}
        records = [
            ended(n, kwargs={"x": n, "text": text}, metrics=dict(values, val_loss=n, zeta=n * n)) for n in range(60)
        ]
        found = run(records, [Array(array="a0", tasks="0-59", elements=60)])
        assert found["rows"]["metrics"][0] == found["main"] == "val_loss"
        assert found["rows"]["metrics"][1] == found["binned"]["metrics"][1] == "zeta", "what has a chart has its values"
        assert len(found["rows"]["metrics"]) == metrics + 2, "all are named"
        return len(json.dumps(found))

    assert size(400, "x" * 50000) < 1.2 * size(100, "x" * 100)


def test_the_deviation_of_diverged_values_is_a_number(run):
    records = [ended(n, kwargs={"x": n // 4, "seed": n % 4}, metrics={"loss": (-1) ** n * 9e153}) for n in range(16)]
    found = run(records, [Array(array="a0", tasks="0-15", elements=16)])
    assert found["spread"]["within"] == pytest.approx(1.04e154, rel=0.01)
