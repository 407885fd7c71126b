"""The embedded scheduler under fire: killed supervisors, killed submissions, torn logs, full disks."""

import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_bench import Bench, patched_boot, until

from hpc_agent.node.schedulers.local import adapter as local_module
from hpc_agent.node.shared import processes

pytestmark = [pytest.mark.local, pytest.mark.skipif(not processes.HAVE_PROC, reason="these tests look into /proc")]

OLD_PYTHON = Path.home() / ".pyenv" / "versions" / "3.6.15" / "bin" / "python"
# Imports the runtime as a cluster does, beside nothing else of the package; works under Python 3.6.
CLIENT = """
import json, sys
sys.path.append(sys.argv[1])
from node.schedulers.base import Job
from node.schedulers.local.adapter import Local
scheduler = Local(sys.argv[2], int(sys.argv[3]), 4000)
"""
NODE_PARENT = str(Path(local_module.__file__).parents[3])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


# -- the supervisor --------------------------------------------------------------------------------------------------


def test_a_caller_is_not_held_and_the_supervisor_leaves(bench: Bench) -> None:
    gate = bench.root / "gate"
    document = bench.document(f"until [ -e {gate} ]; do sleep 0.1; done\n")
    code = CLIENT + "print(scheduler.submit(Job(**json.loads(sys.argv[4]))))\n"
    argv = [sys.executable, "-c", code, NODE_PARENT, str(bench.state), "2", json.dumps(document)]
    inner, outer = os.pipe()  # a caller may leak more than the three usual pipes, as ssh daemons do
    leaked = {"pass_fds": [outer], "start_new_session": True}
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True, **leaked)
    os.close(outer)
    assert done.stdout == b"1\n"
    assert select.select([inner], [], [], 20)[0], "the pipe has no writer left"
    assert os.read(inner, 1) == b""
    os.close(inner)
    pid = bench.supervisor()
    assert bench.supervisors() == [pid]
    opened = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)}
    assert opened == {"/dev/null", str(bench.state / "supervisor.log")}
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    os.kill(pid, signal.SIGHUP)
    gate.touch()
    until(lambda: not bench.supervisors(), 30)
    assert bench.rows("1")[0]["state"] == "complete"
    assert not (bench.state / "supervisor.json").exists()
    assert list((bench.state / "active").iterdir()) == []
    assert not (bench.state / "jobs" / "1" / "exits").exists()


def test_a_waiting_supervisor_costs_nothing(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    bench.start_event(job)

    def ticks() -> int:
        return sum(
            int(word) for word in Path(f"/proc/{bench.supervisor()}/stat").read_text().split(") ")[1].split()[11:13]
        )

    before = ticks()
    time.sleep(3)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 3
    assert share < 0.05


def test_elements_follow_each_other_at_once(bench: Bench) -> None:
    """A supervisor that looked now and then, in place of being woken, would need hundreds of times the floor."""
    began = time.monotonic()
    for _ in range(100):
        subprocess.run(["bash", "-c", "true"], check=True)
    floor = (time.monotonic() - began) / 100
    job = bench.submit("true\n", count=300)
    bench.wait(job)
    events = sorted(bench.events(job), key=lambda event: event["at"])
    assert events[-1]["at"] - events[0]["at"] < 300 * max(floor, 0.002) * 10


def test_killed_supervisors_lose_and_repeat_nothing(bench: Bench) -> None:
    dice = random.Random(20)
    script = 'echo "s$HPC_LOCAL_INDEX" >>"$OUT"\nsleep 0.0$((RANDOM % 9))\necho "e$HPC_LOCAL_INDEX" >>"$OUT"\n'
    job = bench.submit(script, count=200)
    kills = 0
    deadline = time.monotonic() + 200
    while bench.scheduler.queue([job]):
        assert time.monotonic() < deadline
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        floor = time.monotonic() - began  # on a busy machine a supervisor needs longer until it does something
        time.sleep(dice.uniform(0, 0.2 + 5 * floor))
        kills += bench.kill_supervisor()
    rows = bench.rows(job)
    assert kills >= 10
    assert {index for index, row in rows.items() if row["state"] == "complete"} == set(range(200))
    assert Counter(bench.lines()) == Counter([f"{edge}{index}" for edge in "se" for index in range(200)])
    ends = Counter(event["element"] for event in bench.events(job) if event["event"] == "end")
    assert set(ends.values()) == {1}


STUCK_FILE = """
import os
unlink = os.unlink
def refuse(path, *arguments, **options):
    if str(path).endswith("active/1"):
        raise OSError(5, "Input/output error", path)
    return unlink(path, *arguments, **options)
os.unlink = refuse
"""


def test_an_ended_job_whose_file_stays_holds_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_boot(monkeypatch, STUCK_FILE)
    first = bench.submit("exit 0\n")
    second = bench.submit("exit 0\n", after=[first])
    until(lambda: not bench.scheduler.queue([second]))
    assert bench.rows(second)[0]["state"] == "complete"
    assert "job 1 has ended: [Errno 5]" in Path(bench.scheduler.state.log).read_text()


# Kills the first supervisor at its n-th call of something that the outside can notice.
KILLED_SUPERVISOR = """
import os, signal, subprocess
steps = 0
if os.path.exists({file!r}):
    steps = int(open({file!r}).read())
    os.unlink({file!r})
def counted(function):
    def call(*arguments, **options):
        global steps
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("open", "write", "close", "replace", "unlink", "rmdir", "pipe", "wait4", "killpg"):
    setattr(os, name, counted(getattr(os, name)))
subprocess.Popen = counted(subprocess.Popen)
"""


def test_a_supervisor_killed_at_any_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bench.root / "steps"
    patched_boot(monkeypatch, KILLED_SUPERVISOR.format(file=str(file)))
    job = "0"
    for steps in itertools.count(1):
        assert steps < 300
        file.write_text(str(steps))
        job = bench.submit(f'echo {steps} >>"$OUT"\n', count=2)
        first = bench.supervisor()
        rows = bench.wait(job)
        assert [rows[index]["state"] for index in (0, 1)] == ["complete", "complete"]
        assert Counter(bench.lines())[str(steps)] == 2, f"killed at step {steps}"
        if bench.supervisor() == first and first in bench.supervisors():
            break
        bench.kill_supervisor()
    assert steps > 30
    events = itertools.chain.from_iterable(bench.events(str(job)) for job in bench.scheduler.state.job_ids())
    requeued = [event for event in events if event["event"] == "requeue"]
    assert requeued
    assert all(event["attempt"] == event["next"] for event in requeued), "what had not run is no lost attempt"


def test_an_adopted_element_keeps_its_limits_and_its_end(bench: Bench) -> None:
    gate = bench.root / "gate"
    patient = bench.submit(f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 4\n")
    slow = bench.submit("sleep 60\n", resources={"walltime_sec": 6})
    bench.start_event(patient)
    bench.start_event(slow)
    bench.kill_supervisor()
    more = bench.submit("true\n", count=2)
    rows = {(row.job, row.state) for row in bench.scheduler.queue([patient, slow, more])}
    assert {(patient, "running"), (slow, "running"), (more, "pending")} <= rows, "adopted elements keep their cores"
    gate.write_text("")
    bench.wait(patient, slow, more)
    assert bench.rows(patient)[0]["exit_code"] == 4
    assert bench.rows(slow)[0]["cause"] == "timeout"
    assert 5.9 <= bench.rows(slow)[0]["seconds"] < 60, "not to the end of its script"
    attempts = [event["attempt"] for job in (patient, slow) for event in bench.events(job) if event["event"] == "start"]
    assert attempts == [1, 1]


def test_an_end_without_a_supervisor_is_read_from_the_wrapper(bench: Bench) -> None:
    begun = time.monotonic()
    job = bench.submit("sleep 0.5; exit 5\n")
    pid = bench.start_event(job)["pid"]
    bench.kill_supervisor()
    until(lambda: processes.born(pid) is None)
    until_its_end = time.monotonic() - begun
    time.sleep(2)
    row = bench.wait(job)[0]
    assert (row["cause"], row["exit_code"]) == ("exit", 5)
    assert 0.4 < row["seconds"] < until_its_end + 1


def test_a_user_kills_an_adopted_element(bench: Bench) -> None:
    job = bench.submit("sleep 60\n")
    pid = bench.start_event(job)["pid"]
    bench.kill_supervisor()
    bench.scheduler.queue([job])
    until(lambda: bench.supervisor() in bench.supervisors())  # it has said its name; it adopts within a moment
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
    # After a reboot the process id, and even the start time, may be somebody else's.
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        other = {"pid": bystander.pid, "born": processes.born(bystander.pid), "boot": "another"}
        forged = {**event, **other, "host": host or event["host"]}
        (bench.state / "jobs" / job / "events.jsonl").write_text(json.dumps(forged) + "\n")
        assert bench.wait(job)[0]["cause"] == cause
        assert bystander.poll() is None
        bystander.kill()
    assert len([event for event in bench.events(job) if event["event"] == "start"]) == attempts


def test_a_torn_event_is_no_event(bench: Bench) -> None:
    gate = bench.root / "gate"
    job = bench.submit(
        f'echo "$HPC_LOCAL_INDEX" >>"$OUT"\n[ "$HPC_LOCAL_INDEX" = 0 ] || while [ ! -e {gate} ]; do sleep 0.05; done\n',
        count=3,
    )
    until(lambda: bench.rows(job))
    bench.start_event(job, 1)
    bench.kill_supervisor()
    with (bench.state / "jobs" / job / "events.jsonl").open("a") as log:
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
real, dice = events.append, random.Random(3)
supervise.RETRY_SEC = 0.05
def failing(path, event):
    if dice.random() < 0.3:
        with open(path, "ab") as log:
            log.write(b'{"event":"end","element":0,"ca')
        raise OSError(errno.ENOSPC, "full")
    real(path, event)
events.append = failing
""",
    )
    job = bench.submit('echo "$HPC_LOCAL_INDEX" >>"$OUT"\n', count=40)
    rows = bench.wait(job)
    assert [rows[index]["state"] for index in range(40)] == ["complete"] * 40
    assert sorted(bench.lines(), key=int) == [str(index) for index in range(40)]
    assert "full" in (bench.state / "supervisor.log").read_text()


def test_an_end_that_was_never_written_is_not_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = "def refuse(path, event):\n    if event.event == 'end': raise OSError(28, 'full')\n    real(path, event)\n"
    patched_boot(monkeypatch, "real = events.append\n" + refuse + "events.append = refuse\n")
    job = bench.submit('echo ran >>"$OUT"; exit 6\n')
    until(lambda: "full" in (bench.state / "supervisor.log").read_text())
    bench.kill_supervisor()
    monkeypatch.undo()
    assert bench.wait(job)[0]["exit_code"] == 6
    assert bench.lines() == ["ran"]


def test_a_deleted_state_folder_ends_the_supervisor(bench: Bench) -> None:
    job = bench.submit("sleep 60\n", count=3)
    bench.start_event(job, 1)
    until(lambda: len(bench.leftovers()) >= 6)
    members = bench.leftovers()
    shutil.rmtree(bench.state)
    until(lambda: not bench.supervisors())
    assert all(processes.born(pid) == born for pid, born in members.items()), "elements are left alone"
    assert bench.wait(bench.submit("true\n"))[0]["state"] == "complete", "the folder may be made anew"
    processes.kill_all(members)


def test_a_deleted_job_holds_up_nobody(bench: Bench) -> None:
    gate = bench.root / "gate"
    job = bench.submit(f"while [ ! -e {gate} ]; do sleep 0.05; done\n", count=9)
    bench.start_event(job, 1)  # both cores are taken: no further event is on its way
    shutil.rmtree(bench.state / "jobs" / job)
    gate.write_text("")
    other = bench.submit("true\n", count=4)
    assert other != job
    assert len(bench.wait(other)) == 4
    until(lambda: not list((bench.state / "active").iterdir()))


def test_without_proc(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    patched_boot(monkeypatch, "processes.HAVE_PROC = False\n")
    grace = {"HPC_PREEMPT_GRACE_SEC": "0"}
    slow = bench.submit("setsid sleep 60 & wait\n", resources={"walltime_sec": 1}, environment=grace)
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
print(scheduler.submit(Job(**json.loads(sys.argv[4]))))
"""
)


def test_a_killed_submission_leaves_a_whole_job_or_none(bench: Bench) -> None:
    document = bench.document('echo "$HPC_LOCAL_JOB_ID" >>"$OUT"\n')
    whole = set()
    for steps in range(1, 200):
        named = json.dumps({**document, "name": f"token{steps}"})
        argv = [sys.executable, "-c", KILLED_CLIENT, NODE_PARENT, str(bench.state), "2", named, str(steps)]
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
    code = CLIENT + "print(scheduler.submit(Job(**json.loads(sys.argv[4]))))\n"
    argv = [sys.executable, "-c", code, NODE_PARENT, str(bench.state), "2", document]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(5)]
    ids = [client.communicate(timeout=30)[0].decode().strip() for client in clients]
    assert sorted(ids) == ["1", "2", "3", "4", "5"]
    until(lambda: len(bench.supervisors()) == 1)
    assert bench.scheduler.find("token", 0) == ["1", "2", "3", "4", "5"]


def test_no_job_is_forgotten_as_the_supervisor_leaves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pauses where a submission could slip through: after each look for jobs, before the lock is let go, before it is taken back.
    patched_boot(
        monkeypatch,
        """
import time
supervise.IDLE_EXIT_SEC = 0.001
take, remove, ids = state_folder.take_lock, supervise.remove_quietly, supervise.Supervisor.unfinished_ids
def slow_take(path):
    time.sleep(0.03)
    return take(path)
def slow_remove(path):
    if path.endswith("supervisor.json"):
        time.sleep(0.03)
    remove(path)
def slow_ids(self):
    found = ids(self)
    time.sleep(0.03)
    return found
state_folder.take_lock, supervise.remove_quietly = slow_take, slow_remove
supervise.Supervisor.unfinished_ids = slow_ids
""",
    )
    dice = random.Random(4)
    seen = set()
    for _ in range(40):
        job = bench.submit("true\n")
        seen.add(bench.supervisor())
        # Nobody asks the queue here: accounting starts no supervisor.
        until(lambda job=job: bench.rows(job), 10)
        time.sleep(dice.uniform(0, 0.1))
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
    assert row.state == "pending"
    assert row.reason.startswith("SupervisorDown")
    assert "broken python" in (bench.state / "supervisor.log").read_text()
    monkeypatch.undo()
    assert bench.wait(job)[0]["state"] == "complete"


@pytest.mark.skipif(not OLD_PYTHON.exists(), reason="no Python 3.6 here")
def test_under_python_3_6(bench: Bench) -> None:
    document = bench.document('[ "$HPC_LOCAL_INDEX" != 1 ] || exit 2\n', count=20)
    code = CLIENT + (
        "import time\n"
        "job = scheduler.submit(Job(**json.loads(sys.argv[4])))\n"
        "while scheduler.queue([job]):\n    time.sleep(0.05)\n"
        "print(json.dumps([row._asdict() for row in scheduler.accounting([job], 0)]))\n"
    )
    folder = bench.root / "_hpc_runtime_parent"
    shutil.copytree(Path(NODE_PARENT) / "node", folder / "node", ignore=shutil.ignore_patterns("__pycache__"))
    argv = [str(OLD_PYTHON), "-c", code, str(folder), str(bench.state), "2", json.dumps(document)]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    rows = json.loads(done.stdout)
    assert [row["cause"] for row in rows] == [None, "exit", *[None] * 18]
    assert (bench.state / "supervisor.log").read_text() == ""
