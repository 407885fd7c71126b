"""The embedded scheduler's elements, with real processes: how they end, and the limits that they are held to."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_bench import Bench, most_at_once, until

from hpc_agent.node.schedulers.base import Job
from hpc_agent.node.schedulers.local.adapter import Local
from hpc_agent.node.shared import processes

PYTHON = shlex.quote(sys.executable)

pytestmark = [pytest.mark.local, pytest.mark.skipif(not processes.HAVE_PROC, reason="these tests look into /proc")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


# -- the life of elements --------------------------------------------------------------------------------------------


def test_elements_run_with_their_environment_and_logs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_SUBMITTER", "a b,c")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("MY_API_KEY", "sesame")
    script = 'echo "$HPC_LOCAL_JOB_ID $HPC_LOCAL_INDEX $HPC_LOCAL_CPUS $PWD"\n'
    script += 'echo "$FROM_THE_SUBMITTER|$MINE|${SLURM_JOB_ID-}|$MY_API_KEY"\n'
    job = bench.submit(script + "echo oops >&2\n", count=3, resources={"cpus": 2}, environment={"MINE": "x, 'y'"})
    rows = bench.wait(job)
    assert {index: row["state"] for index, row in rows.items()} == dict.fromkeys(range(3), "complete")
    for index in range(3):
        text = (bench.root / "log" / f"{job}_{index}.out").read_text()
        assert text == f"{job} {index} 2 {bench.root}\na b,c|x, 'y'||sesame\noops\n"
    for path in bench.state.rglob("*"):
        assert not path.is_file() or "sesame" not in path.read_text()


def test_ends_are_told_apart(bench: Bench) -> None:
    script = """case $HPC_LOCAL_INDEX in
        0) exit 0 ;;
        1) exit 3 ;;
        2) kill -SEGV $$ ;;
        3) kill -KILL $$ ;;
    esac\n"""
    rows = bench.wait(bench.submit(script, count=4))
    assert [(rows[i]["cause"], rows[i]["exit_code"], rows[i]["signal"]) for i in range(4)] == [
        (None, 0, None),
        ("exit", 3, None),
        ("signal", 139, 11),
        ("signal", 137, 9),
    ]
    assert [rows[i]["raw"] for i in range(4)] == ["EXITED 0", "EXITED 3", "EXITED, signal 11", "EXITED, signal 9"]
    assert all(rows[i]["host"] and rows[i]["max_rss_mb"] > 0 and rows[i]["seconds"] >= 0 for i in rows)


def test_a_user_kills_an_element(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    os.killpg(bench.start_event(job)["pid"], signal.SIGKILL)
    row = bench.wait(job)[0]
    assert (row["state"], row["cause"], row["signal"], row["exit_code"]) == ("failed", "signal", 9, None)


def test_what_cannot_start_says_why(bench: Bench) -> None:
    nowhere = bench.submit("true\n", working_directory=str(bench.root / "missing"))
    (bench.root / "file").write_text("")
    no_log = bench.submit("true\n", log_folder=str(bench.root / "file" / "log"))
    for job, word in ((nowhere, "missing"), (no_log, "file/log")):
        row = bench.wait(job)[0]
        assert (row["state"], row["cause"]) == ("failed", "never_started")
        assert word in row["raw"]
    gone = bench.document("true\n")
    Path(gone["script"]).unlink()
    assert bench.wait(bench.scheduler.submit(Job(**gone)))[0]["exit_code"] == 127


def test_what_an_element_leaves_running_ends_with_it(bench: Bench) -> None:
    job = bench.submit('sleep 60 & echo $! >"$OUT"\n')
    bench.wait(job)
    until(lambda: processes.born(int(bench.lines()[0])) is None)


def test_a_kill_in_the_first_moment_reaches_sessions_of_their_own(bench: Bench) -> None:
    """A dispatcher that is killed before the supervisor has looked at its processes leaves its executor to init."""
    job = bench.submit('setsid sleep 60 & echo $! >>"$OUT"\nsetsid setsid sleep 60 & echo $! >>"$OUT"\nkill -9 $$\n')
    assert bench.wait(job)[0]["signal"] == 9
    assert not [word for word in bench.lines() if processes.born(int(word))]


# -- walltime, memory, cores -----------------------------------------------------------------------------------------


def test_walltime_ends_gently_then_hard(bench: Bench) -> None:
    # A task's executor has a session of its own; the dispatcher passes SIGTERM on, or is killed with it.
    stubborn = "trap '' TERM\nsetsid sleep 60 & echo $! >>\"$OUT\"\nwait\nsleep 60\n"
    gentle = "trap 'echo saved >>\"$OUT\"; exit 0' TERM\nsleep 60 & wait\n"
    limits = {"resources": {"walltime_sec": 3}, "environment": {"HPC_PREEMPT_GRACE_SEC": "1"}}
    jobs = [bench.submit(script, **limits) for script in (stubborn, gentle)]
    bench.start_event(jobs[1])
    until(lambda: [row.state for row in bench.scheduler.queue([jobs[0]])] == ["completing"])
    bench.wait(*jobs)
    hard, soft = (bench.rows(job)[0] for job in jobs)
    assert (hard["cause"], hard["signal"]) == ("timeout", 9)
    assert 5.9 <= hard["seconds"] < 60
    assert (soft["cause"], soft["exit_code"]) == ("timeout", 0)
    assert 3 <= soft["seconds"] < 60
    assert "saved" in bench.lines()
    until(lambda: not [word for word in bench.lines() if word.isdigit() and processes.born(int(word))])


def test_the_script_may_use_its_grace_while_bash_is_gone(bench: Bench) -> None:
    script = "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
    script += "time.sleep(5)\ntime.sleep(1)\nopen(os.environ['OUT'], 'a').write('record')\n"
    (bench.root / "work.py").write_text(script)
    # bash dies of SIGTERM at once, its python child writes its record a second later
    job = bench.submit(
        f"{PYTHON} {bench.root}/work.py; true\n",
        resources={"walltime_sec": 4},
        environment={"HPC_PREEMPT_GRACE_SEC": "8"},
    )
    assert bench.wait(job)[0]["cause"] == "timeout"
    assert bench.lines() == ["record"]


HOG = (
    "import time\nblock = bytearray({mb} << 20)\nfor i in range(0, len(block), 4096): block[i] = 1\ntime.sleep({sec})\n"
)


def test_too_much_memory_is_out_of_memory(bench: Bench) -> None:
    (bench.root / "hog.py").write_text(HOG.format(mb=150, sec=60))
    # in a session of its own, as the dispatcher starts a task
    job = bench.submit(f"setsid -w {PYTHON} {bench.root}/hog.py\n", resources={"mem_mb": 100})
    row = bench.wait(job)[0]
    assert (row["cause"], row["raw"]) == ("out_of_memory", "OUT_OF_MEMORY, signal 9")
    assert row["max_rss_mb"] > 100
    assert row["seconds"] < 60, "not to the end of its script"


def test_forked_tasks_share_their_memory(bench: Bench) -> None:
    fork = HOG.format(mb=80, sec=0) + "import os\nfor _ in range(3):\n    if not os.fork(): break\ntime.sleep(2)\n"
    (bench.root / "fork.py").write_text(fork)
    row = bench.wait(bench.submit(f"{PYTHON} {bench.root}/fork.py\n", resources={"mem_mb": 160}))[0]
    assert row["state"] == "complete"
    assert 80 < row["max_rss_mb"] < 160


def test_never_more_than_the_cores(bench: Bench) -> None:
    jobs = {bench.submit("sleep 0.05\n", count=8, resources={"cpus": cpus}): cpus for cpus in (1, 2, 1)}
    bench.wait(*jobs)
    events = sorted((dict(e, cpus=jobs[job]) for job in jobs for e in bench.events(job)), key=lambda e: e["at"])
    assert len(events) == 48
    assert most_at_once(events, lambda event: event["cpus"]) == 2


def test_never_more_than_the_memory(bench: Bench) -> None:
    bench.scheduler = Local(str(bench.state), 8, 1000)
    job = bench.submit("sleep 0.1\n", count=6, resources={"mem_mb": 400})
    bench.wait(job)
    assert most_at_once(bench.events(job)) == 2


def test_gpus_are_handed_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_LOCAL_GPUS", "2")
    bench.scheduler = Local(str(bench.state), 8, 1000)
    job = bench.submit('echo "$CUDA_VISIBLE_DEVICES" >>"$OUT"; sleep 0.3\n', count=4, resources={"gpus": 1})
    bench.wait(job)
    assert sorted(bench.lines()) == ["0", "0", "1", "1"]
    assert most_at_once(bench.events(job)) == 2


def test_order_throttle_and_reasons(bench: Bench) -> None:
    gate = bench.root / "gate"
    first = bench.submit(f'while [ ! -e {gate} ]; do sleep 0.05; done; echo a >>"$OUT"\n', count=3, max_running=1)
    bench.start_event(first)
    second = bench.submit('echo b >>"$OUT"; exit 1\n', count=2, after=[first])
    third = bench.submit('echo c >>"$OUT"\n', after=[second, "999", "no-number"])
    wide, last = (bench.submit(f'echo {name} >>"$OUT"\n', resources={"cpus": 2}) for name in "wl")
    rows = {(row.job, row.state): row for row in bench.scheduler.queue([first, second, third, wide, last])}
    assert rows[first, "running"].elements == "0"
    assert (rows[first, "pending"].elements, rows[first, "pending"].reason) == ("1-2", "ThrottleLimit")
    assert (rows[second, "pending"].elements, rows[second, "pending"].reason) == ("0-1", "Dependency")
    assert rows[third, "pending"].reason == "Dependency"
    assert rows[wide, "pending"].reason == "Resources"
    assert rows[last, "pending"].reason == "Priority"
    gate.write_text("")
    bench.wait(first, second, third, wide, last)
    assert bench.lines() == ["a", "a", "a", "b", "b", "c", "w", "l"]
    assert most_at_once(bench.events(first)) == 1


def test_small_jobs_fill_what_a_wide_one_cannot_use(bench: Bench) -> None:
    long = bench.submit("sleep 60\n")
    bench.start_event(long)
    wide = bench.submit("true\n", resources={"cpus": 2})
    narrow = bench.submit("true\n", count=5)
    assert len(bench.wait(narrow)) == 5
    assert bench.rows(wide) == {}
