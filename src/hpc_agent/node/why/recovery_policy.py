"""What is to be done about failed tasks: a pure decision, from diagnoses and a policy to groups and refusals."""

import json
import math
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from ..shared.failure_classes import FailureClass, by_name
from ..shared.ranges import encode_ranges

# So many tasks with the very same failure of the user's program are taken for a bug, not for bad luck.
SAME_FAILURE_THRESHOLD = 3
# A memory request that nobody made cannot be multiplied: the first one that is made.
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

    def wants(self, diagnosis: Dict[str, Any]) -> bool:
        by_id = self.select is None or diagnosis["task"] in self.select
        return by_id and (self.classes is None or diagnosis["class"] in self.classes)

    @property
    def explicit(self) -> bool:
        """Somebody chose: then classes that are otherwise left alone may go once more."""
        return self.select is not None or self.classes is not None


class Group(NamedTuple):
    """Tasks to submit again with the same resources and placement."""

    ids: List[int]
    resources: Dict[str, Any]
    placement: Dict[str, Any]
    pack: int
    classes: Dict[str, int]  # number of tasks by class of failure
    fingerprints: List[str]


def decide(
    diagnoses: List[Dict[str, Any]], policy: Policy, usable_nodes: List[str]
) -> Tuple[List[Group], List[Dict[str, Any]]]:
    """(groups, blocked): groups of tasks to submit again with the same resources, and refusals with their reason."""
    wanted = [d for d in diagnoses if policy.wants(d)]
    alike: Dict[str, int] = {}
    for diagnosis in wanted:
        alike[diagnosis["fingerprint"]] = alike.get(diagnosis["fingerprint"], 0) + 1
    bad_nodes = _bad_nodes(wanted, usable_nodes)
    groups: Dict[str, Group] = {}
    refusals: Dict[Tuple[str, str], Dict[str, Any]] = {}
    for diagnosis in wanted:
        kind = by_name(diagnosis["class"])
        resources: Dict[str, Any] = {}
        why = _permission(diagnosis, kind, policy, alike[diagnosis["fingerprint"]])
        if why is None:
            why, resources = _resources(diagnosis, kind, policy)
        if why is None and policy.max_tasks is not None:
            policy.max_tasks -= 1
            why = "the budget for resubmissions is used up" if policy.max_tasks < 0 else None
        if why is not None:
            refusal = refusals.setdefault((kind.name, why), _refusal(kind, why, diagnosis))
            refusal["ids"].append(diagnosis["task"])
            continue
        exclude = sorted(set(diagnosis["placement"].get("exclude_nodes") or []) | set(bad_nodes))
        placement = dict(diagnosis["placement"], exclude_nodes=exclude)
        key = json.dumps([resources, placement, diagnosis["pack"]], sort_keys=True)
        group = groups.setdefault(key, Group([], resources, placement, diagnosis["pack"], {}, []))
        group.ids.append(diagnosis["task"])
        group.classes[kind.name] = group.classes.get(kind.name, 0) + 1
        if diagnosis["fingerprint"] not in group.fingerprints[:KEPT_FINGERPRINTS]:
            group.fingerprints.append(diagnosis["fingerprint"])
    return list(groups.values()), [_close(refusal) for refusal in refusals.values()]


def _refusal(kind: FailureClass, why: str, diagnosis: Dict[str, Any]) -> Dict[str, Any]:
    sample = {key: diagnosis.get(key) for key in ("task", "line", "exception", "frame", "message")}
    return {"class": kind.name, "why": why, "remedy": kind.remedy, "action": kind.action, "ids": [], "sample": sample}


def _close(refusal: Dict[str, Any]) -> Dict[str, Any]:
    ids = refusal.pop("ids")
    return dict(refusal, count=len(ids), tasks=encode_ranges(ids)[:2000])


def _permission(diagnosis: Dict[str, Any], kind: FailureClass, policy: Policy, alike: int) -> Optional[str]:
    """Why this task may not be submitted again; None when it may."""
    if policy.force:
        return None
    earlier = [fingerprint for array in diagnosis["resubmits"] for fingerprint in array.fingerprints]
    if kind.action == "fix" and diagnosis["fingerprint"] in earlier:
        return "it failed in the same way before it was submitted again"
    if kind.action in ("fix", "ask") and not policy.explicit:
        return "running it again as it is would not help" if kind.action == "fix" else "a person has to decide"
    if kind.action == "fix" and alike > SAME_FAILURE_THRESHOLD:
        return "%d tasks failed in the very same way: that is a bug, not bad luck" % alike
    allowed = policy.max_attempts if policy.max_attempts is not None else max(kind.attempts, 1)
    if len(diagnosis["resubmits"]) >= allowed:
        return "it was submitted again %d times already" % len(diagnosis["resubmits"])
    return None


def _resources(diagnosis: Dict[str, Any], kind: FailureClass, policy: Policy) -> Tuple[Optional[str], Dict[str, Any]]:
    """What the next attempt asks for, or why it cannot ask for enough."""
    asked = dict(diagnosis["resources"])
    if kind.action == "more_memory" and not policy.overrides.get("mem_mb"):
        used = float(diagnosis.get("max_rss_mb") or 0.0)
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


def _bad_nodes(diagnoses: List[Dict[str, Any]], usable: List[str]) -> List[str]:
    """Nodes that lost tasks, as long as others are left to run them."""
    bad: List[str] = []
    for diagnosis in diagnoses:
        host = diagnosis.get("host")
        if by_name(diagnosis["class"]).action == "other_nodes" and host and host not in bad:
            bad.append(host)
    bad = bad[:EXCLUDED_AT_MOST]
    return bad if set(usable) - set(bad) else []
