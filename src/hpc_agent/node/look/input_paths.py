"""Report the existence and kind of paths on the cluster."""

import os
from typing import Any, Dict

MAX_PATHS = 1000


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
