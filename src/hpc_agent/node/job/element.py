"""One array element: the tasks that it runs, the parameters of each, its name in the scheduler, and its claims.

Of all elements that are given a task in one generation, only one claims and runs the task. A claim is a file with the name
of its element, then a line for each start. A packed element claims all its tasks at once.
"""

import json
import os
import time
from itertools import islice
from typing import Any, Dict, List, Optional

from ..shared.errors import NodeError
from ..shared.files import make_folder, remove_quietly
from ..shared.ledger import is_packed, read_array
from ..shared.processes import born
from ..shared.ranges import slice_ranges
from ..shared.run_folder import RunFolder, read_run
from ..shared.task_environment import DIGEST_BYTES, digest, load_tasks


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
        self.is_packed = is_packed(array, self.document.layout)
        self.slots = (
            max(1, min(array.at_once, len(self.tasks))) if self.is_packed else 1
        )  # so many run at the same time
        self.generation = array.generation
        self.job_id = environ.get("HPC_JOB_ID", "")
        self.owner = "%s:%s:%d" % (self.job_id, array.array, self.index)
        self.host = environ.get("SLURMD_NODENAME") or os.uname()[1]
        self.pid = os.getpid()
        self.stopped = False  # True once the scheduler or the walltime has stopped a task
        self.slot = 0  # of the tasks that the element runs at the same time, this process runs those of one slot
        walltime = array.resources.get("walltime_sec")
        # Only an executor that can go on from a checkpoint is stopped early, while there is time to write one.
        self.stop_at = process_start() + float(walltime) if walltime and array.chain else None
        self._module: Any = None
        self._digests: Optional[int] = None  # the descriptor of their file
        self._lines: Optional[Dict[int, bytes]] = None

    def parameters(self, task: int) -> Dict[str, Any]:
        """Return the parameters of a task: of its line in tasks.jsonl, else ``resolve(task)`` of the frozen tasks.py.

        Raises ValueError when their digest differs from the submitted one.
        """
        kwargs = self._given(task) if self.document.inline_tasks else self._tasks_py().resolve(task)
        found = digest(kwargs)
        if self._digests is None:
            self._digests = os.open(self.run.digests, os.O_RDONLY)
        if os.pread(self._digests, DIGEST_BYTES, task * DIGEST_BYTES) != found:
            raise ValueError("task %d has other parameters on %s than at submission" % (task, self.host))
        return dict(kwargs)

    def _given(self, task: int) -> Any:
        """Return the parameters in the task's line. The lines of all tasks of this element are read at once."""
        if self._lines is None:
            wanted = set(self.tasks)
            with open(self.run.given_tasks, "rb") as handle:
                lines = islice(handle, max(wanted) + 1)
                self._lines = {number: line for number, line in enumerate(lines) if number in wanted}
        return json.loads(self._lines.get(task, b"{}").decode("ascii"))

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


def claim(path: str, element: Element) -> bool:
    """Claim what the file stands for, a requeued element again. Return False when another element has claimed it."""
    # The file is written under another name and linked into place, so that a claim always names its owner. A link is
    # atomic on NFS too.
    temporary = "%s.%s.%d.%s" % (path, element.host, os.getpid(), os.urandom(4).hex())
    start = "%s %d %d %s\n" % (element.host, time.time(), os.getpid(), born(os.getpid()))
    try:
        handle = open(temporary, "w")
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        handle = open(temporary, "w")
    with handle:
        handle.write("%s\n%s" % (element.owner, start))
    try:
        os.link(temporary, path)
    except FileExistsError:
        with open(path) as handle:
            if handle.readline().rstrip("\n") != element.owner:
                return False
            starts = handle.readlines()
        if starts:
            _await_end(starts[-1], element.host)
        with open(path, "a") as handle:
            handle.write(start)  # also renews the file's time, which a status reads
    finally:
        remove_quietly(temporary)
    return True


def _await_end(start: str, host: str) -> None:
    """Wait until the process of an earlier start has ended, where it is of this host: it may be about to be killed."""
    words = start.split()
    if len(words) == 4 and words[0] == host and words[2].isdigit() and int(words[2]) != os.getpid():
        while born(int(words[2])) == words[3]:
            time.sleep(0.1)
