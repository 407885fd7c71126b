"""Run one executor: its own process group, a bounded log, the rusage of what it did."""

import errno
import os
import resource  # noqa: F401 - wait4 imports it late, when a repo's own resource.py would be found
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, Union

if TYPE_CHECKING:
    from .function_tasks import Copy
    from .gpu_memory import GpuWatch

HEAD_BYTES = 32 << 20
TAIL_BYTES = 8 << 20
CHUNK = 1 << 16
# Grid Engine warns with SIGUSR1 (about to be suspended, or at a soft limit) and SIGUSR2 (about to be killed).
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

# status as wait() has it, seconds of all its processes, and the peak of the largest
Ended = NamedTuple("Ended", [("status", int), ("cpu_seconds", float), ("max_rss_kib", float)])


class Log(object):
    """A log that keeps its first 32 MiB and its last 8 to 16 MiB: an executor that prints a gigabyte fills no disk.

    Beyond the head, output goes to ``<log>.tail``, which becomes ``<log>.tail.old`` whenever it is full; so the end is
    on disk even when this process is killed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle = open(path, "wb")
        self._room = HEAD_BYTES
        self._full = False

    def write(self, data: bytes) -> None:
        while data and not self._full:
            if self._room <= 0:
                self._turn()
            part, data = data[: self._room], data[self._room :]
            try:
                self._handle.write(part)
                self._handle.flush()
            except OSError as error:
                # A full disk must not stop the executor: the output is lost, the task is not.
                self._full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if not self._full:
                    raise
            self._room -= len(part)

    def _turn(self) -> None:
        self._handle.close()
        tail = self._path + ".tail"
        if os.path.exists(tail):
            os.replace(tail, tail + ".old")
        self._handle = open(tail, "wb")
        self._room = TAIL_BYTES

    def close(self) -> None:
        try:
            self._handle.close()
        except OSError:
            pass


def run(
    command: str,
    env: Dict[str, str],
    cwd: str,
    log_path: str,
    grace: float,
    stop_at: Optional[float] = None,
    gpus: int = 0,
    copy: "Optional[Copy]" = None,
) -> Dict[str, Any]:
    """Run the user's shell command, or watch the ``copy`` that does so already.

    Returns state, cause, exit_code, signal, seconds, cpu_seconds, max_rss_mb, times, whether it was ``stopped``, and
    gpu_mem_mb where it has ``gpus``.

    SIGTERM to this process (walltime, preemption; Grid Engine's warnings are SIGUSR1 and SIGUSR2), or the moment
    ``stop_at`` (epoch seconds), sends SIGTERM to the executor's group, which then has ``grace`` seconds.
    """
    log = Log(log_path)
    started = time.time()
    clock = time.monotonic()
    stop = _StopSignal()
    try:
        process = copy or Child(command, env, cwd)
    except (OSError, ValueError) as error:  # ValueError: a variable that the operating system cannot carry
        stop.restore()
        log.close()
        return dict(
            _outcome(started, clock, 127, None, "code_error", "cannot start the executor: %s" % error), stopped=False
        )
    deadline = time.monotonic() + max(0.0, stop_at - time.time()) if stop_at is not None else None
    watch = _gpu_watch(process.pid, env) if gpus else None
    ended = _pump(process, log, stop, grace, deadline, watch)
    process.close()
    stop.restore()
    log.close()
    exit_code = os.WEXITSTATUS(ended.status) if os.WIFEXITED(ended.status) else None
    killed_by = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else None
    outcome = _outcome(started, clock, exit_code, killed_by, *_cause(exit_code, killed_by, stop.received))
    outcome["cpu_seconds"] = round(ended.cpu_seconds, 3)
    outcome["max_rss_mb"] = round(ended.max_rss_kib / 1024.0, 1)
    outcome["stopped"] = stop.received
    if watch is not None:
        watch.close()
        outcome["gpu_mem_mb"] = watch.peak_mb
    return outcome


class Child(object):
    """The user's shell command as a process of ours: leader of its own group, its output in a pipe."""

    def __init__(self, command: str, env: Dict[str, str], cwd: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.output = self._process.stdout.fileno()
        self.wakes: List[int] = []

    def ended(self) -> Optional[Ended]:
        """How it ended, and reaped; None while it runs."""
        done, status, usage = os.wait4(self.pid, os.WNOHANG)
        if not done:
            return None
        self._process.returncode = 0  # keeps Popen from waiting for a process id that is no longer ours
        return Ended(status, usage.ru_utime + usage.ru_stime, float(usage.ru_maxrss))

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()


def _gpu_watch(session: int, env: Dict[str, str]) -> "GpuWatch":
    from .gpu_memory import GpuWatch  # most tasks have no GPU, and every element pays for its imports

    return GpuWatch(session, env)


class _StopSignal(object):
    """Remembers that SIGTERM arrived, and wakes the select loop."""

    def __init__(self) -> None:
        self.received = False
        self.wake, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._earlier = {number: signal.signal(number, self.handle) for number in STOP_SIGNALS}

    def handle(self, *_: Any) -> None:
        self.received = True
        try:
            os.write(self._write, b"!")
        except BlockingIOError:
            pass  # it is awake

    def restore(self) -> None:
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)
        os.close(self.wake)
        os.close(self._write)


def _pump(
    process: "Union[Child, Copy]",
    log: Log,
    stop: _StopSignal,
    grace: float,
    stop_at: Optional[float],
    watch: "Optional[GpuWatch]",
) -> Ended:
    """Copy output to the log until the executor has ended; a background child that keeps the pipe cannot hold us."""
    deadline: Optional[float] = None
    ended: Optional[Ended] = None
    pipe, open_pipe = process.output, True
    wakes = [stop.wake, *process.wakes]
    pause = 0.0005  # once the pipe is closed the end is near: look often at first
    while ended is None:
        ready, _, _ = select.select([pipe, *wakes] if open_pipe else wakes, [], [], 0.2 if open_pipe else pause)
        pause = pause if open_pipe else min(pause * 2, 0.1)
        if watch is not None:
            watch.look()
        if stop_at is not None and time.monotonic() > stop_at:
            stop_at = None
            stop.handle()
        if stop.wake in ready:
            os.read(stop.wake, 16)
            _signal_group(process.pid, signal.SIGTERM)
            deadline = deadline or time.monotonic() + grace
        if pipe in ready:
            data = os.read(pipe, CHUNK)
            log.write(data)
            open_pipe = bool(data)
            if data:
                continue
        if deadline is not None and time.monotonic() > deadline:
            _signal_group(process.pid, signal.SIGKILL)
        ended = process.ended()
    while open_pipe and select.select([pipe], [], [], 0)[0]:
        data = os.read(pipe, CHUNK)
        log.write(data)
        open_pipe = bool(data)
    return ended


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def _cause(exit_code: Optional[int], killed_by: Optional[int], stopped: bool) -> Tuple[Optional[str], str]:
    if exit_code == 0 and not stopped:
        return None, ""
    if stopped:
        return "terminated", "stopped before its walltime, or by a signal from the scheduler"
    if killed_by is not None:
        return "signal", "killed by signal %d" % killed_by
    if exit_code is not None and 128 < exit_code < 128 + signal.NSIG:
        return "signal", "exit code %d: a program it started was killed by signal %d" % (exit_code, exit_code - 128)
    if exit_code == 0:
        return None, ""
    return "code_error", "exit code %s" % exit_code


def process_start() -> float:
    """When this process began (epoch seconds): the job template becomes the dispatcher, so about when the job did."""
    try:
        with open("/proc/self/stat", "rb") as handle:
            ticks = float(handle.read().rpartition(b")")[2].split()[19])
        with open("/proc/uptime", "rb") as handle:
            uptime = float(handle.read().split()[0])
        return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()


def _outcome(
    started: float, clock: float, exit_code: Optional[int], killed_by: Optional[int], cause: Optional[str], message: str
) -> Dict[str, Any]:
    complete = exit_code == 0 and cause is None
    return {
        "state": "complete" if complete else "failed",
        "cause": cause,
        "message": message,
        "exit_code": exit_code,
        "signal": killed_by,
        "seconds": round(time.monotonic() - clock, 4),
        "started_at": round(started, 3),
        "ended_at": round(time.time(), 3),
    }
