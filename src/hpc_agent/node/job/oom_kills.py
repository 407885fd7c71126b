"""Count the processes of this job that the kernel killed because the job had used up its memory."""

import os
import re
from contextlib import suppress
from typing import Dict, List, Optional, Tuple


class OomKills(object):
    """The kills in the control group of the job since the last question."""

    def __init__(self, environ: Dict[str, str]) -> None:
        self._environ = environ
        self._before = oom_kills(environ)

    def new(self) -> int:
        """Return how many there were; 0 where that cannot be read."""
        if self._before is None:
            return 0
        before, now = self._before, oom_kills(self._environ)
        self._before = before if now is None else now
        return self._before - before


def oom_kills(
    environ: Dict[str, str], cgroups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup"
) -> Optional[int]:
    """Return the number of kills so far in the control group of the job, its steps included.

    None where it cannot be read, and where the group is not the job's own: kills there may be those of others.
    """
    job = environ.get("SLURM_JOB_ID") or environ.get("JOB_ID")
    if "HPC_LOCAL_JOB_ID" in environ:  # the embedded scheduler within such a job: its elements share the group
        return None
    try:
        groups = _memory_groups(cgroups, root)
    except (OSError, ValueError):
        return None
    for folder, name in groups if job else []:
        own = re.match(r"(/.*)?/([^/]*[^/0-9])?%s([^/0-9][^/]*)?(?=/|\Z)" % re.escape(job or ""), folder[len(root) :])
        if own is None:
            continue
        top = root + own.group(0)
        # The counts of version 2 include those of groups below; those of version 1 do not.
        folders = [top] if name == "memory.events" else [path for path, _, _ in os.walk(top)]
        counts = [count for count in (_count(os.path.join(path, name)) for path in folders) if count is not None]
        if counts:
            return sum(counts)
    return None


def _memory_groups(cgroups: str, root: str) -> List[Tuple[str, str]]:
    """Return the folder and the file with the count for version 1, where it has the memory, and for version 2."""
    found = []
    with open(cgroups) as handle:
        for line in handle:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                found.append((root + "/memory" + path, "memory.oom_control"))
            elif not controllers:
                found.append((root + path, "memory.events"))
    return found


def _count(path: str) -> Optional[int]:
    with suppress(OSError, ValueError), open(path) as handle:
        for line in handle:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None
