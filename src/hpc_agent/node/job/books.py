"""Where the begin, the output and the end of a task are kept: in files of its own, for elements of one task.

An attempt works in a scratch folder, which gets the name of the task's result folder when the attempt has ended well. An empty
one is removed.
"""

import errno
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..shared import task_environment
from ..shared.files import make_folder, remove_folder_quietly, write_json
from ..shared.task_record import COMPLETE, TaskRecord, load_record
from ..shared.task_records import HISTORY_KEYS, HISTORY_LENGTH
from . import execute, metrics
from .element import Element, claim
from .outcomes import Known, Outcomes
from .outputs import Log, remove_log


class Attempt(NamedTuple):
    """One attempt of a task, from its begin on."""

    task: int
    number: int  # 1 for the first one
    log: Log
    is_first: bool  # of this element: nothing of an earlier attempt is to be handed on


class Books(object):
    """The books of an element, whose tasks have files each."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self.run = element.run
        layout = element.document.layout
        self.outcomes = Outcomes(element.run, layout, element.array, element.index, element.tasks)
        self.watcher = execute.Watcher()
        self._made = ""  # a folder that is known to exist
        self._spare = ""  # an empty folder for checkpoints

    def open(self) -> bool:
        """Begin a start of the element. Return False when another element has its tasks."""
        return True

    def is_replaced(self) -> bool:
        """Return True when the scheduler has started the element again, on a host that cannot see this process."""
        return False

    def take(self, task: int) -> bool:
        """Claim the task. Return False when another element has claimed it."""
        return claim(self.run.claim(task, self.element.generation), self.element)

    def begin(self, task: int, known: Known) -> Attempt:
        """Write that an attempt begins, once the task is claimed."""
        path = self.run.log(task, self.element.generation)
        remove_log(path)  # of an attempt before a requeue
        make_folder(os.path.dirname(path))
        number = known.begun + self.outcomes.begun_alone(task)
        return Attempt(task, max(number, 1), Log(path), False)

    def scratch(self, attempt: Attempt, kwargs: Dict[str, Any]) -> str:
        """Make the folder that the attempt works in, or return that of a requeued task."""
        folder = self.kept(attempt.task, kwargs)
        make_folder(folder)
        return folder

    def final(self, task: int, kwargs: Dict[str, Any]) -> str:
        """Return the result folder of the task, once it is complete."""
        document = self.element.document
        folder = task_environment.result_folder(document.result_dir_template, document.run_id, task, kwargs)
        return os.path.join(self.run.path, folder)

    def kept(self, task: int, kwargs: Dict[str, Any]) -> str:
        """Return the folder that keeps what an attempt left which has failed or was stopped."""
        return "%s.attempt-%d-%d" % (self.final(task, kwargs), self.element.generation, task)

    def checkpoints(self, task: int) -> str:
        """Make the folder of the task's checkpoints, which all its attempts share.

        One that was not used is handed on: on many file systems a new name costs far less than a new folder.
        """
        folder, spare = self.run.checkpoints(task), self._spare
        try:
            if spare and spare != folder:
                os.rename(spare, folder)
                self._spare = ""
            else:
                os.mkdir(folder)
        except FileNotFoundError:  # it is the first one in its shard
            remove_folder_quietly(spare)
            self._spare = ""
            make_folder(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise  # else the folder is there: of an earlier attempt
        return folder

    def has_checkpoint(self, task: int) -> bool:
        """Return True when there is something in the folder of the task's checkpoints, once its executor has ended."""
        folder = self.run.checkpoints(task)
        if names_in(folder):
            return True
        if self._spare and self._spare != folder:
            remove_folder_quietly(folder)
        else:
            self._spare = folder
        return False

    def close(self) -> None:
        """End this start of the element, or of a slot of it."""
        if self._spare:
            remove_folder_quietly(self._spare)

    def settle(self, record: TaskRecord, scratch: str, kwargs: Dict[str, Any], wrote: bool) -> TaskRecord:
        """Put the scratch folder where it belongs. Return the record with its place; without one where it is empty."""
        if not wrote:
            self.drop(scratch)
            return record
        is_complete = record.state == COMPLETE
        place = self.final(record.task, kwargs) if is_complete else self.kept(record.task, kwargs)
        if scratch != place:
            self._move(scratch, place)
        return record._replace(result_dir=self.below(place))

    def wrote(self, scratch: str) -> bool:
        """Return True when the executor wrote into its folder. Raises FileNotFoundError where it removed the folder."""
        return bool(os.listdir(scratch))

    def below(self, path: str) -> str:
        """Return a path relative to the run's folder, in which it lies."""
        return path[len(self.run.path) + 1 :]

    def drop(self, scratch: str) -> None:
        """Remove an empty scratch folder. Those above it stay: other elements may be making theirs in them just now."""
        remove_folder_quietly(scratch)

    def abandon(self, task: int) -> Optional[str]:  # noqa: ARG002 - elements of one task have a folder a task
        """Keep the scratch folder of an attempt whose outcome could not be kept. Return its path if it has another one now."""
        return None

    def _move(self, scratch: str, place: str) -> None:
        above = os.path.dirname(place)
        if above != self._made:
            make_folder(above)
            self._made = above
        if os.path.lexists(place):
            os.rename(place, "%s.replaced-%d" % (place, time.time() * 1000))
        os.rename(scratch, place)

    def printed(self, record: TaskRecord, attempt: Attempt) -> TaskRecord:
        """End the output of the attempt. Return the record with its place."""
        offset, length = attempt.log.end()
        return record._replace(log=self.below(attempt.log.path), log_offset=offset, log_length=length)

    def write(self, record: TaskRecord) -> bool:
        """Write the record with its history. Return False where the task is complete already: it stays as it is."""
        path = self.run.record(record.task)
        make_folder(os.path.dirname(path))
        earlier = load_record(self.run, record.task)
        if earlier and earlier.state == COMPLETE:
            return False
        if earlier:
            history = [*earlier.history, {key: getattr(earlier, key) for key in HISTORY_KEYS}][-HISTORY_LENGTH:]
            record = record._replace(history=history, attempt=max(len(history) + 1, record.attempt))
        write_json(path, self.fields(record, record.to_json()))
        return True

    def fields(self, record: TaskRecord, document: Dict[str, Any]) -> Dict[str, Any]:
        if self.element.gpus and record.max_rss_mb is not None:
            document.setdefault("gpu_mem_mb", None)  # nvidia-smi did not show the executor
        return document

    def stamp(self, scratch: str, attempt: Attempt) -> Optional[Tuple[int, ...]]:
        """Return the stamp of the metrics that an earlier attempt left in the folder; None where it left none."""
        if attempt.is_first:
            return None
        return metrics.stamp(scratch, self.element.document.results.get("metrics_file"))


def names_in(folder: str) -> List[str]:
    """Return what lies in a folder; nothing where it was removed."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
