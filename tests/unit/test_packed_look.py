"""A look at a run of packed elements: what it reads of their logs, and what it makes of begins and records."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from hpc_agent.node.look import accounting
from hpc_agent.node.look.report import status_answer
from hpc_agent.node.look.run_status import RunStatus
from hpc_agent.node.schedulers.base import AccountingRow, QueueRow
from hpc_agent.node.shared import element_log
from hpc_agent.node.shared.element_log import ElementLog, Ended
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_states import NAMES

PACK = 4


class Bed:
    """Eight tasks in two elements, and a scheduler that says what it is told to."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(str(path))
        self.rows: list[QueueRow] = []
        self.ended: list[AccountingRow] = []
        make_folder(self.folder.jobs)
        write_json(self.folder.document, {"task_count": 8, "run_id": "r", "scheduler": "slurm", "layout": 2})
        self.entry("a0", "7", 1)

    def entry(self, array: str, job: str, generation: int, tasks: str = "0-7", **more: object) -> None:
        write_json(self.folder.job(array), {
            "array": array, "name": f"r.{array}", "job_id": job, "tasks": tasks, "pack": PACK, "elements": 2,
            "generation": generation, "state": "submitted", "order": generation, **more,
        })  # fmt: skip

    def log(self, element: int = 0, array: str = "a0") -> ElementLog:
        path = Path(self.folder.element(array, element, "rec"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return ElementLog(str(path))

    def write(self, *frames: str, element: int = 0, array: str = "a0") -> None:
        """``s17``: a start of job 17; ``b3``: task 3 begins; ``c3``, ``f3``: it ends; ``t3``: it ends, terminated."""
        with closing(self.log(element, array)) as log:
            for frame in frames:
                kind, number = frame[0], int(frame[1:])
                if kind == "s":
                    log.start(str(number), f"node{number}")
                elif kind == "b":
                    log.begin(number, number % 2 if array == "two" else 0, 0)
                else:
                    cause = {"t": "terminated", "f": "code_error"}.get(kind)
                    body = b'{"attempt":1,"cause":"%s","message":"m"}' % (cause or "").encode()
                    log.record(Ended(number, kind == "c", 2.0, "oe" if number == 5 else "", 0, 0, 0, body))

    def queued(self, state: str, elements: str = "0-1", array: str = "a0", job: str = "7") -> None:
        self.rows = [QueueRow(job, elements, state, "", state, name=f"r.{array}")]

    def queue(self, jobs: list[str]) -> list[QueueRow]:
        return [row for row in self.rows if row.job in jobs]

    def accounting(self, jobs: list[str], _since: float) -> list[AccountingRow]:
        return [row for row in self.ended if row.job in jobs]

    def look(self) -> RunStatus:
        found = RunStatus(self.folder, {}, self)
        status_answer(found)
        found.save()
        return found

    def states(self) -> str:
        """The first letter of each state."""
        return "".join(NAMES[state][0] for state in self.look().state)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_the_task_that_was_begun_runs_and_those_after_it_wait(bed):
    bed.queued("running")
    assert bed.states() == "pppppppp"
    bed.write("s1", "b0", "c0", "b1", "f1", "b2")
    assert bed.states() == "cfrppppp"
    bed.write("c2", "b3")
    assert bed.states() == "cfcrpppp"


def test_several_tasks_of_an_element_run_at_once(bed):
    bed.entry("two", "7", 1, at_once=2)
    os.unlink(bed.folder.job("a0"))
    bed.queued("running", array="two")
    bed.write("s1", "b0", "b1", "c1", "b3", array="two")
    assert bed.states() == "rcprpppp"
    bed.rows = []
    bed.ended = [AccountingRow("7", 0, "node_failure", "NODE_FAIL")]
    assert bed.states() == "fcffuuuu"


def test_a_task_that_was_put_back_waits_and_runs_again(bed):
    bed.write("s1", "b0", "f0", "b1", "t1")
    bed.queued("pending", "0")
    assert bed.states()[:4] == "fppp"
    bed.queued("running", "0")
    assert bed.states()[:4] == "frpp", "it may be starting again"
    bed.write("s2")
    assert bed.states()[:4] == "fppp", "it has started again, and not begun it yet"
    bed.write("b0")
    assert bed.states()[:4] == "rppp", "it begins all again that is not complete"
    bed.write("c0", "b1")
    assert bed.states()[:4] == "crpp"


def test_a_record_that_comes_while_the_queue_is_asked_is_read(bed, monkeypatch):
    bed.write("s1", "b0", "c0", "b1")
    bed.look()

    def queue(_jobs: list[str]) -> list[QueueRow]:
        bed.write("c1", "b2", "f2", "b3", "c3")
        return []

    monkeypatch.setattr(bed, "queue", queue)
    assert bed.states()[:4] == "ccfc"


def test_only_what_was_appended_is_read_and_nothing_of_complete_elements(bed, monkeypatch):
    bed.write("s1", *(f"{kind}{task}" for task in range(4) for kind in "bc"))
    bed.write("s1", "b4", "c4", "b5", element=1)
    bed.look()
    opened: list[str] = []
    real = open

    def noted(path, *arguments, **options):
        opened.append(str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", noted)
    monkeypatch.setattr(os, "stat", lambda path, *a, real=os.stat, **k: opened.append(str(path)) or real(path, *a, **k))
    bed.look()
    assert [path for path in opened if path.endswith("0.rec")] == []
    bed.write("c5", "b6", "f6", "b7", "c7", element=1)
    found = bed.look()
    assert [NAMES[state][0] for state in found.state] == list("ccccccfc")
    assert (found.records.mean_seconds, found.records.oom_killed, found.records.stopped_early) == (2.0, [5], 1)
    bed.write("s2", "b6", "c6", element=1)
    bed.look()
    opened.clear()
    monkeypatch.setattr(os, "listdir", lambda path=".", real=os.listdir: opened.append(str(path)) or real(path))
    assert bed.states() == "cccccccc"
    assert [path for path in opened if "elements" in path] == []
    assert Path(bed.folder.status_cache).stat().st_size < 400


def test_half_a_line_is_read_when_it_is_whole(bed):
    bed.write("s1", "b0", "c0")
    path = Path(bed.folder.element("a0", 0, "rec"))
    data = path.read_bytes()
    for end in (len(data) - 1, len(data) - 20, 0):
        path.write_bytes(data[:end])
        assert bed.states()[0] in "up"
    path.write_bytes(data)
    assert bed.states()[0] == "c"


def test_a_part_that_a_file_server_shows_late_is_read_once_the_element_has_left_the_queue(bed):
    """It may show the later pages of a file before an earlier one, which reads as zeros until then."""
    bed.write("s1", "b0", "c0", "b1", "f1", "b2", "c2", "b3", "c3")
    path = Path(bed.folder.element("a0", 0, "rec"))
    data = path.read_bytes()
    start, end = data.index(b"b 0") + 30, data.index(b"b 2") - 20
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    bed.queued("running", "0")
    assert bed.states()[2:4] == "cc"
    path.write_bytes(data)
    bed.rows = []
    assert bed.states()[:4] == "cfcc"


def test_a_log_that_was_restored_from_before_is_read_anew(bed):
    bed.write("s1", "b0", "c0", "b1", "c1")
    path = Path(bed.folder.element("a0", 0, "rec"))
    data = path.read_bytes()
    assert bed.states()[:2] == "cc"
    path.write_bytes(data[: data.index(b"b 1") - 9])
    assert bed.states()[:2] == "cu"
    path.unlink()
    assert bed.states()[:2] == "uu"


def test_a_newer_generation_speaks_for_its_tasks_and_a_late_record_counts_once(bed):
    bed.write("s1", "b0", "f0", "b1", "c1", "b2", "c2", "b3")
    bed.entry("r2-0", "8", 2, tasks="0,3", elements=1)
    bed.queued("running", "0", array="r2-0", job="8")
    bed.write("s1", "b0", array="r2-0")
    assert bed.states()[:4] == "rccp"
    bed.write("c3")  # by the older element, late
    assert bed.states()[:4] == "rccc"
    bed.write("c0", "b3", "c3", array="r2-0")
    bed.rows = []
    assert bed.states()[:4] == "cccc"
    assert bed.look().records.stopped_early == 0


def test_what_a_dead_element_has_not_begun_was_never_started(bed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(accounting.time, "time", lambda: now[0])
    claim = Path(bed.folder.element("a0", 0, "claim"))
    claim.parent.mkdir(parents=True)
    claim.write_text("7:a0:0\nnode 1\n")
    bed.write("s1", "b4", element=1)
    bed.look()
    now[0] += accounting.VANISHED_SEC + 1
    found = bed.look()
    assert [found.records.failed[task].cause for task in (0, 5)] == ["never_started", "never_started"]
    assert NAMES[found.state[4]] == "unknown", "it was begun, and nobody knows its end"
    assert "element" in found.records.failed[0].message
    assert "element" in found.records.failed[5].message


def test_a_task_runs_since_the_frame_of_its_begin(bed, monkeypatch):
    monkeypatch.setattr(element_log.time, "time", lambda: 1000.0)
    bed.entry("a0", "7", 1, resources={"walltime_sec": 600})
    bed.write("s1", "b0")
    bed.queued("running", "0")
    monkeypatch.setattr("hpc_agent.node.look.report.time.time", lambda: 1100.0)
    timing = status_answer(RunStatus(bed.folder, {}, bed))["timing"]
    assert (timing["longest_ran"], timing["walltime_left"]) == (100.0, 500.0)
