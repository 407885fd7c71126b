"""What accounting's rows make of tasks without a record."""

import pytest

from hpc_agent.node.look import accounting
from hpc_agent.node.look.run_status import RunStatus
from hpc_agent.node.schedulers.base import AccountingRow
from hpc_agent.node.shared import run_folder
from hpc_agent.node.shared.files import make_folder, write_json

ENTRY = {"array": "a0", "name": "run.a0", "job_id": "7", "tasks": "0-2", "pack": 1, "elements": 3, "generation": 1, "at": 0.0,
         "state": "submitted", "order": 0, "wave": 0}  # fmt: skip


class Scheduler:
    """Nothing is queued; element 0 ended well, 1 was killed for its memory, of 2 nobody knows anything."""

    def queue(self, jobs):
        return []

    def accounting(self, jobs, since):
        return [
            AccountingRow("7", 0, None, "COMPLETED", 0, None, "n1", 1.0),
            AccountingRow("7", 1, "out_of_memory", "OUT_OF_MEMORY", 0, None, "n1", 1.0),
        ]


@pytest.fixture
def look(tmp_path):
    folder = run_folder.RunFolder(str(tmp_path))
    make_folder(folder.jobs)
    write_json(folder.document, {"task_count": 3, "run_id": "run", "scheduler": "slurm"})
    write_json(folder.job("a0"), ENTRY)

    def causes():
        seen = RunStatus(folder, {}, Scheduler())
        seen.save()
        return {task: seen.records.failed[task].cause for task in seen.failed()}

    return causes


def test_an_end_without_a_record_waits_and_is_then_a_failure(monkeypatch, look):
    now = [1000.0]
    monkeypatch.setattr(accounting.time, "time", lambda: now[0])
    assert look() == {1: "out_of_memory"}, "the record of task 0 may only be late; of task 2 nobody knows anything"
    now[0] += accounting.RECORD_LATE_SEC + 1
    assert look() == {0: "no_record", 1: "out_of_memory", 2: "never_started"}
