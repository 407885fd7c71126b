"""Processes of this machine: identity, family, memory. From /proc on Linux; from ``ps`` elsewhere, slower and coarser."""

import contextlib
import os
import signal
from functools import lru_cache
from typing import Dict, Iterable, List, NamedTuple, Optional

from .commands import run_command
from .errors import NodeError

HAVE_PROC = os.path.exists("/proc/self/stat")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1048576.0
PS_TIMEOUT = 20.0
# The warnings of schedulers, and what users ask them to send (--signal=B:USR1@300, -notify, s_rt): for the executor.
PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Process(NamedTuple):
    """One live process. ``born`` and the pid together name it for as long as the machine is up."""

    pid: int
    parent: int
    group: int
    session: int
    rss_mb: float
    born: str


@lru_cache(maxsize=None)
def boot_id() -> str:
    """Return a text that changes with every boot of this machine; empty where the system has none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as handle:
        return handle.read().strip()
    try:
        return run_command(["sysctl", "-n", "kern.bootsessionuuid"], PS_TIMEOUT)[1].strip()
    except NodeError:
        return ""


def born(pid: int) -> Optional[str]:
    """Return the start time of a process, in the kernel's own words; None when it has ended (a zombie has)."""
    process = _from_proc(pid) if HAVE_PROC else _from_ps(["-p", str(pid)]).get(pid)
    return process.born if process else None


def table() -> Dict[int, Process]:
    """Return every live process of this machine."""
    if not HAVE_PROC:
        return _from_ps(["-ax"])
    found = (_from_proc(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process}


def _from_proc(pid: int) -> Optional[Process]:
    try:
        with open("/proc/%d/stat" % pid, "rb", buffering=0) as handle:
            data = handle.read(4096)
    except OSError:
        return None
    # The command name, field 2, may hold spaces and brackets of its own.
    fields = data[data.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X", b"x"):
        return None
    parent, group, session, ticks, pages = (int(fields[at]) for at in (1, 2, 3, 19, 21))
    return Process(pid, parent, group, session, pages * PAGE_MB, str(ticks))


def _from_ps(selection: List[str]) -> Dict[int, Process]:
    argv = ["ps"] + selection + ["-o", "pid=,ppid=,pgid=,rss=,state=,lstart="]
    try:
        _, out, _ = run_command(argv, PS_TIMEOUT, env=dict(os.environ, LC_ALL="C"))
    except NodeError:
        return {}
    found = {}
    for line in out.splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and not words[4].startswith("Z"):
            pid, parent, group, kilobytes = (int(word) for word in words[:4])
            # ps of macOS prints no session; the group is the nearest thing to it.
            found[pid] = Process(pid, parent, group, group, kilobytes / 1024.0, words[5].strip())
    return found


def family(processes: Dict[int, Process], leader: int, known: Dict[int, str]) -> Dict[int, str]:
    """Return the session and group ``leader``, whatever of ``known`` still lives, and the descendants of all: pid -> born."""
    children: Dict[int, List[int]] = {}
    members: Dict[int, str] = {}
    # A session that is empty gives its id back: its leader now must be its leader then.
    unchanged = leader not in processes or known.get(leader, processes[leader].born) == processes[leader].born
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
        mine = unchanged and leader in (process.session, process.group, process.pid)
        if mine or known.get(process.pid) == process.born:
            members[process.pid] = process.born
    unseen = list(members)
    while unseen:
        for pid in children.get(unseen.pop(), ()):
            if pid not in members:
                members[pid] = processes[pid].born
                unseen.append(pid)
    return members


def memory_mb(processes: Dict[int, Process], pids: Iterable[int], limit: Optional[float]) -> float:
    """Return the resident memory in MB. A page that several processes share counts once for each.

    Above ``limit`` such a page is divided among its users (Linux only): that costs the kernel a walk over the page tables.
    """
    resident = {pid: processes[pid].rss_mb for pid in pids if pid in processes}
    if limit is not None and sum(resident.values()) > limit:
        for pid in resident:
            with contextlib.suppress(OSError, StopIteration), open("/proc/%d/smaps_rollup" % pid) as handle:
                resident[pid] = next(int(line.split()[1]) for line in handle if line.startswith("Pss:")) / 1024.0
    return sum(resident.values())


def kill_all(members: Dict[int, str]) -> None:
    """Send SIGKILL to each process that is still the same one."""
    for pid, since in members.items():
        if born(pid) == since:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def kill_marked(variable: str) -> None:
    """Send SIGKILL to every other process that was started with ``NAME=value`` in its environment (Linux only)."""
    mark = b"\0" + os.fsencode(variable) + b"\0"
    killed: Dict[int, str] = {}
    for _ in range(5):  # one of them may be starting another just now
        found = {pid: process.born for pid, process in table().items() if pid != os.getpid() and _has(pid, mark)}
        if not HAVE_PROC or not set(found.items()) - set(killed.items()):
            return
        kill_all(found)
        killed.update(found)


def _has(pid: int, mark: bytes) -> bool:
    with contextlib.suppress(OSError), open("/proc/%d/environ" % pid, "rb") as handle:
        return mark in b"\0" + handle.read()
    return False


def signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(leader, number)


def pass_on(leader: int, number: int) -> bool:
    """Send a signal to those processes of a session that handle, block or ignore it. Return False when none is known to.

    Any other process would be killed, often the shell around the program with the handler.
    """
    if _scheduler_signals_all():
        return True
    able = [p.pid for p in table().values() if leader in (p.session, p.group) and _survives(p.pid, number)]
    for pid in able:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return bool(able)


def _scheduler_signals_all() -> bool:
    """Return True in a job of Grid Engine whose every process gets the signals of the scheduler (ENABLE_ADDGRP_KILL)."""
    path = os.path.join(os.environ.get("SGE_JOB_SPOOL_DIR", "/nonexistent"), "config")
    with contextlib.suppress(OSError), open(path) as handle:
        return "enable_addgrp_kill=1\n" in handle
    return False


def _survives(pid: int, number: int) -> bool:
    try:
        with open("/proc/%d/status" % pid) as handle:
            masks = [int(line.split()[1], 16) for line in handle if line.startswith(("SigBlk:", "SigIgn:", "SigCgt:"))]
    except OSError:
        return False
    return any(mask >> (number - 1) & 1 for mask in masks)
