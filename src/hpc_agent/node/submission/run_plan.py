"""The arrays of a run in its ledger. An array that may have a job keeps its tasks; a later request changes the others only."""

import json
import os
from typing import Any, Collection, Dict, List

from ..shared.files import from_document, read_json, remove_quietly, write_json
from ..shared.ledger import INTENT, PLANNED, SUBMITTED, Array, arrays_of, write_array
from ..shared.run_folder import RunFolder

NAMES_SHOWN = 20


def add_arrays(folder: RunFolder, arrays: List[Array]) -> None:
    """Add the arrays that the ledger does not have, after its last one."""
    known = arrays_of(folder)
    names = {array.array for array in known}
    order = max([array.order for array in known], default=-1) + 1
    for array in arrays:
        if array.array not in names:
            write_array(folder, array._replace(state=PLANNED, order=order))
            order += 1


def apply_plan(folder: RunFolder, arrays: List[Array], never_sent: Collection[str]) -> bool:
    """Write the arrays of a request into the ledger; ``never_sent`` are intents of which the scheduler has no job.

    The new plan takes the place of the arrays that were not sent, if every array that may have a job is in the new plan
    with the same tasks. Otherwise a task would be in two arrays: the old plan stays, and the arrays of it that were not sent
    take the resources and the placement of the request. Return True if the new plan holds.
    """
    known = {array.array: array for array in arrays_of(folder) if array.resubmit is None}
    unsent = {n: a for n, a in known.items() if a.state != SUBMITTED and (a.state != INTENT or n in never_sent)}
    asked = {array.array: array for array in arrays}
    if all(n in asked and _shape(asked[n]) == _shape(a) for n, a in known.items() if n not in unsent):
        _replace(folder, arrays, known, unsent)
        return True
    for name, old in unsent.items():
        _correct(folder, old, asked.get(name, arrays[-1]))
    return False


def _shape(array: Array) -> Any:
    return array.tasks, array.pack, array.wave, array.generation, bool(array.chain)


def _replace(folder: RunFolder, arrays: List[Array], known: Dict[str, Array], unsent: Dict[str, Array]) -> None:
    """Write the new arrays. One that is there keeps its state, so that its job is looked up before the array is sent."""
    new, names = [], [array.array for array in arrays]
    for order, array in enumerate(arrays):
        old = unsent.get(array.array)
        if old is not None:
            new.append(array._replace(order=order, state=old.state, at=old.at, message=old.message))
        elif array.array not in known:
            new.append(array._replace(order=order))
    # A mixture of two plans would have tasks in two arrays, or in none.
    plan = {"arrays": [array.to_json() for array in new], "removed": [name for name in unsent if name not in names]}
    write_json(folder.new_plan, plan)
    finish_plan(folder)


def finish_plan(folder: RunFolder) -> None:
    """Put the new plan in place, also one that a kill interrupted."""
    plan = read_json(folder.new_plan)
    if plan is None:
        return
    known = {array.array: array for array in arrays_of(folder)}
    for document in plan["arrays"]:
        array = from_document(Array, document)
        if array != known.get(array.array):
            write_array(folder, array)
    for name in plan["removed"]:
        remove_quietly(folder.job(name))
    os.unlink(folder.new_plan)


def _correct(folder: RunFolder, old: Array, asked: Array) -> None:
    resources = dict(asked.resources)
    # A walltime for fewer tasks in turn would be too short.
    if (asked.pack, asked.at_once) != (old.pack, old.at_once):
        walltimes = [array.resources.get("walltime_sec") or 0 for array in (old, asked)]
        resources["walltime_sec"] = max(walltimes) or None
    new = old._replace(resources=resources, placement=asked.placement)
    if new != old:
        write_array(folder, new)


def requests_of(folder: RunFolder) -> List[Dict[str, Any]]:
    """Return what the arrays of the plan ask for: one entry for the arrays that ask alike, in the order of submission."""
    groups: Dict[str, Dict[str, Any]] = {}
    for array in arrays_of(folder):
        if array.resubmit is None:
            asked = {"resources": array.resources, "placement": array.placement}
            group = groups.setdefault(json.dumps(asked, sort_keys=True), dict(asked, arrays=[], count=0))
            group["count"] += 1
            if group["count"] <= NAMES_SHOWN:
                group["arrays"].append(array.array)
    return list(groups.values())
