"""Partitions and limits of a SLURM cluster, from sinfo, squeue, scontrol and sacctmgr."""

import re
from collections import Counter
from typing import Dict, List, Tuple

from ..base import Gpus, Limit, Partition, Query, parse_config, walltime_seconds

_SINFO = ("sinfo", "-h", "-o", "%P|%a|%l|%L|%D|%C|%m|%G|%p")
_GPUS_USED = ("sinfo", "-h", "-N", "-O", "Partition:60,Gres:120,GresUsed:120")
_QOS = ("sacctmgr", "-nP", "show", "qos", "format=Name,MaxSubmitPU,MaxJobsPU")
_GRES = re.compile(r"gpu(?::([A-Za-z0-9_.-]+))?:(\d+)")


def partitions(query: Query) -> List[Partition]:
    """Return every partition with its free cores and GPUs and its waiting jobs."""
    found = parse_sinfo(query(*_SINFO))
    used = parse_gpus_used(query(*_GPUS_USED) if any(partition.gpus for partition in found.values()) else "")
    waiting = [words.split(",") for words in query("squeue", "-h", "-t", "PD", "-o", "%P").split()]
    return [
        partition._replace(
            pending_jobs=sum(partition.name in names for names in waiting),
            gpus=[gpu._replace(idle=max(0, gpu.total - used[partition.name, gpu.type])) for gpu in partition.gpus],
        )
        for partition in found.values()
    ]


def limits(query: Query, user: str) -> List[Limit]:
    """Return the limits of the cluster and of the user's accounts and QOS."""
    associations = query("sacctmgr", "-nP", "show", "assoc", "user=" + user, "format=Account,QOS,MaxSubmit,MaxJobs")
    return parse_limits(query("scontrol", "show", "config"), query(*_QOS), associations)


def parse_sinfo(text: str) -> Dict[str, Partition]:
    """Return the partitions in rows of ``_SINFO``; nodes of different kinds are rows of one partition."""
    found: Dict[str, Partition] = {}
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) != 9:
            continue
        name, state, limit, _, nodes, cpus, memory, gres, tier = words
        known = found.get(name.rstrip("*"), Partition(name.rstrip("*")))
        _, idle, _, total = ([int(number) for number in cpus.split("/")] + [0] * 4)[:4]
        count = _leading_number(nodes)
        gpus = Counter({gpu.type: gpu.total for gpu in known.gpus})
        for kind, number in gpus_of(gres):
            gpus[kind] += number * count
        found[known.name] = known._replace(
            state=state,
            default=name.endswith("*"),
            max_walltime_sec=walltime_seconds(limit),
            priority_tier=int(tier) if tier.isdigit() else None,
            nodes=known.nodes + count,
            cpus_total=known.cpus_total + total,
            cpus_idle=known.cpus_idle + idle,
            cpus_node=max(known.cpus_node or 0, total // max(1, count)),
            mem_mb=max(known.mem_mb or 0, _leading_number(memory)),
            gpus=[Gpus(*pair) for pair in gpus.items()],
        )
    return found


def gpus_of(gres: str) -> List[Tuple[str, int]]:
    """Return (type, number) of one node, from ``gpu:a100:4(S:0-1),gpu:v100:2``; a GPU without a type is ``gpu``."""
    return [(match.group(1) or "gpu", int(match.group(2))) for match in _GRES.finditer(gres)]


def parse_gpus_used(text: str) -> "Counter[Tuple[str, str]]":
    """Return the GPUs in use by (partition, type); a line of three columns for each node and partition."""
    found: "Counter[Tuple[str, str]]" = Counter()
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            for kind, number in gpus_of(words[2]):
                found[words[0].rstrip("*"), kind] += number
    return found


def parse_limits(config: str, qos: str, associations: str) -> List[Limit]:
    """Return the limits of the cluster, of the accounts, and of those QOS that an association allows."""
    found = []
    size = parse_config(config).get("MaxArraySize", "")
    if size.isdigit():
        found.append(Limit("MaxArraySize", "cluster", "array_size", int(size) - 1))
    rows = [line.split("|") for line in associations.splitlines() if line.count("|") >= 3]
    for account, _, submit, run in (row[:4] for row in rows):
        found += _job_limits("account " + account, submit, run)
    allowed = {name for row in rows for name in row[1].split(",") if name}
    for row in (line.split("|") for line in qos.splitlines()):
        if len(row) >= 3 and row[0] in allowed:
            found += _job_limits("qos " + row[0], row[1], row[2])
    return found


def _job_limits(scope: str, submit: str, run: str) -> List[Limit]:
    stated = (("MaxSubmit", "submitted", submit), ("MaxJobs", "running", run))
    return [Limit(name, scope, kind, int(text)) for name, kind, text in stated if text.strip().isdigit()]


def _leading_number(text: str) -> int:
    """Return 65536 for ``65536+``."""
    match = re.match(r"\d+", text)
    return int(match.group(0)) if match else 0
