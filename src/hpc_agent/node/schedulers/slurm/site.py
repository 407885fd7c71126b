"""Partitions of a SLURM cluster, from sinfo and squeue."""

import re
from collections import Counter
from typing import Dict, List, Optional, Pattern, Tuple

from ..base import Gpus, Partition, Query, walltime_seconds

_SINFO = ("sinfo", "-h", "-o", "%P|%a|%l|%L|%D|%C|%m|%G|%p|%c|%T")
# A suffix instead of a width: a column of a width is cut, and no blank is left between two full ones.
_GPUS_USED = ("sinfo", "-h", "-N", "-O", "Partition:|,StateLong:|,Gres:|,GresUsed:|")
# gpu:4, gpu:a100:4(S:0-1), gpu:nvidia_a100_1g.5gb:14(IDX:0-13), gpu:(null):3(IDX:0-2); a count that was cut has no end
_NAMED = r"(?<![A-Za-z_])gpu(?::([^\s:,()]+|\(null\)))?:(\d+)"
_GPU = re.compile(_NAMED + r"(?=[(,\s]|$)")
_IN_USE = re.compile(_NAMED + r"(?=\(IDX:)")
# States of nodes that take jobs of anybody, now or once they are powered up (~, #) or a planned job has begun (-).
_TAKES_JOBS = re.compile(
    r"^(idle|mix|mixed|alloc|allocated|comp|completing|planned|plnd)"
    r"([~#-]|\+(planned|completing|cloud|powered_down|powering_up|dynamic_\w+))*$"
)


def partitions(query: Query) -> List[Partition]:
    """Return every partition with its free cores and GPUs and its waiting jobs."""
    found = parse_sinfo(query(*_SINFO))
    used = parse_gpus_used(query(*_GPUS_USED) if any(partition.gpus for partition in found.values()) else "")
    waiting = [words.split(",") for words in query("squeue", "-h", "-t", "PD", "-o", "%P").split()]
    return [
        partition._replace(
            pending_jobs=sum(partition.name in names for names in waiting),
            gpus=[gpu._replace(idle=_idle(gpu, used.get((partition.name, gpu.type)))) for gpu in partition.gpus],
        )
        for partition in found.values()
    ]


def _idle(gpu: Gpus, used: Optional[int]) -> Optional[int]:
    """SLURM lists every type, also one of which none is in use: a type that is not listed is not known."""
    return None if used is None and gpu.total else max(0, gpu.total - (used or 0))


def parse_sinfo(text: str) -> Dict[str, Partition]:
    """Return the partitions in rows of ``_SINFO``, also without its last two columns; nodes of different kinds are rows of one.

    Idle cores, and GPUs, are those of nodes that take jobs.
    """
    found: Dict[str, Partition] = {}
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) not in (9, 11):
            continue
        name, state, limit, _, nodes, cpus, memory, gres, tier = words[:9]
        known = found.get(name.rstrip("*"), Partition(name.rstrip("*")))
        _, idle, other, total = ([_leading_number(number) for number in cpus.split("/")] + [0] * 4)[:4]
        count = _leading_number(nodes)
        most, usable = total // max(1, count), 1 - other / max(1, total)
        if len(words) == 11:
            most, usable = _leading_number(words[9]), float(bool(_TAKES_JOBS.match(words[10].lower())))
        gpus = Counter({gpu.type: gpu.total for gpu in known.gpus})
        for kind, number in gpus_of(gres):
            gpus[kind] += round(number * count * usable)
        found[known.name] = known._replace(
            state=state,
            default=name.endswith("*"),
            max_walltime_sec=walltime_seconds(limit),
            priority_tier=int(tier) if tier.isdigit() else None,
            nodes=known.nodes + count,
            cpus_total=known.cpus_total + total,
            cpus_idle=known.cpus_idle + (idle if usable else 0),
            cpus_node=max(known.cpus_node or 0, most),
            mem_mb=max(known.mem_mb or 0, _leading_number(memory)),
            gpus=[Gpus(*pair) for pair in gpus.items()],
        )
    return found


def gpus_of(gres: str) -> List[Tuple[str, int]]:
    """Return (type, number) of one node, from ``gpu:a100:4(S:0-1),gpu:v100:2``; a GPU without a type is ``gpu``."""
    return _typed(_GPU, gres)


def _typed(pattern: Pattern[str], gres: str) -> List[Tuple[str, int]]:
    found = pattern.finditer(gres)
    return [((match.group(1) or "gpu").replace("(null)", "gpu"), int(match.group(2))) for match in found]


def parse_gpus_used(text: str) -> "Counter[Tuple[str, str]]":
    """Return the GPUs in use by (partition, type) on nodes that take jobs; a line for each node and partition.

    Columns: those of ``_GPUS_USED``. Without the suffix, which an old SLURM does not know, use is told by ``(IDX:``.
    """
    found: "Counter[Tuple[str, str]]" = Counter()
    for line in text.splitlines():
        columns, words = line.split("|"), line.split() or [""]
        name, takes_jobs = words[0], True
        if len(columns) >= 4:
            name = columns[0]
            takes_jobs = bool(_TAKES_JOBS.match(columns[1].strip().lower()))
            used = gpus_of(columns[3])
        else:
            used = _typed(_IN_USE, line) or (gpus_of(words[-1]) if len(words) > 2 else [])
        for kind, number in used:
            found[name.strip().rstrip("*"), kind] += number if takes_jobs else 0
    return found


def _leading_number(text: str) -> int:
    """Return 65536 for ``65536+``."""
    match = re.match(r"\d+", text)
    return int(match.group(0)) if match else 0
