"""Wait on the cluster for the end of a run, so that a watch notices it at once and asks nobody meanwhile.

A look of a watch may bring ``wait_sec``: the pause that the client would have made, which is spent here. The records of tasks
are read now and then; the scheduler is not asked. Where the records settle every submitted task, the look follows at once.
"""

import select
import time
from typing import Any, Dict, List, Optional

from ..shared.errors import NodeError
from ..shared.ledger import arrays_of
from ..shared.run_folder import RunFolder
from ..shared.task_states import COMPLETE, FAILED
from .run_status import RunStatus

# Between two readings: at least this long, this multiple of the time that one takes, this share of the time since the run's
# last submission; and at most this long.
LEAST_SEC, OF_A_READING, OF_THE_AGE, MOST_SEC = 0.1, 15.0, 0.05, 10.0
STDERR = 2


class _NotSettled(Exception):
    """The records do not settle every task: the scheduler would have to be asked."""


class _NobodyAsked(object):
    """A scheduler that is not asked."""

    def queue(self, _jobs: List[str]) -> None:
        raise _NotSettled

    def accounting(self, _jobs: List[str], _since: float) -> None:
        raise _NotSettled


def await_end(folder: RunFolder, request: Dict[str, Any]) -> Dict[str, float]:
    """Wait until records settle the run's submitted tasks, at most ``wait_sec`` of the request. Return the time for the answer.

    ``seen_ended``: how many tasks had ended when the client looked last; while no more have, nothing new can be said.
    """
    seconds = float(request.get("wait_sec") or 0.0)
    if seconds <= 0:
        return {}
    begun, pause, listener = time.monotonic(), LEAST_SEC, _listener()
    newest = max([array.at for array in arrays_of(folder)] or [0.0])
    while True:
        left = begun + seconds - time.monotonic()
        # The client has gone: nobody needs the answer.
        if left <= 0 or listener.poll(1000.0 * min(pause, left)):
            break
        read = time.monotonic()
        ended = _ended_by_records(folder, request)
        if ended is not None and ended != request.get("seen_ended"):
            break
        age = max(0.0, time.time() - newest)
        pause = min(MOST_SEC, max(LEAST_SEC, OF_A_READING * (time.monotonic() - read), OF_THE_AGE * age))
    return {"waited": round(time.monotonic() - begun, 3)}


def _listener() -> Any:
    """Return a poll object that tells when the other side of stderr is closed, and otherwise lets time pass."""
    listener = select.poll()
    listener.register(STDERR, 0)
    return listener


def _ended_by_records(folder: RunFolder, request: Dict[str, Any]) -> Optional[int]:
    """Return how many tasks have ended; None where records do not settle the run."""
    try:
        status = RunStatus(folder, request.get("site") or {}, _NobodyAsked())
    except (_NotSettled, NodeError, OSError, ValueError):  # a record that is being written is read at the next look
        return None
    return status.state.count(COMPLETE) + status.state.count(FAILED)
