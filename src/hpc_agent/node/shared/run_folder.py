"""Paths below a remote root, which no other module spells, and the document of a run."""

import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

from .errors import NodeError
from .files import from_document, read_json

IDENTIFIER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


# Of a run: 1 has files a task, 2 has files a packed element. The dispatcher, frozen with the run, writes one of them.
LAYOUT = 2


def shard_of(task_id: int) -> str:
    """Return the folder of a task's record; 1,000 tasks share one, so that a status re-reads only changed folders."""
    return "%05d" % (task_id // 1000)


def check_root(root: str) -> str:
    """Return a remote root, absolute and normalised. Refuses every path but ``.../hpc-agent/<repo>``."""
    path = os.path.normpath(os.path.expanduser(root))
    home = os.path.normpath(os.path.expanduser("~"))
    if not os.path.isabs(path) or os.path.basename(os.path.dirname(path)) != "hpc-agent" or path == home:
        raise NodeError("spec_invalid", "refusing to work in %r: not a folder <scratch>/hpc-agent/<repo>" % root)
    return path


def check_id(value: str) -> str:
    if not IDENTIFIER.fullmatch(value):
        raise NodeError("spec_invalid", "not an identifier: %r" % value)
    return value


class RunFolder(object):
    """The folder of one run on the cluster."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.document = os.path.join(path, "run.json")
        self.submission = os.path.join(path, "submission.json")
        self.jobs = os.path.join(path, "jobs")
        self.new_plan = os.path.join(path, "new_plan.json")
        self.resubmits = os.path.join(path, "resubmits")
        self.logs = os.path.join(path, "logs")
        self.scheduler_logs = os.path.join(path, "logs", "scheduler")
        self.results = os.path.join(path, "results")
        self.work = os.path.join(path, "work")
        self.combiner = os.path.join(path, "_combiner")
        self.digests = os.path.join(path, "digests.bin")
        self.given_tasks = os.path.join(path, "tasks.jsonl")
        self.status_cache = os.path.join(path, "status_cache.json")
        self.survey = os.path.join(path, "survey.json")
        self.lock = os.path.join(path, "submit.lock")
        self.environment = os.path.join(path, "environment.json")
        self.pruned = os.path.join(path, "pruned.json")  # parts that were removed -> when

    def job(self, array: str) -> str:
        return os.path.join(self.jobs, check_id(array) + ".json")

    def barrier(self, array: str) -> str:
        return os.path.join(self.jobs, check_id(array) + ".sending")

    def record(self, task: int) -> str:
        return os.path.join(self.records(shard_of(task)), "%d.json" % task)

    def records(self, shard: str) -> str:
        return os.path.join(self.path, "tasks", shard)

    def claim(self, task: int, generation: int) -> str:
        return os.path.join(self.path, "claims", shard_of(task), "%d.g%d" % (task, generation))

    def log(self, task: int, generation: int) -> str:
        return os.path.join(self.logs, shard_of(task), "%d.g%d.log" % (task, generation))

    def elements(self, array: str) -> str:
        """Return the folder of the packed elements of an array, which has a shard for 1,000 of them."""
        return os.path.join(self.path, "elements", check_id(array))

    def element(self, array: str, index: int, suffix: str) -> str:
        """Return a file of a packed element: its ``claim``, its records (``rec``), its output (``log``)."""
        return os.path.join(self.elements(array), shard_of(index), "%d.%s" % (index, suffix))

    def arrays(self) -> List[str]:
        """Return the names of the arrays in the ledger."""
        try:
            return sorted(name[:-5] for name in os.listdir(self.jobs) if name.endswith(".json"))
        except OSError:
            return []

    def checkpoints(self, task: int) -> str:
        return os.path.join(self.path, "checkpoints", shard_of(task), str(task))


def run_folder(root: str, run_id: str) -> RunFolder:
    """Return the run's folder, which need not exist."""
    return RunFolder(os.path.join(check_root(root), "runs", check_id(run_id)))


def existing_run(root: str, run_id: str) -> RunFolder:
    """Return the folder of a run. Raises NodeError ``run_not_found``."""
    folder = run_folder(root, run_id)
    if not os.path.isfile(folder.document):
        raise NodeError("run_not_found", "no run %s below %s on the cluster" % (run_id, root))
    return folder


def campaign_folder(root: str, campaign_id: str) -> str:
    """Return the folder that the tasks of all runs of a campaign share."""
    return os.path.join(root, "campaigns", check_id(campaign_id))


class RunDocument(NamedTuple):
    """The fields of run.json that the node side reads; the client, which wrote the document, reads more of them."""

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
    inline_tasks: bool = False  # True: tasks.jsonl has the parameters, not the snapshot's tasks.py
    trials: List[int] = []  # of a campaign's run: the number of each task's trial
    early_stop: Optional[Dict[str, Any]] = None
    layout: int = 1  # how records lie in the run's folder: 1 in runs made before there was a choice
    isolate: str = "fork"  # how packed registered functions run: "warm", "fork" or "exec"


def read_run(folder: RunFolder) -> RunDocument:
    return from_document(RunDocument, read_json(folder.document))
