"""Why tasks failed: every failed task is classified from its record, accounting and the end of its log, and tasks that
failed in the same way are one cluster.
"""

import os
from typing import Any, Dict, List, Tuple

from ..look import logs, records
from ..look.survey import Survey
from ..shared import run_folder
from ..shared.failure_classes import by_name
from ..shared.log_tail import tail
from ..shared.ranges import encode_ranges
from ..shared.task_states import LOST
from .classify import classify

# Beyond so many tasks the logs are not read any more: the cause alone classifies.
READ_AT_MOST = 3000
TAIL_LINES, TAIL_BYTES = 60, 16 << 10
CLUSTERS_AT_MOST = 50
SAMPLE_LINES = 15

Diagnosis = Dict[str, Any]


def failures(request: Dict[str, Any]) -> Dict[str, Any]:
    """One run: ``root`` and ``run_id``; ``lines`` of the sample's log."""
    survey = Survey(run_folder.existing_run(request["root"], request["run_id"]), request.get("site") or {})
    diagnoses = diagnose(survey, survey.failed())
    survey.save()
    clusters = cluster(diagnoses, int(request.get("lines") or SAMPLE_LINES))
    return {
        "run_id": survey.run["run_id"],
        "failed": len(diagnoses),
        "clusters": clusters[:CLUSTERS_AT_MOST],
        "more_clusters": max(0, len(clusters) - CLUSTERS_AT_MOST),
        "stale": survey.stale,
        "unexplained": survey.unexplained,
    }


def diagnose(survey: Survey, tasks: List[int]) -> List[Diagnosis]:
    """The class of each of the tasks, with evidence, fingerprint, and what its last attempt asked for."""
    return [_diagnose_one(survey, task, position < READ_AT_MOST) for position, task in enumerate(tasks)]


def _diagnose_one(survey: Survey, task: int, read: bool) -> Diagnosis:
    facts = dict(survey.scan.failed.get(task) or {"cause": "unknown", "message": "nobody knows what became of it"})
    covering = survey.covering(task)
    entry = next((a for a in covering if a.generation == facts.get("generation")), covering[-1])
    asked = entry.resources
    facts.update(
        mem_mb=asked.get("mem_mb"),
        walltime_sec=asked.get("walltime_sec"),
        checkpoint=_has_files(survey.folder.checkpoints(task)),
    )
    log_tail = scheduler_tail = ""
    if read:
        record = records.read(survey.folder, task) if survey.state[task] != LOST else None
        log = survey.folder.log(task, entry.generation)
        log_tail = tail(log, TAIL_LINES, TAIL_BYTES) or str((record or {}).get("log_tail") or "")
        scheduler_tail = logs.scheduler_output(survey.folder, [entry], task, TAIL_LINES)
    found = classify(facts, log_tail, scheduler_tail)
    return dict(
        found,
        task=task,
        host=facts.get("host"),
        exit_code=facts.get("exit_code"),
        signal=facts.get("signal"),
        message=facts.get("message"),
        cause=facts.get("cause"),
        max_rss_mb=facts.get("max_rss_mb"),
        seconds=facts.get("seconds"),
        attempt=facts.get("attempt"),
        resources=asked,
        placement=entry.placement,
        pack=entry.pack,
        resubmits=[a for a in covering if a.resubmit],
        log_tail=log_tail,
    )


def _has_files(folder: str) -> bool:
    """A task that was killed with its dispatcher leaves the folder behind, empty or not."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


def cluster(diagnoses: List[Diagnosis], lines: int) -> List[Dict[str, Any]]:
    """Failures of one class and fingerprint together, the most frequent first."""
    groups: Dict[Tuple[str, str], List[Diagnosis]] = {}
    for diagnosis in diagnoses:
        groups.setdefault((diagnosis["class"], diagnosis["fingerprint"]), []).append(diagnosis)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[1][0]["task"]))
    return [_describe(name, members, lines) for (name, _), members in ordered]


def _describe(name: str, members: List[Diagnosis], lines: int) -> Dict[str, Any]:
    kind = by_name(name)
    sample = members[0]
    hosts: Dict[str, int] = {}
    for member in members:
        if member["host"]:
            hosts[member["host"]] = hosts.get(member["host"], 0) + 1
    shown = ("task", "host", "exit_code", "signal", "message", "line", "exception", "frame", "max_rss_mb", "seconds")
    return {
        "class": name,
        "title": kind.title,
        "count": len(members),
        "tasks": encode_ranges(member["task"] for member in members)[:2000],
        "confidence": sample["confidence"],
        "evidence": sample["evidence"],
        "fingerprint": sample["fingerprint"],
        "sample": dict(
            {key: sample.get(key) for key in shown},
            resources=sample["resources"],
            log_tail="\n".join(sample["log_tail"].splitlines()[-lines:])[-4000:],
        ),
        "hosts": dict(sorted(hosts.items(), key=lambda item: -item[1])[:5]),
        "remedy": kind.remedy,
        "action": kind.action,
        "attempts_allowed": kind.attempts,
        "resubmitted": max(len(member["resubmits"]) for member in members),
    }
