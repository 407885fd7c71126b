"""An array reaches the scheduler once, wherever the submitter is killed and whatever the scheduler answers."""

import os
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.node.shared import ledger, run_folder
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import from_document, make_folder, write_json
from hpc_agent.node.shared.ledger import Array, read_array, summary
from hpc_agent.node.submission import run_plan
from hpc_agent.node.submission import submitter as submission


class Killed(BaseException):
    pass


class FakeScheduler:
    """Accepts, refuses, or lies; remembers what it accepted."""

    command_timeout = 1.0

    def __init__(self):
        self.accepted, self.answers, self.others = [], [], 5

    def submit(self, job):
        answer = self.answers.pop(0) if self.answers else "ok"
        if answer == "killed before":
            raise Killed
        if answer not in ("refused", "unknown", "full", "strange"):
            self.accepted.append(job.name)
        if answer == "killed after":
            raise Killed
        if answer in ("refused", "refused but accepted"):
            raise NodeError("scheduler_refused", "no", None, {"retry_later": False})
        if answer in ("unknown", "unknown but accepted"):
            raise NodeError("submission_unknown", "hm")
        if answer in ("strange", "strange but accepted"):
            raise NodeError("submission_unknown", "lua: non", None, {"ended_by_itself": True})
        if answer == "full":
            raise NodeError("scheduler_refused", "MaxSubmit", None, {"retry_later": True})
        return str(len(self.accepted))

    def find(self, name, since):
        return [str(number) for number, accepted in enumerate(self.accepted, 1) if accepted == name]

    def submitted_elements(self):
        return self.others


ANSWERS = [
    "ok",
    "refused",
    "refused but accepted",
    "unknown",
    "unknown but accepted",
    "strange",
    "strange but accepted",
    "killed before",
    "killed after",
    "full",
]


def make_run(path):
    folder = run_folder.RunFolder(str(path))
    make_folder(folder.jobs)
    write_json(folder.document, {"run_id": "r", "task_count": 3, "constraints": {}})
    write_json(folder.submission, {"template": "t", "job_environment": {}})
    entry = {"tasks": "0", "elements": 1, "pack": 1, "wave": 0, "generation": 1, "resources": {}, "placement": {}}
    arrays = [{**entry, "array": f"a{n}", "name": f"r.a{n}", "after": [f"a{n - 1}"] if n else []} for n in range(3)]
    run_plan.apply_plan(folder, [from_document(Array, array) for array in arrays], ())
    return folder


def submitter(folder, scheduler):
    with mock.patch.object(submission, "load", return_value=scheduler):
        return submission.Submitter(folder, {"owner": "me", "settle_sec": 0.0}, lambda: None)


@given(st.lists(st.sampled_from(ANSWERS), max_size=12), st.integers(0, 40))
@settings(max_examples=200)
def test_never_twice_never_lost(answers, kill_at):
    import tempfile

    with tempfile.TemporaryDirectory() as path, mock.patch.object(submission.time, "sleep"):
        folder, scheduler = make_run(path), FakeScheduler()
        scheduler.answers = list(answers)
        writes, honest = [0], write_json

        def dying(target, value, sync=True):
            writes[0] += 1
            if writes[0] == kill_at:
                raise Killed
            honest(target, value, sync)

        with mock.patch.object(ledger, "write_json", dying):
            for _ in range(30):
                try:
                    outcome = submitter(folder, scheduler).submit_open_arrays()
                except (Killed, NodeError):
                    continue
                if not outcome["waiting"] and not scheduler.answers:
                    break
        assert sorted(scheduler.accepted) == ["r.a0", "r.a1", "r.a2"]
        known = summary(folder)
        assert [known[f"a{n}"]["job_id"] for n in range(3)] == [scheduler.find(f"r.a{n}", 0)[0] for n in range(3)]
        assert read_array(folder, "a1").after_jobs == [known["a0"]["job_id"]]


@pytest.mark.parametrize("answer", ["refused but accepted", "strange but accepted"])
def test_a_scheduler_that_cannot_be_asked_leaves_it_unknown(tmp_path, answer):
    folder, scheduler = make_run(tmp_path), FakeScheduler()
    scheduler.answers = [answer]

    def down(name, since):
        raise NodeError("cluster_timeout", "down")

    scheduler.find, honest = down, scheduler.find
    with pytest.raises(NodeError) as caught:
        submitter(folder, scheduler).submit_open_arrays()
    assert caught.value.code == "submission_unknown"
    assert (read_array(folder, "a0").state, "down" in caught.value.message) == ("intent", True)
    scheduler.find = honest
    submitter(folder, scheduler).submit_open_arrays()
    assert scheduler.accepted == ["r.a0", "r.a1", "r.a2"]


@pytest.mark.parametrize(("answer", "code"), [("strange", "scheduler_refused"), ("unknown", "submission_unknown")])
def test_unknown_words_are_a_refusal_once_the_look_up_finds_nothing(tmp_path, answer, code):
    folder, scheduler = make_run(tmp_path), FakeScheduler()
    scheduler.answers = [answer]
    with pytest.raises(NodeError) as caught:
        submitter(folder, scheduler).submit_open_arrays()
    assert caught.value.code == code
    assert read_array(folder, "a0").state == ("refused" if answer == "strange" else "intent")
    assert scheduler.accepted == []


def test_what_was_refused_takes_new_resources_and_what_was_submitted_does_not(tmp_path):
    folder, scheduler = make_run(tmp_path), FakeScheduler()
    scheduler.answers = ["ok", "refused"]
    with pytest.raises(NodeError):
        submitter(folder, scheduler).submit_open_arrays()
    arrays = [dict(read_array(folder, f"a{n}").to_json(), resources={"mem_mb": 7}, max_running=None) for n in range(3)]
    assert run_plan.apply_plan(folder, [from_document(Array, array) for array in arrays], ())
    assert [read_array(folder, f"a{n}").resources for n in range(3)] == [{}, {"mem_mb": 7}, {"mem_mb": 7}]
    assert os.path.basename(folder.job("a0")) == "a0.json"


def test_a_limit_whose_jobs_ended_meanwhile_is_tried_again(tmp_path):
    folder, scheduler = make_run(tmp_path), FakeScheduler()
    scheduler.answers, scheduler.others = ["full"], 0
    assert submitter(folder, scheduler).submit_open_arrays()["waiting"] == 0
    assert scheduler.accepted == ["r.a0", "r.a1", "r.a2"]


def test_a_limit_that_refuses_in_an_empty_queue_is_no_matter_of_waiting(tmp_path):
    folder, scheduler = make_run(tmp_path), FakeScheduler()
    scheduler.answers, scheduler.others = ["full", "full"], 0
    with pytest.raises(NodeError) as raised:
        submitter(folder, scheduler).submit_open_arrays()
    assert "max_array_size" in raised.value.remediation
    assert scheduler.accepted == []
