"""Output of sinfo, sacctmgr, qstat -g c, qconf and qhost as facts about partitions (or queues) and limits."""

import re
from typing import Any, Dict, List, Optional, Tuple

_GRES = re.compile(r"gpu(?::([A-Za-z0-9_.-]+))?:(\d+)")
_UNITS = {"K": 1.0 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}


def Partition(name: str) -> Dict[str, Any]:  # noqa: N802 - makes one
    """A partition of which nothing else is known."""
    return {
        "name": name, "state": "unknown", "default": False, "max_walltime_sec": None, "nodes": 0, "cpus_total": 0, "cpus_idle": 0,
        "cpus_node": None, "mem_mb": None, "gpus": [], "priority_tier": None, "pending_jobs": None,
    }  # fmt: skip


def seconds(text: str) -> Optional[int]:
    """``7-00:00:00``, ``10:00`` (minutes and seconds), ``1:00:00``, ``30`` (minutes); None for infinite and n/a."""
    days, dash, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return None
    numbers = [int(part) for part in parts]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, rest = (numbers + [0, 0])[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + rest
    if len(numbers) == 1:
        return numbers[0] * 60
    return numbers[0] * 60 + numbers[1] if len(numbers) == 2 else numbers[0] * 3600 + numbers[1] * 60 + numbers[2]


def parse_sinfo(text: str) -> Dict[str, Dict[str, Any]]:
    """``%P|%a|%l|%L|%D|%C|%m|%G|%p``; nodes of different kinds are rows of one partition."""
    found: Dict[str, Dict[str, Any]] = {}
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) != 9:
            continue
        name, state, limit, _, nodes, cpus, memory, gres, tier = words
        facts = found.setdefault(name.rstrip("*"), Partition(name.rstrip("*")))
        facts.update(state=state, default=name.endswith("*"), max_walltime_sec=seconds(limit))
        facts["priority_tier"] = int(tier) if tier.isdigit() else None
        _, idle, _, total = ([int(number) for number in cpus.split("/")] + [0] * 4)[:4]
        count = _leading(nodes)
        facts["nodes"] += count
        facts["cpus_total"] += total
        facts["cpus_idle"] += idle
        facts["cpus_node"] = max(facts["cpus_node"] or 0, total // max(1, count))
        facts["mem_mb"] = max(facts["mem_mb"] or 0, _leading(memory))
        for kind, number in gpus_of(gres):
            _add_gpu(facts["gpus"], kind, number * count)
    return found


def gpus_of(gres: str) -> List[Tuple[str, int]]:
    """``gpu:a100:4(S:0-1),gpu:v100:2`` as (type, number) of one node; a GPU without a type is ``gpu``."""
    return [(match.group(1) or "gpu", int(match.group(2))) for match in _GRES.finditer(gres)]


def _add_gpu(gpus: List[Dict[str, Any]], kind: str, number: int) -> None:
    for gpu in gpus:
        if gpu["type"] == kind:
            gpu["total"] += number
            return
    gpus.append({"type": kind, "total": number, "idle": None})


def parse_gpus_used(text: str) -> Dict[Tuple[str, str], int]:
    """(partition, type) -> GPUs in use; a line of three columns for each node and partition."""
    found: Dict[Tuple[str, str], int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            for kind, number in gpus_of(words[2]):
                key = (words[0].rstrip("*"), kind)
                found[key] = found.get(key, 0) + number
    return found


def slurm_limits(config: str, qos: str, associations: str) -> List[Dict[str, Any]]:
    """The limits that hold for the user: of the cluster, of the QOS that they may use, of their accounts."""
    limits = []
    size = parse_config(config).get("MaxArraySize", "")
    if size.isdigit():
        limits.append({"name": "MaxArraySize", "scope": "cluster", "kind": "array_size", "limit": int(size) - 1})
    rows = [line.split("|") for line in associations.splitlines() if line.count("|") >= 3]
    allowed = {name for row in rows for name in row[1].split(",") if name}
    for row in rows:
        limits += _pair(row[2], row[3], "account %s" % row[0])
    for row in (line.split("|") for line in qos.splitlines()):
        if len(row) >= 3 and row[0] in allowed:
            limits += _pair(row[1], row[2], "qos %s" % row[0])
    return limits


def _pair(submit: str, run: str, scope: str) -> List[Dict[str, Any]]:
    pairs = (("MaxSubmit", "submitted", submit), ("MaxJobs", "running", run))
    return [
        {"name": name, "scope": scope, "kind": kind, "limit": int(text)}
        for name, kind, text in pairs
        if text.strip().isdigit()
    ]


def parse_config(text: str) -> Dict[str, str]:
    """``name = value`` or ``name   value`` lines."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        words = line.split(None, 1)
        if equals:
            found[name.strip()] = value.strip()
        elif len(words) == 2:
            found[words[0]] = words[1].strip()
    return found


def parse_queues(text: str) -> Dict[str, Dict[str, Any]]:
    """``qstat -g c``: name, load, used, reserved, available, total, and two columns of slots that cannot be used."""
    found = {}
    for line in text.splitlines()[2:]:
        words = line.split()
        if len(words) < 8:
            continue
        used, _, available, total, disabled, errors = [int(word) if word.isdigit() else 0 for word in words[-6:]]
        facts = Partition(words[0])
        usable = total - disabled - errors
        facts.update(
            state="up" if usable > 0 else "down", cpus_total=total, cpus_idle=max(0, available), cpus_used=used
        )
        found[words[0]] = facts
    return found


def parse_queue_settings(text: str, queues: Dict[str, Dict[str, Any]]) -> None:
    """``qconf -sq``: walltime limit and the most slots of one host; blocks begin with ``qname``."""
    facts: Optional[Dict[str, Any]] = None
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split(None, 1)
        if len(words) != 2:
            continue
        if words[0] == "qname":
            facts = queues.get(words[1].strip())
        elif facts is not None and words[0] == "h_rt":
            facts["max_walltime_sec"] = seconds(words[1].split(",")[0])
        elif facts is not None and words[0] == "slots":
            facts["cpus_node"] = max(int(number) for number in re.findall(r"(?<![\w.])\d+", words[1]) or ["1"])


def parse_host_memory(text: str) -> Optional[int]:
    """``qhost``: the memory of the largest host, MiB."""
    sizes = []
    for line in text.splitlines():
        for word in line.split()[7:8] or line.split()[4:5]:
            match = re.match(r"^([\d.]+)([KMGT])$", word)
            if match:
                sizes.append(int(float(match.group(1)) * _UNITS[match.group(2)]))
    return max(sizes) if sizes else None


def _leading(text: str) -> int:
    """``65536+`` as a number."""
    match = re.match(r"\d+", text)
    return int(match.group(0)) if match else 0
