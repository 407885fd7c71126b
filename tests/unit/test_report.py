"""What accounting's rows make of tasks without a record."""

from hpc_agent.models.mapreduce.runtime import records, report

ARRAY = {"array": "a0", "job_id": "7", "tasks": "0-2", "pack": 1, "elements": 3, "generation": 1, "at": 0.0}


class Accounting:
    def accounting(self, jobs, since):
        common = {"job": "7", "exit_code": 0, "signal": None, "host": "n1", "seconds": 1.0}
        return [
            {**common, "element": 0, "state": "complete", "cause": None, "raw": "COMPLETED"},
            {**common, "element": 1, "state": "failed", "cause": "out_of_memory", "raw": "OUT_OF_MEMORY"},
        ]


def causes(cache):
    scan = records.Scan(3)
    state = bytearray(3)
    report._apply_accounting(Accounting(), [ARRAY], [ARRAY], [], scan, state, cache)
    return {task: facts["cause"] for task, facts in scan.failed.items()}


def test_an_end_without_a_record_waits_and_is_then_a_failure(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(report.time, "time", lambda: now[0])
    cache: dict = {}
    assert causes(cache) == {1: "out_of_memory"}, (
        "the record of task 0 may only be late; of task 2 nobody knows anything"
    )
    now[0] += report.RECORD_LATE_SEC + 1
    assert causes(cache) == {0: "no_record", 1: "out_of_memory"}
