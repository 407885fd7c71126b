"""Of the combined log of a packed element, each reader shows the part of the task that was asked for."""

from pathlib import Path

import pytest
from dispatched_element import Element, until

from hpc_agent.node.look.accounting import explain
from hpc_agent.node.look.attempts import Attempts
from hpc_agent.node.look.logs import added, end_of, newest_log
from hpc_agent.node.schedulers.base import AccountingRow
from hpc_agent.node.shared.task_records import Records
from hpc_agent.node.why import answers

# Task 1 waits; in its first attempt it prints more than a log keeps in its head, and is killed.
EXECUTOR = """
echo begin $HPC_TASK_ID
if [ "$HPC_TASK_ID" = 1 ]; then
    if [ "$HPC_ATTEMPT" = 1 ]; then head -c 34000000 /dev/zero | tr '\\0' 'a'; echo; echo killed here; fi
    touch %s/$HPC_ATTEMPT; exec sleep 60
fi
test "$HPC_TASK_ID" != 2 || exit 3
"""


@pytest.fixture
def element(tmp_path: Path) -> Element:
    made = Element(tmp_path / "hpc-agent" / "repo")
    return made.submit(EXECUTOR % tmp_path, 4, scheduler="local")


def shown(element: Element, tmp_path: Path, **more: object) -> dict[int, dict]:
    request = {"root": str(element.root), "run_id": "r", "site": {"local_state": str(tmp_path / "state")}, "lines": 3}
    return {row["task"]: row for row in answers.logs({**request, "tasks": [0, 1, 2, 3], **more})["logs"]}


def test_each_task_shows_its_own_part_while_it_runs_after_a_kill_and_after_another_start(element, tmp_path):
    process = element.start()
    until((tmp_path / "1").exists)
    rows = shown(element, tmp_path)
    assert rows[0]["content"] == "begin 0"
    assert rows[1]["content"].splitlines()[-1] == "killed here", "beyond the head of the log"
    assert (rows[2]["missing"], rows[2]["content"]) == (True, "")
    Element.kill(process)
    assert shown(element, tmp_path)[1]["content"].splitlines()[-1] == "killed here"
    process = element.start()
    until((tmp_path / "2").exists)
    rows = shown(element, tmp_path, lines=10)
    assert (rows[0]["content"], rows[1]["content"]) == ("begin 0", "begin 1")
    Element.kill(process)
    Path(element.folder.work, ".hpc", "tasks.py").write_text("def resolve(i): raise KeyError(i)\n")
    assert element.run() == 1
    rows = shown(element, tmp_path)
    assert (rows[0]["content"], rows[1]["content"], rows[3]["content"]) == ("begin 0", "", "")


def test_a_log_is_followed_from_byte_to_byte_and_anew_in_another_attempt(element, tmp_path):
    process = element.start()
    until((tmp_path / "1").exists)
    reader = Records(element.folder)
    first = newest_log(reader, 0)
    assert first is not None
    assert added(first, 0) == ("begin 0\n", end_of(first))
    assert added(first, end_of(first)) == ("", end_of(first))
    Element.kill(process)
    process = element.start()
    until((tmp_path / "2").exists)
    log = newest_log(Records(element.folder), 1)
    assert log is not None
    assert log.offset > 34_000_000
    seen = shown(element, tmp_path, since={"0": 5, "1": 100})
    assert (seen[0]["content"], seen[1]["content"]) == (" 0\n", "begin 1\n")
    Element.kill(process)


def test_a_failure_is_explained_by_its_own_part(element, tmp_path):
    Path(tmp_path / "1").touch()
    element.submit("test $HPC_TASK_ID != 2 || { echo 'ModuleNotFoundError: No module named x'; exit 1; }; echo fine", 4,
                   scheduler="local")  # fmt: skip
    assert element.run() == 1
    rows = shown(element, tmp_path)
    assert rows[2]["cause"] == "missing_module"
    assert [rows[task]["content"] for task in (1, 3)] == ["fine", "fine"]


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("out_of_memory", ["signal", "out_of_memory", "out_of_memory"]),
        ("timeout", ["signal", "signal", "timeout"]),
        ("node_failure", ["signal", "signal", "node_failure"]),
        ("exit", ["signal", "signal", "signal"]),
    ],
)
def test_the_end_of_an_element_is_that_of_its_last_task_alone(tmp_path, cause, expected):
    """Tasks that crashed while the element went on were not ended by what ended the element; the kernel kills for memory."""

    class Scheduler:
        def accounting(self, jobs, since):
            return [AccountingRow(job, 0, cause, "IN ITS WORDS") for job in jobs]

    crashes = "case $HPC_TASK_ID in 1) kill -SEGV $$;; 2|3) kill -KILL $$;; esac"
    element = Element(tmp_path)
    element.array = {"job_id": "1", "state": "submitted", "at": 1.0}
    element.submit(crashes, 4)
    assert element.run() == 1
    attempts = Attempts(element.folder)
    explain(attempts, Scheduler(), [])
    facts = attempts.records.failed
    assert [facts[task].cause for task in (1, 2, 3)] == expected
    assert ["IN ITS WORDS" in facts[task].message for task in (1, 2, 3)] == [cause != "signal" for cause in expected]
