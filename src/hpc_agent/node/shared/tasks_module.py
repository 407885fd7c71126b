"""Import .hpc/tasks.py, and identify a task by the canonical bytes of its parameters."""

import hashlib
import json
import os
import sys
from typing import Any, Dict

DIGEST_BYTES = 4


def load_tasks(path: str) -> Any:
    """Import the file ``path`` as the module ``tasks``, without a bytecode cache. Its folder and repo are importable."""
    import importlib.util

    sys.dont_write_bytecode = True
    for folder in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("tasks", path)
    if spec is None or spec.loader is None:
        raise ImportError("cannot import %s" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tasks"] = module
    spec.loader.exec_module(module)
    return module


def canonical(kwargs: Dict[str, Any]) -> bytes:
    """Return the bytes that identify the parameters of a task: compact JSON with sorted keys."""
    return json.dumps(kwargs, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest(kwargs: Dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical(kwargs)).digest()[:DIGEST_BYTES]
