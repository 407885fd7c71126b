"""Report the partitions (or queues) of the cluster, the limits that hold for this user, and the paths that exist."""

import os
import pwd
from typing import Any, Dict, List, Optional

from ..schedulers import load
from ..schedulers.base import Limit, Partition, clean_environment
from ..shared.commands import run_command
from ..shared.errors import NodeError

TIMEOUT_SEC = 30.0
MAX_PATHS = 1000


class SiteQuery(object):
    """Runs the scheduler's commands. A tool that fails is listed in ``errors``; it is not run again, and gives empty texts."""

    def __init__(self) -> None:
        self.environment: Dict[str, str] = {}  # beside a clean one
        self.errors: List[Dict[str, str]] = []

    def __call__(self, *argv: str) -> str:
        failure = argv[0] + "_failed"
        if any(error["code"] == failure for error in self.errors):
            return ""  # a database that does not answer must not be waited for again and again
        try:
            code, out, err = run_command(argv, TIMEOUT_SEC, env=clean_environment(self.environment))
        except NodeError as error:
            code, out, err = 1, "", error.message
        if code == 0:
            return out
        self.errors.append({"code": failure, "detail": (err or out).strip()[:300]})
        return ""


def site(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return partitions, limits, the user's submitted elements, and the errors of commands that failed.

    Request: ``scheduler`` and ``site``. The fields are described in infra/partitions.py.
    """
    query = SiteQuery()
    partitions: List[Partition] = []
    limits: List[Limit] = []
    submitted: Optional[int] = None
    try:
        scheduler = load(str(request["scheduler"]), request.get("site") or {})
        query.environment = scheduler.query_environment
        partitions, limits = scheduler.partitions_and_limits(query)
        submitted = scheduler.submitted_elements()
    except NodeError as error:
        query.errors.append({"code": "queue_failed", "detail": error.message[:300]})
    return {
        "scheduler": str(request["scheduler"]),
        "partitions": [dict(p._asdict(), gpus=[dict(gpu._asdict()) for gpu in p.gpus]) for p in partitions],
        "limits": [dict(limit._asdict()) for limit in limits],
        "user": {"name": pwd.getpwuid(os.getuid()).pw_name, "submitted": submitted},
        "errors": query.errors,
    }


def paths(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return for each of ``paths``: exists, kind (file, folder), readable, and bytes of a file."""
    found = {}
    for path in list(request.get("paths") or [])[:MAX_PATHS]:
        full = os.path.expanduser(str(path))
        exists = os.path.exists(full)
        facts: Dict[str, Any] = {"exists": exists}
        if exists:
            facts.update(kind="folder" if os.path.isdir(full) else "file", readable=os.access(full, os.R_OK))
            if facts["kind"] == "file":
                facts["bytes"] = os.path.getsize(full)
        found[str(path)] = facts
    return {"paths": found}
