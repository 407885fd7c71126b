"""Group the failed tasks of a run: tasks that failed in the same way are one group."""

from collections import Counter
from typing import Any, Dict, List, Tuple

from ..look.run_status import RunStatus
from ..shared import run_folder
from ..shared.failure_classes import by_name
from ..shared.ranges import encode_ranges
from .diagnosis import Diagnosis, diagnose

GROUPS_AT_MOST = 50
SAMPLE_LINES = 15


def failures(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the failure groups of the run (``root``, ``run_id``), each with ``lines`` of a sample's log."""
    status = RunStatus(run_folder.existing_run(request["root"], request["run_id"]), request.get("site") or {})
    diagnoses = diagnose(status, status.failed())
    status.save()
    groups = group_answers(diagnoses, int(request.get("lines") or SAMPLE_LINES))
    return {
        "run_id": status.run.run_id,
        "failed": len(diagnoses),
        "clusters": groups[:GROUPS_AT_MOST],
        "more_clusters": max(0, len(groups) - GROUPS_AT_MOST),
        "stale": status.stale,
        "unexplained": status.unexplained,
    }


def group_answers(diagnoses: List[Diagnosis], lines: int) -> List[Dict[str, Any]]:
    """Return the groups of failures of one class and fingerprint, the largest first."""
    groups: Dict[Tuple[str, str], List[Diagnosis]] = {}
    for diagnosis in diagnoses:
        groups.setdefault((diagnosis.found.name, diagnosis.found.fingerprint), []).append(diagnosis)
    ordered = sorted(groups.values(), key=lambda members: (-len(members), members[0].task))
    return [_group_answer(members, lines) for members in ordered]


def _group_answer(members: List[Diagnosis], lines: int) -> Dict[str, Any]:
    sample = members[0]
    kind = by_name(sample.found.name)
    hosts = Counter(member.facts.host for member in members if member.facts.host)
    return {
        "class": kind.name,
        "title": kind.title,
        "count": len(members),
        "tasks": encode_ranges(member.task for member in members)[:2000],
        "confidence": sample.found.confidence,
        "evidence": sample.found.evidence,
        "fingerprint": sample.found.fingerprint,
        "sample": _sample(sample, lines),
        "hosts": dict(hosts.most_common(5)),
        "remedy": kind.remedy,
        "action": kind.action,
        "attempts_allowed": kind.attempts,
        "resubmitted": max(len(member.resubmits) for member in members),
    }


def _sample(sample: Diagnosis, lines: int) -> Dict[str, Any]:
    facts = {
        key: getattr(sample.facts, key) for key in ("host", "exit_code", "signal", "message", "max_rss_mb", "seconds")
    }
    return dict(
        facts,
        task=sample.task,
        line=sample.found.line,
        exception=sample.found.exception,
        frame=sample.found.frame,
        resources=sample.array.resources,
        log_tail="\n".join(sample.log_tail.splitlines()[-lines:])[-4000:],
    )
