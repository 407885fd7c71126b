"""The submission ledger of a run: one file ``jobs/<array>.json`` for each array.

An array goes ``planned`` -> ``intent`` -> ``submitted``; ``refused`` is a planned array that the scheduler refused.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from .errors import NodeError
from .files import from_document, read_json, write_json
from .run_folder import RunFolder

# States of an array that has no job yet.
PLANNED, INTENT, REFUSED, SUBMITTED = "planned", "intent", "refused", "submitted"


class Array(NamedTuple):
    """One array of a run. An element runs ``pack`` of the ``tasks`` (ranges of ids). Times are epoch seconds."""

    array: str
    tasks: str
    name: str = ""  # the unique job name
    elements: int = 0
    pack: int = 1
    at_once: int = 1  # tasks that an element runs at the same time; ``resources`` are those of one task
    wave: int = 0
    generation: int = 1  # 1 for the first submission; later for segments of a chain and for resubmissions
    after: List[str] = []  # arrays that must have ended before this one starts
    max_running: Optional[int] = None
    resources: Dict[str, Any] = {}
    placement: Dict[str, Any] = {}
    chain: Any = None  # set where the executor can go on from a checkpoint
    segment: int = 0
    held: Optional[str] = None  # "canary": the array waits for the canary's end
    resubmit: Optional[str] = None  # the request id of the resubmission
    classes: Dict[str, int] = {}
    fingerprints: List[str] = []
    state: str = PLANNED
    order: int = 0
    at: float = 0.0  # when the intent was written
    owner: Optional[str] = None
    message: Optional[str] = None
    after_jobs: List[str] = []
    job_id: Optional[str] = None
    submitted_at: Optional[float] = None
    adopted: Optional[bool] = None

    def to_json(self) -> Dict[str, Any]:
        """Return the document, without fields that are None."""
        return {key: value for key, value in self._asdict().items() if value is not None}


def is_packed(array: Array, layout: int) -> bool:
    """Return True for an array of a run with this layout whose elements have a log each, not files a task."""
    return layout > 1 and array.pack > 1


def arrays_of(folder: RunFolder) -> List[Array]:
    """Return every array in the order of submission. Raises NodeError ``schema_incompat`` for a damaged file."""
    found = [read_array(folder, name) for name in folder.arrays()]
    return sorted((array for array in found if array), key=lambda array: array.order)


def read_array(folder: RunFolder, name: str) -> Optional[Array]:
    """Return the array, or None where the ledger has no such file. Raises NodeError ``schema_incompat``."""
    path = folder.job(name)
    try:
        document = read_json(path)
        return from_document(Array, document) if document else None
    except (ValueError, TypeError) as error:
        raise NodeError(
            "schema_incompat",
            "the ledger %s is damaged: %s" % (path, error),
            "Restore or move that file away on the cluster, then run 'hpc-agent status'.",
        ) from error


def write_array(folder: RunFolder, array: Array) -> None:
    write_json(folder.job(array.array), array.to_json())


def summary(folder: RunFolder) -> Dict[str, Dict[str, Any]]:
    """Return the fields that the client keeps, by array."""
    kept = ("order", "state", "job_id", "message", "at", "held", "generation", "adopted")
    return {array.array: {key: getattr(array, key) for key in kept} for array in arrays_of(folder)}
