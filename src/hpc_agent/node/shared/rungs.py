"""The stopping rule of ASHA and the rungs that the tasks of a sweep share. (ASHA: Li, Jamieson, Rostamizadeh, Gonina,
Ben-Tzur, Hardt, Recht, Talwalkar: A System for Massively Parallel Hyperparameter Tuning, 2018, arXiv:1810.05934.)

A task reaches rung ``min_step * reduction**k`` once and goes on when its value is among the best ``1/reduction`` of those there.

A value is the name of an empty file, ``<step>/<shard>/<trial>_<attempt>_<step>_<value>``. A name is there whole or not at all,
needs no lock, and one reading of a folder shows all values. Lines of one shared file get lost over NFS, where O_APPEND is
not atomic between nodes, and a file a value costs an open for each. A client of NFS reads a folder anew after it has made a
file there, so that a task sees what was there before its own value; what it does not see yet stops nobody.
"""

import os
from contextlib import suppress
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from .files import make_folder, remove_quietly
from .run_folder import shard_of

FOLDER = "rungs"
LAST_REPORT = "early_stop.json"  # in the task's result folder
STOPPED_AT = "stopped_at"  # a task that ended itself early has this step among its metrics


class Rule(NamedTuple):
    """When a task stops. A value at ``max_step`` or later stops nobody: the work is done by then."""

    metric: str
    direction: str = "minimize"
    min_step: int = 1
    reduction: int = 3
    max_step: Optional[int] = None

    def rung_of(self, step: int) -> Optional[int]:
        """Return the highest rung that a task at this step has reached; None where it is below the first one."""
        rung, found = self.min_step, None
        while rung <= step and (self.max_step is None or rung < self.max_step):
            rung, found = rung * self.reduction, rung
        return found

    def loss(self, value: float) -> float:
        """Return the value as one to minimise. NaN is the worst, as bad as an infinite loss."""
        return float("inf") if value != value else -value if self.direction == "maximize" else value

    def goes_on(self, own: float, others: Iterable[float]) -> bool:
        """Return True when ``own`` is among the best at its rung. Equal values share the better place.

        While fewer than ``reduction`` values are there, their best part is nobody, and nobody is stopped.
        """
        losses = [self.loss(value) for value in others]
        better = sum(loss < self.loss(own) for loss in losses)
        return len(losses) + 1 < self.reduction or better < (len(losses) + 1) // self.reduction


class Value(NamedTuple):
    """The value of a trial at a rung."""

    trial: int
    attempt: int
    step: int  # at which it was reported: the rung's, or the first one after it
    value: float


class Rungs(object):
    """The rungs of one trial and of those that it is compared with: of 1,000 with following numbers (a shard).

    A folder therefore has about 1,000 names, however many trials there are.
    """

    def __init__(self, folder: str, trial: int, attempt: int) -> None:
        self._folder, self._trial, self._attempt = os.path.join(folder, FOLDER), trial, attempt

    def enter(self, rung: int, step: int, value: float) -> Optional[List[float]]:
        """Write the trial's value and return those of the other trials; None where the trial was at the rung before.

        A later attempt replaces the value of an earlier one, unless it goes on from a checkpoint behind that value. Raises
        OSError.
        """
        shard = os.path.join(self._folder, str(rung), shard_of(self._trial))
        make_folder(shard)
        own = self._read(shard)[1]
        newest = max(own, default=None)
        if newest and (newest.attempt >= self._attempt or newest.step < step):
            return None
        names = {_name(old) for old in own}
        with open(os.path.join(shard, _name(Value(self._trial, self._attempt, step, value))), "xb"):
            pass
        others = self._read(shard)[0]
        for name in names:
            remove_quietly(os.path.join(shard, name))
        return [other.value for other in others.values()]

    def _read(self, shard: str) -> Tuple[Dict[int, Value], List[Value]]:
        """Return the newest value of each other trial, and all of this one."""
        others, own = {}, []  # type: Dict[int, Value], List[Value]
        for found in filter(None, map(_value, os.listdir(shard))):
            if found.trial == self._trial:
                own.append(found)
            elif found.trial not in others or found > others[found.trial]:
                others[found.trial] = found
        return others, own


def _name(value: Value) -> str:
    return "%d_%d_%d_%r" % value


def _value(name: str) -> Optional[Value]:
    """Return the value that a file name tells; None for another file."""
    with suppress(ValueError):
        trial, attempt, step, value = name.split("_")
        return Value(int(trial), int(attempt), int(step), float(value))
    return None
