"""Cores, memory and GPUs of the machine, and the jobs that may start elements now."""

from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

# A job that waits so long for cores or memory stops later jobs from overtaking it.
PATIENCE_SEC = 300.0


class Amount(NamedTuple):
    """Cores, MB of memory and GPUs."""

    cores: int
    memory_mb: float
    gpus: int

    def fits(self, free: "Amount") -> bool:
        return self.cores <= free.cores and self.memory_mb <= free.memory_mb and self.gpus <= free.gpus

    def minus(self, each: "Amount", times: int = 1) -> "Amount":
        """Return the rest after ``each`` has been taken ``times`` times."""
        return Amount(
            self.cores - times * each.cores, self.memory_mb - times * each.memory_mb, self.gpus - times * each.gpus
        )


def needs(resources: Dict[str, Any], limits: Amount) -> Amount:
    """Return the needs of one element; memory that was not asked for is not counted."""
    cores = limits.cores if resources.get("exclusive") else int(resources.get("cpus") or 1)
    return Amount(cores, float(resources.get("mem_mb") or 0), int(resources.get("gpus") or 0))


class Demand(NamedTuple):
    """A job that could start elements now: their number, the needs of each, and the time that the job has waited for room."""

    job: int
    elements: int
    each: Amount
    waited_sec: float


def plan(demands: Iterable[Demand], limits: Amount, free: Amount) -> List[Tuple[int, int]]:
    """Return (job, elements to start): first come first served, later jobs fill the room that an earlier one cannot use.

    Back-fill ends behind a job that has waited for PATIENCE_SEC, so a wide job is not overtaken for ever. A job
    that was accepted before the limits were lowered below its needs runs when the machine is otherwise empty.
    """
    grants: List[Tuple[int, int]] = []
    for demand in demands:
        granted = 0
        while granted < demand.elements and demand.each.fits(free):
            free = free.minus(demand.each)
            granted += 1
        if not granted and free == limits and demand.each.gpus <= limits.gpus:
            free = free.minus(demand.each)
            granted = 1
        if granted:
            grants.append((demand.job, granted))
        elif demand.waited_sec > PATIENCE_SEC and demand.each.gpus <= limits.gpus:
            break
    return grants
