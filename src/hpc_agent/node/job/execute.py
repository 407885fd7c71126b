"""Run one executor: its own process group, its output, and what it used."""

import os
import resource  # noqa: F401 - wait4 imports it late, when a repo's own resource.py would be found
import select
import signal
import subprocess
import time
from contextlib import suppress
from subprocess import DEVNULL
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..shared.processes import PASSED_ON, born, pass_on, signal_group, table
from ..shared.rungs import LAST_REPORT
from ..shared.task_record import COMPLETE, FAILED, TaskRecord
from .outputs import Log
from .plain_command import plain_start

CHUNK = 1 << 16
LAST_READS = 16  # of one chunk: a pipe holds at most 1 MiB
# What still runs in the executor's group when its leader has ended well, such as a tee, has this long to end by itself.
LINGER_SEC = 0.5
# The cause of an executor that was stopped by a signal of the scheduler, or shortly before the walltime.
STOPPED = "terminated"


class Ended(NamedTuple):
    """The end of a process and of all its children."""

    status: int  # as wait() has it
    cpu_seconds: float
    max_rss_kib: Optional[float]  # of the largest process; None where that may be a number of an earlier task
    metrics: Optional[str] = None  # what a registered function has returned, as JSON


class Running(NamedTuple):
    """A running executor: the leader of its own process group."""

    pid: int
    ended: Callable[[], Optional[Ended]]  # returns how the executor ended, once; None while it runs
    wakes: List[int] = []  # descriptors that become readable when the executor ends


class Arrived(object):
    """The signals that come while one executor runs. Those before the first ``seen`` are not for it."""

    def __init__(self, every: List[int], seen: int) -> None:
        self.every = every
        self.stopped = False  # True: one of them, or the walltime, ends the executor
        self._first = self._seen = seen

    def new(self) -> List[int]:
        """Return those that came since the last call."""
        found = self.every[self._seen :]
        self._seen += len(found)
        return found

    def so_far(self) -> List[int]:
        return self.every[self._first :]


class Signals(object):
    """The signals of the scheduler to this process, noted from the first task of an element to its last."""

    def __init__(self) -> None:
        self.arrived: List[int] = []
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGTERM, *PASSED_ON):
            self._before[number] = signal.signal(number, lambda got, _: self.arrived.append(got))
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def from_now(self) -> Optional[Arrived]:
        """Return those that will come, for the task that begins; None where one has come that ends the element.

        Between two tasks there is nobody to pass a signal on to.
        """
        count = len(self.arrived)
        return None if signal.SIGTERM in self.arrived[:count] else Arrived(self.arrived, count)


class Watcher(object):
    """What is done while an executor runs."""

    def started(self, pid: int) -> None:
        """The executor leads its own process group, and has this process id."""

    def tick(self) -> None:
        """Some tenths of a second have gone by."""


# Starts a task in a fork that writes into the given pipe; returns None when the task must be started by itself.
Fork = Optional[Callable[[int], Optional[Running]]]


def _start(command: str, env: Dict[str, str], cwd: str, output: int) -> Running:
    """Start the user's shell command as a child of this process, with its output in the pipe ``output``."""
    plain = plain_start(command, env, cwd)
    child: Optional["subprocess.Popen[bytes]"] = None
    if plain is not None:
        with suppress(OSError):  # bash tells why it cannot be started, or runs it as a script
            child = _popen(plain.words, plain.program, plain.env, cwd, output)
    if child is None:
        child = _popen(["/bin/bash", "-c", command], "/bin/bash", env, cwd, output)
    pid = child.pid

    def ended() -> Optional[Ended]:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if not done:
            return None
        child.returncode = 0  # Popen must not wait for this process id, which may belong to another process now
        return Ended(status, usage.ru_utime + usage.ru_stime, float(usage.ru_maxrss))

    return Running(pid, ended)


def _popen(words: List[str], program: str, env: Dict[str, str], cwd: str, output: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        words, executable=program, stdin=DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd, start_new_session=True
    )


def _begin(fork: Fork, command: str, env: Dict[str, str], cwd: str) -> Tuple[Running, int]:
    """Start the executor, as a fork if that can be. Return it and the pipe with its output. Raises OSError, ValueError."""
    pipe, output = os.pipe()
    try:
        return (fork(output) if fork else None) or _start(command, env, cwd, output), pipe
    except (OSError, ValueError):
        os.close(pipe)
        raise
    finally:
        os.close(output)


def run(
    record: TaskRecord,
    command: str,
    env: Dict[str, str],
    cwd: str,
    log: Log,
    grace: float,
    stop_at: Optional[float] = None,
    gpus: int = 0,
    fork: Fork = None,
    arrived: Optional[Arrived] = None,
    watcher: Optional[Watcher] = None,
) -> TaskRecord:
    """Run the user's shell command, or a ``fork`` that does the same. Return the record with the command's end.

    SIGTERM to this process (walltime, preemption), or the moment ``stop_at`` (epoch seconds), sends SIGTERM to the
    executor's group, which then has ``grace`` seconds. A signal of ``PASSED_ON`` goes to those of its processes that have a
    handler, and they go on; where none has, it is as SIGTERM. ``arrived``: where an earlier task has set the handlers.
    """
    if arrived is None:
        with Signals() as signals:
            arrived = Arrived(signals.arrived, 0)
            return run(record, command, env, cwd, log, grace, stop_at, gpus, fork, arrived, watcher)
    try:
        process, pipe = _begin(fork, command, env, cwd)
    except (OSError, ValueError) as error:  # ValueError: a variable that the operating system cannot carry
        return failed(record, "code_error", "cannot start the executor: %s" % error, 127)
    watcher, gpu_watch = watcher or Watcher(), None
    try:
        watcher.started(process.pid)
        started, clock = round(time.time(), 3), time.monotonic()
        if gpus:
            from .gpu_memory import GpuWatch  # only tasks with a GPU need its imports

            gpu_watch = GpuWatch(process.pid, env)
        deadline = time.monotonic() + max(0.0, stop_at - time.time()) if stop_at is not None else None
        ended = _pump(process, pipe, log, arrived, grace, deadline, watcher)
    finally:
        os.close(pipe)
        if gpu_watch is not None:
            gpu_watch.close()
    measured = {
        "started_at": started,
        "seconds": round(time.monotonic() - clock, 4),
        "ended_at": round(time.time(), 3),
        "gpu_mem_mb": gpu_watch.peak_mb if gpu_watch is not None else None,
    }
    return _with_end(record, ended, arrived, env.get("HPC_RESULT_DIR", ""), measured)


def _with_end(
    record: TaskRecord, ended: Ended, arrived: Arrived, result_dir: str, measured: Dict[str, Any]
) -> TaskRecord:
    """Return the record with what the end of the executor means, and with what was measured."""
    exit_code = os.WEXITSTATUS(ended.status) if os.WIFEXITED(ended.status) else None
    killed_by = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else None
    given_up = "" if ended.metrics else _gave_up(ended.status, arrived.so_far(), result_dir)
    stopped = arrived.stopped
    cause, message = (STOPPED, given_up) if given_up and not stopped else _cause(exit_code, killed_by, stopped)
    return record._replace(
        state=FAILED if cause else COMPLETE,
        cause=cause,
        message=message,
        exit_code=exit_code,
        signal=killed_by,
        cpu_seconds=round(ended.cpu_seconds, 3),
        max_rss_mb=None if ended.max_rss_kib is None else round(ended.max_rss_kib / 1024.0, 1),
        **measured,
    )


def failed(record: TaskRecord, cause: str, message: str, exit_code: Optional[int] = None) -> TaskRecord:
    """Return the record of an executor that was not started."""
    now = round(time.time(), 3)
    return record._replace(
        state=FAILED, cause=cause, message=message, exit_code=exit_code, seconds=0.0, started_at=now, ended_at=now
    )


def _cause(exit_code: Optional[int], killed_by: Optional[int], stopped: bool) -> Tuple[Optional[str], str]:
    """Return the cause of a failure and its message; None and an empty message for success."""
    if stopped:
        return STOPPED, "stopped before its walltime, or by a signal from the scheduler"
    if exit_code == 0:
        return None, ""
    if killed_by is not None:
        return "signal", "killed by signal %d" % killed_by
    if exit_code is not None and 128 < exit_code < 128 + signal.NSIG:
        return "signal", "exit code %d: a program it started was killed by signal %d" % (exit_code, exit_code - 128)
    return "code_error", "exit code %s" % exit_code


def _gave_up(status: int, arrived: List[int], result_dir: str) -> str:
    """Return a message for an executor that ended by a signal that was passed on, or after one with exit code 0 and no result."""
    if status == 0:
        given_up = bool(arrived) and not (os.path.isdir(result_dir) and set(os.listdir(result_dir)) - {LAST_REPORT})
    else:
        given_up = (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status) - 128) in arrived
    names = ", ".join(dict.fromkeys(signal.Signals(number).name for number in arrived))
    return "ended without a result after the scheduler's signal (%s)" % names if given_up else ""


def _pump(
    process: Running, pipe: int, log: Log, arrived: Arrived, grace: float, stop_at: Optional[float], watcher: Watcher
) -> Ended:
    """Copy output to the log until the executor has ended; end what it leaves running in its process group."""
    kill_at: Optional[float] = None
    ended: Optional[Ended] = None
    open_pipe = True
    pause = 0.0005  # once the pipe is closed the end is near: look often at first
    while ended is None:
        watched = [pipe, *process.wakes] if open_pipe else process.wakes
        ready, _, _ = select.select(watched, [], [], 0.2 if open_pipe else pause)
        pause = pause if open_pipe else min(pause * 2, 0.1)
        if stop_at is not None and time.monotonic() > stop_at:
            stop_at = None
            arrived.every.append(signal.SIGTERM)
        for number in arrived.new():
            if number not in PASSED_ON or not pass_on(process.pid, number):
                arrived.stopped = True
                signal_group(process.pid, signal.SIGTERM)
                kill_at = kill_at or time.monotonic() + grace
        if kill_at is not None and time.monotonic() > kill_at:
            signal_group(process.pid, signal.SIGKILL)
        if pipe in ready:
            open_pipe = _copy_output(pipe, log)
        watcher.tick()
        ended = process.ended()
    _end_group(process.pid, pipe if open_pipe else None, log, kill_at)
    if any(number not in PASSED_ON for number in arrived.new()):  # such as came with the executor's end
        arrived.stopped = True
    return ended


def _end_group(leader: int, pipe: Optional[int], log: Log, kill_at: Optional[float]) -> None:
    """Kill what the ended executor left in its process group, once that had its time; copy the rest of the output.

    ``kill_at`` (monotonic) is the end of the grace of a stopped executor, of which the leader may have ended first: bash
    ends at SIGTERM, and the program that it started still saves a checkpoint.
    """
    until = kill_at or time.monotonic() + LINGER_SEC
    while time.monotonic() < until:
        running = any(p.group == leader != p.pid for p in table().values()) if kill_at else pipe is not None
        if not running:
            break
        if select.select([pipe] if pipe is not None else [], [], [], 0.1)[0] and pipe is not None:
            pipe = pipe if _copy_output(pipe, log) else None
    with suppress(OSError):
        os.killpg(leader, 0)  # fails where nothing is left, as a rule
        if born(leader) is None:  # else the group is empty, and its number that of another process
            os.killpg(leader, signal.SIGKILL)
    for _ in range(LAST_READS):  # a child with a session of its own may print for ever
        if pipe is not None and select.select([pipe], [], [], 0)[0]:
            pipe = pipe if _copy_output(pipe, log) else None


def _copy_output(pipe: int, log: Log) -> bool:
    """Copy the output that has arrived. Return False at its end."""
    data = os.read(pipe, CHUNK)
    log.write(data)
    return bool(data)
