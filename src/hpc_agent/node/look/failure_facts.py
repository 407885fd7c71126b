"""The facts about one failed task: from its record, or from accounting where the task left no record."""

from typing import Any, Dict, NamedTuple, Optional

from ..shared.files import known_fields
from ..shared.task_record import TaskRecord

MESSAGE_LIMIT = 300
# Ends after which a scheduler may put the same element back into the queue (preemption, a lost node).
REQUEUEABLE = ("terminated", "signal", "checkpointed")


class FailureFacts(NamedTuple):
    """How a task failed. The status cache and the answers to the client keep these facts as JSON."""

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
        return cls(**known_fields(cls._fields, document))

    def to_json(self) -> Dict[str, Any]:
        optional = ("raw", "evidence")
        return {key: value for key, value in self._asdict().items() if value is not None or key not in optional}
