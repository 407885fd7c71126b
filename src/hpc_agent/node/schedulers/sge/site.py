"""Queues and limits of a Grid Engine cluster, from qstat, qconf and qhost."""

import re
from typing import Dict, List, Optional

from ..base import Limit, Partition, Query, parse_config
from . import qacct

_LIMITS = {"max_u_jobs": "jobs", "max_aj_tasks": "array_size"}


def queues(query: Query) -> List[Partition]:
    """Return every queue; memory and waiting jobs are those of the cluster, for a waiting job is in no queue yet."""
    found = parse_queues(query("qstat", "-g", "c"))
    if found:
        found = parse_queue_settings(query("qconf", "-sq", *found), found)
    memory = parse_host_memory(query("qhost"))
    waiting = len(query("qstat", "-u", "*", "-s", "p").splitlines()[2:])
    return [queue._replace(mem_mb=memory, pending_jobs=waiting) for queue in found.values()]


def limits(query: Query, user: str) -> List[Limit]:
    """Return the limits of the global configuration; 0 is no limit. An array is one job there."""
    config = parse_config(query("qconf", "-sconf", "global"))
    stated = [(name, kind, config.get(name, "")) for name, kind in _LIMITS.items()]
    found = [Limit(name, "cluster", kind, int(text)) for name, kind, text in stated if text.isdigit() and int(text)]
    if all(limit.kind != "jobs" for limit in found):
        return found
    jobs = {line.split()[0] for line in query("qstat", "-u", user).splitlines()[2:] if line.strip()}
    return [limit._replace(used=len(jobs)) if limit.kind == "jobs" else limit for limit in found]


def parse_queues(text: str) -> Dict[str, Partition]:
    """Return the queues in ``qstat -g c``, by the names of its columns: older versions have no RES, newer ones have more."""
    found = {}
    header, *lines = text.splitlines() or [""]
    names = header.replace("CLUSTER QUEUE", "QUEUE").split()
    for line in lines:
        words = line.split()
        if len(words) != len(names) or "TOTAL" not in names:
            continue
        row = {name: int(word) if word.isdigit() else 0 for name, word in zip(names, words)}
        state = "up" if row["TOTAL"] > row.get("aoACDS", 0) + row.get("cdsuE", 0) else "down"
        found[words[0]] = Partition(words[0], state, cpus_total=row["TOTAL"], cpus_idle=max(0, row.get("AVAIL", 0)))
    return found


def parse_queue_settings(text: str, known: Dict[str, Partition]) -> Dict[str, Partition]:
    """Return the queues with the longest walltime limit and the most slots of one host, from ``qconf -sq``."""
    found = dict(known)
    queue = ""
    for line in text.replace("\\\n", " ").splitlines():
        name, value = (line.split(None, 1) + ["", ""])[:2]
        if name == "qname":
            queue = value.strip()
        elif queue in found and name == "h_rt":
            limits = [_seconds(text) for text in _values(value)]
            longest = None if None in limits else max(limit or 0 for limit in limits)
            found[queue] = found[queue]._replace(max_walltime_sec=longest)
        elif queue in found and name == "slots":
            slots = [int(number) for number in _values(value) if number.isdigit()]
            found[queue] = found[queue]._replace(cpus_node=max(slots or [1]))
    return found


def _values(text: str) -> List[str]:
    """Return the values of a queue's setting: ``64,[n1=16],[@long=32]`` has one for all hosts, and exceptions in brackets."""
    exceptions = re.findall(r"\[[^\]=]*=([^\]]*)\]", text)
    return [text.partition(",")[0].partition("[")[0].strip(), *(value.strip() for value in exceptions)]


def _seconds(text: str) -> Optional[int]:
    """Return the seconds of ``86400``, ``24:00:00`` or ``24::`` (a number that is left out is 0); None is no limit."""
    parts = text.split(":")
    if not all(part.isdigit() or (not part and len(parts) > 1) for part in parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part or 0)
    return seconds


def parse_host_memory(text: str) -> Optional[int]:
    """Return the memory of the largest host in ``qhost``, in MiB: the column MEMTOT, the fifth or the eighth."""
    header, *lines = text.splitlines() or [""]
    names = header.split()
    rows = [dict(zip(names, line.split())) for line in lines]
    return max((int(qacct.size(row.get("MEMTOT", "")) / 1048576) for row in rows), default=0) or None
