"""The state of a process that runs many tasks: kept before the first one, put back after each.

What cannot be put back is told, and the process runs no further task.
"""

import _locale
import _signal  # type: ignore[import-not-found] # its functions make no enumerations
import _thread
import atexit
import fcntl
import gc
import importlib
import os
import resource
import signal
import stat
import sys
import threading
import time
import warnings
import weakref
from contextlib import suppress
from typing import Any, Callable, List, Tuple

from .unread_module import is_unread
from .worker_imports import own_modules
from .worker_loggers import Loggers
from .worker_values import Values

SIGNALS = tuple(number for number in range(1, signal.NSIG) if number not in (signal.SIGKILL, signal.SIGSTOP))
LIMITS = tuple(sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}))
# Settings of the interpreter, of which some came with later versions of Python: sys.get..., sys.set...
SETTINGS = ("recursionlimit", "switchinterval", "_int_max_str_digits")
HOOKS, LISTS = ("excepthook", "displayhook", "unraisablehook"), ("path", "path_hooks", "meta_path", "argv")
# A process that has grown by this is replaced: memory that a task has left counts for the next one.
GROWTH_KIB = 64 << 10
COLLECT_KIB = 8 << 10
COLLECT_EACH = 50  # tasks
MAX_LEFT_OPEN = 50  # descriptors that no data can be lost by, such as sockets
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10


class Remains(object):
    """What this process has to do at its end before its first task."""

    def __init__(self, streams: Tuple[Any, ...]) -> None:
        self._streams = streams
        self._threads, self._finalizers, self._callbacks = _thread._count(), _finalizers(), _callbacks()
        self._descriptor, self._left_open = _next_descriptor(), 0

    def what_remains(self) -> str:
        """Return what is to be done at the interpreter's end: threads, handlers, open files; "" where there is nothing."""
        if _thread._count() > self._threads:
            return "a thread"
        if _callbacks() != self._callbacks or _finalizers() > self._finalizers:
            return "something to do at its end"
        if any(stream.closed for stream in self._streams) or not _is_open(0):
            return "a closed stream"
        return self._what_stays_open()

    def _what_stays_open(self) -> str:
        """Return a text where a file is open for writing: its data is written when the interpreter ends."""
        if _next_descriptor() == self._descriptor:
            return ""
        if written_files():
            return "a file that is open for writing"
        self._descriptor, self._left_open = _next_descriptor(), self._left_open + 1
        return "too many open descriptors" if self._left_open > MAX_LEFT_OPEN else ""


class State(Remains):
    """The state of this process before its first task."""

    def __init__(self, root: str, values: Values) -> None:
        super(State, self).__init__((sys.stdin, sys.stdout, sys.stderr))
        self._root, self._cwd = root, os.getcwd()
        self._environ, self._variables = os.environ, dict(os.environ)
        places: List[Any] = [sys, threading]  # of which the second one has its hook since Python 3.8
        self._hooks = [(one, name, getattr(one, name)) for one in places for name in HOOKS if hasattr(one, name)]
        self._lists: List[Tuple[str, List[Any], List[Any]]] = [
            (n, getattr(sys, n), list(getattr(sys, n))) for n in LISTS
        ]
        self._settings = [(set_it, get_it()) for get_it, set_it in _settings()]
        self._locale, self._umask = _locale.setlocale(_locale.LC_ALL, None), os.umask(0o22)
        os.umask(self._umask)
        self._handlers = signal_handlers()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._limits, self._priority = _limits(), os.getpriority(os.PRIO_PROCESS, 0)
        self._cores = _cores()
        self._gc = gc.isenabled(), gc.get_threshold()
        self._loggers = Loggers(root)
        self._values = values
        self._modules, self._own = len(sys.modules), own_modules(root)
        self._unread = [module for name, module in self._own.items() if name not in values.own]
        self._tasks, self._rss = 0, resident_kib()
        self._task_names: List[str] = []

    def begin(self, names: List[str]) -> None:
        """Note the environment of a task, which has set or removed these variables."""
        self._task_names, self._raw = names, dict(os.environ._data)  # type: ignore[attr-defined]

    def put_back(self) -> str:
        """Put back what the task has changed. Return why this process must not run another task; "" where it may."""
        why = self._what_was_changed()
        self._put_back_process()
        self._put_back_interpreter()
        self._put_back_environment()
        return why or self._memory()

    def _what_was_changed(self) -> str:
        """Return a text for what cannot be put back: limits, children, values of the repo's modules."""
        if _limits() != self._limits or os.getpriority(os.PRIO_PROCESS, 0) != self._priority:
            return "other limits"
        if has_children():
            return "a child process"
        if any(sys.modules.get(name) is not module for name, module in self._own.items()):
            return "a module of the repo"
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            if len(own_modules(self._root)) != len(self._own):
                return "another module of the repo"
        if not all(map(is_unread, self._unread)):
            return "the use of a module whose values were not looked at"
        return self._values.put_back()

    def _put_back_process(self) -> None:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            if signal.getitimer(timer)[0]:
                signal.setitimer(timer, 0)
        now = signal_handlers()
        if now != self._handlers:
            for number, handler, before in zip(SIGNALS, now, self._handlers):
                if handler != before and before is not None:
                    signal.signal(number, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        os.umask(self._umask)
        os.chdir(self._cwd)
        if _cores() != self._cores:
            os.sched_setaffinity(0, self._cores)

    def _put_back_interpreter(self) -> None:
        sys.stdin, sys.stdout, sys.stderr = self._streams
        for place, name, value in self._hooks:
            setattr(place, name, value)
        for name, one, values in self._lists:
            if one != values:
                one[:] = values
            setattr(sys, name, one)
        sys.settrace(None)
        sys.setprofile(None)
        for set_it, value in self._settings:
            set_it(value)
        if _locale.setlocale(_locale.LC_ALL, None) != self._locale:
            _locale.setlocale(_locale.LC_ALL, self._locale)
        enabled, threshold = self._gc
        gc.enable() if enabled else gc.disable()
        gc.set_threshold(*threshold)
        self._loggers.put_back()
        self._put_back_libraries()

    @staticmethod
    def _put_back_libraries() -> None:
        """Close what belongs to one task in libraries that keep it for the whole process."""
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and pyplot.get_fignums():
            pyplot.close("all")
        events: Any = sys.modules.get("asyncio.events")
        if getattr(events, "_event_loop_policy", None) is not None:
            events._event_loop_policy = None

    def _put_back_environment(self) -> None:
        os.environ = self._environ  # noqa: B003 - the object of the beginning
        is_as_set = os.environ._data == self._raw  # type: ignore[attr-defined]
        names = self._task_names if is_as_set else list(set(os.environ) | set(self._variables))
        for name in names:
            before = self._variables.get(name)
            if before is None:
                os.environ.pop(name, None)
            elif os.environ.get(name) != before:
                os.environ[name] = before
        if "TZ" in names:
            time.tzset()

    def _memory(self) -> str:
        self._tasks += 1
        if self._tasks % COLLECT_EACH == 0 or resident_kib() > self._rss + COLLECT_KIB:
            gc.collect()
            return "memory" if resident_kib() > self._rss + GROWTH_KIB else ""
        return ""


def with_own_context(call: Callable[[], int]) -> int:
    """Call it in a copy of the context variables: what it sets there, such as NumPy's handling of errors, ends with it."""
    try:
        contextvars: Any = importlib.import_module("contextvars")
    except ImportError:  # Python 3.6
        return _with_own_decimals(call)
    return int(contextvars.copy_context().run(_with_own_decimals, call))


def _with_own_decimals(call: Callable[[], int]) -> int:
    """Call it with a copy of the context of decimals, which is one object for all copies of the context variables."""
    decimals: Any = sys.modules.get("decimal")
    if decimals is None:
        return call()
    before = decimals.getcontext()
    decimals.setcontext(before.copy())
    try:
        return call()
    finally:
        decimals.setcontext(before)


def _settings() -> List[Tuple[Callable[[], Any], Callable[[Any], None]]]:
    return [(getattr(sys, "get" + n), getattr(sys, "set" + n)) for n in SETTINGS if hasattr(sys, "set" + n)]


def signal_handlers() -> Tuple[Any, ...]:
    """Return what Python does at each signal."""
    return tuple(map(_signal.getsignal, SIGNALS))


def has_children() -> bool:
    """Return True where a child process runs, or has run: its own children may still do."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if used.ru_minflt or used.ru_maxrss or signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL:
        return True
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _limits() -> Tuple[Any, ...]:
    return tuple(map(resource.getrlimit, LIMITS))


def _cores() -> Any:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _callbacks() -> int:
    count = getattr(atexit, "_ncallbacks", None)  # of CPython
    return count() if count is not None else 0


def _finalizers() -> int:
    """Return how many objects, such as temporary folders, are to be cleaned up at the interpreter's end."""
    return len(getattr(weakref.finalize, "_registry", ()))


def written_files() -> List[int]:
    """Return the descriptors of files that are open for writing; none where the system does not tell."""
    found = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with suppress(OSError):
            mode, flags = os.fstat(int(name)).st_mode, fcntl.fcntl(int(name), fcntl.F_GETFL)
            if int(name) > 2 and stat.S_ISREG(mode) and flags & os.O_ACCMODE != os.O_RDONLY:
                found.append(int(name))
    return found


def _is_open(descriptor: int) -> bool:
    with suppress(OSError):
        os.fstat(descriptor)
        return True
    return False


def _next_descriptor() -> int:
    """Return the lowest free descriptor; it changes when one is left open."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def resident_kib() -> int:
    """Return the resident memory of this process; 0 where the system does not tell it."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as handle:
            return int(handle.read().split()[1]) * PAGE_KIB
    except (OSError, ValueError, IndexError):
        return 0


def register_finalizers() -> None:
    """Let ``weakref`` register its handler of the interpreter's end now, not with the first temporary folder of a task."""
    weakref.finalize(Remains, int).detach()


def flush(streams: Tuple[Any, ...] = ()) -> None:
    """Write what the streams of Python and of C still hold."""
    for stream in (sys.stdout, sys.stderr, *streams):
        with suppress(Exception):
            stream.flush()
    flush_c()


def _c_flush() -> Callable[[], Any]:
    try:
        import ctypes  # some interpreters are built without it

        fflush = ctypes.CDLL(None).fflush
        return lambda: fflush(None)
    except (ImportError, OSError, AttributeError):
        return lambda: None


flush_c = _c_flush()


def new_filters() -> Any:
    """Return a context in which warnings are shown as in a new process, and filters may be set."""
    return warnings.catch_warnings()
