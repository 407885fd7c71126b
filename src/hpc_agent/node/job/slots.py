"""Run several tasks of an element at the same time: a process a slot, which runs one task after the other.

The element's own process hands out the tasks, each to one slot. A slot process that dies takes its one task along, and a new
one goes on with the next.
"""

import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Deque, Dict, Iterator, List, NamedTuple, Optional

from ..shared.files import DISK_FULL_EXIT, is_disk_full
from ..shared.processes import signal_group
from ..shared.task_environment import TaskEnvironment
from . import execute
from .element import Element
from .element_books import ElementBooks
from .oom_kills import OomKills
from .task_runner import TaskRunner, new_record, say, start_workers, write_record
from .workers import Workers

# What a slot says: give me a task; the last words of one whose tasks are all complete, or not; of one that was stopped.
NEXT, GOOD, BAD, STOPPED = b"n", b"g", b"b", b"s"
TASK, PID = struct.Struct("!q"), struct.Struct("q")
TICK_SEC = 0.2
# A slot process that dies before it begins its task is started again with it, but not for ever.
BEGINS_AT_MOST = 3


class Slot(NamedTuple):
    """A slot process, as the element sees it."""

    number: int
    pid: int
    channel: socket.socket


class Slots(object):
    """The slots of one element."""

    def __init__(self, element: Element, books: ElementBooks, signals: execute.Signals) -> None:
        self._element, self._books, self._signals = element, books, signals
        self._waiting: Deque[int] = deque(element.tasks)
        self._slots: Dict[int, Slot] = {}  # by the descriptor of the channel
        self._tasks: Dict[int, int] = {}  # slot -> the task that it has
        self._vain: Dict[int, int] = {}  # task -> slot processes that died before they began it
        self._executors = mmap.mmap(-1, PID.size * element.slots)  # the process id of each slot's executor
        self._last_words: Dict[int, bytes] = {}
        self._is_stopped = self._is_disk_full = False
        self._is_good = True
        self._passed = 0
        self._oom_kills = OomKills(dict(os.environ))
        self._workers: Optional[Workers] = None

    def run(self) -> int:
        """Run all tasks. Return the exit code of the element."""
        if not self._element.gpus:  # else each slot starts its own, with its own devices
            common = TaskEnvironment(self._element.document, self._element.run.path, dict(os.environ)).common
            self._workers = start_workers(self._element, common, self._element.slots)
        try:
            return self._run()
        finally:
            if self._workers is not None:
                self._workers.close()

    def _run(self) -> int:
        for number in range(self._element.slots):
            self._start(number)
        while self._slots:
            ready, _, _ = select.select(list(self._slots), [], [], TICK_SEC)
            self._pass_signals_on()
            for descriptor in ready:
                self._hear(self._slots[descriptor])
        if self._is_disk_full:
            return DISK_FULL_EXIT
        return 0 if self._is_good and not self._waiting else 1

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.close()
                for slot in self._slots.values():
                    slot.channel.close()
                code = self._be_slot(number, theirs)
            except BaseException:  # noqa: BLE001 - this process must never return to the code of the element's
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        self._slots[ours.fileno()] = Slot(number, pid, ours)

    def _pass_signals_on(self) -> None:
        """Pass on what the scheduler sent. Slots lead groups of their own, so that none gets a signal twice."""
        arrived = self._signals.arrived[self._passed :]
        self._passed += len(arrived)
        self._is_stopped = self._is_stopped or signal.SIGTERM in arrived
        for number in arrived:
            for slot in self._slots.values():
                with suppress(OSError):
                    os.kill(slot.pid, number)

    def _hear(self, slot: Slot) -> None:
        try:
            word = slot.channel.recv(1)
        except OSError:
            word = b""
        if word == NEXT:
            self._tasks.pop(slot.number, None)
            self._give(slot)
        elif word:
            self._last_words[slot.number] = word
            self._tasks.pop(slot.number, None)
        else:
            self._bury(slot)

    def _give(self, slot: Slot) -> None:
        if not self._waiting or self._is_stopped:
            slot.channel.shutdown(socket.SHUT_WR)
            return
        task = self._waiting.popleft()
        self._tasks[slot.number] = task
        with suppress(OSError):  # the slot has died: that is heard next
            slot.channel.send(TASK.pack(task))

    def _bury(self, slot: Slot) -> None:
        """Take note of the end of a slot process; of one that died, write the record of its task and start it anew."""
        del self._slots[slot.channel.fileno()]
        slot.channel.close()
        _, status, usage = os.wait4(slot.pid, 0)
        word, task = self._last_words.pop(slot.number, b""), self._tasks.pop(slot.number, None)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == DISK_FULL_EXIT:
            self._is_stopped = self._is_disk_full = True
            return
        self._is_good = self._is_good and word == GOOD
        self._is_stopped = self._is_stopped or word == STOPPED
        if word:
            return
        self._end_executor(slot.number)
        has_begun = task is not None and self._record(slot.number, task, execute.Ended(status, 0.0, usage.ru_maxrss))
        if task is not None and not has_begun:
            self._vain[task] = self._vain.get(task, 0) + 1
            if self._vain[task] < BEGINS_AT_MOST:
                self._waiting.appendleft(task)
        if task is None and not self._slots:  # it died while it did nothing: the next one may do so too
            self._is_stopped = True
        if self._waiting and not self._is_stopped:
            self._start(slot.number)

    def _end_executor(self, number: int) -> None:
        (pid,) = PID.unpack_from(self._executors, PID.size * number)
        if pid:
            signal_group(pid, signal.SIGKILL)
        PID.pack_into(self._executors, PID.size * number, 0)

    def _record(self, number: int, task: int, ended: execute.Ended) -> bool:
        """Write the record of a task whose slot process has died. Return False where it had not begun the task."""
        books, element = self._books, self._element
        begun = books.last_begun(number, task)
        known = books.outcomes.known(task)
        if begun is None:
            return known.has_record
        log = books.output_of(number)
        length = log.end_of(begun.offset)
        record = new_record(element, task, known.begun + books.outcomes.begun_alone(task))
        killed_by = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else None
        how = (
            "killed by signal %d" % killed_by if killed_by else "ended with exit code %d" % os.WEXITSTATUS(ended.status)
        )
        now = time.time()
        record = record._replace(
            kwargs=self._kwargs(task),
            cause="signal" if killed_by else "code_error",
            message="the process of the dispatcher that ran the task was %s" % how,
            signal=killed_by,
            exit_code=None if killed_by else os.WEXITSTATUS(ended.status),
            started_at=begun.at,
            ended_at=round(now, 3),
            seconds=round(max(0.0, now - begun.at), 4),
            max_rss_mb=round((ended.max_rss_kib or 0.0) / 1024.0, 1),
            oom_kills=(killed_by == signal.SIGKILL and self._oom_kills.new()) or None,
            log_offset=begun.offset,
            log_length=length,
            log_tail=log.tail(20, 4096),
        )
        log.close()
        record = record._replace(result_dir=books.keep_scratch(number, task))
        books.has_checkpoint(task)  # an empty folder is removed
        element.slot = number
        write_record(books, record)
        element.slot = 0
        say("task %d: %s" % (task, record.message))
        return True

    def _kwargs(self, task: int) -> Optional[Dict[str, object]]:
        try:
            return self._element.parameters(task)
        except Exception:  # noqa: BLE001 - user code; the task had them, or the record of its process says why not
            return None

    # -- in the slot process ------------------------------------------------------------------------------------------

    def _be_slot(self, number: int, channel: socket.socket) -> int:
        """Run tasks until there is none. Return the exit code."""
        element, books = self._element, self._books
        os.setpgid(0, 0)  # a signal to the group of the element's process is passed on by that
        element.pid, element.slot = os.getpid(), number
        _set_devices(number, element.slots)
        books.watcher = _SlotWatcher(books.watcher, self._executors, number)
        try:
            is_good = TaskRunner(element, books, self._signals, self._workers).run_each(self._given(number, channel))
            books.leave_slot()
        except OSError as error:
            if not is_disk_full(error):
                raise
            say("%s: %s" % (error.filename or "the run's folder", error.strerror))
            return DISK_FULL_EXIT
        with suppress(OSError):
            channel.send(STOPPED if element.stopped else GOOD if is_good else BAD)
        return 0

    def _given(self, number: int, channel: socket.socket) -> Iterator[int]:
        """Yield the tasks that this slot is given."""
        while True:
            PID.pack_into(self._executors, PID.size * number, 0)
            try:
                channel.send(NEXT)
                message = channel.recv(TASK.size)
            except OSError:  # the element's process has died
                return
            if not message:
                return
            yield TASK.unpack(message)[0]


class _SlotWatcher(execute.Watcher):
    """Tells the element's process which executor to end when this one dies, and ends with it."""

    def __init__(self, inner: execute.Watcher, executors: mmap.mmap, number: int) -> None:
        self._inner = inner
        self._executors, self._place = executors, PID.size * number
        self._parent = os.getppid()
        self._pid = 0

    def started(self, pid: int) -> None:
        self._pid = pid
        PID.pack_into(self._executors, self._place, pid)

    def tick(self) -> None:
        self._inner.tick()
        if os.getppid() != self._parent:  # the scheduler may start the element again: this task would run twice
            signal_group(self._pid, signal.SIGKILL)
            os._exit(1)


def _set_devices(number: int, slots: int) -> None:
    """Give the slot its part of the GPUs of the element."""
    devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(part_of(devices, number, slots))


def part_of(devices: List[str], number: int, slots: int) -> List[str]:
    """Return the devices of one slot. Where there are fewer than slots, some share one."""
    each = len(devices) // slots
    return devices[number * each : (number + 1) * each] if each else [devices[number % len(devices)]]
