"""The supervisor of the embedded scheduler: one detached process per state folder.

It starts, limits and reaps elements. All its knowledge is in the event logs, so it may be killed at any
instruction: its elements run on, and the next supervisor adopts those that live and reads the exit codes of
those that ended meanwhile. It leaves by itself when there is no work.
"""

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import time
from typing import Dict, Iterator, List, Set, Tuple

from ...shared import processes
from ...shared.errors import NodeError
from ...shared.files import remove_quietly, sync_folder, write_json
from . import capacity, state_folder
from .capacity import Amount, Demand
from .elements import Array, Element, log
from .state_folder import JobFolder, StateFolder

LOOK_SEC = 2.0
SCAN_SEC = 0.5
# A look at every process of the machine may take 1/25 of one core.
SCAN_SHARE = 25.0
POLL_SEC = 0.1
RETRY_SEC = 1.0
IDLE_EXIT_SEC = 5.0


class Supervisor(object):
    """``lock`` is a descriptor that holds the supervisor's lock until it is closed, however this process ends."""

    def __init__(self, state: StateFolder, lock: int) -> None:
        self.state = state
        self.lock = lock
        self.arrays: Dict[int, Array] = {}  # in the order of their submission
        self.broken: Set[int] = set()
        self.retired: Set[int] = set()
        self.limits = Amount(1, 0.0, 0)
        self.signals, write = os.pipe()
        os.set_blocking(self.signals, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)  # the pipe becomes readable when a child ends
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # SIGHUP is harmless now, but not for the children
        self.inputs = [self.signals]
        with contextlib.suppress(OSError):
            self.inputs.append(os.open(state.wake, os.O_RDWR | os.O_NONBLOCK))
        self.next_look = self.next_scan = self.next_poll = self.hold_until = 0.0
        self.idle_since = time.monotonic()

    def run(self) -> None:
        """Work until there has been nothing to do for a while."""
        self.introduce()
        while True:
            now = time.monotonic()
            if now >= self.next_look:
                if not self.owns_the_folder():
                    return
                self.next_look = now + LOOK_SEC
                self.look_for_jobs()
            self.notice_exits(now)
            self.enforce_limits(now)
            self.retire_arrays(now)  # before anything starts: a job that depended on these comes before later jobs
            self.start_elements(now)
            if self.retire_arrays(now):
                continue  # none of its elements could be started, so no end of a child will end the sleep
            if self.arrays:
                self.idle_since = now
            elif now - self.idle_since > IDLE_EXIT_SEC:
                if self.leave():
                    return
                self.idle_since = now
            self.sleep()

    def introduce(self) -> None:
        """Write who this process is, for people; nothing depends on the file."""
        about = {"pid": os.getpid(), "host": socket.gethostname(), "boot": processes.boot_id(), "since": time.time()}
        with contextlib.suppress(OSError):
            write_json(self.state.supervisor, about, sync=False)

    def owns_the_folder(self) -> bool:
        """Return False once the folder has been deleted, even if a new one has taken its place."""
        try:
            there = os.stat(self.state.lock)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
        return os.path.samestat(there, os.fstat(self.lock))

    def all_elements(self) -> Iterator[Tuple[Array, Element]]:
        for array in self.arrays.values():
            for element in list(array.running.values()):
                yield array, element

    def look_for_jobs(self) -> None:
        """Load jobs that are new to this supervisor, oldest first."""
        limits = self.state.read_limits()
        if limits is None:
            log("%s is missing or damaged" % self.state.limits)
        self.limits = limits or self.limits
        for array in self.arrays.values():
            if not os.path.isdir(array.folder.path):
                array.pending.clear()
        for job_id in self.state.active_ids():
            if job_id in self.arrays or job_id in self.broken:
                continue
            folder = self.state.job(job_id)
            if job_id in self.retired:
                self.forget(folder)
                continue
            try:
                stored = folder.read()
                if stored is not None:
                    self.arrays[job_id] = Array(folder, stored)
            except OSError as error:
                log("job %d: %s" % (job_id, error))
            except (NodeError, ValueError, TypeError) as error:
                self.broken.add(job_id)
                log("job %d cannot be read: %s" % (job_id, error))

    def retire_arrays(self, now: float) -> bool:
        """Mark jobs that are over, once their last event is written. Returns True when there was one."""
        if now < self.hold_until:
            return False
        over = [array for array in self.arrays.values() if not array.pending and not array.running]
        for array in over:
            if not array.flush() and os.path.isdir(array.folder.path):
                self.hold_until = now + RETRY_SEC
                return False
            del self.arrays[array.id]
            self.retired.add(array.id)
            self.forget(array.folder)
            shutil.rmtree(array.folder.exits, ignore_errors=True)
        return bool(over)

    def forget(self, folder: JobFolder) -> None:
        """Remove the file that makes a job unfinished. Where that fails, the next look tries again."""
        try:
            os.unlink(folder.active)
            sync_folder(self.state.active)
        except OSError as error:
            log("job %d has ended: %s" % (folder.id, error))

    def is_open(self, job_id: int) -> bool:
        """Return True while the job has yet to end. An unknown job is over."""
        return job_id in self.arrays or (job_id not in self.retired and self.state.job(job_id).is_unfinished())

    def notice_exits(self, now: float) -> None:
        """Reap own children, poll adopted elements, and finish the elements that have ended."""
        poll = now >= self.next_poll
        if poll:
            self.next_poll = now + POLL_SEC
        for array, element in self.all_elements():
            if element.returncode is None and element.own:
                element.reap()
            elif element.returncode is None and poll and element.is_gone():
                if not element.dying:
                    element.destroy()
                array.settle(element, watched=True)
            if element.returncode is not None and (not element.dying or (poll and not element.lingers())):
                array.finish(element)

    def enforce_limits(self, now: float) -> None:
        if now >= self.next_scan and any(array.running for array in self.arrays.values()):
            table = processes.table()
            for array, element in self.all_elements():
                element.measure(table)
                used = processes.memory_mb(table, element.members, array.memory_mb)
                element.peak_mb = max(element.peak_mb, used)
                if array.memory_mb is not None and used > array.memory_mb and not element.dying:
                    array.kill(element, "out_of_memory", now)
            self.next_scan = now + max(SCAN_SEC, SCAN_SHARE * (time.monotonic() - now))
        for array, element in self.all_elements():
            if now >= element.signal_at and element.dying:
                element.destroy()
                element.signal_at = now + RETRY_SEC
            elif now >= element.signal_at:
                array.kill(element, "timeout", now + array.grace)
                element.measure(processes.table())  # before the script ends and its children change their parent
                processes.signal_group(element.start.pid, signal.SIGTERM)

    def start_elements(self, now: float) -> None:
        if now < self.hold_until:
            return
        free, demands = self.limits, []
        for array in self.arrays.values():
            each = capacity.needs(array.job.resources, self.limits)
            free = free.minus(each, len(array.running))
            room = len(array.pending)
            if array.job.max_running is not None:
                room = min(room, array.job.max_running - len(array.running))
            array.after = [job_id for job_id in array.after if self.is_open(job_id)]
            if room > 0 and not array.after and array.flush():
                demands.append(Demand(array.id, room, each, now - (array.blocked_since or now)))
        grants = dict(capacity.plan(demands, self.limits, free))
        for demand in demands:
            array = self.arrays[demand.job]
            array.blocked_since = None if demand.job in grants else array.blocked_since or now
            for _ in range(grants.get(demand.job, 0)):
                if not array.start(demand.each.cores, self.idle_gpus(demand.each.gpus)):
                    self.hold_until = now + RETRY_SEC
                    return

    def idle_gpus(self, count: int) -> List[int]:
        taken = {gpu for _, element in self.all_elements() for gpu in element.start.gpus} if count else set()
        return [gpu for gpu in range(self.limits.gpus) if gpu not in taken][:count]

    def sleep(self) -> None:
        """Wait until a child ends, a client calls, or the next deadline."""
        wake_at = self.next_look if self.arrays else min(self.next_look, self.idle_since + IDLE_EXIT_SEC)
        for _, element in self.all_elements():
            wake_at = min(wake_at, self.next_scan, element.signal_at)
            if element.returncode is not None or not element.own:
                wake_at = min(wake_at, self.next_poll)
        ready, _, _ = select.select(self.inputs, [], [], max(0.001, wake_at - time.monotonic()))
        for descriptor in ready:
            os.read(descriptor, 4096)
            if descriptor != self.signals:
                self.next_look = 0.0

    def leave(self) -> bool:
        """Give up the lock when there is nothing to do. Returns True when this process may end."""
        known = self.unfinished_ids()
        self.look_for_jobs()
        if self.arrays:
            return False
        remove_quietly(self.state.supervisor)
        os.close(self.lock)
        # A job that was stored while the lock was still held has no other supervisor: the lock is taken back for it.
        lock = None if self.unfinished_ids() <= known else state_folder.take_lock(self.state.lock)
        if lock is None:
            return True
        self.lock = lock
        self.next_look = 0.0
        self.introduce()
        return False

    def unfinished_ids(self) -> Set[int]:
        return {job_id for job_id in self.state.active_ids() if self.is_open(job_id)}


def main(folder: str, lock: int) -> None:
    """Become the supervisor of ``folder``. ``lock`` is an inherited descriptor that holds its lock."""
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, False)
    Supervisor(StateFolder(folder), lock).run()
