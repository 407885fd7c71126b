"""What the records of a run say: the state of each task, the facts of failures, and sums over the complete tasks."""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..shared import task_states
from ..shared.files import from_document
from ..shared.ranges import decode_ranges, encode_ranges, ranges_of, spans
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import COMPLETE, TaskRecord

MESSAGE_LIMIT = 300


class FailureFacts(NamedTuple):
    """The failure of a task, from its record or else from accounting. Status cache and answers hold these facts as JSON."""

    cause: Optional[str] = None
    message: str = ""
    generation: int = 0
    attempt: Optional[int] = None
    job: Optional[str] = None
    element: Optional[int] = None
    host: Optional[str] = None
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    ended_at: Optional[float] = None
    seconds: Optional[float] = None
    max_rss_mb: Optional[float] = None
    raw: Optional[str] = None  # the scheduler's own name of the end
    evidence: Optional[str] = None  # "accounting" or "absence" where no record says so

    @classmethod
    def from_record(cls, record: TaskRecord) -> "FailureFacts":
        shared = {name: getattr(record, name) for name in cls._fields if name in TaskRecord._fields}
        return cls(**dict(shared, message=record.message[:MESSAGE_LIMIT]))

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "FailureFacts":
        return from_document(cls, document)

    def to_json(self) -> Dict[str, Any]:
        optional = ("raw", "evidence")
        return {key: value for key, value in self._asdict().items() if value is not None or key not in optional}

    def kept(self) -> Dict[str, Any]:
        """Return the facts that are not as a new object has them, for the cache."""
        return {key: value for key, value, usual in zip(self._fields, self, _NO_FACTS) if value != usual}


_NO_FACTS = FailureFacts()


class RecordScan(object):
    """The records of a run: the state of each task, the facts of each failed record, and sums over the complete ones."""

    def __init__(self, total: int) -> None:
        self.state = bytearray(total)  # one byte for each task
        self.failed: Dict[int, FailureFacts] = {}
        self.oom_killed: List[int] = []  # complete tasks of which the kernel killed a process for memory
        self.stopped_early = 0  # complete tasks that ended themselves early
        self.elements: Any = None  # the logs of packed elements (ElementScans); None where the run has none
        self._seconds, self._timed = 0.0, 0

    @property
    def mean_seconds(self) -> Optional[float]:
        """Return the mean of the complete tasks."""
        return self._seconds / self._timed if self._timed else None

    def are_complete(self, tasks: Iterable[Tuple[int, int]]) -> bool:
        """Return True if all tasks of these spans are complete."""
        return all(self.state.count(task_states.COMPLETE, start, stop) == stop - start for start, stop in tasks)

    def add(self, record: TaskRecord) -> None:
        """Add a record that was read from a file."""
        if record.state == COMPLETE:
            stopped = STOPPED_AT in (record.metrics or {})
            self.add_complete(record.task, record.seconds, bool(record.oom_kills), stopped)
        else:
            self.add_failed(record.task, FailureFacts.from_record(record))

    def add_complete(self, task: int, seconds: Optional[float], oom_killed: bool, stopped_early: bool) -> None:
        """Count a complete task, once: several arrays may have completed it."""
        if task >= len(self.state) or self.state[task] == task_states.COMPLETE:
            return
        self.state[task] = task_states.COMPLETE
        self.failed.pop(task, None)
        self.oom_killed += [task] if oom_killed else []
        self.stopped_early += stopped_early
        self._seconds += seconds or 0.0
        self._timed += 1

    def add_failed(self, task: int, facts: FailureFacts) -> None:
        """Keep the facts of a failed record, unless the task is complete, or a newer attempt of it is known."""
        if task >= len(self.state) or self.state[task] == task_states.COMPLETE:
            return
        known = self.failed.get(task)
        if known is None or (facts.generation, facts.attempt or 0) >= (known.generation, known.attempt or 0):
            self.state[task], self.failed[task] = task_states.FAILED, facts

    def load(self, kept: Dict[str, Any]) -> None:
        """Take what ``to_json`` has returned."""
        for start, stop in spans(kept["complete"]):
            self.state[start:stop] = bytes([task_states.COMPLETE]) * (stop - start)
        self.oom_killed = decode_ranges(kept["oom_killed"])
        self.stopped_early, self._seconds, self._timed = kept["stopped_early"], kept["seconds"], kept["timed"]

    def to_json(self) -> Dict[str, Any]:
        return {
            "complete": ranges_of(self.state, task_states.COMPLETE),
            "oom_killed": encode_ranges(self.oom_killed),
            "stopped_early": self.stopped_early,
            "seconds": self._seconds,
            "timed": self._timed,
        }

    def keep(self, cache: Dict[str, Any]) -> None:
        """Keep in the cache what the next scan does not read again."""
        cache["records"] = self.to_json()
        cache["logs"] = self.elements.to_json() if self.elements else {}
