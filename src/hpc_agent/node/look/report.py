"""Report the state of a run: counts, ranges, waves, and the reasons of waiting tasks."""

import time
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

from ..shared import task_states, waiting_reasons
from ..shared.ledger import Array
from ..shared.ranges import count, encode_ranges, ranges_of, spans
from ..shared.task_states import LOST, PENDING, RUNNING
from .run_status import RunStatus

RANGES_LIMIT = 2000
RUNNING_LIMIT = 200
ABANDONED_SEC = 300.0


def status_answer(status: RunStatus) -> Dict[str, Any]:
    """Return the answer to the client, without the causes of failures."""
    state, arrays = status.state, status.arrays
    counts = _counts(state, 0, status.total)
    waiting = waiting_reasons.explain(status.waiting)
    reasons: Dict[str, int] = Counter()  # in the scheduler's own words
    for (word, reason), number in status.waiting.items():
        reasons["%s: %s" % (word, reason) if reason else word] += number
    return {
        "run_id": status.run.run_id,
        "total": status.total,
        "counts": counts,
        "lifecycle_state": _lifecycle(counts, status),
        "failed_tasks": _bounded_ranges(state, task_states.FAILED, LOST),
        "unknown_tasks": _bounded_ranges(state, task_states.UNKNOWN),
        "running_tasks": _bounded_ranges(state, RUNNING),
        "oom_killed_tasks": _bounded(encode_ranges(status.records.oom_killed)),
        "stopped_early": status.records.stopped_early if status.run.early_stop else 0,
        "waiting": waiting,
        "reasons": reasons,
        "stuck": sum(int(row["count"]) for row in waiting if not row["passes"]),
        "stale": status.stale,
        "waves": _waves(arrays, state),
        "mean_task_seconds": status.records.mean_seconds,
        "timing": timing(status, counts),
        "checked_at": time.time(),
        "arrays": {a.array: {"job_id": a.job_id, "state": a.state} for a in arrays[:200]},
        "job_ids": [a.job_id for a in arrays if a.job_id][:1000],
        "to_submit": sum(1 for a in arrays if not a.job_id and not a.held),
        "held_for_canary": sum(1 for a in arrays if a.held),
        "resubmitted": sum(count(a.tasks) for a in arrays if a.resubmit),
    }


def _counts(state: bytearray, start: int, stop: int) -> Dict[str, int]:
    part, counts = state[start:stop], dict.fromkeys(task_states.NAMES, 0)
    for value, name in enumerate(task_states.NAMES):
        counts[name] += part.count(value)
    return counts


def _walltime(array: Array) -> float:
    return float(array.resources.get("walltime_sec") or 0)


def timing(status: RunStatus, counts: Dict[str, int]) -> Dict[str, Optional[float]]:
    """Return seconds, None where not known: ``left`` (estimate), ``longest_ran``, ``walltime_left`` of the first to reach it.

    At most 200 running tasks are looked at, spread over all of them.
    """
    now, mean = time.time(), status.records.mean_seconds
    running: List[Tuple[int, Array]] = []
    limits: List[float] = []
    for array in status.arrays:
        tasks = [(task, array) for task in status.with_state(RUNNING, array)] if array.job_id else []
        running += tasks
        if _walltime(array) and not tasks and any(True for _ in status.with_state(PENDING, array)):
            limits.append(_walltime(array))
    ran = []
    for task, array in running[:: max(1, -(-len(running) // RUNNING_LIMIT))]:
        began = status.began_at(array, task)
        ran.append(max(0.0, now - began) if began is not None else 0.0)  # its element has started, and not begun it yet
        if _walltime(array):
            limits.append(max(0.0, _walltime(array) - ran[-1]))
    left = None
    if mean and ran:
        rest = [max(0.0, mean - seconds) for seconds in ran]
        work = sum(rest) / len(rest) * len(running) + counts["pending"] * mean
        left = max(work / len(running), mean if counts["pending"] else max(rest)) or None  # all are slower: not known
    return {"left": left, "longest_ran": max(ran, default=None), "walltime_left": min(limits, default=None)}


def _waves(arrays: List[Array], state: bytearray) -> Dict[str, Dict[str, int]]:
    waves: Dict[str, Any] = {}
    for array in arrays:
        for start, stop in spans(array.tasks) if array.generation == 1 else ():
            waves.setdefault(str(array.wave), Counter()).update(_counts(state, start, stop))
    return {name: waves[name] for name in sorted(waves, key=int)[:100]}


def _bounded_ranges(state: bytearray, *values: int) -> Dict[str, Any]:
    """Return the tasks in one of the states: ranges, cut after about 2,000 characters; ``count`` is of all of them."""
    return _bounded(ranges_of(state, *values))


def _bounded(text: str) -> Dict[str, Any]:
    cut = len(text) > RANGES_LIMIT
    return {"count": count(text), "ranges": text[:RANGES_LIMIT].rpartition(",")[0] if cut else text, "truncated": cut}


def _lifecycle(counts: Dict[str, int], status: RunStatus) -> str:
    if not counts["failed"] and not counts["unknown"] and not counts["running"] and not counts["pending"]:
        return "complete"
    if status.stale or status.unexplained or counts["running"] or counts["pending"]:
        status.cache.pop("unknown_since", None)
        return "in_flight"
    if not counts["unknown"]:
        return "failed"
    # Records, queue and accounting may be late, but not by five minutes.
    since = status.cache.setdefault("unknown_since", time.time())
    return "abandoned" if time.time() - float(since) > ABANDONED_SEC else "in_flight"
