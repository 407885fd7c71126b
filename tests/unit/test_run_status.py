"""The state of tasks from records, queue and accounting; every change is one of the table of transitions."""

import os

import pytest

from hpc_agent.node.look import accounting, patience
from hpc_agent.node.look.report import status_answer
from hpc_agent.node.look.run_status import RunStatus
from hpc_agent.node.schedulers.base import AccountingRow, QueueRow
from hpc_agent.node.shared import run_folder, task_states
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.why import answers, diagnosis


class Scheduler:
    def __init__(self):
        self.rows, self.ended, self.broken = [], [], None

    def queue(self, jobs):
        if self.broken == "queue":
            raise NodeError("cluster_timeout", "no answer")
        return [row for row in self.rows if row.job in jobs]

    def accounting(self, jobs, since):
        if self.broken == "accounting":
            raise NodeError("cluster_timeout", "no answer")
        return [row for row in self.ended if row.job in jobs]


class Bed:
    """A run of three tasks on disk, and a scheduler that says what it is told to."""

    def __init__(self, path):
        self.folder = run_folder.RunFolder(str(path))
        self.scheduler = Scheduler()
        self.seen = {}
        make_folder(self.folder.jobs)
        write_json(self.folder.document, {"task_count": 3, "run_id": "r", "scheduler": "slurm"})
        self.entry("a0", "7", 1)

    def entry(self, array, job, generation, tasks="0-2", **more):
        write_json(self.folder.job(array), {
            "array": array, "name": "r." + array, "job_id": job, "tasks": tasks, "pack": 1, "elements": 3, "wave": 0,
            "generation": generation, "at": 0.0, "state": "submitted" if job else "planned", "order": generation, **more,
        })  # fmt: skip

    def queued(self, state, elements="0-2", job="7", reason="", name="r.a0"):
        self.scheduler.rows = [QueueRow(job, elements, state, reason, state, name=name)]

    def record(self, task, state, generation=1, cause=None, attempt=1):
        path = self.folder.record(task)
        make_folder(os.path.dirname(path))
        document = {"task": task, "state": state, "generation": generation, "cause": cause, "job": "7", "element": task,
                    "seconds": 1.0, "ended_at": 1.0, "attempt": attempt}  # fmt: skip
        write_json(path, document)
        os.utime(
            os.path.dirname(path),
            ns=(1, len(os.listdir(os.path.dirname(path))) + generation * 100 + task + attempt * 1000),
        )

    def claim(self, task, generation=1):
        path = self.folder.claim(task, generation)
        make_folder(os.path.dirname(path))
        with open(path, "w") as handle:
            handle.write("owner\nhost 1\n")

    def look(self):
        found = RunStatus(self.folder, {}, self.scheduler)
        answer = answers.with_causes(found)
        found.save()
        states = {task: task_states.NAMES[found.state[task]] for task in range(3)}
        known = {(a, b) for a, ends in task_states.TRANSITIONS.items() for b in ends} | {
            (s, s) for s in states.values()
        }
        for task, state in states.items():
            assert (self.seen.get(task, "pending"), state) in known | {("unknown", s) for s in states.values()}
        self.seen = states
        return found, answer


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


def test_a_task_from_the_queue_to_its_record(bed):
    bed.queued("pending", reason="Priority")
    assert bed.look()[1]["counts"]["pending"] == 3
    bed.queued("running")
    assert bed.look()[1]["counts"]["running"] == 3
    for task in range(3):
        bed.record(task, "complete")
    bed.scheduler.rows = []
    answer = bed.look()[1]
    assert (answer["lifecycle_state"], answer["counts"]["complete"]) == ("complete", 3)


def test_another_job_with_the_same_id_is_not_ours(bed):
    bed.queued("running", name="somebody.else")
    assert bed.look()[1]["counts"]["running"] == 0


def test_a_failed_query_is_no_answer(bed):
    bed.queued("running")
    bed.look()
    bed.scheduler.broken = "queue"
    answer = bed.look()[1]
    assert (answer["lifecycle_state"], answer["counts"]["running"]) == ("in_flight", 3)
    assert answer["stale"]["source"] == "queue"


def test_planned_arrays_wait_and_say_why(bed):
    bed.entry("a0", None, 1, message="QOSMaxSubmitJobPerUserLimit")
    answer = bed.look()[1]
    assert (answer["counts"]["pending"], answer["to_submit"]) == (3, 1)
    assert "QOSMaxSubmitJobPerUserLimit" in answer["waiting"][0]["sentence"]


def test_a_requeued_element_is_pending_again_whatever_its_record_says(bed):
    bed.record(0, "failed", cause="terminated")
    bed.queued("pending", elements="0")
    found, answer = bed.look()
    assert (task_states.NAMES[found.state[0]], answer["counts"]["failed"]) == ("pending", 0)
    bed.queued("completing", elements="0")
    assert task_states.NAMES[bed.look()[0].state[0]] == "failed", "it may only be completing"
    bed.queued("running", elements="0")
    answer = bed.look()[1]
    assert (answer["lifecycle_state"], answer["counts"]["running"]) == ("in_flight", 1), (
        "its new attempt may be starting"
    )
    bed.claim(0)
    bed.queued("completing", elements="0")
    assert task_states.NAMES[bed.look()[0].state[0]] == "running", "claimed anew after the record"


def test_the_task_begun_last_by_a_packed_element_may_be_begun_again(bed):
    """The others that failed have their ends: the element went on after them."""
    bed.entry("a0", "7", 1, pack=3, elements=1)
    bed.claim(0), bed.claim(1)
    bed.record(0, "failed", cause="signal")
    bed.queued("running", elements="0")
    states = [task_states.NAMES[state] for state in bed.look()[0].state]
    assert states == ["failed", "running", "pending"]
    bed.record(1, "failed", cause="terminated")
    states = [task_states.NAMES[state] for state in bed.look()[0].state]
    assert states == ["failed", "running", "pending"], "put back, and not yet at its first claim"
    bed.scheduler.rows = []
    bed.scheduler.ended = [AccountingRow("7", 0, "preempted", "PREEMPTED")]
    assert bed.look()[1]["counts"]["failed"] == 3


@pytest.mark.parametrize("ends", ["complete", "failed"])
@pytest.mark.parametrize("queued", [[], [QueueRow("7", "0", "completing", "", "CG", name="r.a0")]])
def test_a_requeued_element_that_ends_while_the_queue_is_asked(bed, monkeypatch, queued, ends):
    bed.record(0, "failed", cause="checkpointed")
    bed.look()

    def queue(jobs):
        bed.record(0, ends, cause=None if ends == "complete" else "code_error", attempt=2)
        return queued

    monkeypatch.setattr(bed.scheduler, "queue", queue)
    found, answer = bed.look()
    assert task_states.NAMES[found.state[0]] == ends
    assert answer["failures_by_cause"] == ({} if ends == "complete" else {"code_error": 1})


def test_a_newer_generation_speaks_for_its_tasks(bed):
    bed.record(1, "failed", cause="code_error")
    bed.entry("r2-0", "8", 2, tasks="1", resubmit="q")
    bed.queued("pending", elements="0", job="8", name="r.r2-0")
    assert task_states.NAMES[bed.look()[0].state[1]] == "pending"
    bed.scheduler.rows = []
    assert task_states.NAMES[bed.look()[0].state[1]] == "unknown", "the old record says nothing of the new attempt"
    bed.scheduler.ended = [AccountingRow("8", 0, "timeout", "TIMEOUT")]
    found, answer = bed.look()
    assert (answer["failures_by_cause"], found.records.failed[1].generation) == ({"walltime": 1}, 2)


def test_a_segment_does_not_wait_for_a_task_that_failed_for_good(bed):
    bed.entry("s2-a0", "8", 2, segment=2)
    bed.record(0, "failed", cause="code_error")
    bed.record(1, "failed", cause="checkpointed")
    bed.queued("pending", job="8", name="r.s2-a0")
    found, _ = bed.look()
    assert [task_states.NAMES[found.state[task]] for task in range(3)] == ["failed", "pending", "pending"]


def test_deleted_while_pending_is_told_after_a_minute_and_a_claimed_task_is_not(bed, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(accounting.time, "time", lambda: now[0])
    bed.claim(2)
    assert bed.look()[1]["counts"]["unknown"] == 3
    now[0] += accounting.VANISHED_SEC + 1
    answer = bed.look()[1]
    assert (answer["failures_by_cause"], answer["counts"]["unknown"]) == ({"never_started": 2}, 1)
    bed.record(0, "complete")
    assert bed.look()[1]["counts"]["complete"] == 1, "a record that comes late is believed all the same"


def test_a_damaged_ledger_spoils_only_its_own_run(tmp_path):
    root = str(tmp_path / "hpc-agent" / "repo")
    runs = [{"root": root, "run_id": name} for name in ("good", "bad")]
    for run in runs:
        folder = run_folder.run_folder(root, run["run_id"])
        make_folder(folder.jobs)
        write_json(folder.document, {"task_count": 1, "run_id": run["run_id"], "scheduler": "slurm"})
    with open(folder.job("a0"), "w") as handle:
        handle.write("{")
    told = answers.overview({"runs": runs})["runs"]
    assert (told["good"]["total"], told["bad"]["code"]) == (1, "schema_incompat")


def test_accounting_that_is_down_leaves_it_open(bed):
    bed.scheduler.broken = "accounting"
    answer = bed.look()[1]
    assert (answer["lifecycle_state"], answer["stale"]["source"], answer["counts"]["unknown"]) == (
        "in_flight",
        "accounting",
        3,
    )


def timing_of(bed, began):
    """The timing of a look 100 s after time 0; ``began``: when each running task was claimed."""
    for task, at in began.items():
        bed.claim(task)
        os.utime(bed.folder.claim(task, 1), (at, at))
    return status_answer(RunStatus(bed.folder, {}, bed.scheduler))["timing"]


def test_an_estimate_knows_the_time_that_tasks_have_run(tmp_path, monkeypatch):
    monkeypatch.setattr("hpc_agent.node.look.report.time.time", lambda: 1000.0)
    bed = Bed(tmp_path)
    bed.entry("a0", "7", 1, resources={"walltime_sec": 600})
    bed.queued("pending")
    assert timing_of(bed, {}) == {"left": None, "longest_ran": None, "walltime_left": 600.0}
    bed.queued("running", "1-2")
    assert timing_of(bed, {1: 900.0, 2: 950.0}) == {"left": None, "longest_ran": 100.0, "walltime_left": 500.0}
    monkeypatch.setattr("hpc_agent.node.look.recorded.RecordScan.mean_seconds", 120.0)
    assert timing_of(bed, {})["left"] == 70.0, "task 2 has run 50 s of 120 s"
    monkeypatch.setattr("hpc_agent.node.look.recorded.RecordScan.mean_seconds", 80.0)
    assert timing_of(bed, {1: 900.0, 2: 910.0})["left"] is None, "both are slower than that: nobody knows"
    bed.queued("running", "2")
    assert timing_of(bed, {2: 990.0})["left"] == 70.0


def test_what_is_left_of_an_ended_arrays_walltime_is_no_limit(tmp_path):
    bed = Bed(tmp_path)
    bed.entry("a0", "7", 1, resources={"walltime_sec": 60})
    bed.entry("r1-0", "8", 2, resources={"walltime_sec": 9000})
    for task in range(3):
        bed.record(task, "failed", cause="timeout")
    bed.queued("pending", job="8", name="r.r1-0")
    assert timing_of(bed, {})["walltime_left"] == 9000.0


def test_finished_tasks_of_a_running_pack_are_not_looked_up(bed, monkeypatch):
    bed.entry("a0", "7", 1, pack=3, elements=1)
    bed.record(0, "complete")
    bed.record(1, "failed", cause="code_error")
    bed.claim(2)
    looked, real = [], os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: looked.append(path) or real(path))
    monkeypatch.setattr(os, "stat", lambda path, *a, real=os.stat, **k: looked.append(str(path)) or real(path, *a, **k))
    bed.queued("running", elements="0")
    found = RunStatus(bed.folder, {}, bed.scheduler)
    assert [task_states.NAMES[state] for state in found.state] == ["complete", "failed", "running"]
    assert {path for path in looked if "claims" in path} == {bed.folder.claim(2, 1)}
    looked.clear()
    os.unlink(bed.folder.claim(2, 1))
    assert task_states.NAMES[RunStatus(bed.folder, {}, bed.scheduler).state[2]] == "pending"


def test_a_resubmitted_task_of_a_pack_that_still_runs_is_not_failed_by_its_old_record(bed):
    """Its new attempt was killed with its record, while the old element works on the other tasks of the pack."""
    bed.entry("a0", "7", 1, pack=3, elements=1)
    bed.record(0, "failed", cause="code_error")
    bed.claim(1)
    bed.entry("r2-0", "8", 2, tasks="0", resubmit="q", elements=1)
    bed.queued("running", elements="0")
    assert task_states.NAMES[bed.look()[0].state[0]] == "unknown"
    bed.scheduler.ended = [AccountingRow("8", 0, "out_of_memory", "OUT_OF_MEMORY")]
    found, answer = bed.look()
    assert (answer["failures_by_cause"], found.records.failed[0].generation) == ({"out_of_memory": 1}, 2)
    assert [task_states.NAMES[state] for state in found.state[1:]] == ["running", "pending"]


def test_the_class_by_the_log_is_the_cause_that_every_answer_tells(bed, monkeypatch):
    log = bed.folder.log(1, 1)
    make_folder(os.path.dirname(log))
    with open(log, "w") as handle:
        handle.write('Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    import x\n'
                     "ModuleNotFoundError: No module named 'x'\n")  # fmt: skip
    bed.record(1, "failed", cause="code_error")
    found, answer = bed.look()
    assert (answer["failures_by_cause"], answer["samples"][0]["cause"]) == ({"missing_module": 1}, "missing_module")
    assert [d.found.name for d in diagnosis.diagnose(found, [1])] == ["missing_module"]
    monkeypatch.setattr(diagnosis, "tail_of", lambda *_: pytest.fail("a log is read once"))
    assert bed.look()[1]["failures_by_cause"] == {"missing_module": 1}
    bed.record(1, "failed", generation=2, cause="code_error")
    with pytest.raises(pytest.fail.Exception):
        bed.look()


def waits(bed, seen, seconds=5.0):
    """Whether a look waits for all of ``seconds``, by a clock that the pauses move."""
    return patience.await_end(bed.folder, {"wait_sec": seconds, "seen_ended": seen}).get("waited", 0.0) >= seconds


class Listener:
    """Lets the time of a pause pass at once, does what is due, and says when the client has gone."""

    def __init__(self, monkeypatch, actions=(), leaves=None):
        self.now, self.actions, self.leaves, self.pauses = 0.0, list(actions), leaves, []
        monkeypatch.setattr(patience, "_listener", lambda: self)
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)

    def poll(self, milliseconds):
        self.now += milliseconds / 1000
        self.pauses.append(milliseconds / 1000)
        while self.actions and self.actions[0][0] <= self.now:
            self.actions.pop(0)[1]()
        return [2] if self.leaves is not None and self.now >= self.leaves else []


def test_a_look_waits_for_the_end_and_asks_nobody(bed, monkeypatch):
    """Also for a task that failed; an end that the client has seen is no news."""
    ends = [(1.0, lambda: bed.record(0, "complete")), (1.5, lambda: bed.record(1, "failed", cause="exit_code"))]
    clock = Listener(monkeypatch, [*ends, (3.0, lambda: bed.record(2, "complete"))])
    assert not waits(bed, 0, 60.0)
    assert 3.0 <= clock.now <= 3.0 + patience.MOST_SEC
    assert waits(bed, 3, 60.0)
    assert patience.await_end(bed.folder, {}) == {}


def test_a_look_waits_no_longer_than_asked_nor_for_a_client_that_has_gone(bed, monkeypatch):
    clock = Listener(monkeypatch)
    assert waits(bed, 0)
    assert clock.now == pytest.approx(5.0)
    assert max(clock.pauses) <= patience.MOST_SEC
    Listener(monkeypatch, leaves=0.0)
    assert not waits(bed, 0)


def test_a_killed_task_that_accounting_may_explain_is_waited_for(bed, monkeypatch):
    """The scheduler is not asked sooner than the pause of the watch says."""
    for task in range(3):
        bed.record(task, "failed", cause="signal")
    Listener(monkeypatch)
    assert waits(bed, 0)


def test_tasks_that_were_submitted_again_are_waited_for(bed, monkeypatch):
    for task in range(3):
        bed.record(task, "failed", cause="exit_code")
    bed.entry("r1-0", "8", 2, tasks="1")
    clock = Listener(monkeypatch, [(2.0, lambda: bed.record(1, "complete", generation=2))])
    assert not waits(bed, 2, 60.0)
    assert clock.now >= 2.0


def test_the_late_record_of_an_element_that_ended_by_itself_is_waited_for(bed, monkeypatch):
    """A dispatcher that ends with 1 has recorded the failure of one of its tasks; those of the others may be on their way."""
    bed.entry("a0", "7", 1, pack=3, elements=1)
    bed.scheduler.ended = [AccountingRow("7", 0, "exit", "FAILED 1:0", 1)]
    bed.record(0, "failed", cause="exit")
    found, answer = bed.look()
    assert ([task_states.NAMES[state] for state in found.state], answer["lifecycle_state"]) == (
        ["failed", "unknown", "unknown"],
        "in_flight",
    )
    bed.record(1, "complete")
    monkeypatch.setattr(accounting, "RECORD_LATE_SEC", -1.0)
    found, answer = bed.look()
    assert ([task_states.NAMES[state] for state in found.state], answer["lifecycle_state"]) == (
        ["failed", "complete", "failed"],
        "failed",
    )


def test_an_element_that_could_not_begin_is_not_waited_for(bed):
    bed.scheduler.ended = [AccountingRow("7", task, "exit", "FAILED 127:0", 127) for task in range(3)]
    assert bed.look()[1]["counts"]["failed"] == 3
