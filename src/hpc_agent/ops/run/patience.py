"""The pauses of a watch, spent on the cluster: the next look waits there for the end of the run, and is answered at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_agent.world import World


class Patience:
    """The pause before each look of a watch.

    The cluster reads the run's records meanwhile and asks its scheduler nothing, so that ``min_poll_sec`` holds. A longer
    pause than ``World.hold_sec`` begins here: a login node gets short commands.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._hold = self._owed = 0.0
        self._ended: int | None = None

    def pause(self, seconds: float, answered: bool = True) -> None:
        """Pause here for the part of ``seconds`` that the cluster does not. After a look that failed: for all of it."""
        can_wait = answered and self._ended is not None
        self._hold = min(seconds, self._world.hold_sec) if can_wait else 0.0
        self._world.sleep(seconds - self._hold + self._owed)
        self._owed = 0.0

    def question(self) -> dict[str, Any]:
        """Return the fields of a look that make the cluster wait."""
        return {"wait_sec": self._hold, "seen_ended": self._ended} if self._hold else {}

    def saw(self, answer: Mapping[str, Any], ended: int) -> None:
        """Note the answer to a look, with the number of tasks that have ended.

        The time that the cluster did not wait, as a run of an older version does not, is added to the next pause. Raises
        Interrupted when the watch was stopped meanwhile: it acts on nothing any more.
        """
        if ended == self._ended:
            self._owed = max(0.0, self._hold - float(answer.get("waited") or 0.0))
        self._hold, self._ended = 0.0, ended
        self._world.sleep(0.0)
