"""Decide about failed tasks. Pure: diagnoses and a policy give groups to submit again and refusals."""

import json
import math
from collections import Counter, OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from ..shared.failure_classes import AT_LIMIT, BY_NAME, FailureClass
from ..shared.ranges import encode_ranges
from .diagnosis import Diagnosis, remedy_of

# More tasks than this with the same failure of the user's program have a bug in common. Other failures have causes
# outside of the frozen code, which may have been mended since.
SAME_FAILURE_THRESHOLD = 3
OF_CODE = ("code_error", "no_output")
# Action -> the resource that grows, the next request of tasks that had none, its step, and the words for the cap.
GROWTH = {
    "more_memory": ("mem_mb", 2048, 64, "MiB already, all that a node has"),
    "more_time": ("walltime_sec", 7200, 60, "s already, all that the cluster allows"),
}
EXCLUDED_AT_MOST = 20
KEPT_FINGERPRINTS = 100


class Policy(object):
    """The limits of recovery. Every limit is the cluster's or the request's."""

    def __init__(self, document: Dict[str, Any]) -> None:
        # The task ids that were named, or None for every failed task.
        self.select: Optional[Set[int]] = set(document.get("tasks") or []) or None
        # As ``select``, but a task in it is treated like one that was not named.
        self.among: Optional[Set[int]] = set(document.get("among") or []) or None
        # The class names that were named, or None: those that recovery handles by itself.
        self.classes: Optional[Set[str]] = set(document.get("classes") or []) or None
        # Resources that were given and so are not computed: mem_mb, walltime_sec, cpus, gpus.
        self.overrides: Dict[str, Any] = document.get("overrides") or {}
        self.caps: Dict[str, Any] = document.get("caps") or {}  # highest mem_mb and walltime_sec of the cluster
        self.max_attempts: Optional[int] = document.get("max_attempts")  # of a task; None: as its class says
        self.max_tasks: Optional[int] = document.get("max_tasks")  # of all together: a monitor's budget
        self.force = bool(document.get("force"))  # also what has no attempts left or failed in the same way before

    def wants(self, diagnosis: Diagnosis) -> bool:
        by_id = all(chosen is None or diagnosis.task in chosen for chosen in (self.select, self.among))
        return by_id and (self.classes is None or diagnosis.found.name in self.classes)


class Group(NamedTuple):
    """Tasks to submit again with the same resources and placement."""

    resources: Dict[str, Any]
    placement: Dict[str, Any]
    pack: int
    at_once: int
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

    def to_json(self, executor: str) -> Dict[str, Any]:
        found = self.sample.found
        sample = {"task": self.sample.task, "line": found.line, "exception": found.exception, "frame": found.frame,
                  "message": self.sample.facts.message}  # fmt: skip
        return {"class": self.kind.name, "why": self.why, "remedy": remedy_of(found, executor), "action": self.kind.action,
                "sample": sample, "count": len(self.ids), "tasks": encode_ranges(self.ids)[:2000]}  # fmt: skip


def decide(diagnoses: List[Diagnosis], policy: Policy, usable_nodes: List[str]) -> Tuple[List[Group], List[Refusal]]:
    """Return the groups of tasks to submit again, and the refusals."""
    wanted = [d for d in diagnoses if policy.wants(d)]
    alike = Counter(d.found.fingerprint for d in wanted)
    # The nodes that lost tasks are avoided as long as other nodes are left; those without the environment, where the
    # request names its tasks.
    named = policy.select is not None or policy.classes is not None
    lost = (
        d.facts.host
        for d in wanted
        if BY_NAME[d.found.name].action == "other_nodes" or (named and d.found.name == "environment")
    )
    bad_nodes = list(OrderedDict.fromkeys(filter(None, lost)))[:EXCLUDED_AT_MOST]
    if not set(usable_nodes) - set(bad_nodes):
        bad_nodes = []
    groups: Dict[str, Group] = {}
    refusals: Dict[Tuple[str, str], Refusal] = {}
    for diagnosis in wanted:
        kind = BY_NAME[diagnosis.found.name]
        why = _permission(diagnosis, kind, policy, alike[diagnosis.found.fingerprint])
        why, resources = (why, {}) if why else _resources(diagnosis, kind, policy)
        if why is None and policy.max_tasks is not None:
            policy.max_tasks -= 1
            why = "the budget for resubmissions is used up" if policy.max_tasks < 0 else None
        if why is not None:
            refusals.setdefault((kind.name, why), Refusal(kind, why, diagnosis, [])).ids.append(diagnosis.task)
            continue
        array = diagnosis.array
        exclude = sorted(set(array.placement.get("exclude_nodes") or []) | set(bad_nodes))
        placement = dict(array.placement, exclude_nodes=exclude)
        at_once = _at_once(array.at_once, resources, policy)
        key = json.dumps([resources, placement, array.pack, at_once], sort_keys=True)
        groups.setdefault(key, Group(resources, placement, array.pack, at_once, [], {}, [])).add(diagnosis)
    return list(groups.values()), list(refusals.values())


def _at_once(before: int, resources: Dict[str, Any], policy: Policy) -> int:
    """Return how many tasks an element runs at once: as before, but no more than the memory of a node has room for."""
    memory, most = resources.get("mem_mb"), policy.caps.get("mem_mb")
    return max(1, min(before, int(most // memory))) if before > 1 and memory and most else before


def _permission(diagnosis: Diagnosis, kind: FailureClass, policy: Policy, alike: int) -> Optional[str]:
    """Return the reason against another submission of the task, or None."""
    if policy.force:
        return None
    earlier = [fingerprint for array in diagnosis.resubmits for fingerprint in array.fingerprints]
    if kind.action == "fix" and diagnosis.found.fingerprint in earlier:
        return "it failed in the same way before it was submitted again"
    # Classes that need a decision may run once more where the request names tasks or classes.
    if kind.action in ("fix", "ask") and policy.select is None and policy.classes is None:
        return "running it again as it is would not help" if kind.action == "fix" else "a person has to decide"
    if kind.name in OF_CODE and alike > SAME_FAILURE_THRESHOLD:
        return "%d tasks failed in the very same way: that is a bug, not bad luck" % alike
    allowed = policy.max_attempts if policy.max_attempts is not None else max(kind.attempts, 1)
    if len(diagnosis.resubmits) >= allowed:
        return "it was submitted again %d times already" % len(diagnosis.resubmits)
    return None


def _resources(diagnosis: Diagnosis, kind: FailureClass, policy: Policy) -> Tuple[Optional[str], Dict[str, Any]]:
    """Return the reason why the next attempt cannot request enough, or None, and the resources that it requests."""
    asked = dict(diagnosis.array.resources)
    name, first, step, limit = GROWTH.get(kind.action, ("", 0, 1, ""))
    if name and not policy.overrides.get(name):
        request, cap = asked.get(name), policy.caps.get(name)
        if cap and request and request >= cap:
            return "%s %d %s" % (AT_LIMIT, request, limit), {}
        used = diagnosis.facts.max_rss_mb if name == "mem_mb" else None
        base = max(float(request or 0.0), float(used or 0.0))
        more = math.ceil(base * (kind.multiplier or 1.0) / step) * step if base else first
        asked[name] = min(more, int(cap)) if cap else more
    asked.update({key: value for key, value in policy.overrides.items() if value is not None})
    return None, asked
