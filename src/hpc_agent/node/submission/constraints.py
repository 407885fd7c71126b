"""Change what the waiting elements of a run ask for: constraint, partition, a lower walltime. Running work is not touched.

The scheduler is asked first, then the ledger is written: a call that was killed in between is repeated with the same effect.
"""

from typing import Any, Dict, List

from ..schedulers.base import Job, Scheduler
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_json
from ..shared.ledger import SUBMITTED, Array, arrays_of, summary, write_array
from ..shared.ranges import count, decode_ranges, encode_ranges
from .run_plan import requests_of
from .run_submission import write_plan_of_run
from .submitter import RunLock, Submitter, resources_of


def constrain(request: Dict[str, Any]) -> Dict[str, Any]:
    """Change the jobs that wait, and the arrays that are not submitted yet. Nothing is changed where a value does not fit.

    Request: ``add_features``, ``set_features`` (lists or None), ``partition``, ``walltime_sec``. Returns the job ids
    ``updated``, ``failed`` and ``left`` {job: reason}, the ``planned`` arrays, and the ``constraints`` by array.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    site = request.get("site") or {}
    with RunLock(folder.lock, request["owner"]) as lock:
        submitter = Submitter(folder, request, lock.check)
        submitter.look_up_intents()  # an interrupted submission may have a job, which waits like any other
        scheduler = submitter.scheduler
        if scheduler.constraint_separator is None:
            message = "this scheduler cannot change what a waiting job asks for"
            raise NodeError("precondition_failed", message, "See 'hpc-agent status --run-id %s'." % request["run_id"])
        arrays = arrays_of(folder)
        waiting = _waiting(scheduler, arrays)
        open_arrays = [array for array in arrays if array.state != SUBMITTED or str(array.job_id) in waiting]
        changed = {array.array: _changed(array, request, str(scheduler.constraint_separator)) for array in open_arrays}
        answer: Dict[str, Any] = {"updated": [], "failed": {}, "left": {}, "planned": []}
        for array in arrays:
            job, new = str(array.job_id), changed.get(array.array)
            if new is None:
                answer["left"][job] = "none of its elements waits"
            elif array.state != SUBMITTED:
                write_array(folder, new)
                answer["planned"].append(array.array)
            elif scheduler.changes_whole_jobs and count(waiting[job]) < array.elements:
                answer["left"][job] = "some of its elements have started, and this scheduler changes whole jobs only"
            else:
                lock.check()
                try:
                    scheduler.change_waiting(job, waiting[job], _job(new, site), _fields(request))
                except NodeError as error:
                    if error.code != "scheduler_refused":
                        raise
                    answer["failed"][job] = error.message
                else:
                    write_array(folder, new)
                    answer["updated"].append(job)
        alike = requests_of(folder)
        write_plan_of_run(
            folder, {name: alike[0][name] for name in ("resources", "placement")} if len(alike) == 1 else {}
        )
        constraints = {array.array: array.placement.get("constraint") for array in arrays_of(folder)}
        return dict(answer, constraints=constraints, arrays=summary(folder), run=read_json(folder.document))


def _waiting(scheduler: Scheduler, arrays: List[Array]) -> Dict[str, str]:
    """Return the waiting elements (ranges) of each job that has some."""
    jobs = [str(array.job_id) for array in arrays if array.job_id]
    found: Dict[str, List[int]] = {}
    for row in scheduler.queue(jobs) if jobs else ():
        if row.state in ("pending", "held"):
            found.setdefault(row.job, []).extend(decode_ranges(row.elements))
    return {job: encode_ranges(elements) for job, elements in found.items()}


def _fields(request: Dict[str, Any]) -> List[str]:
    """Return the fields that the request changes."""
    features = [request.get(name) for name in ("add_features", "set_features")]
    named = ["constraint"] if any(value is not None for value in features) else []
    return named + [name for name in ("partition", "walltime_sec") if request.get(name) is not None]


def _changed(array: Array, request: Dict[str, Any], separator: str) -> Array:
    """Return the array as it is to be. Raises NodeError ``spec_invalid``: a longer walltime, or features that cannot be added."""
    placement, resources = dict(array.placement), dict(array.resources)
    before = placement.get("constraint") or ""
    if request.get("set_features") is not None:
        placement["constraint"] = separator.join(request["set_features"]) or None
    elif request.get("add_features") is not None:
        if any(sign in before for sign in "|[]()*&," if sign != separator):
            message = "nothing can be added to the constraint %r of array %s" % (before, array.array)
            raise NodeError("spec_invalid", message, "Name the whole constraint with --set-features, then call again.")
        names = [name for name in before.split(separator) if name]
        placement["constraint"] = separator.join(names + [n for n in request["add_features"] if n not in names]) or None
    if request.get("partition") is not None:
        placement["partition"] = request["partition"]
    if request.get("walltime_sec") is not None:
        asked = resources.get("walltime_sec")
        if asked and request["walltime_sec"] > asked:
            message = "array %s asks for %d s: a job that waits can be given less, not more" % (array.array, asked)
            remedy = "Name at most %d for --walltime-sec, then call again." % asked
            raise NodeError("spec_invalid", message, remedy)
        resources["walltime_sec"] = request["walltime_sec"]
    return array._replace(placement=placement, resources=resources)


def _job(array: Array, site: Dict[str, Any]) -> Job:
    resources = resources_of(array)
    return Job(array.name, array.elements, "", "", "", resources=resources, placement=array.placement, site=site)
