"""Processes of a bench: a client with all that it started, the node side of its calls, its ssh masters."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

NODE_VERBS = (b"prepare", b"submit", b"advance", b"look_up", b"report", b"combine", b"logs")


def parent(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int) -> list[int]:
    parents = {pid: parent(pid) for pid in _pids()}
    found = [root]
    for pid in found:
        found += [child for child, above in parents.items() if above == pid]
    return found[1:]


def end_tree(pid: int, kind: int = signal.SIGKILL) -> None:
    """A process and everything below it, whatever sessions they made: what a machine that dies takes along."""
    for member in [pid, *descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, kind)


def node_processes(token: str) -> list[int]:
    """The node side's processes that answer a call of this bench: known by a variable that its shell_init exports."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            answering = len(words) > 2 and words[-2] in NODE_VERBS
            if answering and f"HPC_FAULT_BENCH={token}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def session_of(pid: int) -> int:
    """The sshd process that serves a node-side process; 0 where there is none."""
    while pid > 1:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "sshd":
                return pid
        pid = parent(pid)
    return 0


def masters(sockets: str) -> list[int]:
    """The background ssh masters whose socket lies below this folder."""
    done = subprocess.run(["pgrep", "-f", rf"^ssh: {sockets}/.*\[mux\]"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def end_masters(sockets: str) -> None:
    for pid in masters(sockets):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
