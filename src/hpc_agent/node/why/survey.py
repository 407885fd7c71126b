"""Everything that the page of a run shows, in one answer of bounded size: each record is read once, and binned."""

import hashlib
import json
import math
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Dict, List, Optional, Set, Tuple

from ..fold.combine import add_record
from ..look.run_status import RunStatus
from ..shared import binning
from ..shared.files import read_json, write_json
from ..shared.ledger import Array
from ..shared.metric_names import REPEATING, main_metric
from ..shared.metric_problems import MetricProblems
from ..shared.metric_table import Table
from ..shared.ranges import decode_ranges, encode_ranges, ranges_of
from ..shared.run_folder import RunFolder, existing_run
from ..shared.rungs import STOPPED_AT
from ..shared.task_record import COMPLETE, TaskRecord
from ..shared.task_states import COMPLETE as TASK_COMPLETE
from ..shared.task_states import FAILED, LOST, PENDING, RUNNING, UNKNOWN
from .answers import with_causes
from .diagnosis import LOG_LATE_SEC, diagnose, group_answers

MOST_SPREADS = 24
MOST_WAVES = 100
MOST_GROUPS = 12
MOST_HOSTS = 8
FAR = 8  # from this ratio of asked to used on, both are on a logarithmic axis
SPANS = 60  # of the time line
RANGES_LIMIT = 400
ENVIRONMENT_LIMIT = 48 << 10


def survey(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return state, failures, rows, binned metrics, time line and usage of a run (``root``, ``run_id``).

    ``metric``: the main one; ``replicates``: parameters that only repeat, None for those whose name says so. Once every
    task has ended, the answer is kept for the same question: no record is read again.
    """
    status = RunStatus(existing_run(request["root"], request["run_id"]), request.get("site") or {})
    key = _key(status, request)
    try:
        kept = read_json(status.folder.survey, {})
    except (OSError, ValueError):
        kept = {}
    if kept.get("key") == key:
        answer: Dict[str, Any] = kept["answer"]
    else:
        answer = _read(status, request)
        if _is_final(status):
            with suppress(OSError):  # of a full or read-only disk
                write_json(status.folder.survey, {"key": key, "answer": answer}, sync=False)
    answer.update(state=with_causes(status), environment=_environment(status.folder))
    status.save()
    return answer


def _key(status: RunStatus, request: Dict[str, Any]) -> str:
    """Return a text that differs for another question, another program, or another end of a task."""
    asked = [request.get(name) for name in ("metric", "replicates", "lines")]
    failed = sorted((task, f.generation, f.attempt, f.cause) for task, f in status.records.failed.items())
    text = json.dumps([__file__, asked, failed])  # the folder of a runtime is named after its content
    return hashlib.sha256(text.encode("utf-8") + bytes(status.state)).hexdigest()


def _is_final(status: RunStatus) -> bool:
    """Return True once every task has ended, and the last log has had the time to come."""
    newest = max([facts.ended_at or 0.0 for facts in status.records.failed.values()] or [0.0])
    ended = not set(status.state) - {TASK_COMPLETE, FAILED, LOST}
    return ended and not status.stale and time.time() >= newest + LOG_LATE_SEC


def _read(status: RunStatus, request: Dict[str, Any]) -> Dict[str, Any]:
    seen = _Seen(status, request.get("replicates"))
    for task in range(status.total):
        record = status.reader.read(task)
        if record is not None:
            seen.add(record)
        if status.state[task] == LOST:
            seen.add_lost(task)
    groups = group_answers(diagnose(status, status.failed()), int(request.get("lines") or 12), status.run.executor)
    return dict(
        seen.results(request.get("metric")),
        missing=_missing(status),
        groups=groups[:MOST_GROUPS],
        more_groups=max(0, len(groups) - MOST_GROUPS),
        time_line=_time_line(seen.attempts),
        waves=seen.waves(),
        usage=seen.usage.to_json(),
        hosts=dict(seen.hosts.most_common(MOST_HOSTS)),
        host_count=len(seen.hosts),
    )


class _Seen(object):
    """What the records of a run say."""

    def __init__(self, status: RunStatus, replicates: Optional[List[str]]) -> None:
        self._status, self._wanted = status, replicates
        self._weight = (read_json(status.folder.document).get("results") or {}).get("weight")
        self.table = Table(replicates=REPEATING if replicates is None else replicates)
        self.problems = MetricProblems()
        self.without_metrics: List[int] = []
        self.repeating: Set[str] = set()
        self.attempts: List[Tuple[float, float, bool]] = []  # start, end, complete
        self.usage = Usage()
        self.hosts: "Counter[str]" = Counter()
        self._waves: Dict[int, Dict[str, Any]] = {}
        self._wave_of: Dict[int, Dict[str, Any]] = {}
        for array in sorted((a for a in status.arrays if a.generation == 1), key=lambda a: a.wave):
            begun = {"wave": array.wave, "tasks": 0, "complete": 0, "submitted": array.submitted_at}
            wave = self._waves.setdefault(array.wave, begun)
            for task in decode_ranges(array.tasks):
                if task not in self._wave_of:
                    self._wave_of[task] = wave
                    wave["tasks"] += 1
                    wave["complete"] += status.state[task] == TASK_COMPLETE

    def add(self, record: TaskRecord) -> None:
        complete = record.state == COMPLETE
        self.hosts.update([record.host] if record.host else [])
        arrays = {array.generation: array for array in self._status.arrays_with(record.task)}
        if complete:
            self.repeating.update(REPEATING.intersection(record.kwargs or ()))
            if not add_record(self.table, self.problems, record, self._weight):
                self.without_metrics.append(record.task)
        if record.ended_at:
            began = record.started_at or record.ended_at - (record.seconds or 0.0)
            self.attempts.append((began, record.ended_at, complete))
            if record.task in self._wave_of:
                wave = self._wave_of[record.task]
                wave["first"] = min(began, wave.get("first", began))
                wave["last"] = max(record.ended_at, wave.get("last", record.ended_at))
        for earlier in record.history:
            self.usage.add_lost(earlier.get("seconds"), arrays.get(int(earlier.get("generation") or 1)))
            if earlier.get("ended_at") and earlier.get("seconds"):
                self.attempts.append((earlier["ended_at"] - earlier["seconds"], earlier["ended_at"], False))
        self.usage.add(record, arrays.get(record.generation))

    def add_lost(self, task: int) -> None:
        """Add an attempt without a record: accounting tells its time, of a packed element not the task's."""
        facts = self._status.records.failed[task]
        array = next((a for a in self._status.arrays_with(task) if a.generation == facts.generation), None)
        self.usage.add_lost(facts.seconds if array and array.pack == 1 else None, array)

    def waves(self) -> Dict[str, Any]:
        return {"shown": list(self._waves.values())[:MOST_WAVES], "total": len(self._waves)}

    def results(self, metric: Optional[str]) -> Dict[str, Any]:
        """Return the rows, the binned metrics and the spread over replicates."""
        rows = self.table.rows()
        names = {name for row in rows for name in row["metrics"]}
        if self._status.run.early_stop:  # a row with tasks that ended early is no result of its parameters
            names.discard(STOPPED_AT)
            for row in rows:
                row["unranked"] = row["uncharted"] = bool((row["metrics"].get(STOPPED_AT) or {}).get("count"))
        whole = [row for row in rows if not row.get("unranked")] or rows
        points = []
        not_finite: "Counter[str]" = Counter()
        for row in whole:
            means = {name: row["metrics"][name]["mean"] for name in names.intersection(row["metrics"])}
            points.append((row["kwargs"], {name: mean for name, mean in means.items() if mean is not None}))
        for row in rows:
            not_finite.update({name: f["nan_count"] + f["inf_count"] for name, f in row["metrics"].items()})
        main = metric if metric in names else main_metric(names)
        problems = self.problems.to_json()
        return {
            "main": main,
            "replicates": sorted(self.repeating if self._wanted is None else self._wanted),
            "rows": binning.table_rows(rows, main),
            "binned": binning.binned(points, main),
            "uncharted": len(rows) - len(whole),
            "spread": _spread(whole, main),
            "not_finite": {name: bad for name, bad in not_finite.items() if bad},
            "without_metrics": _cut(encode_ranges(self.without_metrics)),
            "without_metrics_count": len(self.without_metrics),
            "problem": problems[0]["message"] if problems else "",
            "problem_count": len(problems),
        }


def _spread(rows: List[Dict[str, Any]], main: Optional[str]) -> Optional[Dict[str, Any]]:
    """Return the five figures of the points with the lowest and the highest mean, and the deviation within a point."""
    repeated = [(row, row["metrics"][main]) for row in rows if (row["metrics"].get(main) or {}).get("count", 0) > 1]
    if not repeated:
        return None
    repeated.sort(key=lambda pair: pair[1]["mean"])
    half = MOST_SPREADS // 2
    chosen = repeated if len(repeated) <= MOST_SPREADS else repeated[:half] + repeated[-half:]
    names = ("count", "mean", "std", "min", "q25", "median", "q75", "max")
    freedom = sum(facts["count"] - 1 for _, facts in repeated)
    known = [facts for _, facts in repeated if facts["variance"] is not None]
    within = math.fsum(facts["variance"] * ((facts["count"] - 1) / float(freedom)) for facts in known)
    return {
        "points": [
            dict({n: facts[n] for n in names}, kwargs={n: binning.cell_of(v) for n, v in row["kwargs"].items()})
            for row, facts in chosen
        ],
        "total": len(repeated),
        "within": math.sqrt(within),
    }


def _missing(status: RunStatus) -> Dict[str, str]:
    """Return the tasks of each state but complete, as ranges."""
    states = {"failed": (FAILED, LOST), "running": (RUNNING,), "pending": (PENDING,), "unknown": (UNKNOWN,)}
    found = {name: _cut(ranges_of(status.state, *values)) for name, values in states.items()}
    return {name: ranges for name, ranges in found.items() if ranges}


def _cut(ranges: str) -> str:
    """Return ranges that end with ``,...`` after 400 characters."""
    return ranges if len(ranges) <= RANGES_LIMIT else ranges[:RANGES_LIMIT].rpartition(",")[0] + ",..."


def _time_line(attempts: List[Tuple[float, float, bool]]) -> Optional[Dict[str, Any]]:
    """Return 60 spans of equal length (seconds): the mean number of attempts that ran in each, and of failed ends."""
    if not attempts:
        return None
    start, end = min(began for began, _, _ in attempts), max(ended for _, ended, _ in attempts)
    step = max((end - start) / SPANS, 1e-3)
    running, failed = [0.0] * SPANS, [0] * SPANS
    for began, ended, complete in attempts:
        first, last = (max(0, min(SPANS - 1, int((at - start) / step))) for at in (began, ended))
        failed[last] += not complete
        for at in range(first, last + 1):
            inside = min(ended - start, (at + 1) * step) - max(began - start, at * step)
            running[at] += max(0.0, inside) / step
    return {"start": start, "step": step, "running": [round(n, 3) for n in running], "failed": failed}


class Usage(object):
    """Time, memory and cores that were asked for and used, of elements: a packed element runs several tasks in turn."""

    def __init__(self) -> None:
        self._seconds: Dict[Tuple[str, int], float] = {}
        self._memory: Dict[Tuple[str, int], float] = {}
        self._arrays: Dict[str, Array] = {}
        self._seconds_of_cores = dict.fromkeys(("computing", "idle", "failed"), 0.0)
        self._gpu_seconds = 0.0
        self._unmeasured = 0

    def add(self, record: TaskRecord, array: Optional[Array]) -> None:
        if record.state != COMPLETE or record.seconds is None or array is None:
            self.add_lost(record.seconds, array)
            return
        key = (array.array, record.element)
        self._arrays[array.array] = array
        self._seconds[key] = self._seconds.get(key, 0.0) + record.seconds / array.at_once
        if record.max_rss_mb is not None:
            self._memory[key] = max(record.max_rss_mb, self._memory.get(key, 0.0))
        granted = self._granted(record.seconds, array)
        computing = min(granted, record.cpu_seconds or 0.0)
        self._seconds_of_cores["computing"] += computing
        self._seconds_of_cores["idle"] += granted - computing

    def add_lost(self, seconds: Any, array: Optional[Array]) -> None:
        """Add an attempt that failed."""
        if isinstance(seconds, (int, float)) and array is not None:
            self._seconds_of_cores["failed"] += self._granted(seconds, array)
        else:
            self._unmeasured += 1

    def _granted(self, seconds: float, array: Array) -> float:
        """Count the time of the GPUs, and return that of the cores."""
        self._gpu_seconds += seconds * int(array.resources.get("gpus") or 0)
        return seconds * int(array.resources.get("cpus") or 1)

    def to_json(self) -> Dict[str, Any]:
        """Return histograms (seconds, MiB) with the least and most that was asked for, core-hours, and what is not known."""
        asked = {}
        for name in ("walltime_sec", "mem_mb", "cpus"):
            values = [array.resources[name] for array in self._arrays.values() if array.resources.get(name)]
            asked.update({name: [min(values), max(values)]} if values else {})
        return {
            "asked": asked,
            "seconds": _used(self._seconds, asked.get("walltime_sec")),
            "memory_mb": _used(self._memory, asked.get("mem_mb")),
            "core_hours": {name: seconds / 3600.0 for name, seconds in self._seconds_of_cores.items()},
            "gpu_hours": self._gpu_seconds / 3600.0,
            "pack": max([array.pack for array in self._arrays.values()] or [1]),
            "at_once": max([array.at_once for array in self._arrays.values()] or [1]),
            "unmeasured": self._unmeasured,
        }


def _used(measured: Dict[Tuple[str, int], float], asked: Optional[List[float]]) -> Optional[Dict[str, Any]]:
    values = sorted(measured.values())
    return binning.histogram(values, bool(values and asked and asked[-1] > FAR * values[len(values) // 2]))


def _environment(folder: RunFolder) -> Any:
    """Return ``environment.json`` of the run, or a sentence for one that cannot be shown; None where there is none."""
    try:
        document = read_json(folder.environment, None)
    except (OSError, ValueError) as error:
        return "environment.json cannot be read: %s" % error
    if document is not None and len(str(document)) > ENVIRONMENT_LIMIT:
        return "environment.json has more than %d KiB" % (ENVIRONMENT_LIMIT >> 10)
    return document
