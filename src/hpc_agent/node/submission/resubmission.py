"""Submit failed tasks again, exactly once for a request: decide, write the decision down, submit, all under the lock.

The decision of a request is one file, ``resubmits/<request_id>.json``; the same request again finds it and only
finishes what it says. The new arrays are a generation of their own, so that claims and records of older attempts cannot
be mistaken for theirs.
"""

import os
from typing import Any, Dict, List

from ..look.report import status_answer
from ..look.run_status import RunStatus
from ..schedulers import load
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, remove_quietly, write_json
from ..shared.ledger import PLANNED, REFUSED, Array, read_array, summary
from ..shared.ranges import encode_ranges
from ..why.diagnosis import Diagnosis, diagnose
from ..why.recovery_policy import Group, Policy, decide
from .run_lock import Lock
from .submitter import Submitter, plan


def resubmit(request: Dict[str, Any]) -> Dict[str, Any]:
    """``request_id``, ``owner``, ``policy`` (see recovery.Policy), ``job_prefix``, ``max_array_size``; ``dry_run``."""
    folder = run_folder.existing_run(request["root"], request["run_id"])
    site = request.get("site") or {}
    with Lock(folder.lock, request["owner"], wait=float(request.get("lock_wait_sec", 45))) as lock:
        scheduler = load(read_json(folder.document)["scheduler"], site)
        submitter = Submitter(folder, scheduler, site, request["owner"], lock.check, request.get("settle_sec"))
        path = os.path.join(folder.resubmits, run_folder.check_id(request["request_id"]) + ".json")
        decision = read_json(path)
        deduped = decision is not None
        if decision is None:
            decision = _decide(folder, site, scheduler, request)
            if request.get("dry_run"):
                return dict(_told(decision), deduped=False, waiting=0, jobs={})
            make_folder(folder.resubmits)
            write_json(path, decision)
        plan(folder, [Array.from_json(array) for array in decision["arrays"]])
        try:
            outcome = submitter.go()
        except NodeError as error:
            if error.code == "scheduler_refused":
                _withdraw(folder, decision, path)
            raise
        return dict(_told(decision), deduped=deduped, waiting=outcome["waiting"], jobs=_jobs(folder, decision))


def _withdraw(folder: run_folder.RunFolder, decision: Dict[str, Any], path: str) -> None:
    """What the scheduler does not want is taken back, so that the tasks are failed again and another decision can be made."""
    kept = []
    for array in decision["arrays"]:
        known = read_array(folder, array["array"])
        if known is not None and known.state in (PLANNED, REFUSED):
            remove_quietly(folder.job(array["array"]))
        else:
            kept.append(array)
    if kept:
        write_json(path, dict(decision, arrays=kept))
    else:
        remove_quietly(path)


def _jobs(folder: run_folder.RunFolder, decision: Dict[str, Any]) -> Dict[str, Any]:
    known = summary(folder)
    return {array["array"]: known.get(array["array"], {}).get("job_id") for array in decision["arrays"]}


def _told(decision: Dict[str, Any]) -> Dict[str, Any]:
    return {key: decision[key] for key in ("groups", "blocked", "lifecycle_state", "left", "stale")}


def _decide(
    folder: run_folder.RunFolder, site: Dict[str, Any], scheduler: Any, request: Dict[str, Any]
) -> Dict[str, Any]:
    survey = RunStatus(folder, site, scheduler)
    status = status_answer(survey)
    survey.save()
    policy = Policy(request.get("policy") or {})
    candidates = survey.failed()
    if policy.select is not None and status["lifecycle_state"] == "abandoned":
        candidates = sorted(set(candidates) | {t for t in policy.select if survey.state[t] == 0})
    diagnoses = diagnose(survey, candidates)
    groups, blocked = decide(diagnoses, policy, _usable_nodes(scheduler, diagnoses))
    arrays = _arrays(survey, groups, request)
    return {
        "groups": [_group_facts(group) for group in groups],
        "blocked": [refusal.to_json() for refusal in blocked],
        "arrays": arrays,
        "left": {name: status["counts"][name] for name in ("running", "pending", "unknown")},
        "lifecycle_state": status["lifecycle_state"],
        "stale": survey.stale,
    }


def _usable_nodes(scheduler: Any, diagnoses: List[Diagnosis]) -> List[str]:
    """Asked for only when a node is to be avoided; a question that fails avoids none."""
    if not any(diagnosis.found.name == "node_failure" for diagnosis in diagnoses):
        return []
    try:
        return list(scheduler.usable_nodes())
    except NodeError:
        return []


def _group_facts(group: Group) -> Dict[str, Any]:
    return {
        "tasks": encode_ranges(group.ids)[:2000],
        "count": len(group.ids),
        "classes": group.classes,
        "resources": group.resources,
        "exclude_nodes": group.placement.get("exclude_nodes") or [],
    }


def _arrays(survey: RunStatus, groups: List[Group], request: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Ledger entries of a new generation, none above the cluster's array size."""
    generation = max(array.generation for array in survey.arrays) + 1
    size = int(request["max_array_size"])
    arrays: List[Dict[str, Any]] = []
    for group in groups:
        ids = sorted(group.ids)
        # Short tasks that were packed are packed again only where there are many of them.
        pack = group.pack if len(ids) > size else 1
        for first in range(0, len(ids), size * pack):
            part = ids[first : first + size * pack]
            name = "r%d-%d" % (generation, len(arrays))
            arrays.append({
                "array": name, "name": request["job_prefix"] + name, "tasks": encode_ranges(part),
                "elements": -(-len(part) // pack), "pack": pack, "wave": 0, "generation": generation, "after": [],
                "max_running": request.get("max_running"), "resources": group.resources,
                "placement": group.placement, "resubmit": request["request_id"], "classes": group.classes,
                "fingerprints": group.fingerprints, "chain": survey.run.chain,
            })  # fmt: skip
    return arrays
