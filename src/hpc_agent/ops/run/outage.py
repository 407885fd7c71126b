"""Looks that fail: the errors that a watch outlives, its pauses meanwhile, and the time after which the watch ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hpc_agent import errors
from hpc_agent.world import World

_LOST = (errors.SshUnreachable, errors.ClusterTimeout, errors.SchedulerThrottled, errors.SubmissionUnknown)
# Another client holds the run's lock, the login node ends a process: these pass where the same look was answered before.
_ODD = (errors.RemoteCommandFailed, errors.PreconditionFailed)
REPEATED = (*_LOST, *_ODD)
LOOKS_TOLERATED = 10
OUTAGE_SEC = 1800.0
LONGEST_PAUSE_SEC = 60.0
T = TypeVar("T")


class Outage:
    """The failed looks in a row."""

    def __init__(self) -> None:
        self.failed = 0
        self._paused = 0.0

    def over(self) -> None:
        """Note a look that was answered."""
        self.failed, self._paused = 0, 0.0

    def pause(self) -> float:
        """Return the seconds before the next look. Meanwhile ``infra.ssh.pauses`` keeps most looks off the network."""
        return min(2.0**self.failed, LONGEST_PAUSE_SEC)

    def goes_on(self, error: errors.HpcError, answered: bool) -> bool:
        """Count a look that failed. Return False when it is not repeated; ``answered``: an earlier look was.

        Ten looks may fail in a row; where the connection is lost, as many as half an hour has.
        """
        if isinstance(error, _ODD) and not answered:
            return False
        self.failed += 1
        self._paused += self.pause()
        return self.failed < LOOKS_TOLERATED or (isinstance(error, _LOST) and self._paused < OUTAGE_SEC)


def patiently(world: World, question: Callable[[], T], answered: bool, deadline: float) -> T:
    """Ask until an answer comes. Raises the error that is not repeated, or the last one after ``deadline`` (World.awake)."""
    outage = Outage()
    while True:
        try:
            return question()
        except REPEATED as error:
            if not outage.goes_on(error, answered) or world.awake() >= deadline:
                raise
            world.progress.update("unreachable", error=error.message)
        world.sleep(outage.pause())
