"""Work in threads: a call waits for it within bounds, and the same call later finds it again.

The threads end with the server, and so do the ssh and rsync that they have begun (``end_children``): a submission is then where
a kill leaves it, and the same call goes on from there. Jobs on the cluster are not touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any

from hpc_agent.errors import Interrupted
from hpc_agent.view.progress import sentence
from hpc_agent.world import Progress

# A finished result that nobody has asked for is thrown away after so long: the same call then begins anew.
KEPT_SEC = 120.0
CHILDREN_GRACE_SEC = 1.0

Told = Callable[[float, str], Awaitable[None]]  # is told how long a call has waited, and the step of its work


class LatestStep(Progress):
    """Progress that keeps its last step as a sentence."""

    def __init__(self) -> None:
        self.text = ""

    def update(self, event: str, **facts: Any) -> None:
        self.text = sentence(event, facts)

    def say(self, text: str) -> None:
        self.text = text


class Work:
    """One function in a thread of its own. ``outcome`` is there when ``done`` is set."""

    def __init__(self, function: Callable[[Work], Any]) -> None:
        self.done, self._stop = threading.Event(), threading.Event()
        self.progress = LatestStep()
        self.began = time.monotonic()
        self.ended = 0.0
        self.outcome: Any = None
        self._function = function
        threading.Thread(target=self._run, name="hpc-agent-work", daemon=True).start()

    def _run(self) -> None:
        try:
            self.outcome = self._function(self)
        finally:
            self.ended = time.monotonic()
            self.done.set()

    def stop(self) -> None:
        """Make the next pause of the work end with Interrupted."""
        self._stop.set()

    def sleep(self, seconds: float) -> None:
        """Pause. Raises Interrupted when the work is stopped."""
        if self._stop.wait(seconds):
            raise Interrupted(
                "the watch was stopped; the run and its jobs go on",
                remediation="Run 'hpc-agent monitor-flow' to watch again.",
            )

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began


class Works:
    """The work under way, by a key that is the same for the same call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[Hashable, Work] = {}

    def begin(self, key: Hashable, function: Callable[[Work], Any]) -> Work:
        """Return the work of this key that is under way or has just ended; else begin it."""
        with self._lock:
            now = time.monotonic()
            for old, work in list(self._by_key.items()):
                if work.done.is_set() and now - work.ended > KEPT_SEC:
                    del self._by_key[old]
            if key not in self._by_key:
                self._by_key[key] = Work(function)
            return self._by_key[key]

    def stop(self, key: Hashable) -> None:
        """Stop the work of this key, if there is any, and forget it: the same call begins anew."""
        with self._lock:
            work = self._by_key.pop(key, None)
        if work is not None:
            work.stop()

    def under_way(self) -> bool:
        """Return True while any work has not ended."""
        with self._lock:
            return any(not work.done.is_set() for work in self._by_key.values())

    def forget(self, key: Hashable, work: Work) -> None:
        """Forget work whose result was handed out: the same call begins anew."""
        with self._lock:
            if self._by_key.get(key) is work:
                del self._by_key[key]


def end_children() -> None:
    """End the processes that this one has started, with their groups: those that never left it (ssh, rsync, interpreters)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        children = _children()
        for child in children:
            with contextlib.suppress(OSError):
                # most lead a group of their own; the group of this process is not ended
                if os.getpgid(child) == child:
                    os.killpg(child, number)
                else:
                    os.kill(child, number)
        end = time.monotonic() + CHILDREN_GRACE_SEC
        while children and _children() and time.monotonic() < end:
            time.sleep(0.02)


def _children() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(folder.name))
    return found
