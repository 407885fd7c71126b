"""The document of a run, ``run.json``, as the client wrote it."""

from typing import Any, Dict, List, NamedTuple, Optional

from .files import known_fields, read_json
from .run_folder import RunFolder


class RunDocument(NamedTuple):
    """The fields of run.json that the node side reads; the client reads more of them."""

    run_id: str
    task_count: int
    scheduler: str = ""
    executor: str = ""
    result_dir_template: str = ""
    cmd_sha: str = ""
    campaign_id: Optional[str] = None
    snapshot: str = ""
    outputs: List[str] = []
    shared: Dict[str, str] = {}  # name in the work folder -> path of data that is not copied
    env: Dict[str, str] = {}
    resources: Dict[str, Any] = {}
    results: Dict[str, Any] = {}
    constraints: Dict[str, Any] = {}
    nfs_data_dir: Optional[str] = None
    chain: Optional[str] = None
    submitted_at: Optional[str] = None

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "RunDocument":
        """Return the document; fields that only the client reads are dropped."""
        return cls(**known_fields(cls._fields, document))


def read_run(folder: RunFolder) -> RunDocument:
    return RunDocument.from_json(read_json(folder.document))
