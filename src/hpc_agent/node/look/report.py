"""Status of a run in one answer: counts, ranges, waves, failures by cause, and why what waits is waiting."""

import time
from typing import Any, Dict, List

from ..shared import run_folder, task_states, waiting_reasons
from ..shared.ledger import Array
from ..shared.ranges import count, spans
from ..shared.task_states import LOST, PENDING, RUNNING
from . import samples
from .survey import Survey, ranges_of

RANGES_LIMIT = 2000
ABANDONED_SEC = 300.0


def report(request: Dict[str, Any]) -> Dict[str, Any]:
    """One run: ``root`` and ``run_id``; with ``measure``, what its tasks used, once the run has ended."""
    folder = run_folder.existing_run(request["root"], request["run_id"])
    survey = Survey(folder, request.get("site") or {})
    answer = describe(survey)
    survey.save()
    if request.get("measure") and answer["lifecycle_state"] != "in_flight":
        answer["measured"] = samples.collect(folder, survey.total)
    return answer


def describe(survey: Survey) -> Dict[str, Any]:
    """What a status says of a look."""
    scan, state, arrays = survey.scan, survey.state, survey.arrays
    counts = _counts(state, 0, survey.total)
    causes: Dict[str, int] = {}
    for task in survey.failed():
        cause = scan.failed[task].get("cause") or "unknown"
        causes[cause] = causes.get(cause, 0) + 1
    waiting = waiting_reasons.explain(survey.waiting)
    return {
        "run_id": survey.run["run_id"],
        "total": survey.total,
        "counts": counts,
        "lifecycle_state": _lifecycle(counts, survey),
        "failed_tasks": _bounded(ranges_of(state, task_states.FAILED, LOST)),
        "unknown_tasks": _bounded(ranges_of(state, task_states.UNKNOWN)),
        "running_tasks": _bounded(ranges_of(state, RUNNING)),
        "failures_by_cause": causes,
        "samples": _samples(survey),
        "waiting": waiting,
        "reasons": _labels(survey),
        "stuck": sum(int(row["count"]) for row in waiting if not row["passes"]),
        "stale": survey.stale,
        "waves": _waves(arrays, state),
        "mean_task_seconds": scan.seconds[0] / scan.seconds[1] if scan.seconds[1] else None,
        "checked_at": time.time(),
        "arrays": {a.array: {"job_id": a.job_id, "state": a.state} for a in arrays[:200]},
        "job_ids": [a.job_id for a in arrays if a.job_id][:1000],
        "to_submit": sum(1 for a in arrays if not a.job_id and not a.held),
        "held_for_canary": sum(1 for a in arrays if a.held),
        "resubmitted": sum(count(a.tasks) for a in arrays if a.resubmit),
    }


def _labels(survey: Survey) -> Dict[str, int]:
    """Reasons in the scheduler's own words."""
    labels: Dict[str, int] = {}
    for (state, reason), number in survey.waiting.items():
        label = "%s: %s" % (state, reason) if reason else state
        labels[label] = labels.get(label, 0) + number
    return labels


def _counts(state: bytearray, start: int, stop: int) -> Dict[str, int]:
    part = bytes(state[start:stop])
    return {
        "complete": part.count(task_states.COMPLETE),
        "failed": part.count(task_states.FAILED) + part.count(LOST),
        "running": part.count(RUNNING),
        "pending": part.count(PENDING),
        "unknown": part.count(task_states.UNKNOWN),
    }


def _waves(arrays: List[Array], state: bytearray) -> Dict[str, Dict[str, int]]:
    waves: Dict[str, Dict[str, int]] = {}
    for array in arrays:
        if array.generation != 1:
            continue
        wave = waves.setdefault(str(array.wave), {})
        for start, stop in spans(array.tasks):
            for name, number in _counts(state, start, stop).items():
                wave[name] = wave.get(name, 0) + number
    return {name: waves[name] for name in sorted(waves, key=int)[:100]}


def _bounded(text: str) -> Dict[str, Any]:
    """Ranges, cut after about 2,000 characters so that an answer stays small; ``count`` is always whole."""
    whole = count(text)
    if len(text) <= RANGES_LIMIT:
        return {"count": whole, "ranges": text, "truncated": False}
    return {"count": whole, "ranges": text[:RANGES_LIMIT].rpartition(",")[0], "truncated": True}


def _samples(survey: Survey) -> List[Dict[str, Any]]:
    """One failed task for each cause, the lowest id."""
    seen: Dict[str, Dict[str, Any]] = {}
    for task in survey.failed():
        facts = survey.scan.failed[task]
        if facts.get("cause") not in seen:
            seen[str(facts.get("cause"))] = dict(facts, task=task)
    return list(seen.values())[:12]


def _lifecycle(counts: Dict[str, int], survey: Survey) -> str:
    if not counts["failed"] and not counts["unknown"] and not counts["running"] and not counts["pending"]:
        return "complete"
    if survey.stale or survey.unexplained or counts["running"] or counts["pending"]:
        survey.cache.pop("unknown_since", None)
        return "in_flight"
    if not counts["unknown"]:
        return "failed"
    # Neither record, queue nor accounting: they may be late; after five minutes of it nobody will bring news any more.
    since = survey.cache.setdefault("unknown_since", time.time())
    return "abandoned" if time.time() - float(since) > ABANDONED_SEC else "in_flight"
