"""Answer questions about runs in the words of the catalogue: their state with the causes of failures, and logs."""

from collections import Counter
from typing import Any, Dict, Optional

from ..look import usage
from ..look.known_runs import statuses
from ..look.logs import LINE_LIMIT, SchedulerLogs, added, end_of, log_tail, newest_log
from ..look.patience import await_end
from ..look.report import status_answer
from ..look.run_status import RunStatus
from ..shared import run_folder, task_record
from ..shared.errors import NodeError
from ..shared.task_records import Records
from ..shared.task_states import FAILED, LOST
from .diagnosis import Diagnosis, classes_of, diagnose
from .history import Earlier, attempts_of

SAMPLES_AT_MOST = 12


def report(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the status of a run; once it has ended, also the resources that its tasks used, unless the client has them.

    The client says what it has by ``measured_as``, the stamp of that answer (an older client by ``measure``). For ``wait_sec``
    see await_end.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    waited = await_end(folder, request)
    status = RunStatus(folder, request.get("site") or {})
    answer = dict(with_causes(status), **waited)
    status.save()
    stamp = usage.stamp(status)
    lacks = request.get("measure") or request.get("measured_as", stamp) != stamp
    if lacks and answer["lifecycle_state"] != "in_flight":
        failed = diagnose(status, list(usage.spread(status.failed(), usage.MOST_ROWS // 3)))
        endings = {d.task: usage.Ending(d.found.name, d.facts, d.array) for d in failed}
        answer["measured"] = usage.used_resources(status.reader, status.total, endings)
        answer["measured_as"] = stamp
    return answer


def overview(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the status or the error of each run. Request: ``runs`` = [{root, run_id}]."""
    answers: Dict[str, Any] = {}
    for run_id, found in statuses(request):
        if isinstance(found, NodeError):
            answers[run_id] = {"error": found.message, "code": found.code}
        else:
            answers[run_id] = with_causes(found)
            found.save()
    return {"runs": answers}


def with_causes(status: RunStatus) -> Dict[str, Any]:
    """Return the answer with ``failures_by_cause`` and, for each cause, the failed task with the lowest id."""
    classes = classes_of(status)
    first: Dict[str, int] = {}
    for task in sorted(classes):
        first.setdefault(classes[task], task)
    failed = status.records.failed
    samples = [dict(failed[task].to_json(), cause=cause, task=task) for cause, task in first.items()]
    return dict(status_answer(status), failures_by_cause=Counter(classes.values()), samples=samples[:SAMPLES_AT_MOST])


def logs(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the last ``lines`` of the logs of ``tasks`` (ids), or of ``limit`` failed tasks with ``all_failed``.

    With ``since`` (task -> bytes that were seen) only the lines after them, and, unless ``ask``, only the states that
    records tell: the scheduler is not asked.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    total, since = run_folder.read_run(folder).task_count, request.get("since") or {}
    wanted = [int(task) for task in request.get("tasks") or []]
    outside = [task for task in wanted if not 0 <= task < total]
    if outside:
        raise NodeError("spec_invalid", "there is no task %d: the run has tasks 0 to %d" % (outside[0], total - 1))
    follows = request.get("since") is not None and not request.get("ask")
    status = None if follows else RunStatus(folder, request.get("site") or {})
    failed = status.failed() if status and request.get("all_failed") else None
    if failed is not None:
        wanted = failed[: int(request["limit"])]
    reader, outputs, earlier = status.reader if status else Records(folder), SchedulerLogs(folder), Earlier(folder)
    shown = []
    for task in wanted:
        log, seen, content = newest_log(reader, task), since.get(str(task)), ""
        size: Optional[int] = None
        if log is not None and seen is None:
            content, size = log_tail(log, int(request["lines"]), LINE_LIMIT), end_of(log)
        elif log is not None and seen is not None:
            content, size = added(log, int(seen))
        is_failed = status is not None and status.state[task] in (FAILED, LOST)
        last = diagnose(status, [task], outputs)[0] if status and is_failed else None
        row = _ending(status, task, last) if status else _recorded(reader, task)
        row.update(task=task, path=log and log.path, content=content, size=size, missing=log is None)
        if log is not None and log.is_part:
            row.update(offset=log.offset, length=log.length)
        row["scheduler_output"] = outputs.output(reader.arrays, task, int(request["lines"]))
        attempts = attempts_of(status, earlier, task, last.end() if last else None) if status else []
        shown.append(dict(row, attempts=attempts) if len(attempts) > 1 else row)
    if status:
        status.save()
    return {"logs": shown, "failed": None if failed is None else len(failed)}


def _recorded(reader: Records, task: int) -> Dict[str, Any]:
    record = reader.read(task)
    row = {name: getattr(record, name, None) for name in ("state", "cause", "message", "host")}
    return dict(row, message=row["message"] or None)


def _ending(status: RunStatus, task: int, last: Optional[Diagnosis]) -> Dict[str, Any]:
    """Return state, cause, message and host; ``state`` is None until the task has ended."""
    if last:
        facts = last.facts
        named = {"state": task_record.FAILED, "cause": last.found.name}
        return dict(named, message=facts.message or None, host=facts.host)
    row = _recorded(status.reader, task)
    return row if row["state"] == task_record.COMPLETE else dict.fromkeys(row)
