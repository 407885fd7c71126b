"""Random histories of a run, written with files a task and with logs of packed elements: every reader says the same of both."""

import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import event, given, settings
from hypothesis import strategies as st

from hpc_agent.node.fold.combine import fold
from hpc_agent.node.look.recorded import FailureFacts
from hpc_agent.node.look.records import OF_RECORDS
from hpc_agent.node.look.report import status_answer
from hpc_agent.node.look.run_status import RunStatus
from hpc_agent.node.schedulers.base import AccountingRow, QueueRow
from hpc_agent.node.shared import element_log
from hpc_agent.node.shared.element_log import ElementLog
from hpc_agent.node.shared.files import make_folder, read_object, write_json
from hpc_agent.node.shared.ledger import Array
from hpc_agent.node.shared.ranges import encode_ranges, slice_ranges
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord, load_record
from hpc_agent.node.shared.task_records import HISTORY_KEYS, HISTORY_LENGTH, Records, fields_of, frame_of
from hpc_agent.node.shared.task_states import NAMES, RUNNING

TASKS = 7
CAUSES = ("code_error", "signal", "terminated", "checkpointed")


class Layout:
    """One run on disk."""

    def __init__(self, path: Path, layout: int) -> None:
        self.folder, self.layout = RunFolder(str(path)), layout
        make_folder(self.folder.jobs)
        document = {"task_count": TASKS, "run_id": "r", "scheduler": "slurm", "layout": layout}
        write_json(self.folder.document, document, sync=False)

    def submit(self, array: Array) -> None:
        write_json(self.folder.job(array.array), array.to_json(), sync=False)

    def has_log(self, array: Array) -> bool:
        return self.layout == 2 and array.pack > 1

    def start(self, array: Array, element: int) -> None:
        if not self.has_log(array):
            return
        claim = Path(self.folder.element(array.array, element, "claim"))
        claim.parent.mkdir(parents=True, exist_ok=True)
        claim.write_text("owner\n")
        with closing(self.append(array, element)) as log:
            log.start(array.job_id or "", f"node{element}")

    def append(self, array: Array, element: int) -> ElementLog:
        return ElementLog(self.folder.element(array.array, element, "rec"))

    def begin(self, array: Array, element: int, task: int, now: float, shared: bool) -> None:
        """``shared``: another array of the generation has the task too, so that a claim for the task itself is needed."""
        if self.has_log(array):
            with closing(self.append(array, element)) as log:
                log.begin(task, 0, int(now))
        if shared or not self.has_log(array):
            claim = Path(self.folder.claim(task, array.generation))
            claim.parent.mkdir(parents=True, exist_ok=True)
            claim.write_text("owner\nhost 1\n")
            os.utime(claim, (now, now))

    def end(self, array: Array, element: int, record: TaskRecord, torn: bool) -> None:
        if self.has_log(array):
            with closing(self.append(array, element)) as log:
                log.record(frame_of(record, "", 0, fields_of(record)))
            if torn:
                path = Path(self.folder.element(array.array, element, "rec"))
                os.truncate(path, path.stat().st_size - 9)
        elif not torn:
            self.write(record)

    def write(self, record: TaskRecord) -> None:
        """Write the record's file as a dispatcher does."""
        earlier, path = load_record(self.folder, record.task), Path(self.folder.record(record.task))
        if earlier and earlier.state == COMPLETE:
            return
        if earlier:
            row = {key: getattr(earlier, key) for key in HISTORY_KEYS}
            record = record._replace(history=[*earlier.history, row][-HISTORY_LENGTH:])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(str(path), record.to_json(), sync=False)
        ended = record.ended_at or 0.0
        os.utime(path, (ended, ended))
        os.utime(path.parent, (ended, ended))


class Element:
    def __init__(self, array: Array, index: int) -> None:
        self.array, self.index = array, index
        self.tasks = slice_ranges(array.tasks, index * array.pack, array.pack)
        self.state, self.todo, self.task, self.starts = "pending", list(self.tasks), None, 0


class History:
    """What happens to a run, written in both layouts as it happens; and a scheduler that knows the elements."""

    def __init__(self, folder: Path) -> None:
        self.layouts = [Layout(folder / str(number), number) for number in (1, 2)]
        self.now, self.elements = 1000.0, []
        self.complete: set[int] = set()
        self.failed: dict[int, TaskRecord] = {}
        self.begun: dict[int, int] = {}
        self.claims: dict[tuple[int, int], Element] = {}
        self.ended: list[AccountingRow] = []
        self.submit("c0", [0], 1, 1)
        self.submit("a0", list(range(TASKS)), 3, 1)

    def submit(self, name: str, tasks: list[int], pack: int, generation: int) -> None:
        order = len({element.array.array for element in self.elements})
        array = Array(
            name, encode_ranges(tasks), f"r.{name}", -(-len(tasks) // pack), pack, generation=generation, state="submitted",
            order=order, job_id=str(70 + order), at=1.0, submitted_at=1.0, resubmit="q" if generation > 1 else None,
        )  # fmt: skip
        for layout in self.layouts:
            layout.submit(array)
        self.elements += [Element(array, index) for index in range(array.elements)]

    def act(self, what: str, which: int, more: int) -> None:
        self.now += 10.0
        element = self.elements[which % len(self.elements)]
        if what == "resubmit":
            self.resubmit(more)
        elif what == "step" and element.state == "pending":
            self.start(element)
        elif what == "step" and element.state == "running" and element.task is None:
            self.begin(element)
        elif what == "step" and element.state == "running":
            self.end(element, CAUSES[more % 8] if more % 8 < len(CAUSES) else None)
        elif what in ("kill", "requeue") and element.state == "running":
            if element.task is not None and more % 3 == 0:
                self.end(element, None, torn=True)
            element.task = None
            element.state = "pending" if what == "requeue" else "gone"
            if what == "kill" and more % 2:
                self.ended.append(AccountingRow(element.array.job_id or "", element.index, "timeout", "TIMEOUT"))

    def start(self, element: Element) -> None:
        element.state, element.todo = "running", list(element.tasks)
        element.starts += 1
        for layout in self.layouts:
            layout.start(element.array, element.index)

    def begin(self, element: Element) -> None:
        while element.todo and not self.may_begin(element, element.todo[0]):
            element.todo.pop(0)
        if not element.todo:
            element.state = "gone"
            return
        element.task = element.todo.pop(0)
        self.begun[element.task] = self.begun.get(element.task, 0) + 1
        self.claims.setdefault((element.array.generation, element.task), element)
        with mock.patch.object(element_log.time, "time", return_value=self.now):
            for layout in self.layouts:
                layout.begin(element.array, element.index, element.task, self.now, element.task == 0)

    def may_begin(self, element: Element, task: int) -> bool:
        """Neither complete, nor begun by the canary, nor of an element of a later generation that has started."""
        later = (other for other in self.elements if task in other.tasks and other.starts)
        taken = any(other.array.generation > element.array.generation for other in later)
        owner = self.claims.get((element.array.generation, task), element)
        return task not in self.complete and not taken and owner is element

    def end(self, element: Element, cause: str | None, torn: bool = False) -> None:
        task, array = element.task, element.array
        assert task is not None
        if task in self.failed and self.failed[task].generation > array.generation:
            cause = None  # a file a task holds the latest end: that of an older attempt would hide the newer one
        record = TaskRecord(
            task, FAILED if cause else COMPLETE, array.generation, array.job_id or "", element.index, array.array,
            f"node{element.index}", self.begun[task], {"x": task}, cause=cause, exit_code=1 if cause else 0, ended_at=self.now,
            seconds=float(self.begun[task]), metrics=None if cause else {"y": task / 3},
        )  # fmt: skip
        for layout in self.layouts if task not in self.complete else ():
            layout.end(array, element.index, record, torn)
        if not torn:
            element.task = None
            if cause and task not in self.complete:
                self.failed[task] = record
            elif not cause:
                self.complete.add(task)

    def resubmit(self, more: int) -> None:
        """Submit the failed tasks again that no element has now or to come."""
        busy = {task for element in self.elements if element.state != "gone" for task in [element.task, *element.todo]}
        open_tasks = sorted(set(self.failed) - self.complete - busy)
        generation = max(element.array.generation for element in self.elements) + 1
        if open_tasks and generation <= 3:
            self.submit(f"r{generation}-0", open_tasks, 1 + more % 3, generation)

    def queue(self, jobs: list[str]) -> list[QueueRow]:
        rows = [
            QueueRow(
                element.array.job_id or "",
                str(element.index),
                element.state,
                "",
                element.state,
                name=element.array.name,
            )
            for element in self.elements
            if element.state != "gone"
        ]
        return [row for row in rows if row.job in jobs]

    def accounting(self, jobs: list[str], _since: float) -> list[AccountingRow]:
        return [row for row in self.ended if row.job in jobs]

    def restarted(self, task: int) -> bool:
        """Files do not tell that an element has started again, until it claims the task anew."""
        return any(task in e.tasks and e.state == "running" and e.starts > 1 for e in self.elements)

    def of_canary(self, task: int) -> bool:
        """Its claim stands for its begin; the log of another element that has the task tells that this one did not begin it."""
        owner = self.claims.get((1, task))
        return owner is not None and owner.array.array == "c0"

    def look(self) -> None:
        with mock.patch("time.time", return_value=self.now):
            one, two = (RunStatus(layout.folder, {}, self) for layout in self.layouts)
            fresh = self.fresh()
            answers = [status_answer(status) for status in (one, two, fresh)]
            for status in (one, two):
                status.save()
        names = [[NAMES[state] for state in status.state] for status in (one, two, fresh)]
        assert names[1] == names[2], "what a look keeps for the next one changes nothing"
        for task in range(TASKS):
            if self.restarted(task) and names[0][task] in ("failed", "running"):
                assert names[1][task] in ("failed", "running", "pending")
                names[0][task] = names[1][task]
            elif self.of_canary(task) and names[0][task] == "running" and names[1][task] in ("failed", "pending"):
                names[0][task] = names[1][task]
        assert names[0] == names[1]
        assert {task for task in range(TASKS) if names[1][task] == "complete"} == self.complete
        if not any(map(self.restarted, range(TASKS))) and not self.of_canary(0):
            # Of one that failed and may be starting again, only a file tells when the attempt before it was claimed.
            if any(two.state[task] == RUNNING for task in two.records.failed):
                for answer in answers:
                    del answer["timing"]
            assert answers[0] == answers[1]
            assert answers[1] == answers[2]
            assert failures(one) == failures(two)
        self.compare_records(one, two)

    def fresh(self) -> RunStatus:
        """A look of the second layout that reads every record again."""
        folder = RunFolder(self.layouts[1].folder.path)
        kept = read_object(folder.status_cache)
        folder.status_cache += ".fresh"
        write_json(folder.status_cache, {name: kept[name] for name in kept if name not in OF_RECORDS}, sync=False)
        return RunStatus(folder, {}, self)

    def compare_records(self, one: RunStatus, two: RunStatus) -> None:
        for task in range(TASKS):
            mine, other = (Records(status.folder).read(task) for status in (one, two))
            assert (mine is None) == (other is None)
            assert mine is None or comparable(mine) == comparable(other)
        done = sorted(self.complete)
        tables = [fold(status.reader, {}, done, []) for status in (one, two)]
        assert tables[0] == tables[1]


def failures(status: RunStatus) -> dict[int, FailureFacts]:
    """Return the facts; only a log tells that the element of a task which was never begun had started."""
    failed = status.records.failed
    return {task: facts._replace(message="") if facts.evidence else facts for task, facts in failed.items()}


def comparable(record: TaskRecord | None) -> dict[str, Any]:
    assert record is not None
    return record._replace(log=None, log_offset=None, log_length=None)._asdict()


ACTS = st.tuples(
    st.sampled_from(["step"] * 8 + ["kill", "requeue", "resubmit", "look", "look"]),
    st.integers(0, 7),
    st.integers(0, 20),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, min_size=20, max_size=90))
def test_both_layouts_tell_the_same_of_any_history(acts: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        for what, which, more in acts:
            if what == "look":
                history.look()
            else:
                history.act(what, which, more)
        history.look()
        event(f"{len(history.complete)} complete")
        event(f"{len(set(history.failed) - history.complete)} failed")
