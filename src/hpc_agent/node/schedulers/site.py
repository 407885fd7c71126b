"""Partitions (or queues) and limits of a cluster, as an adapter reports them."""

from typing import Callable, Dict, List, NamedTuple, Optional

# Runs a command (its words are the arguments) and returns its output; a command that failed gives an empty text.
Query = Callable[..., str]


class Gpus(NamedTuple):
    """The GPUs of one type in a partition; ``idle`` is None where the scheduler does not count them."""

    type: str
    total: int
    idle: Optional[int] = None


class Partition(NamedTuple):
    """A partition or queue. ``cpus_node`` and ``mem_mb`` (MiB) are those of its largest node; None is not known."""

    name: str
    state: str = "unknown"  # "up", or another word of the scheduler
    default: bool = False
    max_walltime_sec: Optional[int] = None
    nodes: int = 0
    cpus_total: int = 0
    cpus_idle: int = 0
    cpus_node: Optional[int] = None
    mem_mb: Optional[int] = None
    gpus: List[Gpus] = []
    priority_tier: Optional[int] = None
    pending_jobs: Optional[int] = None


class Limit(NamedTuple):
    """A limit that holds for the user. ``kind``: "submitted", "running" or "array_size", counted in elements."""

    name: str
    scope: str
    kind: str
    limit: int


def walltime_seconds(text: str) -> Optional[int]:
    """Return the seconds of ``7-00:00:00``, ``1:00:00``, ``10:00`` (minutes and seconds) or ``30`` (minutes).

    None stands for "infinite" and for anything else.
    """
    days, dash, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return None
    numbers = [int(part) for part in parts]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (numbers + [0, 0])[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(numbers) == 1:
        return numbers[0] * 60
    hours, minutes, seconds = ([0] + numbers)[-3:]
    return hours * 3600 + minutes * 60 + seconds


def parse_config(text: str) -> Dict[str, str]:
    """Return the settings in lines ``name = value`` or ``name   value``."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        words = line.split(None, 1)
        if equals:
            found[name.strip()] = value.strip()
        elif len(words) == 2:
            found[words[0]] = words[1].strip()
    return found
