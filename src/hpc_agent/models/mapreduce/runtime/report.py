"""Status of a run in one answer: task records first, then the queue, then accounting.

A task is complete only by its record. What the queue does not know is not finished: accounting is asked why, and what
neither knows is unknown. A query that failed is not an answer: the last good one is shown, marked stale.
"""

import os
import time
from typing import Any, Dict, List, Tuple

from . import common, layout, records, submit
from .ranges import count, slice_ranges, spans
from .schedulers import load

PENDING, RUNNING, LOST = 3, 4, 5
RANGES_LIMIT = 2000
ABANDONED_SEC = 300.0
# Causes that the scheduler knows better than the process that it killed.
REFINED = ("signal", "terminated")
# Accounting is seconds late: for so long after its end a killed task waits for its explanation before the run counts as ended.
EXPLANATION_SEC = 30.0
# A record may be so late behind the scheduler's word that the task ended well.
RECORD_LATE_SEC = 90.0


def report(request: Dict[str, Any]) -> Dict[str, Any]:
    """Counts, ranges, waves, failures by cause, and why what is pending is pending."""
    folder = layout.existing_run(request["root"], request["run_id"])
    run = common.read_json(folder.document)
    total = int(run["task_count"])
    cache = _load_cache(folder)
    scan = records.scan(folder, total, cache)
    arrays = submit.describe_arrays(folder)
    state = bytearray(scan.state)
    notes = _ask_scheduler(request, folder, run, arrays, scan, state, cache)
    answer = _answer(run, arrays, scan, state, notes, cache)
    _save_cache(folder, cache)
    return answer


def _load_cache(folder: layout.RunFolder) -> Dict[str, Any]:
    try:
        cache = common.read_json(folder.status_cache, {})
    except ValueError:
        cache = {}
    return cache if cache.get("version") == records.CACHE_VERSION else {"version": records.CACHE_VERSION}


def _save_cache(folder: layout.RunFolder, cache: Dict[str, Any]) -> None:
    """The cache saves time and proves nothing: a full or read-only disk must not spoil the answer."""
    try:
        common.write_json(folder.status_cache, cache, sync=False)
    except OSError:
        pass


def _ask_scheduler(
    request: Dict[str, Any],
    folder: layout.RunFolder,
    run: Dict[str, Any],
    arrays: List[Dict[str, Any]],
    scan: records.Scan,
    state: bytearray,
    cache: Dict[str, Any],
) -> Dict[str, Any]:
    """Fill in ``state`` for tasks without a record. Returns the reasons of what waits, and what could not be asked."""
    notes: Dict[str, Any] = {"reasons": {}, "stale": None, "unexplained": False}
    open_arrays = [a for a in arrays if a.get("job_id") and _unfinished(a, scan)]
    scheduler = load(run["scheduler"], request.get("site") or {})
    try:
        if open_arrays:
            rows = scheduler.queue([a["job_id"] for a in open_arrays])
            _apply_queue(rows, open_arrays, folder, state, notes)
            _read_late_records(folder, open_arrays, scan, state)
        cache["last_good"] = {"state": _compact(state), "at": time.time()}
    except common.NodeError as error:
        earlier = cache.get("last_good")
        if earlier:
            _restore(earlier["state"], scan, state)
        notes["stale"] = _stale("queue", error, earlier["at"] if earlier else None)
        return notes
    lost = [a for a in open_arrays if _has_lost(a, state)]
    to_refine = [
        t for t, facts in scan.failed.items() if facts.get("cause") in REFINED and not _refined(cache, t, facts)
    ]
    try:
        if lost or to_refine:
            _apply_accounting(scheduler, lost, arrays, to_refine, scan, state, cache)
    except common.NodeError as error:
        # Accounting that is switched off will never answer; a database that is down is asked again.
        if error.code != "remote_command_failed":
            notes["stale"] = _stale("accounting", error, None)
    _apply_refined(scan, cache)
    recently = time.time() - EXPLANATION_SEC
    notes["unexplained"] = any(
        not _refined(cache, task, scan.failed[task]) and float(scan.failed[task].get("ended_at") or 0) > recently
        for task in to_refine
    )
    return notes


def _stale(source: str, error: common.NodeError, since: Any) -> Dict[str, Any]:
    return {"source": source, "since": since, "error": error.message, "code": error.code}


def _read_late_records(
    folder: layout.RunFolder, arrays: List[Dict[str, Any]], scan: records.Scan, state: bytearray
) -> None:
    """A task may have ended between the scan and the queue's answer: look once more before it counts as lost."""
    for array in arrays:
        for start, stop in spans(array["tasks"]):
            task = state.find(records.NONE, start, stop)
            while task >= 0:
                record = records.read(folder, task)
                if record is not None and record.get("state") == "complete":
                    state[task] = scan.state[task] = records.COMPLETE
                elif record is not None:
                    state[task] = scan.state[task] = records.FAILED
                    scan.failed[task] = records.failed_facts(record)
                task = state.find(records.NONE, task + 1, stop)


def _unfinished(array: Dict[str, Any], scan: records.Scan) -> bool:
    for start, stop in spans(array["tasks"]):
        for task in range(start, stop):
            if scan.state[task] == records.NONE:
                return True
            if scan.state[task] == records.FAILED and int(scan.failed[task]["generation"] or 0) < int(
                array["generation"]
            ):
                return True
    return False


def _apply_queue(
    rows: List[Dict[str, Any]],
    arrays: List[Dict[str, Any]],
    folder: layout.RunFolder,
    state: bytearray,
    notes: Dict[str, Any],
) -> None:
    by_job = {str(a["job_id"]): a for a in arrays}
    for row in rows:
        array = by_job.get(str(row["job"]))
        if array is None:
            continue
        active = row["state"] in ("running", "completing", "suspended")
        label = row["state"] if not row.get("reason") else "%s: %s" % (row["state"], row["reason"])
        touched = 0
        for element in common.decode_ranges(row["elements"]):
            for task in slice_ranges(array["tasks"], element * array["pack"], array["pack"]):
                if state[task] != records.COMPLETE and not (
                    state[task] == records.FAILED and not _later(array, folder, task)
                ):
                    started = active and (array["pack"] == 1 or os.path.exists(folder.claim(task, array["generation"])))
                    state[task] = RUNNING if started else PENDING
                    touched += 1
        if not active and touched:
            notes["reasons"][label] = notes["reasons"].get(label, 0) + touched


def _later(array: Dict[str, Any], folder: layout.RunFolder, task: int) -> bool:
    record = records.read(folder, task)
    return record is None or int(record.get("generation") or 0) < int(array["generation"])


def _has_lost(array: Dict[str, Any], state: bytearray) -> bool:
    return any(state[task] == records.NONE for start, stop in spans(array["tasks"]) for task in range(start, stop))


def _apply_accounting(
    scheduler: Any,
    lost: List[Dict[str, Any]],
    arrays: List[Dict[str, Any]],
    to_refine: List[int],
    scan: records.Scan,
    state: bytearray,
    cache: Dict[str, Any],
) -> None:
    wanted = {str(a["job_id"]): a for a in lost}
    jobs_to_refine = {str(scan.failed[t].get("job")) for t in to_refine}
    wanted.update({str(a["job_id"]): a for a in arrays if str(a.get("job_id")) in jobs_to_refine})
    since = min(float(a.get("at") or 0) for a in wanted.values()) if wanted else 0.0
    found: Dict[Tuple[str, int], Dict[str, Any]] = {}
    for row in scheduler.accounting(sorted(wanted), since):
        found[(str(row["job"]), int(row["element"]))] = row
    for job, array in wanted.items():
        for element in range(int(array["elements"])):
            row = found.get((job, element))
            if row is None:
                continue
            for task in slice_ranges(array["tasks"], element * array["pack"], array["pack"]):
                if state[task] == records.NONE and (row["state"] == "failed" or _record_overdue(cache, task)):
                    state[task] = LOST
                    scan.failed[task] = _lost_facts(array, row)
    refined = cache.setdefault("refined", {})
    for task in to_refine:
        facts = scan.failed[task]
        row = found.get((str(facts.get("job")), int(facts.get("element") or 0)))
        if row is not None:
            better = row.get("cause") not in (None, "exit", "signal")
            refined[str(task)] = {
                "generation": facts.get("generation"),
                "cause": row["cause"] if better else facts.get("cause"),
                "raw": row["raw"] if better else None,
            }


def _record_overdue(cache: Dict[str, Any], task: int) -> bool:
    """Whether a task that ended well for the scheduler has had its time to bring the record (file servers lag)."""
    first_seen = cache.setdefault("without_record", {}).setdefault(str(task), time.time())
    return bool(time.time() - float(first_seen) > RECORD_LATE_SEC)


def _lost_facts(array: Dict[str, Any], row: Dict[str, Any]) -> Dict[str, Any]:
    words = "the scheduler says %s; the task left no record" % row["raw"]
    return {
        "generation": array["generation"],
        "cause": row.get("cause") or ("no_record" if row["state"] == "complete" else "unknown"),
        "message": words,
        "evidence": "accounting",
        "exit_code": row.get("exit_code"),
        "signal": row.get("signal"),
        "host": row.get("host"),
        "job": row["job"],
        "element": row["element"],
    }


def _refined(cache: Dict[str, Any], task: int, facts: Dict[str, Any]) -> bool:
    known = cache.get("refined", {}).get(str(task))
    return bool(known and known["generation"] == facts.get("generation"))


def _apply_refined(scan: records.Scan, cache: Dict[str, Any]) -> None:
    for task, facts in scan.failed.items():
        if _refined(cache, task, facts):
            known = cache["refined"][str(task)]
            facts = scan.failed[task] = dict(facts, cause=known["cause"])
            if known["raw"]:
                facts["message"] = "%s; the scheduler says %s" % (facts["message"], known["raw"])


def _compact(state: bytearray) -> Dict[str, str]:
    return {name: _ranges(state, value) for name, value in (("running", RUNNING), ("pending", PENDING))}


def _restore(earlier: Dict[str, str], scan: records.Scan, state: bytearray) -> None:
    for name, value in (("running", RUNNING), ("pending", PENDING)):
        for start, stop in spans(earlier.get(name, "")):
            for task in range(start, min(stop, len(state))):
                if scan.state[task] == records.NONE:
                    state[task] = value


def _ranges(state: bytearray, *values: int) -> str:
    """Ids in one of the states, as ranges; works on runs of equal bytes, so a million tasks take milliseconds."""
    table = bytes(1 if byte in values else 0 for byte in range(256))
    flags = bytes(state).translate(table)
    parts: List[str] = []
    start = flags.find(1)
    while start >= 0:
        stop = flags.find(0, start)
        stop = len(flags) if stop < 0 else stop
        parts.append("%d" % start if stop == start + 1 else "%d-%d" % (start, stop - 1))
        start = flags.find(1, stop)
    return ",".join(parts)


def _answer(
    run: Dict[str, Any],
    arrays: List[Dict[str, Any]],
    scan: records.Scan,
    state: bytearray,
    notes: Dict[str, Any],
    cache: Dict[str, Any],
) -> Dict[str, Any]:
    total = int(run["task_count"])
    counts = _counts(state, 0, total)
    failed = _ranges(state, records.FAILED, LOST)
    causes: Dict[str, int] = {}
    for task, facts in scan.failed.items():
        if state[task] in (records.FAILED, LOST):
            cause = facts.get("cause") or "unknown"
            causes[cause] = causes.get(cause, 0) + 1
    mean = scan.seconds[0] / scan.seconds[1] if scan.seconds[1] else None
    return {
        "run_id": run["run_id"],
        "total": total,
        "counts": counts,
        "lifecycle_state": _lifecycle(counts, arrays, notes, cache),
        "failed_tasks": _bounded(failed),
        "unknown_tasks": _bounded(_ranges(state, records.NONE)),
        "running_tasks": _bounded(_ranges(state, RUNNING)),
        "failures_by_cause": causes,
        "samples": _samples(scan, state),
        "reasons": notes["reasons"],
        "stale": notes["stale"],
        "waves": _waves(arrays, state),
        "mean_task_seconds": mean,
        "checked_at": time.time(),
        "arrays": {a["array"]: {"job_id": a.get("job_id"), "state": a.get("state")} for a in arrays[:200]},
        "job_ids": [a["job_id"] for a in arrays if a.get("job_id")][:1000],
    }


def _counts(state: bytearray, start: int, stop: int) -> Dict[str, int]:
    part = bytes(state[start:stop])
    return {
        "complete": part.count(records.COMPLETE),
        "failed": part.count(records.FAILED) + part.count(LOST),
        "running": part.count(RUNNING),
        "pending": part.count(PENDING),
        "unknown": part.count(records.NONE),
    }


def _waves(arrays: List[Dict[str, Any]], state: bytearray) -> Dict[str, Dict[str, int]]:
    waves: Dict[str, Dict[str, int]] = {}
    for array in arrays:
        if int(array["generation"]) != 1:
            continue
        wave = waves.setdefault(str(array["wave"]), {})
        for start, stop in spans(array["tasks"]):
            for name, number in _counts(state, start, stop).items():
                wave[name] = wave.get(name, 0) + number
    return {name: waves[name] for name in sorted(waves, key=int)[:100]}


def _bounded(text: str) -> Dict[str, Any]:
    """Ranges, cut after about 2,000 characters so that an answer stays small; ``count`` is always whole."""
    whole = count(text)
    if len(text) <= RANGES_LIMIT:
        return {"count": whole, "ranges": text, "truncated": False}
    return {"count": whole, "ranges": text[:RANGES_LIMIT].rpartition(",")[0], "truncated": True}


def _samples(scan: records.Scan, state: bytearray) -> List[Dict[str, Any]]:
    """One failed task for each cause, the lowest id."""
    seen: Dict[str, Dict[str, Any]] = {}
    for task in sorted(scan.failed):
        facts = scan.failed[task]
        if state[task] in (records.FAILED, LOST) and facts.get("cause") not in seen:
            seen[str(facts.get("cause"))] = dict(facts, task=task)
    return list(seen.values())[:12]


def _lifecycle(
    counts: Dict[str, int], arrays: List[Dict[str, Any]], notes: Dict[str, Any], cache: Dict[str, Any]
) -> str:
    if not counts["failed"] and not counts["unknown"] and not counts["running"] and not counts["pending"]:
        return "complete"
    if notes["stale"] or notes["unexplained"] or counts["running"] or counts["pending"]:
        cache.pop("unknown_since", None)
        return "in_flight"
    if not counts["unknown"]:
        return "failed"
    if not arrays or any(a.get("state") != "submitted" for a in arrays):
        return "in_flight"
    # Neither record, queue nor accounting: they may be late; after five minutes of it nobody will bring news any more.
    since = cache.setdefault("unknown_since", time.time())
    return "abandoned" if time.time() - float(since) > ABANDONED_SEC else "in_flight"
