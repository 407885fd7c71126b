"""What a look says of the canary: the one task that was sent first."""

import os
from typing import Any, Dict

from ..look import records
from ..look.report import describe
from ..look.survey import Survey
from ..shared import run_folder, task_environment, task_states
from ..shared.ledger import arrays_of
from .failure_groups import cluster, diagnose


def canary(request: Dict[str, Any]) -> Dict[str, Any]:
    """State of task 0, what it measured beside what it asked for, its metrics, and why it failed."""
    survey = Survey(run_folder.existing_run(request["root"], request["run_id"]), request.get("site") or {})
    status = describe(survey)
    survey.save()
    state = task_states.NAMES[survey.state[0]]
    record = records.read(survey.folder, 0) or {}
    entry = survey.covering(0)[0]
    return {
        "state": state,
        "unexplained": survey.unexplained,
        "stale": survey.stale,
        "waiting": status["waiting"],
        "lifecycle_state": status["lifecycle_state"],
        "held": sum(1 for other in arrays_of(survey.folder) if other.held),
        "asked": {key: (entry.resources).get(key) for key in ("walltime_sec", "mem_mb", "cpus")},
        "measured": {key: record.get(key) for key in ("seconds", "max_rss_mb", "cpu_seconds", "host")},
        "metrics": record.get("metrics"),
        "metrics_problem": record.get("metrics_problem"),
        "missing_output": _missing(survey, record, request.get("expect_output")),
        "failure": cluster(diagnose(survey, [0]), 50)[0] if state == "failed" else None,
    }


def _missing(survey: Survey, record: Dict[str, Any], expected: Any) -> bool:
    """Whether a file that was asked for is not in the task's result folder."""
    if not expected or survey.state[0] != task_states.COMPLETE:
        return False
    template, run_id = survey.run["result_dir_template"], survey.run["run_id"]
    folder = task_environment.result_folder(template, run_id, 0, record.get("kwargs") or {})
    return not os.path.exists(os.path.join(survey.folder.path, folder, os.path.normpath("/" + expected).lstrip("/")))
