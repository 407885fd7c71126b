"""Queues and limits of a Grid Engine cluster, from qstat, qconf and qhost."""

import re
from typing import Dict, List, Optional

from ..base import Limit, Partition, Query, parse_config, walltime_seconds
from . import qacct

_LIMITS = {"max_u_jobs": "submitted", "max_aj_tasks": "array_size"}


def queues(query: Query) -> List[Partition]:
    """Return every queue; memory and waiting jobs are those of the cluster, for a waiting job is in no queue yet."""
    found = parse_queues(query("qstat", "-g", "c"))
    if found:
        found = parse_queue_settings(query("qconf", "-sq", *found), found)
    memory = parse_host_memory(query("qhost"))
    waiting = len(query("qstat", "-u", "*", "-s", "p").splitlines()[2:])
    return [queue._replace(mem_mb=memory, pending_jobs=waiting) for queue in found.values()]


def limits(query: Query) -> List[Limit]:
    """Return the limits of the global configuration; 0 is no limit."""
    config = parse_config(query("qconf", "-sconf", "global"))
    stated = [(name, kind, config.get(name, "")) for name, kind in _LIMITS.items()]
    return [Limit(name, "cluster", kind, int(text)) for name, kind, text in stated if text.isdigit() and int(text)]


def parse_queues(text: str) -> Dict[str, Partition]:
    """Return the queues in ``qstat -g c``: name, load, used, reserved, available, total, two columns of unusable slots."""
    found = {}
    for line in text.splitlines()[2:]:
        words = line.split()
        if len(words) < 8:
            continue
        _, _, available, total, disabled, errors = [int(word) if word.isdigit() else 0 for word in words[-6:]]
        state = "up" if total > disabled + errors else "down"
        found[words[0]] = Partition(words[0], state, cpus_total=total, cpus_idle=max(0, available))
    return found


def parse_queue_settings(text: str, known: Dict[str, Partition]) -> Dict[str, Partition]:
    """Return the queues with the walltime limit and the most slots of one host, from ``qconf -sq``."""
    found = dict(known)
    queue = ""
    for line in text.replace("\\\n", " ").splitlines():
        name, value = (line.split(None, 1) + ["", ""])[:2]
        if name == "qname":
            queue = value.strip()
        elif queue in found and name == "h_rt":
            found[queue] = found[queue]._replace(max_walltime_sec=walltime_seconds(value.split(",")[0]))
        elif queue in found and name == "slots":
            slots = [int(number) for number in re.findall(r"(?<![\w.])\d+", value)]
            found[queue] = found[queue]._replace(cpus_node=max(slots or [1]))
    return found


def parse_host_memory(text: str) -> Optional[int]:
    """Return the memory of the largest host in ``qhost``, in MiB."""
    columns = [line.split() for line in text.splitlines()]
    sizes = [int(qacct.size(word) / 1048576) for words in columns for word in words[7:8] or words[4:5]]
    return max(sizes, default=0) or None
