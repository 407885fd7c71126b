"""Diagnose failed tasks: classify each from its record, accounting and the end of its log; group equal failures.

The canary is the one task that is submitted before the others.
"""

import os
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from ..look.logs import SchedulerLogs
from ..look.logs import log_tail as tail_of
from ..look.patience import await_end
from ..look.recorded import FailureFacts
from ..look.report import status_answer
from ..look.run_status import RunStatus
from ..shared.failure_classes import BY_NAME, RESUBMIT
from ..shared.ledger import Array
from ..shared.ranges import encode_ranges
from ..shared.run_folder import existing_run
from ..shared.task_environment import result_folder
from ..shared.task_states import COMPLETE, LOST, NAMES
from .history import Earlier, End, attempts_of

if TYPE_CHECKING:
    from .classify import Classification
    from .failure_case import Limits

# The logs of further tasks are not read: their cause alone classifies them.
READ_AT_MOST = 3000
LOG_LATE_SEC = 60.0
TAIL_LINES, TAIL_BYTES = 60, 16 << 10
GROUPS_AT_MOST = 50
SAMPLE_LINES = 15
# The Python of a command, and the package whose module is missing.
_PYTHON = re.compile(r"(?:\w+=\S*\s+)*((?:\S*/)?python[\d.]*)\s")
_NO_MODULE = re.compile(r"No module named '?([A-Za-z_]\w*)")
UNEXPLAINED = FailureFacts("unknown", "neither its record nor the scheduler tells how it ended")


class Diagnosis(NamedTuple):
    """A failed task, its class, the array of its latest attempt, and the arrays of its resubmissions."""

    task: int
    found: "Classification"
    facts: FailureFacts
    array: Array
    resubmits: List[Array]
    log_tail: str = ""

    def end(self) -> End:
        return {"cause": self.found.name, "host": self.facts.host, "seconds": self.facts.seconds}


def failures(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the failure groups of the run (``root``, ``run_id``), each with ``lines`` of a sample's log."""
    status = RunStatus(existing_run(request["root"], request["run_id"]), request.get("site") or {})
    diagnoses = diagnose(status, status.failed())
    status.save()
    groups = group_answers(diagnoses, int(request.get("lines") or SAMPLE_LINES), status.run.executor)
    earlier, by_task = Earlier(status.folder), {diagnosis.task: diagnosis for diagnosis in diagnoses}
    for group in groups[:GROUPS_AT_MOST]:
        attempts = attempts_of(status, earlier, group["sample"]["task"], by_task[group["sample"]["task"]].end())
        group["sample"].update({"attempts": attempts} if len(attempts) > 1 else {})
    return {
        "run_id": status.run.run_id,
        "failed": len(diagnoses),
        "clusters": groups[:GROUPS_AT_MOST],
        "more_clusters": max(0, len(groups) - GROUPS_AT_MOST),
        "stale": status.stale,
        "unexplained": status.unexplained,
    }


def canary(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the state of task 0, its resources as requested and as measured, its metrics, and its failure.

    ``missing_output``: the file ``expect_output`` of the request is not in the result folder of the complete task. For
    ``wait_sec`` see await_end.
    """
    folder = existing_run(request["root"], request["run_id"])
    waited = await_end(folder, request)
    status = RunStatus(folder, request.get("site") or {})
    answer = status_answer(status)
    status.save()
    record, run, state = status.reader.read(0), status.run, NAMES[status.state[0]]
    asked = status.arrays_with(0)[0].resources
    expected, missing = request.get("expect_output"), False
    if expected and status.state[0] == COMPLETE:
        results = result_folder(run.result_dir_template, run.run_id, 0, (record and record.kwargs) or {})
        inside = os.path.normpath("/" + expected).lstrip("/")
        missing = not os.path.exists(os.path.join(folder.path, results, inside))
    return {
        **waited,
        "state": state,
        "unexplained": status.unexplained,
        "stale": status.stale,
        "waiting": answer["waiting"],
        "lifecycle_state": answer["lifecycle_state"],
        "held": answer["held_for_canary"],
        "asked": {key: asked.get(key) for key in ("walltime_sec", "mem_mb", "cpus")},
        "measured": {
            key: getattr(record, key, None) for key in ("seconds", "max_rss_mb", "cpu_seconds", "host", "oom_kills")
        },
        "metrics": record.metrics if record else None,
        "metrics_problem": record.metrics_problem if record else None,
        "metrics_left_out": record.metrics_left_out if record else None,
        "missing_output": missing,
        "failure": group_answers(diagnose(status, [0]), 50, run.executor)[0] if state == "failed" else None,
    }


def classes_of(status: RunStatus) -> Dict[int, str]:
    """Return the class of every failed task. The status cache keeps classes: a log is read once for each attempt."""
    known, failed, now = status.cache.get("classes", {}), status.failed(), time.time()
    attempts = {}
    for task in failed:
        facts = status.records.failed[task]
        attempts[task] = [facts.generation, facts.attempt, facts.cause]
    unread = [task for task in failed if (known.get(str(task)) or [None])[:-1] != attempts[task]]
    found = {task: str(known[str(task)][-1]) for task in failed if str(task) in known}
    found.update((diagnosis.task, diagnosis.found.name) for diagnosis in diagnose(status, unread))
    # The end of a log may come late over a network's file system.
    settled = (t for t in failed if (status.records.failed[t].ended_at or 0.0) < now - LOG_LATE_SEC)
    status.cache["classes"] = {str(task): [*attempts[task], found[task]] for task in settled}
    return found


def diagnose(status: RunStatus, tasks: List[int], outputs: Optional[SchedulerLogs] = None) -> List[Diagnosis]:
    if not tasks:
        return []
    from .classify import classify  # its tables take longer to load than a look without failures

    diagnoses, outputs = [], outputs or SchedulerLogs(status.folder)
    for position, task in enumerate(tasks):
        facts = status.records.failed.get(task) or UNEXPLAINED
        arrays = status.arrays_with(task)
        entry = next((a for a in arrays if a.generation == facts.generation), arrays[-1])
        log_tail = scheduler_tail = ""
        if position < READ_AT_MOST:
            log = status.output(entry, task)
            log_tail = tail_of(log, TAIL_LINES, TAIL_BYTES) if log else ""
            if not log_tail and status.state[task] != LOST:
                record = status.reader.read(task)
                log_tail = (record and record.log_tail) or ""
            scheduler_tail = outputs.output([entry], task, TAIL_LINES)
        # A task that was killed with its dispatcher may leave an empty folder.
        has_checkpoint = any(folders or files for _, folders, files in os.walk(status.folder.checkpoints(task)))
        found = classify(facts, _limits(entry, has_checkpoint, status.run.scheduler), log_tail, scheduler_tail)
        diagnoses.append(Diagnosis(task, found, facts, entry, [a for a in arrays if a.resubmit], log_tail))
    return diagnoses


def _limits(array: Array, has_checkpoint: bool, scheduler: str) -> "Limits":
    from .failure_case import Limits

    asked = array.resources
    # A GPU may also be asked for in the site's own words: --gpus-per-node=1, -l cuda=1.
    words = [str(word).lower() for word in array.placement.get("extra_flags") or []]
    gpus = asked.get("gpus") or sum("gpu" in word or "cuda" in word for word in words)
    return Limits(asked.get("mem_mb"), asked.get("walltime_sec"), has_checkpoint, gpus, scheduler)


def group_answers(diagnoses: List[Diagnosis], lines: int, executor: str) -> List[Dict[str, Any]]:
    """Return the groups of failures of one class and fingerprint, the largest first."""
    groups: Dict[Tuple[str, str], List[Diagnosis]] = {}
    for diagnosis in diagnoses:
        groups.setdefault((diagnosis.found.name, diagnosis.found.fingerprint), []).append(diagnosis)
    ordered = sorted(groups.values(), key=lambda members: (-len(members), members[0].task))
    return [_group_answer(members, lines, executor) for members in ordered]


def _group_answer(members: List[Diagnosis], lines: int, executor: str) -> Dict[str, Any]:
    sample = members[0]
    found, facts, kind = sample.found, sample.facts, BY_NAME[sample.found.name]
    hosts = Counter(member.facts.host for member in members if member.facts.host)
    shown = {key: getattr(facts, key) for key in ("host", "exit_code", "signal", "message", "max_rss_mb", "seconds")}
    return {
        "class": kind.name,
        "title": kind.title,
        "count": len(members),
        "tasks": encode_ranges(member.task for member in members)[:2000],
        "confidence": found.confidence,
        "evidence": found.evidence,
        "fingerprint": found.fingerprint,
        "sample": dict(
            shown,
            task=sample.task,
            line=found.line,
            exception=found.exception,
            frame=found.frame,
            resources=sample.array.resources,
            log_tail="\n".join(sample.log_tail.splitlines()[-lines:])[-4000:],
        ),
        "hosts": dict(hosts.most_common(5)),
        "remedy": remedy_of(found, executor),
        "action": kind.action,
        "attempts_allowed": kind.attempts,
        "resubmitted": max(len(member.resubmits) for member in members),
    }


def remedy_of(found: "Classification", executor: str) -> str:
    """Return the remedy of the class; for a module that a task's Python does not have it names this Python."""
    python, module = _PYTHON.match(executor), _NO_MODULE.search(found.line)
    if found.name != "missing_module" or not python or not module:
        return BY_NAME[found.name].remedy
    words = "The tasks run with %s, which has no module %s: name another Python with 'hpc-agent build-tasks-py --python', which "
    words += "makes a new run; or install its package there (%s -m pip install ...) and send the tasks again: "
    words += RESUBMIT + found.name
    return words % (python.group(1), module.group(1), python.group(1))
