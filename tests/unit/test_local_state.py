"""The embedded scheduler's pure parts: event folds, the start plan, reasons, process families, secrets."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.schedulers import base, load
from hpc_agent.node.schedulers.local import adapter as local_module
from hpc_agent.node.schedulers.local import capacity, elements, events, state_folder
from hpc_agent.node.schedulers.local.adapter import Local
from hpc_agent.node.schedulers.local.capacity import Amount, Demand, plan
from hpc_agent.node.schedulers.local.events import ElementStates, Event, add_up
from hpc_agent.node.schedulers.local.state_folder import StateFolder, StoredJob
from hpc_agent.node.shared import processes
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.shared.files import read_json
from hpc_agent.node.shared.processes import Process

COUNT = 4
ELEMENTS = st.integers(0, COUNT - 1)
EVENTS = st.one_of(
    st.builds(lambda i, a: {"event": "start", "element": i, "attempt": a, "pid": 1}, ELEMENTS, st.integers(1, 3)),
    st.builds(lambda i: {"event": "kill", "element": i, "cause": "timeout"}, ELEMENTS),
    st.builds(lambda i, n: {"event": "requeue", "element": i, "next": n}, ELEMENTS, st.integers(1, 3)),
    st.builds(lambda i, c: {"event": "end", "element": i, "cause": c}, ELEMENTS, st.sampled_from([None, "exit"])),
)


def text_of(events: list[dict]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def facts(state: ElementStates) -> tuple:
    return state.started, state.ended, state.attempts


@given(st.lists(EVENTS, max_size=12))
def test_each_element_is_pending_started_or_ended(events: list[dict]) -> None:
    state = add_up(text_of(events))
    everywhere = [*state.pending(COUNT), *state.started, *state.ended]
    assert sorted(everywhere) == list(range(COUNT))


@given(st.lists(EVENTS, max_size=8), st.data())
def test_a_log_cut_anywhere_is_a_shorter_log(events: list[dict], data: st.DataObject) -> None:
    text = text_of(events)
    cut = data.draw(st.integers(0, len(text)))
    whole_lines = text[:cut].count("\n")
    allowed = [facts(add_up(text_of(events[:whole_lines])))]
    if cut < len(text) and text[cut] == "\n":
        allowed.append(facts(add_up(text_of(events[: whole_lines + 1]))))
    assert facts(add_up(text[:cut])) in allowed


@given(st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=4), st.text(max_size=5))
def test_a_torn_line_in_the_middle_counts_for_nothing(before: list[dict], after: list[dict], noise: str) -> None:
    torn = '{"event":"end","element":0,"cau' + noise.replace("\n", "")
    assert facts(add_up(text_of(before) + torn + "\n" + text_of(after))) == facts(add_up(text_of(before + after)))


def test_an_end_is_final() -> None:
    end = {"event": "end", "element": 1, "cause": "exit"}
    state = add_up(text_of([end, {"event": "start", "element": 1, "attempt": 2}, {"event": "end", "element": 1}]))
    assert state.ended == {1: Event(**end)}
    assert state.started == {}


def test_a_requeued_element_is_pending_with_its_next_attempt() -> None:
    state = add_up(
        text_of([{"event": "start", "element": 2, "attempt": 1}, {"event": "requeue", "element": 2, "next": 2}])
    )
    assert state.pending(3) == [0, 1, 2]
    assert state.attempts == {2: 2}


def test_why_it_was_killed_survives_the_killer() -> None:
    events = [
        {"event": "start", "element": 0, "attempt": 1},
        {"event": "kill", "element": 0, "cause": "out_of_memory"},
    ]
    assert add_up(text_of(events)).started[0].cause == "out_of_memory"


@pytest.mark.parametrize("line", ["", "{", "[]", "1", '"x"', "{}", '{"event":"end"}', "null", "\x00\x00"])
def test_lines_that_are_no_event(line: str) -> None:
    assert facts(add_up(line + "\n")) == ({}, {}, {})


def test_a_torn_line_does_not_spoil_the_next_event(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text('{"event":"end","elem')
    events.append(str(log), Event("end", 3))
    events.append(str(log), Event("end", 4))
    assert list(events.read(str(log)).ended) == [3, 4]


@pytest.mark.parametrize(
    ("returncode", "killed_for", "expected"),
    [
        (0, None, (None, 0, None)),
        (1, None, ("exit", 1, None)),
        (255, None, ("exit", 255, None)),
        (139, None, ("signal", 139, 11)),
        (128, None, ("exit", 128, None)),
        (-9, None, ("signal", None, 9)),
        (-9, "out_of_memory", ("out_of_memory", None, 9)),
        (143, "timeout", ("timeout", 143, 15)),
        (0, "timeout", ("timeout", 0, None)),
        (None, "node_failure", ("node_failure", None, None)),
    ],
)
def test_cause_of_an_end(returncode, killed_for, expected) -> None:
    assert events.classify(returncode, killed_for) == expected


AMOUNTS = st.builds(Amount, st.integers(1, 6), st.integers(0, 60).map(float), st.integers(0, 2))
DEMANDS = st.lists(st.tuples(st.integers(1, 9), AMOUNTS, st.sampled_from([0.0, 1e4])), max_size=6).map(
    lambda rows: [Demand(number, *row) for number, row in enumerate(rows)]
)


@given(DEMANDS, AMOUNTS, AMOUNTS)
def test_the_plan_fits_what_is_free(demands: list[Demand], limits: Amount, used: Amount) -> None:
    free = limits.minus(used)
    grants = plan(demands, limits, free)
    for job, number in grants:
        assert 1 <= number <= demands[job].elements
        for _ in range(number):
            free = free.minus(demands[job].each)
    oversized = [job for job, _ in grants if not demands[job].each.fits(limits)]
    if oversized:
        assert len(grants) >= 1
        assert grants[0] == (oversized[0], 1)
    else:
        assert not grants or min(free) >= 0


@given(DEMANDS, AMOUNTS)
def test_an_empty_machine_starts_whatever_it_can(demands: list[Demand], limits: Amount) -> None:
    possible = [demand for demand in demands if demand.each.gpus <= limits.gpus]
    grants = plan(demands, limits, limits)
    assert bool(grants) == bool(possible)
    if possible:
        assert grants[0][0] == possible[0].job


def test_later_jobs_fill_the_gap_until_patience_ends() -> None:
    limits, free = Amount(4, 100.0, 0), Amount(1, 100.0, 0)
    wide, narrow = Amount(4, 0.0, 0), Amount(1, 0.0, 0)
    assert plan([Demand(1, 1, wide, 10.0), Demand(2, 5, narrow, 0.0)], limits, free) == [(2, 1)]
    assert plan([Demand(1, 1, wide, 301.0), Demand(2, 5, narrow, 0.0)], limits, free) == []


def test_a_job_for_gpus_that_are_gone_blocks_nobody() -> None:
    limits = Amount(2, 100.0, 0)
    impossible = Demand(1, 1, Amount(1, 0.0, 1), 1e6)
    assert plan([impossible, Demand(2, 1, Amount(1, 0.0, 0), 0.0)], limits, limits) == [(2, 1)]


def test_first_come_first_served() -> None:
    limits = Amount(3, 100.0, 0)
    one = Amount(1, 0.0, 0)
    assert plan([Demand(1, 2, one, 0.0), Demand(2, 9, one, 0.0)], limits, limits) == [(1, 2), (2, 1)]


def test_needs_of_an_exclusive_job() -> None:
    assert capacity.needs({"exclusive": True, "cpus": 1}, Amount(8, 1.0, 0)).cores == 8
    assert capacity.needs({"cpus": None, "mem_mb": None}, Amount(8, 1.0, 0)) == Amount(1, 0.0, 0)


def test_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Local(str(tmp_path))
    monkeypatch.setattr(scheduler, "ensure_supervisor", lambda: True)
    scheduler.state.create()
    for fields in ({"after": ["9", "4"]}, {"count": 2, "max_running": 1}, {"after": ["9"]}, {}):
        scheduler.state.allocate(StoredJob(make_job(**fields), {}, 0.0))
    events.append(scheduler.state.job(2).events, Event("start", 0))
    reasons = {row.job: row.reason for row in scheduler.queue(["4", "3", "2", "1"]) if row.state == "pending"}
    assert reasons == {"1": "Dependency", "2": "ThrottleLimit", "3": "Resources", "4": "Priority"}
    assert [row.reason for row in scheduler.queue(["4"])] == ["Priority"]


def test_a_supervisor_that_an_element_starts_has_not_the_mark_of_the_element(tmp_path, monkeypatch):
    """A task may submit runs of its own: the processes with its mark are killed when the task is."""
    monkeypatch.setenv(elements.MARK, "outer")
    started = []

    def popen(*_, env, **__):
        started.append(env)
        raise OSError

    monkeypatch.setattr(local_module.subprocess, "Popen", popen)
    assert not local_module._spawn(StateFolder(str(tmp_path)), 0)
    assert elements.MARK not in started[0] and "PATH" in started[0]


def test_secrets_stay_out_of_the_state_folder() -> None:
    kept = {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false", "MAX_TOKENS": "512"}
    environment = {"WANDB_API_KEY": "k", "HF_TOKEN": "t", "db_password": "p", "SSH_AUTH_SOCK": "s", **kept}
    assert elements.without_secrets(environment) == kept
    stored = StoredJob(make_job(environment={"A": "2"}), {"PATH": "/bin", "A": "1"}, 0.0)
    own = {"HF_TOKEN": "t", "PATH": "/elsewhere", "OTHER": "x"}
    assert elements.job_environment(stored, own) == {"HF_TOKEN": "t", "PATH": "/bin", "A": "2"}


def test_ids_are_given_once_and_half_made_jobs_are_none(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path / "s"))
    state.create()
    stored = StoredJob(make_job(), {}, 0.0)
    assert [state.allocate(stored), state.allocate(stored)] == [1, 2]
    Path(state.job(3).path).mkdir()
    assert state.allocate(stored) == 4
    assert state.active_ids() == [1, 2, 4]
    assert read_json(state.job(3).spec) is None
    assert Path(state.path).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["[1]", "{}", "7", '{"name": "n"', ""])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    folder = StateFolder(str(tmp_path)).job(1)
    Path(folder.path).mkdir(parents=True)
    Path(folder.spec).write_text(text)
    with pytest.raises(NodeError, match="is damaged"):
        folder.read()


def test_ten_comes_after_nine(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path))
    state.create()
    assert [state.allocate(StoredJob(make_job(), {}, 0.0)) for _ in range(11)] == list(range(1, 12))


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = state_folder.take_lock(path)
    assert held is not None
    assert state_folder.take_lock(path) is None
    os.close(held)
    again = state_folder.take_lock(path)
    assert again is not None
    os.close(again)


def process(pid: int, parent: int, session: int, born: str = "1", rss: float = 1.0) -> Process:
    return Process(pid, parent, session, session, rss, born)


def table(*rows: Process) -> dict[int, Process]:
    return {row.pid: row for row in rows}


def test_a_family_is_session_descendants_and_old_acquaintances() -> None:
    rows = table(
        process(1, 0, 1),
        process(10, 1, 10),
        process(11, 10, 10),
        process(12, 11, 12),  # a session of its own, as a task's executor has
        process(13, 12, 12),
        process(20, 1, 20),  # a stranger
        process(30, 1, 30, born="7"),  # its parent has died, but it was seen before
        process(31, 30, 31),
    )
    assert set(processes.family(rows, 10, {10: "1", 30: "7"})) == {10, 11, 12, 13, 30, 31}
    assert set(processes.family(rows, 10, {30: "6"})) == {10, 11, 12, 13}


def test_a_reused_id_is_not_family() -> None:
    rows = table(process(10, 1, 10, born="9"), process(11, 10, 10, born="9"))
    assert processes.family(rows, 10, {10: "1"}) == {}


def test_memory_adds_up() -> None:
    rows = table(process(10, 1, 10, rss=3.0), process(11, 10, 10, rss=4.0))
    assert processes.memory_mb(rows, [10, 11, 99], None) == 7.0


@pytest.mark.parametrize("with_proc", [True, False])
def test_processes_are_recognised(with_proc: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_proc and not processes.HAVE_PROC:
        pytest.skip("no /proc here")
    monkeypatch.setattr(processes, "HAVE_PROC", with_proc)
    child = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        me = processes.table()[os.getpid()]
        born = processes.born(child.pid)
        assert born is not None
        assert me.rss_mb > 1
        assert processes.table()[child.pid].parent == os.getpid()
        assert child.pid in processes.family(processes.table(), child.pid, {})
        processes.kill_all({child.pid: "another"})
        assert processes.born(child.pid) == born
        processes.kill_all({child.pid: born})
        deadline = time.monotonic() + 10
        while processes.born(child.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert processes.born(child.pid) is None, "a zombie has ended"
    finally:
        child.kill()
        child.wait()


def make_job(**fields) -> base.Job:
    document = {"name": "n", "count": 1, "script": "/s", "log_folder": "/l", "working_directory": "/", **fields}
    return base.Job(**document)


@pytest.mark.parametrize(
    ("resources", "word"),
    [({"cpus": 3}, "3 cores"), ({"mem_mb": 101}, "101 MB"), ({"gpus": 2}, "2 GPUs"), ({"nodes": 2}, "2 nodes")],
)
def test_what_the_machine_does_not_have_is_refused(resources, word, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HPC_LOCAL_GPUS", "1")
    scheduler = Local(str(tmp_path), 2, 100)
    with pytest.raises(NodeError) as caught:
        scheduler.submit(make_job(resources=resources))
    assert caught.value.code == "scheduler_refused"
    assert word in caught.value.message
    assert scheduler.state.job_ids() == []


def test_gpus_are_counted_by_the_driver(tmp_path, monkeypatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: x)'\necho 'GPU 1: A100 (UUID: y)'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("HPC_LOCAL_GPUS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert local_module.gpu_count() == 2
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert local_module.gpu_count() == 0


def test_limits_from_the_site_and_by_default(tmp_path) -> None:
    scheduler = load("local", {"local_state": str(tmp_path), "local_cores": 3, "local_memory_mb": 500})
    assert isinstance(scheduler, Local)
    assert scheduler._accept(make_job()) == Amount(3, 500.0, 0)
    limits = Local(str(tmp_path))._accept(make_job())
    assert limits.cores == os.cpu_count()
    assert limits.memory_mb == pytest.approx(0.8 * local_module.physical_memory_mb())


def test_unknown_and_foreign_ids_are_no_jobs(tmp_path) -> None:
    scheduler = Local(str(tmp_path))
    assert scheduler.queue(["7", "x", "../1"]) == []
    assert scheduler.accounting(["7"], 0) == []
    assert scheduler.find("n", 0) == []


def test_a_job_of_the_former_version_is_read(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path))
    state.create()
    folder = state.job(1)
    Path(folder.path).mkdir()
    names = {"name": "n", "count": 3, "script": "/s", "log_folder": "/l", "working_directory": "/"}
    Path(folder.spec).write_text(json.dumps({**names, "inherited": {}, "submitted": 1.0, "after": [], "resources": {}}))
    start = {"event": "start", "attempt": 1, "pid": 5, "born": "7", "boot": "b", "host": "h", "gpus": [], "at": 2.0}
    kill = {"event": "kill", "attempt": 1, "cause": "timeout"}
    end = {"event": "end", "attempt": 1, "cause": "exit", "exit_code": 3, "signal": None, "seconds": 1.5}
    lines = [{**start, "element": 0}, {**start, "element": 1}, {**end, "element": 0}, {**kill, "element": 1}]
    Path(folder.events).write_text(text_of(lines))
    Path(folder.path, "done.json").write_text("{}")
    scheduler = Local(str(tmp_path))
    assert scheduler.find("n", 0) == ["1"]
    assert [(row.cause, row.raw) for row in scheduler.accounting(["1"], 0)] == [("exit", "EXITED 3")]
    assert events.read(folder.events).started[1] == Event(**{**start, "element": 1, "cause": "timeout"})
