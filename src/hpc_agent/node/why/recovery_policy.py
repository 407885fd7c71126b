"""Decide about failed tasks. Pure: diagnoses and a policy give groups to submit again and refusals."""

import json
import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from ..shared.failure_classes import FailureClass, by_name
from ..shared.ranges import encode_ranges
from .diagnosis import Diagnosis

# More tasks than this with the same failure of the user's program have a bug in common.
SAME_FAILURE_THRESHOLD = 3
# The first memory request of tasks that had none.
FIRST_MEMORY_MB = 2048
MEMORY_STEP_MB, TIME_STEP_SEC = 64, 60
EXCLUDED_AT_MOST = 20
KEPT_FINGERPRINTS = 100


class Policy(object):
    """How far recovery may go. Every limit is the cluster's or the request's.

    select        task ids that were named, or None for every failed task
    classes       class names that were named, or None: those that recovery handles by itself
    overrides     resources that were given and so are not computed: mem_mb, walltime_sec, cpus, gpus
    caps          highest mem_mb and walltime_sec of the cluster (None: unknown)
    max_attempts  resubmissions of a task at most (None: as its class says)
    max_tasks     tasks to submit again at most, of all together (a monitor's budget)
    force         also what has no attempts left or failed in the same way before
    """

    def __init__(self, document: Dict[str, Any]) -> None:
        tasks = document.get("tasks")
        self.select: Optional[Set[int]] = set(tasks) if tasks else None
        self.classes: Optional[Set[str]] = set(document["classes"]) if document.get("classes") else None
        self.overrides: Dict[str, Any] = dict(document.get("overrides") or {})
        self.caps: Dict[str, Any] = dict(document.get("caps") or {})
        self.max_attempts: Optional[int] = document.get("max_attempts")
        self.max_tasks: Optional[int] = document.get("max_tasks")
        self.force = bool(document.get("force"))

    def wants(self, diagnosis: Diagnosis) -> bool:
        by_id = self.select is None or diagnosis.task in self.select
        return by_id and (self.classes is None or diagnosis.found.name in self.classes)

    @property
    def explicit(self) -> bool:
        """Return True if the request names tasks or classes: then classes that need a decision may run once more."""
        return self.select is not None or self.classes is not None


class Group(NamedTuple):
    """Tasks to submit again with the same resources and placement."""

    resources: Dict[str, Any]
    placement: Dict[str, Any]
    pack: int
    ids: List[int]
    classes: Dict[str, int]  # class -> tasks
    fingerprints: List[str]

    def add(self, diagnosis: Diagnosis) -> None:
        name, fingerprint = diagnosis.found.name, diagnosis.found.fingerprint
        self.ids.append(diagnosis.task)
        self.classes[name] = self.classes.get(name, 0) + 1
        if fingerprint not in self.fingerprints[:KEPT_FINGERPRINTS]:
            self.fingerprints.append(fingerprint)


class Refusal(NamedTuple):
    """Tasks of one class that are not submitted again, and the reason."""

    kind: FailureClass
    why: str
    sample: Diagnosis
    ids: List[int]

    def to_json(self) -> Dict[str, Any]:
        found = self.sample.found
        sample = {"task": self.sample.task, "line": found.line, "exception": found.exception, "frame": found.frame,
                  "message": self.sample.facts.message}  # fmt: skip
        return {"class": self.kind.name, "why": self.why, "remedy": self.kind.remedy, "action": self.kind.action,
                "sample": sample, "count": len(self.ids), "tasks": encode_ranges(self.ids)[:2000]}  # fmt: skip


def decide(diagnoses: List[Diagnosis], policy: Policy, usable_nodes: List[str]) -> Tuple[List[Group], List[Refusal]]:
    """Return the groups of tasks to submit again, and the refusals."""
    wanted = [d for d in diagnoses if policy.wants(d)]
    alike = Counter(d.found.fingerprint for d in wanted)
    bad_nodes = _bad_nodes(wanted, usable_nodes)
    groups: Dict[str, Group] = {}
    refusals: Dict[Tuple[str, str], Refusal] = {}
    for diagnosis in wanted:
        kind = by_name(diagnosis.found.name)
        resources: Dict[str, Any] = {}
        why = _permission(diagnosis, kind, policy, alike[diagnosis.found.fingerprint])
        if why is None:
            why, resources = _resources(diagnosis, kind, policy)
        if why is None and policy.max_tasks is not None:
            policy.max_tasks -= 1
            why = "the budget for resubmissions is used up" if policy.max_tasks < 0 else None
        if why is not None:
            refusals.setdefault((kind.name, why), Refusal(kind, why, diagnosis, [])).ids.append(diagnosis.task)
            continue
        array = diagnosis.array
        exclude = sorted(set(array.placement.get("exclude_nodes") or []) | set(bad_nodes))
        placement = dict(array.placement, exclude_nodes=exclude)
        key = json.dumps([resources, placement, array.pack], sort_keys=True)
        groups.setdefault(key, Group(resources, placement, array.pack, [], {}, [])).add(diagnosis)
    return list(groups.values()), list(refusals.values())


def _permission(diagnosis: Diagnosis, kind: FailureClass, policy: Policy, alike: int) -> Optional[str]:
    """Return the reason against another submission of the task, or None."""
    if policy.force:
        return None
    earlier = [fingerprint for array in diagnosis.resubmits for fingerprint in array.fingerprints]
    if kind.action == "fix" and diagnosis.found.fingerprint in earlier:
        return "it failed in the same way before it was submitted again"
    if kind.action in ("fix", "ask") and not policy.explicit:
        return "running it again as it is would not help" if kind.action == "fix" else "a person has to decide"
    if kind.action == "fix" and alike > SAME_FAILURE_THRESHOLD:
        return "%d tasks failed in the very same way: that is a bug, not bad luck" % alike
    allowed = policy.max_attempts if policy.max_attempts is not None else max(kind.attempts, 1)
    if len(diagnosis.resubmits) >= allowed:
        return "it was submitted again %d times already" % len(diagnosis.resubmits)
    return None


def _resources(diagnosis: Diagnosis, kind: FailureClass, policy: Policy) -> Tuple[Optional[str], Dict[str, Any]]:
    """Return the reason why the next attempt cannot request enough, or None, and the resources that it requests."""
    asked = dict(diagnosis.array.resources)
    if kind.action == "more_memory" and not policy.overrides.get("mem_mb"):
        used = float(diagnosis.facts.max_rss_mb or 0.0)
        base = max(float(asked.get("mem_mb") or 0.0), used)
        more = _more(base, kind.multiplier, MEMORY_STEP_MB) if base else FIRST_MEMORY_MB
        cap = policy.caps.get("mem_mb")
        if cap and asked.get("mem_mb") and asked["mem_mb"] >= cap:
            return "it asks for %d MiB already, all that a node has" % asked["mem_mb"], {}
        asked["mem_mb"] = min(more, int(cap)) if cap else more
    if kind.action == "more_time" and not policy.overrides.get("walltime_sec"):
        cap = policy.caps.get("walltime_sec")
        if cap and asked.get("walltime_sec") and asked["walltime_sec"] >= cap:
            return "it asks for %d s already, all that the cluster allows" % asked["walltime_sec"], {}
        more = _more(float(asked.get("walltime_sec") or 3600), kind.multiplier, TIME_STEP_SEC)
        asked["walltime_sec"] = min(more, int(cap)) if cap else more
    asked.update({key: value for key, value in policy.overrides.items() if value is not None})
    return None, asked


def _more(base: float, multiplier: Optional[float], step: int) -> int:
    return math.ceil(base * (multiplier or 1.0) / step) * step


def _bad_nodes(diagnoses: List[Diagnosis], usable: List[str]) -> List[str]:
    """Return the nodes that lost tasks, as long as other nodes are left."""
    bad: List[str] = []
    for diagnosis in diagnoses:
        host = diagnosis.facts.host
        if by_name(diagnosis.found.name).action == "other_nodes" and host and host not in bad:
            bad.append(host)
    bad = bad[:EXCLUDED_AT_MOST]
    return bad if set(usable) - set(bad) else []
