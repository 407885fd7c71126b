"""The record of a task: one file a task, written when an attempt ends. A task is complete only by its record."""

from typing import Any, Dict, List, NamedTuple, Optional

from .files import from_document, read_json
from .run_folder import RunFolder

COMPLETE, FAILED = "complete", "failed"
# Fields that are written as null; any other field without a value is left out of the file.
NULLABLE = ("kwargs", "cause", "exit_code", "signal")


class TaskRecord(NamedTuple):
    """The end of the latest attempt of a task. Times are seconds since the epoch, durations seconds, memory MiB."""

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
    oom_kills: Optional[int] = None  # processes of the job that the kernel killed for memory during the task
    log: Optional[str] = None  # below the run's folder, as result_dir
    log_offset: Optional[int] = None  # in the combined log of a packed element, bytes
    log_length: Optional[int] = None
    log_tail: Optional[str] = None
    result_dir: Optional[str] = None
    metrics: Optional[Dict[str, Any]] = None
    metrics_problem: Optional[str] = None  # of the whole file
    metrics_left_out: Optional[List[Dict[str, str]]] = None  # field, message, value

    def to_json(self) -> Dict[str, Any]:
        return {key: value for key, value in self._asdict().items() if value is not None or key in NULLABLE}


def load_record(folder: RunFolder, task: int) -> Optional[TaskRecord]:
    """Return the record, or None where it is missing or torn. Raises OSError when the file cannot be read."""
    try:
        document = read_json(folder.record(task))
        return from_document(TaskRecord, document) if isinstance(document, dict) else None
    except (ValueError, TypeError):
        return None


def read_record(folder: RunFolder, task: int) -> Optional[TaskRecord]:
    """Return the record, or None where it is missing, torn, or cannot be read by this machine now."""
    try:
        return load_record(folder, task)
    except OSError:
        return None
