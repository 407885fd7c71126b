import json

import pytest

from hpc_agent.errors import JournalCorrupt, RunNotFound, SpecInvalid
from hpc_agent.state.journal import Journal, fold, read_events
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World


@pytest.fixture
def journal(tmp_path):
    world = World(
        cwd=tmp_path, env={"HOME": str(tmp_path), "HPC_JOURNAL_DIR": str(tmp_path / "journal")}, now=lambda: 100.0
    )
    return Journal(world, RepoLayout(tmp_path))


def submitted(journal):
    journal.append("run-1", "submitting", run_name="run", cluster="c", total_tasks=3, cmd_sha="ab")
    journal.append("run-1", "submitted", job_ids=["7"], remote_path="/r")
    journal.append("run-1", "status", lifecycle_state="complete", counts={"complete": 3})
    journal.append("run-1", "aggregated", waves=[1, 0], output="/o")


def test_the_fold_of_a_whole_life(journal):
    submitted(journal)
    record = journal.load("run-1")
    assert (record.status, record.job_ids, record.total_tasks) == ("complete", ["7"], 3)
    assert (record.last_status, record.combined_waves, record.submitted_at) == ({"complete": 3}, [0, 1], 100.0)


def test_cut_at_every_byte_it_is_the_fold_of_a_prefix(journal):
    submitted(journal)
    path = journal.path("run-1")
    whole = path.read_bytes()
    events, _ = read_events(path)
    prefixes = [fold("run-1", events[:n]) for n in range(len(events) + 1)]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        seen, torn = read_events(path)
        assert fold("run-1", seen) == prefixes[whole[:size].count(b"\n")]
        assert torn == (not whole[:size].endswith(b"\n") and size > 0)
        journal.append("run-1", "status", lifecycle_state="failed", counts={})
        after, torn = read_events(path)
        assert (after[:-1], torn) == (seen, False), "the torn line is gone, everything acknowledged is kept"


def test_damage_in_the_middle_is_corruption_and_names_the_line(journal):
    submitted(journal)
    path = journal.path("run-1")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\x00\x00\n", *lines[2:]]))
    with pytest.raises(JournalCorrupt) as caught:
        journal.load("run-1")
    assert caught.value.details["line"] == 2
    journal.append("run-2", "submitting", run_name="other")
    records, problems = journal.all()
    assert [record.run_id for record in records] == ["run-2"]
    assert len(problems) == 1


def test_part_of_the_arrays_is_not_a_submitted_run(journal):
    journal.append("run-1", "submitting", run_name="run")
    journal.append("run-1", "submitted", job_ids=["7"], whole=False)
    record = journal.load("run-1")
    assert (record.status, record.submitted_at, record.job_ids) == ("submitting", None, ["7"])


def test_a_submission_that_left_no_job_is_no_run(journal):
    journal.append("run-1", "submitting", run_name="run", command="hpc-agent submit --cluster c")
    journal.append("run-1", "marked", status="abandoned", reason="not submitted: data changed")
    assert (journal.all()[0], [record.run_id for record in journal.all(never_sent=True)[0]]) == ([], ["run-1"])
    again = [
        {"event": "submitting", "at": 1, "command": "hpc-agent submit"},
        {"event": "submitted", "at": 2, "job_ids": ["7"]},
    ]
    events = read_events(journal.path("run-1"))[0]
    assert [fold("run-1", events + again[:n]).status for n in range(3)] == ["abandoned", "submitting", "in_flight"]
    assert fold("run-1", events + again[1:]).status == "in_flight", "its job was found after all"


def test_unknown_and_hostile_ids(journal):
    with pytest.raises(RunNotFound):
        journal.load("nosuch")
    with pytest.raises(SpecInvalid):
        journal.load("../../passwd")


def test_events_are_one_json_line_each(journal):
    submitted(journal)
    assert [json.loads(line)["event"] for line in journal.path("run-1").read_text().splitlines()] == [
        "submitting", "submitted", "status", "aggregated",
    ]  # fmt: skip
