"""Progress as JSON records: few, and the last state of the counts is never a minute old."""

import io
import json

from hpc_agent.view import progress


def test_records_of_counts_are_few_and_every_other_record_is_written(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "time", lambda: clock[0])
    stream = io.StringIO()
    records = progress.JsonRecords(stream)
    for second in range(600):
        clock[0] = 1000.0 + second
        records.update("status", total=600, complete=second, eta_seconds=600 - second)
    told = [json.loads(line)["complete"] for line in stream.getvalue().splitlines()]
    assert told[0] == 0
    assert len(told) < 60, "one in a tenth of the time so far"
    assert all(later - earlier <= 60 for earlier, later in zip(told, told[1:], strict=False))

    stream.truncate(0)
    for second in range(200):
        clock[0] = 2000.0 + second
        records.update("status", total=600, complete=600, eta_seconds=second)
    assert len(stream.getvalue().splitlines()) == 4, "nothing changed: one a minute"
    records.update("unreachable", error="x")
    records.say("y")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()[-2:]] == ["unreachable", "say"]
