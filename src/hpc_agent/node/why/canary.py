"""Report the canary: the one task that is submitted before the others."""

import os
from typing import Any, Dict, Optional

from ..look.report import status_answer
from ..look.run_status import RunStatus
from ..shared import run_folder, task_environment, task_states
from ..shared.task_record import TaskRecord, read_record
from .diagnosis import diagnose
from .failure_groups import group_answers


def canary(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the state of task 0, its resources as requested and as measured, its metrics, and its failure."""
    status = RunStatus(run_folder.existing_run(request["root"], request["run_id"]), request.get("site") or {})
    answer = status_answer(status)
    status.save()
    state = task_states.NAMES[status.state[0]]
    record = read_record(status.folder, 0)
    asked = status.arrays_with(0)[0].resources
    measured = ("seconds", "max_rss_mb", "cpu_seconds", "host")
    return {
        "state": state,
        "unexplained": status.unexplained,
        "stale": status.stale,
        "waiting": answer["waiting"],
        "lifecycle_state": answer["lifecycle_state"],
        "held": answer["held_for_canary"],
        "asked": {key: asked.get(key) for key in ("walltime_sec", "mem_mb", "cpus")},
        "measured": {key: getattr(record, key, None) for key in measured},
        "metrics": record.metrics if record else None,
        "metrics_problem": record.metrics_problem if record else None,
        "missing_output": _is_missing(status, record, request.get("expect_output")),
        "failure": group_answers(diagnose(status, [0]), 50)[0] if state == "failed" else None,
    }


def _is_missing(status: RunStatus, record: Optional[TaskRecord], expected: Any) -> bool:
    """Return True if the requested file is not in the result folder of the complete task."""
    if not expected or status.state[0] != task_states.COMPLETE:
        return False
    kwargs = (record and record.kwargs) or {}
    run = status.run
    folder = task_environment.result_folder(run.result_dir_template, run.run_id, 0, kwargs)
    return not os.path.exists(os.path.join(status.folder.path, folder, os.path.normpath("/" + expected).lstrip("/")))
