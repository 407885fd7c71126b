"""The simulated cluster: nodes of cores, other users' jobs, our arrays; first come, first served, with EASY back-fill.

EASY: D. G. Feitelson, A. M. Weil, "Utilization and predictability in scheduling the IBM SP2 with backfilling", IPPS 1998.
The first job that does not fit has a reservation for the time at which, by the limits that running jobs asked for, it will;
a later job may start before it if it ends by then, or takes only cores that the first one leaves.
"""

import heapq
import itertools
import math
import re
from array import array as typed_array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .swf import SwfJob
from .tasks import draw

CAUSES = (None, "exit", "timeout", "node_failure")
RUNNING = len(CAUSES)  # beside the indices of CAUSES; then pending
PENDING = RUNNING + 1
ELEMENT_START_SEC = 2.0


@dataclass(frozen=True)
class Limits:
    """What the scheduler allows our user; None is no limit."""

    array_size: int = 1001
    submitted: int | None = None  # elements that wait or run
    running: int | None = None  # elements
    jobs: int | None = None  # arrays in the queue


@dataclass(frozen=True)
class Machine:
    """The nodes, and how the scheduler behaves."""

    nodes: int = 16
    cores: int = 64
    node_mtbf_sec: float = math.inf  # mean time between failures of one node
    repair_sec: float = 1800.0
    requeue: bool = True  # the elements of a lost node wait again; else they end as node failures
    interval_sec: float = 10.0  # between two passes of the scheduler
    accounting_late_sec: float = 20.0  # the longest time that accounting takes to know an end
    depth: int = 200  # waiting jobs that one pass looks at
    seed: int = 1


@dataclass
class Work:
    """A job of another user, or one of our arrays (then ``run`` walks an element). An array's elements share everything."""

    number: int
    cores: int
    limit_sec: float
    count: int = 1
    name: str = ""
    is_ours: bool = False
    throttle: int | None = None
    after: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of another user's job
    element: "Callable[[int, int, float], float] | None" = None  # (element, attempt, start) -> seconds
    ended: "Callable[[int, float], str | None] | None" = None  # (element, end) -> cause of its failure
    killed: "Callable[[int, float], None] | None" = None
    submitted_at: float = 0.0
    fresh: int = 0  # elements below were started at least once
    again: list[int] = field(default_factory=list)  # heap of requeued elements
    running: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = field(
        default_factory=dict
    )  # start, (node, cores)...
    attempts: Counter[int] = field(default_factory=Counter)  # those beyond the first
    left: int = 0  # elements that have not ended
    state: bytearray = field(default_factory=bytearray)
    known_at: "typed_array[float]" = field(default_factory=lambda: typed_array("d"))
    lasted: "typed_array[float]" = field(default_factory=lambda: typed_array("f"))

    @property
    def pending(self) -> int:
        return self.count - self.fresh + len(self.again)

    def take(self) -> int:
        if self.again:
            return heapq.heappop(self.again)
        self.fresh += 1
        return self.fresh - 1


class Pool:
    """The free cores of the nodes. A chunk that fits on one node is put where it leaves least."""

    def __init__(self, nodes: int, cores: int) -> None:
        self.cores = cores
        self.total = self.free = nodes * cores
        self._of = [cores] * nodes
        self._with: list[dict[int, None]] = [{} for _ in range(cores)] + [dict.fromkeys(range(nodes))]
        self.down: set[int] = set()

    def take(self, cores: int) -> tuple[tuple[int, int], ...] | None:
        """Return (node, cores) pairs; None where there are too few free ones. A job above a node's size takes several nodes."""
        if cores > self.free:
            return None
        if cores <= self.cores:
            for nodes in self._with[cores:]:
                if nodes:
                    return (self._move(next(iter(nodes)), -cores),)
            return None
        parts = []
        for free in range(self.cores, 0, -1):
            while cores and self._with[free]:
                parts.append(self._move(next(iter(self._with[free])), -min(free, cores)))
                cores -= parts[-1][1]
        return tuple(parts)

    def give(self, parts: Iterable[tuple[int, int]]) -> None:
        for node, cores in parts:
            if node in self.down:
                self._of[node] += cores
            else:
                self._move(node, cores)

    def _move(self, node: int, cores: int) -> tuple[int, int]:
        free = self._of[node]
        del self._with[free][node]
        self._of[node] = free + cores
        assert 0 <= self._of[node] <= self.cores, "a core is given twice"
        self._with[free + cores][node] = None
        self.free += cores
        return node, abs(cores)

    def lose(self, node: int) -> None:
        self.down.add(node)
        del self._with[self._of[node]][node]
        self.free -= self._of[node]
        self.total -= self.cores

    def repair(self, node: int) -> None:
        self.down.discard(node)
        self._with[self._of[node]][node] = None
        self.free += self._of[node]
        self.total += self.cores


class Cluster:
    """The scheduler, its queue, and what it has counted."""

    def __init__(self, clock: Clock, machine: Machine, limits: Limits, others: Iterable[SwfJob] = ()) -> None:
        self.clock, self.machine, self.limits = clock, machine, limits
        self.pool = Pool(machine.nodes, machine.cores)
        self.works: dict[str, Work] = {}  # our arrays by job id
        self.by_name: dict[str, list[str]] = {}
        self.submitted = self.running = self.jobs = 0  # ours: elements, elements, arrays
        self.ready = 0  # our arrays that wait for no other one
        self._followers: dict[str, list[Work]] = {}  # job id -> the arrays that wait for it
        self.most: Counter[str] = Counter()  # the highest value of each count that a limit bounds
        self.failures = self.requeued = self.others_started = 0
        self.other_cores = 0
        self._profile: list[tuple[float, int]] = [
            (clock.now, self.pool.total)
        ]  # since when so many cores were ours to use
        self._numbers = itertools.count(1)
        self._waiting: list[Work] = []
        self._releases: Counter[float] = Counter()  # end by its limit -> cores
        self._holders: dict[int, dict[tuple[int, int], Work]] = {}
        self._pass_at = -math.inf
        self._others = (job for job in others if job.is_usable)
        self._next_other()
        if math.isfinite(machine.node_mtbf_sec):
            for node in range(machine.nodes):
                clock.at(self._failure_time(node, 0), self._fail, node, 0)

    # other users

    def _next_other(self) -> None:
        job = next(self._others, None)
        if job is not None:
            self.clock.at(self.clock.start + job.submit, self._other_arrives, job)

    def _other_arrives(self, job: SwfJob) -> None:
        cores = min(job.size, self.machine.nodes * self.machine.cores)
        self._enqueue(Work(next(self._numbers), cores, job.limit, seconds=job.run, left=1))
        self._next_other()

    # our arrays

    def submit(self, work: Work) -> str:
        """Put an array into the queue. Return its job id."""
        job = str(work.number)
        work.is_ours, work.left, work.state = True, work.count, bytearray([PENDING]) * work.count
        work.known_at, work.lasted = typed_array("d", [0.0]) * work.count, typed_array("f", [0.0]) * work.count
        self.works[job] = work
        self.by_name.setdefault(work.name, []).append(job)
        self.submitted += work.count
        self.jobs += 1
        for before in work.after:
            self._followers.setdefault(before, []).append(work)
        self.ready += not self._waits_for(work)
        self._note()
        self._enqueue(work)
        return job

    def new_number(self) -> int:
        return next(self._numbers)

    def _waits_for(self, work: Work) -> int:
        return sum(1 for job in work.after if job in self.works and self.works[job].left)

    def _note(self) -> None:
        for name in ("submitted", "running", "jobs", "ready"):
            self.most[name] = max(self.most[name], getattr(self, name))

    def _enqueue(self, work: Work) -> None:
        work.submitted_at = self.clock.now
        self._waiting.append(work)
        self._wake()

    # the scheduler's pass

    def _wake(self) -> None:
        """Have a pass of the scheduler at the next beat."""
        beat = self.machine.interval_sec
        when = (math.floor((self.clock.now - self.clock.start) / beat) + 1) * beat + self.clock.start
        if self._pass_at < when:
            self._pass_at = when
            self.clock.at(when, self._pass)

    def _pass(self) -> None:
        shadow, extra, seen = math.inf, 0, 0
        for work in list(self._waiting):
            if not self.pool.free or seen >= self.machine.depth:
                break
            if self._waits_for(work):
                continue
            seen += 1
            while work.pending and self._may_run(work):
                fills = shadow < math.inf and self.clock.now + work.limit_sec > shadow
                if fills and extra < work.cores:
                    break
                parts = self.pool.take(work.cores)
                if parts is None:
                    if shadow == math.inf:
                        shadow, extra = self._reserve(work.cores)
                    break
                extra -= work.cores if fills else 0
                self._start(work, parts)
        self._waiting = [work for work in self._waiting if work.pending]

    def _may_run(self, work: Work) -> bool:
        if not work.is_ours:
            return True
        limit = self.limits.running
        return (limit is None or self.running < limit) and (not work.throttle or len(work.running) < work.throttle)

    def _reserve(self, cores: int) -> tuple[float, int]:
        """Return when so many cores will be free, by the limits of what runs, and the cores that are then left over."""
        free = self.pool.free
        for when in sorted(self._releases):
            free += self._releases[when]
            if free >= cores:
                return max(when, self.clock.now), free - cores
        return math.inf, 0

    def _start(self, work: Work, parts: tuple[tuple[int, int], ...]) -> None:
        element, now = work.take(), self.clock.now
        attempt = work.attempts[element] + 1 if element in work.attempts else 1
        work.running[element] = (now, parts)
        self._releases[now + work.limit_sec] += work.cores
        for node, _ in parts:
            self._holders.setdefault(node, {})[(work.number, element)] = work
        if work.element is None:
            seconds = work.seconds
            self.others_started += 1
            self._count_others(work.cores)
        else:
            self.running += 1
            work.state[element] = RUNNING
            self._note()
            seconds = work.element(element, attempt, now)
        self.clock.at(now + min(seconds, work.limit_sec), self._end, work, element, attempt, now)

    def _count_others(self, cores: int) -> None:
        self.other_cores += cores
        self._changed()

    def _changed(self) -> None:
        free = self.pool.total - self.other_cores
        if self._profile[-1][0] == self.clock.now:
            self._profile[-1] = (self.clock.now, free)
        else:
            self._profile.append((self.clock.now, free))

    def _stop(self, work: Work, element: int) -> float:
        """Take an element off its nodes. Return when it started."""
        start, parts = work.running.pop(element)
        for node, _ in parts:
            del self._holders[node][(work.number, element)]
        when = start + work.limit_sec
        self._releases[when] -= work.cores
        if not self._releases[when]:
            del self._releases[when]
        self.pool.give(parts)
        if work.is_ours:
            self.running -= 1
        else:
            self._count_others(-work.cores)
        self._wake()
        return start

    def _end(self, work: Work, element: int, attempt: int, started: float) -> None:
        current = work.running.get(element)
        if current is None or current[0] != started or work.attempts[element] + 1 != attempt:
            return  # this attempt was lost with its node
        now = self.clock.now
        self._stop(work, element)
        over = now - started >= work.limit_sec
        cause = work.ended(element, now) if work.ended else None
        self._settle(work, element, "timeout" if over and cause else cause, now - started)

    def _settle(self, work: Work, element: int, cause: str | None, seconds: float) -> None:
        work.left -= 1
        if not work.is_ours:
            return
        late = self.machine.accounting_late_sec * draw(self.machine.seed, work.number, element)
        work.state[element] = CAUSES.index(cause)
        work.known_at[element], work.lasted[element] = self.clock.now + late, seconds
        self.submitted -= 1
        if not work.left:
            self.jobs -= 1
            freed = [after for after in self._followers.pop(str(work.number), []) if not self._waits_for(after)]
            self.ready += len(freed) - 1
            self._note()

    # nodes

    def _failure_time(self, node: int, number: int) -> float:
        share = 1 - draw(self.machine.seed, node, number, 7)
        return self.clock.now - self.machine.node_mtbf_sec * math.log(share)

    def _fail(self, node: int, number: int) -> None:
        self.failures += 1
        lost = list(self._holders.get(node, {}).items())
        for (_, element), work in lost:
            if element not in work.running:
                continue
            start = self._stop(work, element)
            if work.killed:
                work.killed(element, self.clock.now)
            if work.is_ours and not self.machine.requeue:
                self._settle(work, element, "node_failure", self.clock.now - start)
                continue
            self.requeued += 1
            work.attempts[element] += 1
            if work.is_ours:
                work.state[element] = PENDING
            heapq.heappush(work.again, element)
            if work not in self._waiting:  # it keeps its place
                self._waiting.append(work)
                self._waiting.sort(key=lambda one: (one.submitted_at, one.number))
        self.pool.lose(node)
        self._changed()
        self.clock.at(self.clock.now + self.machine.repair_sec, self._repair, node, number)

    def _repair(self, node: int, number: int) -> None:
        self.pool.repair(node)
        self._changed()
        self._wake()
        self.clock.at(self._failure_time(node, number + 1), self._fail, node, number + 1)

    # what a clairvoyant could reach

    def earliest_end(self, core_seconds: float, since: float) -> float:
        """Return when so much work could have ended had it used every core that nodes had and other users did not."""
        points = [*self._profile, (math.inf, 0)]
        for (begin, cores), (end, _) in itertools.pairwise(points):
            begin = max(begin, since)
            if end <= begin:
                continue
            if cores * (end - begin) >= core_seconds if cores > 0 else False:
                return begin + core_seconds / cores
            core_seconds -= max(0, cores) * (end - begin)
        raise AssertionError("the last stretch of the profile has no end")

    def ranges(self, work: Work, value: int) -> Iterator[tuple[int, int]]:
        """Yield (first, one past the last) of the elements in a state."""
        return (found.span() for found in re.finditer(b"[\\x%02x]+" % value, work.state))


def utilisation(cluster: Cluster) -> dict[str, Any]:
    """Return what the simulation counted."""
    return {
        "others": cluster.others_started, "node_failures": cluster.failures, "requeued": cluster.requeued,
        "most_submitted": cluster.most["submitted"], "most_running": cluster.most["running"], "most_jobs": cluster.most["jobs"],
    }  # fmt: skip
