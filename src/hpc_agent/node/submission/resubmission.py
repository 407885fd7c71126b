"""Submit failed tasks again, once for a request: decide, write the decision, submit, all under the run's lock.

The decision of a request is one file, ``resubmits/<request_id>.json``; a repeated request finds the file and only finishes
that decision. The new arrays are a generation of their own, so that claims and records of older attempts cannot be mistaken
for theirs.
"""

import os
from contextlib import suppress
from typing import Any, Dict, List

from ..look.report import status_answer
from ..look.run_status import RunStatus
from ..schedulers.base import Scheduler
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import from_document, make_folder, read_json, read_object, remove_quietly, write_json
from ..shared.ledger import PLANNED, REFUSED, Array, arrays_of, read_array
from ..shared.ranges import encode_ranges
from ..shared.run_folder import RunFolder
from ..shared.task_states import PENDING, RUNNING, UNKNOWN
from ..why.diagnosis import diagnose
from ..why.recovery_policy import Group, Policy, decide
from .run_plan import add_arrays
from .submitter import RunLock, Submitter

# Parts of a decision that no answer shows.
KEPT_HERE = ("arrays", "ended")


def resubmit(request: Dict[str, Any]) -> Dict[str, Any]:
    """Submit failed tasks again.

    Request: ``request_id``, ``owner``, ``policy`` (see recovery_policy.Policy), ``job_prefix``, ``max_array_size``; ``dry_run``.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    path = os.path.join(folder.resubmits, run_folder.check_id(request["request_id"]) + ".json")
    with RunLock(folder.lock, request["owner"]) as lock:
        if "work" in read_object(folder.pruned):
            message = "the folder in which the tasks of this run start was removed"
            raise NodeError("precondition_failed", message, "Run it anew with 'hpc-agent submit', and --rerun.")
        submitter = Submitter(folder, request, lock.check)
        known = read_json(path)
        decision = known or _decide(folder, submitter.scheduler, request)
        answer = {name: value for name, value in decision.items() if name not in KEPT_HERE}
        if request.get("dry_run"):
            return dict(answer, deduped=known is not None, waiting=0, jobs={})
        if known is None:
            make_folder(folder.resubmits)
            write_json(path, decision)
        add_arrays(folder, [from_document(Array, array) for array in decision["arrays"]])
        try:
            outcome = submitter.submit_open_arrays()
        except NodeError as error:
            if error.code == "scheduler_refused":
                _withdraw(folder, decision, path)
            raise
        names = [array["array"] for array in decision["arrays"]]
        jobs = {array.array: array.job_id for array in arrays_of(folder) if array.array in names}
        return dict(answer, deduped=known is not None, waiting=outcome["waiting"], jobs=jobs)


def _withdraw(folder: RunFolder, decision: Dict[str, Any], path: str) -> None:
    """Remove the arrays that the scheduler refused: their tasks are failed again, and another decision can be made."""
    kept = []
    for array in decision["arrays"]:
        known = read_array(folder, array["array"])
        if known is not None and known.state in (PLANNED, REFUSED):
            remove_quietly(folder.job(known.array))
        else:
            kept.append(array)
    if kept:
        write_json(path, dict(decision, arrays=kept))
    else:
        remove_quietly(path)


def _decide(folder: RunFolder, scheduler: Scheduler, request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the decision: what the client shows of it, and the documents of the new arrays."""
    status = RunStatus(folder, request.get("site") or {}, scheduler)
    answer = status_answer(status)
    status.save()
    policy = Policy(request.get("policy") or {})
    candidates = status.failed()
    if policy.select is not None and answer["lifecycle_state"] == "abandoned":
        candidates = sorted(set(candidates) | {t for t in policy.select if status.state[t] == 0})
    diagnoses = diagnose(status, candidates)
    usable_nodes: List[str] = []  # read only when a node is to be avoided; a failed query avoids none
    if any(diagnosis.found.name == "node_failure" for diagnosis in diagnoses):
        with suppress(NodeError):
            usable_nodes = scheduler.usable_nodes()
    groups, blocked = decide(diagnoses, policy, usable_nodes)
    shown = [
        {"tasks": encode_ranges(group.ids)[:2000], "count": len(group.ids), "classes": group.classes,
         "resources": group.resources, "exclude_nodes": group.placement.get("exclude_nodes") or []}
        for group in groups
    ]  # fmt: skip
    return {
        "groups": shown,  # tasks to submit again
        "blocked": [refusal.to_json(status.run.executor) for refusal in blocked],
        "arrays": [array.to_json() for array in _arrays(status, groups, request)],
        "ended": [[d.task, d.array.generation, d.found.name, d.facts.host, d.facts.seconds] for d in diagnoses],
        "left": {name: answer["counts"][name] for name in ("running", "pending", "unknown")},
        "lifecycle_state": answer["lifecycle_state"],
        "held_for_canary": answer["held_for_canary"],
        "stale": status.stale,  # a query that failed
    }


def _arrays(status: RunStatus, groups: List[Group], request: Dict[str, Any]) -> List[Array]:
    """Return the arrays of a new generation, none above the cluster's array size."""
    generation = max(array.generation for array in status.arrays) + 1
    size = int(request["max_array_size"])
    arrays: List[Array] = []
    for group in groups:
        ids = sorted(group.ids)
        # Short tasks that were packed are packed again only where there are many of them, or where some run at once.
        pack = group.pack if len(ids) > size else min(group.at_once, len(ids))
        for first in range(0, len(ids), size * pack):
            part = ids[first : first + size * pack]
            name = "r%d-%d" % (generation, len(arrays))
            arrays.append(Array(
                name, encode_ranges(part), request["job_prefix"] + name, -(-len(part) // pack), pack, min(group.at_once, pack),
                generation=generation, resources=group.resources, placement=group.placement,
                chain=status.run.chain, resubmit=request["request_id"], classes=group.classes,
                fingerprints=group.fingerprints,
            ))  # fmt: skip
    return _within_limits(arrays, int(request.get("max_running") or 0), status)


def _within_limits(arrays: List[Array], most_running: int, status: RunStatus) -> List[Array]:
    """Return the arrays, no more resubmissions ready at once than the cluster's limit on arrays.

    ``most_running``: the run's limit on running elements (0: none). The arrays share it, and wait for the earlier ones that
    are under way, which have it until then.
    """
    if not arrays:
        return arrays
    earlier = [entry for entry in status.arrays if entry.job_id and _is_under_way(status, entry)]
    width = int(status.run.constraints.get("max_concurrent_jobs") or len(arrays) + len(earlier))
    if most_running:
        width = min(width, most_running, len(arrays))
    else:
        earlier = [entry for entry in earlier if entry.resubmit]
    names = [entry.array for entry in earlier] + [array.array for array in arrays]
    found = []
    for number, array in enumerate(arrays):
        before = number + len(earlier) - width
        after = [names[before]] if before >= 0 else []
        if most_running and number < width:
            after = names[: len(earlier)]
        share = most_running // width + (number % width < most_running % width)
        found.append(array._replace(max_running=share or None, after=after))
    return found


def _is_under_way(status: RunStatus, entry: Array) -> bool:
    return any(True for state in (PENDING, RUNNING, UNKNOWN) for _ in status.with_state(state, entry))
