"""One array element: the tasks that it runs, the parameters of each, its name in the scheduler, and its claims.

Of all elements that are given a task in one generation, only one claims and runs the task. A claim is a file with the name
of its element, then one line for each attempt.
"""

import json
import os
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ..shared.errors import NodeError
from ..shared.files import make_folder, remove_quietly
from ..shared.ledger import read_array
from ..shared.processes import born
from ..shared.ranges import slice_ranges
from ..shared.run_folder import RunFolder, read_run
from ..shared.task_environment import DIGEST_BYTES, digest, load_tasks

if TYPE_CHECKING:
    from .workers import Slot, Workers


class Element(object):
    """One array element, as the environment of the job names it."""

    def __init__(self, environ: Dict[str, str]) -> None:
        self.run = RunFolder(environ["HPC_RUN_DIR"])
        array = read_array(self.run, environ["HPC_ARRAY"])
        if array is None:
            raise NodeError("run_not_found", "the ledger of %s has no array %s" % (self.run.path, environ["HPC_ARRAY"]))
        document = read_run(self.run)
        self.document = document._replace(resources=array.resources or document.resources)
        self.gpus = int(self.document.resources.get("gpus") or 0)
        self.array = array
        self.index = int(environ["HPC_ELEMENT"])
        self.tasks = slice_ranges(array.tasks, self.index * array.pack, array.pack)
        self.generation = array.generation
        self.job_id = environ.get("HPC_JOB_ID", "")
        self.owner = "%s:%s:%d" % (self.job_id, array.array, self.index)
        self.host = environ.get("SLURMD_NODENAME") or os.uname()[1]
        self.pid = os.getpid()
        self.stopped = False  # True once the scheduler or the walltime has stopped a task
        walltime = array.resources.get("walltime_sec")
        # Only an executor that can go on from a checkpoint is stopped early, while there is time to write one.
        self.stop_at = process_start() + float(walltime) if walltime and array.chain else None
        self.workers: "Optional[Workers]" = None  # started by the first task of several
        self.slot: "Optional[Slot]" = None
        self._module: Any = None

    def parameters(self, task: int) -> Dict[str, Any]:
        """Return the parameters of a task: of its line in tasks.jsonl, else ``resolve(task)`` of the frozen tasks.py.

        Raises ValueError when their digest differs from the submitted one.
        """
        if self.document.inline_tasks:
            with open(self.run.given_tasks, "rb") as handle:
                kwargs = json.loads(next(islice(handle, task, None), b"{}").decode("ascii"))
        else:
            kwargs = self._tasks_py().resolve(task)
        found = digest(kwargs)
        with open(self.run.digests, "rb") as handle:
            handle.seek(task * DIGEST_BYTES)
            if handle.read(DIGEST_BYTES) != found:
                raise ValueError("task %d has other parameters on %s than at submission" % (task, self.host))
        return dict(kwargs)

    def _tasks_py(self) -> Any:
        if self._module is None:
            self._module = load_tasks(os.path.join(self.run.work, ".hpc", "tasks.py"))
        return self._module

    def functions(self) -> List[str]:
        """Return the registered functions (``path.py:name``) that .hpc/cli.py may call; none for scripts."""
        if self.document.inline_tasks and not os.path.isfile(os.path.join(self.run.work, ".hpc", "tasks.py")):
            return []
        return [key for key in getattr(self._tasks_py(), "FLAGS", None) or {} if ":" in key]


def process_start() -> float:
    """Return when this process began (epoch seconds). The shell of the job became this process, so the job began then."""
    try:
        with open("/proc/uptime", "rb") as handle:
            uptime = float(handle.read().split()[0])
        return time.time() - (uptime - float(born(os.getpid()) or "") / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()


def claim(element: Element, task: int) -> bool:
    """Claim the task in its generation, a requeued element again. Return False when another element has claimed it."""
    path = element.run.claim(task, element.generation)
    make_folder(os.path.dirname(path))
    # The file is written under another name and linked into place, so that a claim always names its owner. A link is
    # atomic on NFS too.
    temporary = "%s.%s.%d.%s" % (path, element.host, os.getpid(), os.urandom(4).hex())
    attempt = "%s %d\n" % (element.host, time.time())
    with open(temporary, "w") as handle:
        handle.write("%s\n%s" % (element.owner, attempt))
    try:
        os.link(temporary, path)
    except FileExistsError:
        with open(path, "r+") as handle:
            if handle.readline().rstrip("\n") != element.owner:
                return False
            handle.seek(0, os.SEEK_END)
            handle.write(attempt)  # also renews the file's time, which a status reads
    finally:
        remove_quietly(temporary)
    return True


def superseded(element: Element, task: int) -> bool:
    """Return True when an element of a later generation has claimed the task."""
    later = {int(name.rpartition("-")[0][1:]) for name in element.run.arrays() if name[0] in "rs"}
    return any(os.path.exists(element.run.claim(task, g)) for g in later if g > element.generation)


def attempts(element: Element, task: int) -> int:
    """Count how often the task was begun, this time included: a line for each in the claims of all generations."""
    lines = 0
    for generation in range(1, element.generation + 1):
        with suppress(OSError), open(element.run.claim(task, generation), "rb") as handle:
            lines += handle.read().count(b"\n") - 1
    return max(lines, 1)
