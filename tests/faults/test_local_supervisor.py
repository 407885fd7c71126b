"""The embedded scheduler with real processes: killed supervisors, killed submissions, limits, and how elements end."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_agent.models.mapreduce.runtime import common, processes
from hpc_agent.models.mapreduce.runtime.schedulers import local as local_module
from hpc_agent.models.mapreduce.runtime.schedulers.base import Job
from hpc_agent.models.mapreduce.runtime.schedulers.local import Local

SOURCE = Path(local_module.__file__).parents[4].parent
OLD_PYTHON = Path.home() / ".pyenv" / "versions" / "3.6.15" / "bin" / "python"
# Imports the runtime as a cluster does, beside nothing else of the package; works under Python 3.6.
CLIENT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from runtime.schedulers.base import Job
from runtime.schedulers.local import Local
scheduler = Local(sys.argv[2], int(sys.argv[3]), 4000)
"""
MAPREDUCE = str(Path(local_module.__file__).parents[2])


class Bench:
    """One state folder, and what a test asks of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.scheduler = Local(str(self.state), 2, 4000)
        self.out = root / "out"

    def document(self, script: str, **fields: Any) -> dict[str, Any]:
        path = self.root / f"script-{len(list(self.root.glob('script-*')))}.sh"
        path.write_text(script)
        environment = {"OUT": str(self.out), **fields.pop("environment", {})}
        basic = {"name": "token", "count": 1, "script": str(path), "environment": environment}
        return {**basic, "log_folder": str(self.root / "log"), "working_directory": str(self.root), **fields}

    def submit(self, script: str, **fields: Any) -> str:
        return self.scheduler.submit(Job(self.document(script, **fields)))

    def wait(self, *jobs: str, timeout: float = 60) -> dict[int, dict[str, Any]]:
        """Ask until the jobs are over; the accounting of the last one."""
        until(lambda: not self.scheduler.queue(jobs), timeout)
        return self.rows(jobs[-1])

    def rows(self, job: str) -> dict[int, dict[str, Any]]:
        return {row["element"]: row for row in self.scheduler.accounting([job], 0)}

    def events(self, job: str) -> list[dict[str, Any]]:
        log = self.state / "jobs" / job / "events.jsonl"
        text = log.read_text() if log.exists() else ""
        return [json.loads(line) for line in text.split("\n") if line.startswith("{") and line.endswith("}")]

    def start_event(self, job: str, element: int = 0) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [e for e in self.events(job) if e["event"] == "start" and e["element"] == element]

        until(found)
        return found()[-1]

    def lines(self) -> list[str]:
        return self.out.read_text().split() if self.out.exists() else []

    def supervisor(self) -> int:
        document = common.read_json(str(self.state / "supervisor.json"), {})
        return int(document.get("pid", 0))

    def kill_supervisor(self, number: int = signal.SIGKILL) -> bool:
        """Whether there was one to kill."""
        pid = self.supervisor()
        if not pid or pid not in self.supervisors():
            return False
        os.kill(pid, number)
        until(lambda: pid not in self.supervisors())
        return True

    def supervisors(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.state).encode() in words and processes.born(int(entry.name)):
                found.append(int(entry.name))
        return found

    def leftovers(self) -> dict[int, str]:
        """Processes of this test's elements."""
        table = processes.table()
        members: dict[int, str] = {}
        for job in self.scheduler.state.job_ids():
            for event in self.events(str(job)):
                if event["event"] == "start":
                    members.update(processes.family(table, event["pid"], {event["pid"]: event["born"]}))
        return members

    def close(self) -> None:
        for pid in self.supervisors():
            os.kill(pid, signal.SIGKILL)
        processes.kill_all(self.leftovers())


def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def patched_boot(monkeypatch: pytest.MonkeyPatch, statements: str) -> None:
    """Let the supervisor run ``statements`` first; ``supervise`` and ``local_state`` are its own modules."""
    lines = [
        "import importlib, sys",
        "sys.path.append(sys.argv[1])",
        "supervise = importlib.import_module(sys.argv[2] + '.supervise')",
        "from runtime import local_jobs, local_state, processes",
        statements,
        "supervise.main(sys.argv[3], int(sys.argv[4]))",
    ]
    monkeypatch.setattr(local_module, "_BOOT", "\n".join(lines))


def most_at_once(events: list[dict[str, Any]], weight: Callable[[dict[str, Any]], int] = lambda _: 1) -> int:
    now = most = 0
    for event in events:
        now += {"start": 1, "end": -1}.get(event["event"], 0) * weight(event)
        most = max(most, now)
    return most


# -- the life of elements --------------------------------------------------------------------------------------------


def test_elements_run_with_their_environment_and_logs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_SUBMITTER", "a b,c")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("MY_API_KEY", "sesame")
    script = 'echo "$HPC_LOCAL_JOB_ID $HPC_LOCAL_INDEX $HPC_LOCAL_CPUS $PWD|$FROM_THE_SUBMITTER|$MINE|${SLURM_JOB_ID-}|$MY_API_KEY"\n'
    job = bench.submit(script + "echo oops >&2\n", count=3, resources={"cpus": 2}, environment={"MINE": "x, 'y'"})
    rows = bench.wait(job)
    assert {index: row["state"] for index, row in rows.items()} == dict.fromkeys(range(3), "complete")
    for index in range(3):
        text = (bench.root / "log" / f"{job}_{index}.out").read_text()
        assert text == f"{job} {index} 2 {bench.root}|a b,c|x, 'y'||sesame\noops\n"
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
    os.unlink(gone["script"])
    assert bench.wait(bench.scheduler.submit(Job(gone)))[0]["exit_code"] == 127


def test_what_an_element_leaves_running_ends_with_it(bench: Bench) -> None:
    job = bench.submit('sleep 60 & echo $! >"$OUT"\n')
    bench.wait(job)
    until(lambda: processes.born(int(bench.lines()[0])) is None)


# -- walltime, memory, cores -----------------------------------------------------------------------------------------


def test_walltime_ends_gently_then_hard(bench: Bench) -> None:
    # A task's executor has a session of its own; the dispatcher passes SIGTERM on, or is killed with it.
    stubborn = "trap '' TERM\nsetsid sleep 60 & echo $! >>\"$OUT\"\nwait\nsleep 60\n"
    gentle = "trap 'echo saved >>\"$OUT\"; exit 0' TERM\nsleep 60 & wait\n"
    limits = {"resources": {"walltime_sec": 1}, "environment": {"HPC_PREEMPT_GRACE_SEC": "1"}}
    jobs = [bench.submit(script, **limits) for script in (stubborn, gentle)]
    bench.start_event(jobs[1])
    until(lambda: [row["state"] for row in bench.scheduler.queue([jobs[0]])] == ["completing"])
    bench.wait(*jobs)
    hard, soft = (bench.rows(job)[0] for job in jobs)
    assert (hard["cause"], hard["signal"]) == ("timeout", 9)
    assert 3.9 <= hard["seconds"] < 8
    assert (soft["cause"], soft["exit_code"]) == ("timeout", 0)
    assert 1 <= soft["seconds"] < 3
    assert "saved" in bench.lines()
    until(lambda: not [word for word in bench.lines() if word.isdigit() and processes.born(int(word))])


def test_the_script_may_use_its_grace_while_bash_is_gone(bench: Bench) -> None:
    script = "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
    script += "time.sleep(2)\ntime.sleep(1)\nopen(os.environ['OUT'], 'a').write('record')\n"
    (bench.root / "work.py").write_text(script)
    # bash dies of SIGTERM at once, its python child writes its record a second later
    job = bench.submit(
        f"{sys.executable} {bench.root}/work.py; true\n",
        resources={"walltime_sec": 1},
        environment={"HPC_PREEMPT_GRACE_SEC": "8"},
    )
    assert bench.wait(job)[0]["cause"] == "timeout"
    assert bench.lines() == ["record"]


HOG = "import time\nblock = bytearray({mb} << 20)\nfor i in range(0, len(block), 4096): block[i] = 1\ntime.sleep({sec})\n"


def test_too_much_memory_is_out_of_memory(bench: Bench) -> None:
    (bench.root / "hog.py").write_text(HOG.format(mb=150, sec=60))
    # in a session of its own, as the dispatcher starts a task
    job = bench.submit(f"setsid -w {sys.executable} {bench.root}/hog.py\n", resources={"mem_mb": 100})
    row = bench.wait(job)[0]
    assert (row["cause"], row["raw"]) == ("out_of_memory", "OUT_OF_MEMORY, signal 9")
    assert row["max_rss_mb"] > 100
    assert row["seconds"] < 20


def test_forked_tasks_share_their_memory(bench: Bench) -> None:
    fork = HOG.format(mb=80, sec=0) + "import os\nfor _ in range(3):\n    if not os.fork(): break\ntime.sleep(2)\n"
    (bench.root / "fork.py").write_text(fork)
    row = bench.wait(bench.submit(f"{sys.executable} {bench.root}/fork.py\n", resources={"mem_mb": 160}))[0]
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
    wide = bench.submit("true\n", resources={"cpus": 2})
    last = bench.submit("sleep 9\n", resources={"cpus": 2})
    rows = {(row["job"], row["state"]): row for row in bench.scheduler.queue([first, second, third, wide, last])}
    assert rows[first, "running"]["elements"] == "0"
    assert (rows[first, "pending"]["elements"], rows[first, "pending"]["reason"]) == ("1-2", "ThrottleLimit")
    assert (rows[second, "pending"]["elements"], rows[second, "pending"]["reason"]) == ("0-1", "Dependency")
    assert rows[third, "pending"]["reason"] == "Dependency"
    assert rows[wide, "pending"]["reason"] == "Resources"
    assert rows[last, "pending"]["reason"] == "Priority"
    gate.write_text("")
    bench.wait(first, second, third)
    assert bench.lines() == ["a"] * 3 + ["b"] * 2 + ["c"]
    assert most_at_once(bench.events(first)) == 1


def test_small_jobs_fill_what_a_wide_one_cannot_use(bench: Bench) -> None:
    long = bench.submit("sleep 60\n")
    bench.start_event(long)
    wide = bench.submit("true\n", resources={"cpus": 2})
    narrow = bench.submit("true\n", count=5)
    assert len(bench.wait(narrow)) == 5
    assert bench.rows(wide) == {}


# -- the supervisor --------------------------------------------------------------------------------------------------


def test_a_caller_is_not_held_and_the_supervisor_leaves(bench: Bench) -> None:
    document = bench.document("sleep 7\n")
    code = CLIENT + "print(scheduler.submit(Job(json.loads(sys.argv[4]))))\n"
    argv = [sys.executable, "-c", code, MAPREDUCE, str(bench.state), "2", json.dumps(document)]
    before = time.monotonic()
    done = subprocess.run(argv, capture_output=True, timeout=30, check=True, start_new_session=True)
    assert done.stdout == b"1\n"
    assert time.monotonic() - before < 5
    pid = bench.supervisor()
    assert bench.supervisors() == [pid]
    opened = {os.readlink(f"/proc/{pid}/fd/{number}") for number in ("0", "1", "2")}
    assert opened == {"/dev/null", str(bench.state / "supervisor.log")}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    os.kill(pid, signal.SIGHUP)
    until(lambda: not bench.supervisors(), 30)
    assert bench.rows("1")[0]["state"] == "complete"
    assert not (bench.state / "supervisor.json").exists()
    assert list((bench.state / "active").iterdir()) == []
    assert not (bench.state / "jobs" / "1" / "exits").exists()


def test_a_waiting_supervisor_costs_nothing(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    bench.start_event(job)

    def ticks() -> int:
        return sum(int(word) for word in Path(f"/proc/{bench.supervisor()}/stat").read_text().split(") ")[1].split()[11:13])

    before = ticks()
    time.sleep(3)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 3
    assert share < 0.05


def test_elements_follow_each_other_at_once(bench: Bench) -> None:
    job = bench.submit("true\n", count=300)
    bench.wait(job)
    events = sorted(bench.events(job), key=lambda event: event["at"])
    assert 300 / (events[-1]["at"] - events[0]["at"]) > 60, "elements per second; an idle two-core machine does 400"
    gaps = sorted(
        later["at"] - earlier["at"]
        for earlier, later in zip(events, events[1:], strict=False)
        if (earlier["event"], later["event"]) == ("end", "start")
    )
    assert gaps[len(gaps) // 2] < 0.02


def test_killed_supervisors_lose_and_repeat_nothing(bench: Bench) -> None:
    dice = random.Random(20)
    script = 'echo "s$HPC_LOCAL_INDEX" >>"$OUT"\nsleep 0.0$((RANDOM % 9))\necho "e$HPC_LOCAL_INDEX" >>"$OUT"\n'
    job = bench.submit(script, count=200)
    kills = 0
    deadline = time.monotonic() + 100
    while bench.scheduler.queue([job]):
        assert time.monotonic() < deadline
        time.sleep(dice.uniform(0, 0.25))
        kills += bench.kill_supervisor()
    rows = bench.rows(job)
    assert kills >= 10
    assert {index for index, row in rows.items() if row["state"] == "complete"} == set(range(200))
    assert Counter(bench.lines()) == Counter([f"{edge}{index}" for edge in "se" for index in range(200)])
    ends = Counter(event["element"] for event in bench.events(job) if event["event"] == "end")
    assert set(ends.values()) == {1}


def test_an_adopted_element_keeps_its_limits_and_its_end(bench: Bench) -> None:
    gate = bench.root / "gate"
    patient = bench.submit(f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 4\n")
    slow = bench.submit("sleep 60\n", resources={"walltime_sec": 2})
    bench.start_event(patient)
    bench.start_event(slow)
    bench.kill_supervisor()
    more = bench.submit("true\n", count=2)
    rows = {(row["job"], row["state"]) for row in bench.scheduler.queue([patient, slow, more])}
    assert {(patient, "running"), (slow, "running"), (more, "pending")} <= rows, "adopted elements keep their cores"
    gate.write_text("")
    bench.wait(patient, slow, more)
    assert bench.rows(patient)[0]["exit_code"] == 4
    assert bench.rows(slow)[0]["cause"] == "timeout"
    assert 2 <= bench.rows(slow)[0]["seconds"] < 10
    attempts = [event["attempt"] for job in (patient, slow) for event in bench.events(job) if event["event"] == "start"]
    assert attempts == [1, 1]


def test_an_end_without_a_supervisor_is_read_from_the_wrapper(bench: Bench) -> None:
    job = bench.submit("sleep 0.5; exit 5\n")
    pid = bench.start_event(job)["pid"]
    bench.kill_supervisor()
    until(lambda: processes.born(pid) is None)
    time.sleep(1)
    row = bench.wait(job)[0]
    assert (row["cause"], row["exit_code"]) == ("exit", 5)
    assert 0.4 < row["seconds"] < 1.2


def test_a_user_kills_an_adopted_element(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    pid = bench.start_event(job)["pid"]
    bench.kill_supervisor()
    bench.scheduler.queue([job])
    until(bench.supervisors)
    time.sleep(0.5)
    os.killpg(pid, signal.SIGKILL)
    row = bench.wait(job)[0]
    assert (row["cause"], row["signal"]) == ("signal", 9)


def test_elements_lost_with_the_supervisor_run_again_three_times(bench: Bench) -> None:
    job = bench.submit('echo "$HPC_LOCAL_INDEX" >>"$OUT"\n[ -e "$OUT.go" ] || sleep 60\n', count=2)
    for attempt in (1, 2, 3):
        # The first element runs to its end the second time; the other one is lost three times.
        events = [bench.start_event(job, index) for index in ((0, 1) if attempt == 1 else (1,))]
        until(lambda attempt=attempt: bench.lines().count("1") == attempt)
        assert events[-1]["attempt"] == attempt
        bench.kill_supervisor()
        for event in events:
            os.killpg(event["pid"], signal.SIGKILL)
        if attempt == 1:
            (bench.root / "out.go").write_text("")
            bench.scheduler.queue([job])
            until(lambda: bench.rows(job).get(0))
            break
    rows = bench.wait(job)
    assert [rows[index]["state"] for index in (0, 1)] == ["complete", "complete"]
    assert Counter(bench.lines()) == {"0": 2, "1": 2}


def test_after_three_losses_it_is_a_node_failure(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    for attempt in (1, 2, 3):
        until(lambda attempt=attempt: bench.start_event(job)["attempt"] == attempt)
        event = bench.start_event(job)
        bench.kill_supervisor()
        os.killpg(event["pid"], signal.SIGKILL)
        until(lambda pid=event["pid"]: processes.born(pid) is None)
        bench.scheduler.queue([job])
    row = bench.wait(job)[0]
    assert (row["cause"], row["exit_code"], row["raw"]) == ("node_failure", None, "LOST")


def test_what_a_lost_wrapper_left_is_killed_before_the_next_attempt(bench: Bench) -> None:
    job = bench.submit('echo $$ >>"$OUT"\n[ -e "$OUT.go" ] || exec sleep 60\n')
    event = bench.start_event(job)
    until(bench.lines)
    bench.kill_supervisor()
    os.kill(event["pid"], signal.SIGKILL)
    until(lambda: processes.born(event["pid"]) is None)
    orphan = int(bench.lines()[0])
    assert processes.born(orphan)
    (bench.root / "out.go").write_text("")
    assert bench.wait(job)[0]["state"] == "complete"
    assert processes.born(orphan) is None


@pytest.mark.parametrize(("host", "attempts", "cause"), [(None, 2, None), ("elsewhere", 1, "node_failure")])
def test_another_boot_and_another_machine(bench: Bench, host: str | None, attempts: int, cause: str | None) -> None:
    job = bench.submit('[ -e "$OUT.go" ] || sleep 60\n')
    event = bench.start_event(job)
    bench.kill_supervisor()
    os.killpg(event["pid"], signal.SIGKILL)
    (bench.root / "out.go").write_text("")
    # The process id and even the start time may be somebody else's after a reboot: here, this test's.
    me = {"pid": os.getpid(), "born": processes.born(os.getpid()), "boot": "another", "host": host or event["host"]}
    (bench.state / "jobs" / job / "events.jsonl").write_text(json.dumps({**event, **me}) + "\n")
    assert bench.wait(job)[0]["cause"] == cause
    assert len([event for event in bench.events(job) if event["event"] == "start"]) == attempts


def test_a_torn_event_is_no_event(bench: Bench) -> None:
    gate = bench.root / "gate"
    job = bench.submit(
        f'echo "$HPC_LOCAL_INDEX" >>"$OUT"\n[ "$HPC_LOCAL_INDEX" = 0 ] || while [ ! -e {gate} ]; do sleep 0.05; done\n', count=3
    )
    until(lambda: bench.rows(job))
    bench.start_event(job, 1)
    bench.kill_supervisor()
    with open(bench.state / "jobs" / job / "events.jsonl", "a") as log:
        log.write('{"at":1,"event":"end","element":1,"exit_co')
    assert list(bench.rows(job)) == [0]
    gate.write_text("")
    assert {row["state"] for row in bench.wait(job).values()} == {"complete"}
    assert sorted(bench.lines()) == ["0", "1", "2"]


def test_a_full_disk_delays_and_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_boot(
        monkeypatch,
        """
import errno, os, random
real, dice = local_state.append_event, random.Random(3)
supervise.RETRY_SEC = 0.05
def failing(path, event):
    if dice.random() < 0.3:
        with open(path, "ab") as log:
            log.write(b'{"event":"end","element":0,"ca')
        raise OSError(errno.ENOSPC, "full")
    real(path, event)
local_state.append_event = failing
""",
    )
    job = bench.submit('echo "$HPC_LOCAL_INDEX" >>"$OUT"\n', count=40)
    rows = bench.wait(job)
    assert [rows[index]["state"] for index in range(40)] == ["complete"] * 40
    assert sorted(bench.lines(), key=int) == [str(index) for index in range(40)]
    assert "full" in (bench.state / "supervisor.log").read_text()


def test_without_proc(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_boot(monkeypatch, "processes.HAVE_PROC = False\n")
    slow = bench.submit("setsid sleep 60 & wait\n", resources={"walltime_sec": 1})
    quick = bench.submit("true\n", count=3)
    bench.start_event(slow)
    bench.kill_supervisor()
    monkeypatch.setattr(processes, "HAVE_PROC", False)
    bench.wait(slow, quick)
    assert bench.rows(slow)[0]["cause"] == "timeout"
    assert {row["state"] for row in bench.rows(quick).values()} == {"complete"}
    assert [event["attempt"] for event in bench.events(slow) if event["event"] == "start"] == [1]


# -- submissions -----------------------------------------------------------------------------------------------------

# Kills the client at its n-th step that touches the disk or starts something; without such a step it ends by itself.
KILLED_CLIENT = (
    CLIENT
    + """
import os, signal, subprocess
steps = int(sys.argv[5])
def counted(function):
    def call(*arguments, **options):
        global steps
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("mkdir", "open", "replace", "fsync", "close", "mkfifo", "write"):
    setattr(os, name, counted(getattr(os, name)))
subprocess.Popen = counted(subprocess.Popen)
print(scheduler.submit(Job(json.loads(sys.argv[4]))))
"""
)


def test_a_killed_submission_leaves_a_whole_job_or_none(bench: Bench) -> None:
    document = bench.document('echo "$HPC_LOCAL_JOB_ID" >>"$OUT"\n')
    whole = set()
    for steps in range(1, 200):
        named = json.dumps({**document, "name": f"token{steps}"})
        argv = [sys.executable, "-c", KILLED_CLIENT, MAPREDUCE, str(bench.state), "2", named, str(steps)]
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
        found = bench.scheduler.find(f"token{steps}", 0)
        assert len(found) <= 1
        whole.update(found)
        if done.returncode == 0:
            assert found == [done.stdout.decode().strip()]
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert steps > 15
    assert len(whole) > 3
    bench.wait(*sorted(whole))
    assert sorted(bench.lines()) == sorted(whole)


def test_submitters_at_once_share_one_supervisor(bench: Bench) -> None:
    document = json.dumps(bench.document("sleep 3\n"))
    code = CLIENT + "print(scheduler.submit(Job(json.loads(sys.argv[4]))))\n"
    argv = [sys.executable, "-c", code, MAPREDUCE, str(bench.state), "2", document]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(5)]
    ids = [client.communicate(timeout=30)[0].decode().strip() for client in clients]
    assert sorted(ids) == ["1", "2", "3", "4", "5"]
    until(lambda: len(bench.supervisors()) == 1)
    assert bench.scheduler.find("token", 0) == ["1", "2", "3", "4", "5"]


def test_no_job_is_forgotten_as_the_supervisor_leaves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_boot(monkeypatch, "supervise.IDLE_EXIT_SEC = 0.001")
    dice = random.Random(4)
    seen = set()
    for _ in range(40):
        job = bench.submit("true\n")
        seen.add(bench.supervisor())
        # Nobody asks the queue here: accounting starts no supervisor.
        until(lambda job=job: bench.rows(job), 10)
        time.sleep(dice.choice([0, 0, 0.001, 0.005, 0.02]))
    assert len(seen - {0}) > 3, "the supervisor has left and come back"


def test_find_knows_name_and_time(bench: Bench) -> None:
    first = bench.submit("true\n", name="a")
    time.sleep(0.01)
    since = time.time()
    second = bench.submit("true\n", name="a")
    bench.submit("true\n", name="b")
    assert bench.scheduler.find("a", 0) == [first, second]
    assert bench.scheduler.find("a", since) == [second]
    bench.wait(first, second)
    assert bench.scheduler.accounting([first], since) == []
    assert bench.scheduler.find("a", 0) == [first, second]


def test_a_supervisor_that_cannot_start_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_module, "_BOOT", "raise SystemExit('broken python')")
    job = bench.submit("true\n")
    (row,) = bench.scheduler.queue([job])
    assert row["state"] == "pending"
    assert row["reason"].startswith("SupervisorDown")
    assert "broken python" in (bench.state / "supervisor.log").read_text()
    monkeypatch.undo()
    assert bench.wait(job)[0]["state"] == "complete"


@pytest.mark.skipif(not OLD_PYTHON.exists(), reason="no Python 3.6 here")
def test_under_python_3_6(bench: Bench) -> None:
    document = bench.document('[ "$HPC_LOCAL_INDEX" != 1 ] || exit 2\n', count=20)
    code = CLIENT + (
        "import time\n"
        "job = scheduler.submit(Job(json.loads(sys.argv[4])))\n"
        "while scheduler.queue([job]):\n    time.sleep(0.05)\n"
        "print(json.dumps(scheduler.accounting([job], 0)))\n"
    )
    folder = bench.root / "_hpc_runtime_parent"
    shutil.copytree(Path(MAPREDUCE) / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    argv = [str(OLD_PYTHON), "-c", code, str(folder), str(bench.state), "2", json.dumps(document)]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    rows = json.loads(done.stdout)
    assert [row["cause"] for row in rows] == [None, "exit", *[None] * 18]
    assert (bench.state / "supervisor.log").read_text() == ""
