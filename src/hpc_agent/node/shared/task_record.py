"""The record of a task: one file a task, written when an attempt ends. A task is complete only by its record."""

from typing import Any, Dict, List, NamedTuple, Optional

from .files import read_json
from .run_folder import RunFolder

COMPLETE, FAILED = "complete", "failed"


class TaskRecord(NamedTuple):
    """How the latest attempt of a task ended. Times are seconds since the epoch, durations seconds, memory MiB."""

    task: int
    state: str  # "complete" or "failed"
    generation: int = 1
    job: str = ""
    element: int = 0
    array: str = ""
    host: str = ""
    attempt: int = 1
    kwargs: Optional[Dict[str, Any]] = None
    history: List[Dict[str, Any]] = []  # earlier attempts, oldest first, at most 10
    cause: Optional[str] = None  # None for a complete task
    message: str = ""
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    started_at: Optional[float] = None
    ended_at: Optional[float] = None
    seconds: Optional[float] = None
    cpu_seconds: Optional[float] = None
    max_rss_mb: Optional[float] = None  # of the largest process
    gpu_mem_mb: Optional[float] = None
    times: Any = None
    log: Optional[str] = None  # below the run's folder, as result_dir
    log_tail: Optional[str] = None
    result_dir: Optional[str] = None
    metrics: Optional[Dict[str, Any]] = None
    metrics_problem: Optional[str] = None

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "TaskRecord":
        """Return the record of a document; keys that this version does not know are dropped."""
        return cls(**{key: value for key, value in document.items() if key in cls._fields and value is not None})

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())


def read_record(folder: RunFolder, task: int) -> Optional[TaskRecord]:
    """Return the record, or None where it is missing or not yet whole on this client of the file system."""
    try:
        document = read_json(folder.record(task))
        return TaskRecord.from_json(document) if isinstance(document, dict) else None
    except (OSError, ValueError, TypeError):
        return None
