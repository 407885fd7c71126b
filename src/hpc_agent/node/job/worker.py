"""Run tasks in this process, one after the other, each as ``python3 .hpc/cli.py`` would run it."""

import _signal  # type: ignore[import-not-found] # its functions make no enumerations
import atexit
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Set, Tuple

from ..shared.processes import PASSED_ON
from .unread_module import without_unread
from .worker_imports import KIT, Program, own_modules
from .worker_messages import receive, send
from .worker_random import restorers
from .worker_state import Remains, State, flush, new_filters, with_own_context
from .worker_values import Values


def become_new_process(output: int) -> None:
    """Set signals and descriptors as a new process has them, with its output in the pipe ``output``."""
    for number in (signal.SIGTERM, signal.SIGCHLD, *PASSED_ON):
        _signal.signal(number, _signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    set_output(output)


def set_output(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if descriptor > 2:
        os.close(descriptor)


def set_environment(task: Dict[str, Any], fixed: Set[str]) -> List[str]:
    """Set the variables of a task, but for the ``fixed`` ones, which an import has set. Return their names."""
    for name, value in task["env"].items():
        if name not in fixed:
            os.environ[name] = value
    for name in task["removed"]:
        os.environ.pop(name, None)
    names = [*task["env"], *task["removed"]]
    if "TZ" in names:
        time.tzset()
    return names


class Worker(object):
    """A process that runs tasks until one of them leaves something behind, or ends it."""

    def __init__(self, program: Program, fixed: Set[str], keep: bool) -> None:
        """Prepare for the fork. ``fixed``: the variables that an import has set; ``keep``: run more than one task."""
        self._program, self._fixed = program, fixed
        self._restorers = restorers(program.root, program.seeded)
        self._values = Values(without_unread(own_modules(program.root))) if keep else None
        self.why_one = _why_one(self._values) if self._values is not None else ""
        if self.why_one:
            self._values = None
        self._kit: Any = importlib.import_module(KIT)
        self._kit.__dict__.update(take_metrics=self._take)
        self._metrics: Optional[str] = None
        self._result_dir = "."
        self._interrupted = False

    def run(self, channel: socket.socket, task: Dict[str, Any]) -> int:
        """Run the task, and those that come over the channel until it is closed. Return the exit code of this process."""
        output = task["descriptors"][-1]
        become_new_process(output)
        self._channel, self._identity = channel, _identity(channel.fileno())
        if self._values is not None:
            self._state: Remains = State(self._program.root, self._values)
        else:
            self._state = Remains((sys.stdin, sys.stdout, sys.stderr))
        is_fresh = True  # the peak of the memory is that of this task
        used = 0.0
        while task:
            names = set_environment(task, self._fixed)
            if isinstance(self._state, State):
                self._state.begin(names)
            for restore in self._restorers:
                restore()
            self._metrics, self._result_dir = None, os.environ.get("HPC_RESULT_DIR") or "."
            send(channel, {"pid": os.getpid(), "cpu": used, "fresh": is_fresh})  # from here on the task has begun
            with new_filters():
                goes_on = isinstance(self._state, State)  # else there is no next task that could find anything
                code = with_own_context(self._execute) if goes_on else self._execute()
            if not self._go_on(code, used, is_fresh):
                return code
            task = receive(channel)
            if task:
                used, is_fresh = _cpu_seconds(), _reset_peak()
                set_output(task["descriptors"][-1])
        return 0

    def _go_on(self, code: int, used: float, is_fresh: bool) -> bool:
        """Tell the dispatcher that the task has ended. Return False where this process must end with it, in order."""
        reports: Any = sys.modules.get("hpc_agent.experiment_kit.early_stop")
        if reports is not None:
            reports.end_task()
        flush()
        remains = self._state.what_remains()
        answer = {"code": code, "metrics": self._metrics, "cpu_seconds": _cpu_seconds() - used, "last": True}
        answer["max_rss_kib"] = _peak_kib() if is_fresh else None
        if code == 0 and isinstance(self._state, State) and not remains and not self._state.put_back():
            set_output(os.open(os.devnull, os.O_WRONLY))
            answer["last"] = False
        if not self._tell(answer) or answer["last"]:
            return self._end(code, bool(remains))
        return True

    def _tell(self, answer: Dict[str, Any]) -> bool:
        """Send the answer. Return False where it cannot be sent: the task may have closed every descriptor."""
        with suppress(OSError):
            if _identity(self._channel.fileno()) == self._identity:
                send(self._channel, answer)
                return True
        if self._metrics is not None:
            self._kit.write_metrics(json.loads(self._metrics), self._result_dir)
        return False

    def _end(self, code: int, in_order: bool) -> bool:
        """End this process, or return False where the interpreter has to do it."""
        if in_order and not self._interrupted:
            return False
        if in_order:
            atexit._run_exitfuncs()
        flush()
        if self._interrupted:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code)

    def _take(self, metrics: Dict[str, Any]) -> None:
        """Keep the metrics for the dispatcher; in a file too, beside what the task has written."""
        self._metrics = json.dumps(self._kit.plain_value(metrics), sort_keys=True)
        with suppress(OSError):
            if os.listdir(self._result_dir):
                self._kit.write_metrics(metrics)

    def _execute(self) -> int:
        """Run the program once. Return the exit code that the interpreter would have."""
        try:
            exec(self._program.code, self._program.namespace)  # noqa: S102 - the last line of .hpc/cli.py
        except SystemExit as end:
            return exit_code(end)
        except BaseException as error:  # noqa: BLE001 - as the interpreter does
            raised = error
        else:
            return 0
        return self._report(raised)

    def _report(self, error: BaseException) -> int:
        """Print an exception that nobody has caught, without the frame of this file. Return the exit code."""
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        error = error.with_traceback(trace)
        try:
            sys.excepthook(type(error), error, trace)
        except SystemExit as end:
            return exit_code(end)
        except BaseException as second:  # noqa: BLE001 - as the interpreter does
            inner = second.__traceback__.tb_next if second.__traceback__ else None
            sys.stderr.write("Error in sys.excepthook:\n")
            sys.__excepthook__(type(second), second.with_traceback(inner), inner)
            sys.stderr.write("\nOriginal exception was:\n")
            sys.__excepthook__(type(error), error, trace)
        self._interrupted = isinstance(error, KeyboardInterrupt) and sys.version_info >= (3, 8)
        return 1


def _why_one(values: Values) -> str:
    """Return why a process must not run a second task; "" where it may."""
    if resource.getrlimit(resource.RLIMIT_CPU)[0] != resource.RLIM_INFINITY:
        return "the CPU time of a process is limited"
    return "a task could change %s unseen" % values.unseen.replace("hpc_executor_", "") if values.unseen else ""


def exit_code(end: SystemExit) -> int:
    """Return the exit code of a process that ends with this exception; print what is no number."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF if -(1 << 63) <= end.code < 1 << 63 else 0xFF
    sys.stderr.write("%s\n" % (end.code,))
    return 1


def _identity(descriptor: int) -> Tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _cpu_seconds() -> float:
    """Return what this process and its children have used."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_kib() -> float:
    """Return the memory of the largest process since the peak was set back."""
    return float(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def _reset_peak() -> bool:
    """Let the kernel forget the peak of this process's memory. Return False where it cannot be asked to."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(descriptor, b"5") == 1  # Linux 4.0
    except OSError:
        return False
    finally:
        os.close(descriptor)
