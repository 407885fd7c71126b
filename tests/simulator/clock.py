"""Simulated time: events in order, and programs that sleep in turn, each in a thread of its own, one at a time.

While a clock is installed, ``time.time``, ``time.monotonic`` and ``time.sleep`` of this process are its own. Waits with a
time limit of ``threading`` and ``subprocess`` stay real.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class Clock:
    """The time of a simulation, in seconds since the epoch."""

    def __init__(self, start: float) -> None:
        self.start = self.now = start
        self._events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._local = threading.local()
        self._dispatcher = threading.Semaphore(0)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - self.start

    def at(self, when: float, action: Callable[..., Any], *arguments: Any) -> None:
        """Call ``action`` at a time; of actions at the same time the first one that was given comes first."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), action, arguments))

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass for the caller: a program of ``run``, or the only one."""
        baton = getattr(self._local, "baton", None)
        if baton is None:
            self.run_until(self.now + max(0.0, seconds))
            return
        self.at(self.now + max(0.0, seconds), self._resume, baton)
        self._dispatcher.release()
        baton.acquire()

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self._next()
        self.now = max(self.now, end)

    def _next(self) -> None:
        when, _, action, arguments = heapq.heappop(self._events)
        self.now = max(self.now, when)
        action(*arguments)

    def _resume(self, baton: threading.Semaphore) -> None:
        baton.release()
        self._dispatcher.acquire()

    def run(self, programs: list[Callable[[], Any]]) -> list[Any]:
        """Run programs side by side until all have ended. Return what each returned or raised."""
        results: list[Any] = [None] * len(programs)
        left = len(programs)

        def body(number: int, baton: threading.Semaphore) -> None:
            nonlocal left
            self._local.baton = baton
            baton.acquire()
            try:
                results[number] = programs[number]()
            except BaseException as error:  # noqa: BLE001 - the caller has it
                results[number] = error
            left -= 1
            self._dispatcher.release()

        for number in range(len(programs)):
            baton = threading.Semaphore(0)
            threading.Thread(target=body, args=(number, baton), daemon=True).start()
            self.at(self.now, self._resume, baton)
        while left:
            assert self._events, "every program sleeps, and nothing wakes one"
            self._next()
        return results

    @contextmanager
    def as_of(self, when: float) -> Iterator[None]:
        """Let what is written inside bear an earlier time."""
        now, self.now = self.now, when
        try:
            yield
        finally:
            self.now = now

    @contextmanager
    def installed(self) -> Iterator["Clock"]:
        with (
            mock.patch.object(time, "time", self.time),
            mock.patch.object(time, "monotonic", self.monotonic),
            mock.patch.object(time, "sleep", self.sleep),
        ):
            yield self
