"""The supervisor of the embedded scheduler: one detached process per state folder.

It starts, limits and reaps elements. Whatever it knows is in the event logs, so it may be killed at any
instruction: its elements run on, and the next supervisor adopts those that live and reads the exit codes of
those that ended meanwhile. It leaves by itself when there is no work.
"""

import collections
import errno
import os
import select
import shutil
import signal
import socket
import time
import traceback
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from ...shared.files import make_folder, read_json, remove_quietly, write_json
from . import local_jobs, local_state, processes
from .local_jobs import Element, Exit, Job, log
from .local_state import Amount, Demand, StateFolder

LOOK_SEC = 2.0
SCAN_SEC = 0.5
# Looking at every process of the machine may take one part in so many of one core.
SCAN_SHARE = 25.0
POLL_SEC = 0.1
RETRY_SEC = 1.0
IDLE_EXIT_SEC = 5.0
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
# What passes by itself: such a failure to start an element is no fault of the element.
TRANSIENT = frozenset(
    (
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ESTALE,
        errno.ETXTBSY,
    )
)


class Supervisor(object):
    """``lock`` is a descriptor that holds the supervisor's lock until it is closed, however this process ends."""

    def __init__(self, state: StateFolder, lock: int) -> None:
        self.state = state
        self.lock = lock
        self.host = socket.gethostname()
        self.boot = processes.boot_id()
        self.jobs: "collections.OrderedDict[int, Job]" = collections.OrderedDict()
        self.broken: Set[int] = set()
        self.limits = Amount(1, 0.0, 0)
        self.wake = _signal_pipe()
        self.inputs = [self.wake] + _open_fifo(state.wake)
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
            self.retire_jobs(now)  # before anything starts: what waited for a job comes before later jobs
            self.start_elements(now)
            if self.retire_jobs(now):
                continue  # nothing of it could be started, and no child's end will wake us
            if self.jobs:
                self.idle_since = now
            elif now - self.idle_since > IDLE_EXIT_SEC:
                if self.leave():
                    return
                self.idle_since = now
            self.sleep()

    def introduce(self) -> None:
        """Say who we are, for people; nothing depends on it."""
        about = {"pid": os.getpid(), "host": self.host, "boot": self.boot, "since": time.time()}
        try:
            write_json(self.state.supervisor, about, sync=False)
        except OSError as error:
            log("supervisor.json: %s" % error)

    def owns_the_folder(self) -> bool:
        """Whether our lock is still the folder's: somebody may have deleted the folder, and even made it anew."""
        try:
            there = os.stat(self.state.supervisor_lock)
        except OSError as error:
            return error.errno not in GONE
        return os.path.samestat(there, os.fstat(self.lock))

    def elements(self) -> Iterator[Tuple[Job, Element]]:
        for job in self.jobs.values():
            for element in list(job.running.values()):
                yield job, element

    # -- jobs --------------------------------------------------------------------------------------------------

    def look_for_jobs(self) -> None:
        """Load jobs that are new to this supervisor, oldest first."""
        try:
            self.limits = local_state.limits_of(read_json(self.state.limits))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log("limits.json: %s" % error)
        for job in self.jobs.values():
            if not job.exists():
                job.pending.clear()
        for job_id in self.state.active_ids():
            if job_id not in self.jobs and job_id not in self.broken:
                self.try_to_load(job_id)

    def try_to_load(self, job_id: int) -> None:
        try:
            self.load(job_id)
        except OSError as error:
            log("job %d: %s" % (job_id, error))
        except (ValueError, KeyError, TypeError):
            self.broken.add(job_id)
            log("job %d cannot be read:\n%s" % (job_id, traceback.format_exc()))

    def load(self, job_id: int) -> None:
        folder = self.state.job(job_id)
        spec = read_json(folder.spec)
        if spec is None:
            return
        if os.path.exists(folder.done):
            remove_quietly(self.state.active_entry(job_id))
            return
        make_folder(folder.exits)
        job = Job(job_id, folder, spec)
        try:
            make_folder(job.log_folder)
        except OSError as error:
            log("job %d: %s" % (job_id, error))  # each element will say so as it fails to start
        self.jobs[job_id] = job
        for event in job.started.values():
            self.recover(job, event)

    def recover(self, job: Job, event: Dict[str, Any]) -> None:
        """An element that an earlier supervisor started: adopt it, or find out how it ended."""
        element = local_jobs.adopt(event)
        job.running[element.index] = element
        if event.get("boot") == self.boot:
            if element.is_gone():
                element.destroy_remains()
                self.settle(job, element, watched=False)
        elif event.get("host") == self.host:
            self.settle(job, element, watched=False)
        else:
            # Perhaps it still runs on that other machine: starting it here could run it twice.
            self.finish(job, element, "node_failure")

    def retire_jobs(self, now: float) -> bool:
        """Mark jobs that are over; whether there was one."""
        over = [job for job in self.jobs.values() if job.over()] if now >= self.hold_until else []
        for job in over:
            done = {"complete": job.complete, "failed": job.failed, "at": time.time()}
            try:
                saved = job.flush()
                if saved:
                    write_json(job.folder.done, done)
            except OSError as error:
                log("job %d: %s" % (job.id, error))
                saved = False
            if not saved and job.exists():
                self.hold_until = now + RETRY_SEC
                return False
            del self.jobs[job.id]
            remove_quietly(self.state.active_entry(job.id))
            shutil.rmtree(job.folder.exits, ignore_errors=True)
        return bool(over)

    def depends(self, job: Job) -> bool:
        """Whether a job that this one waits for has yet to end. An unknown job is over."""
        while job.after and not self.is_open(job.after[-1]):
            job.after.pop()
        return bool(job.after)

    def is_open(self, job_id: int) -> bool:
        folder = self.state.job(job_id)
        return job_id in self.jobs or (os.path.exists(folder.spec) and not os.path.exists(folder.done))

    # -- ends --------------------------------------------------------------------------------------------------

    def notice_exits(self, now: float) -> None:
        """Reap own children, look after adopted elements, and finish what has ended."""
        poll = now >= self.next_poll
        if poll:
            self.next_poll = now + POLL_SEC
        for job, element in self.elements():
            if element.exit is None and element.process is not None:
                element.reap()
            elif element.exit is None and poll and element.is_gone():
                if element.kill_at is None:
                    element.destroy_remains()
                self.settle(job, element, watched=True)
            if element.exit is not None and (element.kill_at is None or (poll and not element.lingers())):
                self.finish(job, element)

    def settle(self, job: Job, element: Element, watched: bool) -> None:
        """End, or queue again, an element of an earlier supervisor whose wrapper is gone.

        The wrapper survives every signal but SIGKILL: without its word, and ``watched`` until then, it was
        killed. Not watched, it may have gone down with the machine or the session of the user.
        """
        left = element.read_exit(job.folder.exit_file(element.index, element.attempt))
        if left == local_jobs.UNSTARTED:
            self.requeue(job, element, element.attempt)
        elif left is not None and left.isdigit():
            element.exit = Exit(int(left), None)
        elif watched or element.killed_for:
            element.exit = Exit(None, int(signal.SIGKILL))
        elif element.attempt < local_state.MAX_ATTEMPTS:
            self.requeue(job, element, element.attempt + 1)
        else:
            self.finish(job, element, "node_failure")

    def requeue(self, job: Job, element: Element, attempt: int) -> None:
        del job.running[element.index]
        job.record({"event": "requeue", "element": element.index, "attempt": element.attempt, "next": attempt})
        job.attempts[element.index] = attempt
        job.pending.appendleft(element.index)

    def finish(self, job: Job, element: Element, cause: Optional[str] = None) -> None:
        """Record the end of an element."""
        del job.running[element.index]
        ended = element.exit or Exit(None, None)
        cause, number = local_state.classify(ended.code, ended.number, cause or element.killed_for)
        facts = {
            "exit_code": ended.code,
            "signal": number,
            "seconds": round(element.seconds(), 3),
            "max_rss_mb": round(element.peak_mb, 1),
        }
        if self.end(job, element.index, element.attempt, cause, facts):
            remove_quietly(job.folder.exit_file(element.index, element.attempt))

    def end(self, job: Job, index: int, attempt: int, cause: Optional[str], facts: Dict[str, Any]) -> bool:
        job.failed += bool(cause)
        job.complete += not cause
        event = {"event": "end", "element": index, "attempt": attempt, "cause": cause}
        return job.record(dict(facts, host=self.host, at=time.time(), **event))

    # -- limits ------------------------------------------------------------------------------------------------

    def enforce_limits(self, now: float) -> None:
        if now >= self.next_scan and any(job.running for job in self.jobs.values()):
            self.check_memory(now)
            self.next_scan = now + max(SCAN_SEC, SCAN_SHARE * (time.monotonic() - now))
        for job, element in self.elements():
            if element.kill_at is None:
                if job.walltime and element.seconds() > job.walltime:
                    self.kill(job, element, "timeout", now + job.grace)
                    element.terminate()
            elif now >= element.kill_at:
                element.destroy()
                element.kill_at = now + RETRY_SEC

    def check_memory(self, now: float) -> None:
        table = processes.table()
        for job, element in self.elements():
            element.measure(table)
            used = element.memory_mb(table, job.memory_mb)
            if job.memory_mb is not None and used > job.memory_mb and element.kill_at is None:
                self.kill(job, element, "out_of_memory", now)

    def kill(self, job: Job, element: Element, cause: str, kill_at: float) -> None:
        """Arrange SIGKILL at ``kill_at`` (monotonic). The reason is written first: the kill may outlive us."""
        event = {"event": "kill", "element": element.index, "attempt": element.attempt, "cause": cause}
        job.record(event)
        element.killed_for = cause
        element.kill_at = kill_at

    # -- starts ------------------------------------------------------------------------------------------------

    def start_elements(self, now: float) -> None:
        if now < self.hold_until:
            return
        demands = []
        for job in self.jobs.values():
            room = job.room()
            if room and job.flush() and not self.depends(job):
                waited = now - job.blocked_since if job.blocked_since is not None else 0.0
                each = local_state.needs(job.resources, self.limits)
                demands.append(Demand(job.id, room, each, waited))
        grants = dict(local_state.plan(demands, self.limits, self.free())) if demands else {}
        for demand in demands:
            job = self.jobs[demand.job]
            job.blocked_since = None if demand.job in grants else job.blocked_since or now
            for _ in range(grants.get(demand.job, 0)):
                if not self.start(job, demand.each):
                    self.hold_until = now + RETRY_SEC
                    return

    def free(self) -> Amount:
        free = self.limits
        for job, _ in self.elements():
            free = free.minus(local_state.needs(job.resources, self.limits))
        return free

    def start(self, job: Job, each: Amount) -> bool:
        """Start the job's next element; False when the machine cannot now, and the element stays pending."""
        index = job.pending.popleft()
        taken = {gpu for _, element in self.elements() for gpu in element.gpus} if each.gpus else set()
        gpus = [gpu for gpu in range(self.limits.gpus) if gpu not in taken][: each.gpus]
        try:
            element, release = job.launch(index, each.cores, gpus)
        except OSError as error:
            if error.errno in TRANSIENT:
                log("job %d: %s" % (job.id, error))
                job.pending.appendleft(index)
                return False
            self.end(job, index, job.attempts.get(index, 1), "never_started", {"message": str(error)})
            return True
        written = job.append(self.start_event(element))
        local_jobs.let_go(element, release, written)
        if written:
            job.running[index] = element
        else:
            job.pending.appendleft(index)
        return written

    def start_event(self, element: Element) -> Dict[str, Any]:
        return {
            "event": "start",
            "element": element.index,
            "attempt": element.attempt,
            "pid": element.pid,
            "born": element.born,
            "boot": self.boot,
            "host": self.host,
            "gpus": element.gpus,
            "at": element.at,
        }

    # -- waiting -----------------------------------------------------------------------------------------------

    def sleep(self) -> None:
        """Wait until a child ends, a client calls, or the next deadline."""
        wake_at = self.next_look
        if not self.jobs:
            wake_at = min(wake_at, self.idle_since + IDLE_EXIT_SEC)
        for job, element in self.elements():
            wake_at = min(wake_at, self.next_scan)
            if element.exit is not None or element.process is None:
                wake_at = min(wake_at, self.next_poll)
            if element.kill_at is not None:
                wake_at = min(wake_at, element.kill_at)
            elif job.walltime:
                wake_at = min(wake_at, element.started + job.walltime)
        ready, _, _ = select.select(self.inputs, [], [], max(0.001, wake_at - time.monotonic()))
        for descriptor in ready:
            os.read(descriptor, 4096)
            if descriptor != self.wake:
                self.next_look = 0.0

    def leave(self) -> bool:
        """Give up the lock when there is really nothing to do. A submission holds the start lock."""
        guard = local_state.take_lock(self.state.start_lock, 0.0)
        if guard is None:
            return False
        self.look_for_jobs()
        leaving = not self.jobs
        if leaving:
            remove_quietly(self.state.supervisor)
            os.close(self.lock)
        os.close(guard)
        return leaving


def _signal_pipe() -> int:
    """A descriptor that becomes readable when a child ends. Makes SIGHUP harmless, but not for the children."""
    wake, write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return wake


def _open_fifo(path: str) -> List[int]:
    try:
        return [os.open(path, os.O_RDWR | os.O_NONBLOCK)]
    except OSError:
        return []


def main(folder: str, lock: int) -> None:
    """Become the supervisor of ``folder``. ``lock`` is an inherited descriptor that holds its lock."""
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, False)
    Supervisor(StateFolder(folder), lock).run()
