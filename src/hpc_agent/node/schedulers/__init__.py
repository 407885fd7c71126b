"""Scheduler adapters. ``load`` gives the one that a run names; another package's adapter travels as
``_hpc_backend.py``.
"""

import importlib
import importlib.util
import os
import sys
from typing import Any, Dict

from ..shared.errors import NodeError
from ..shared.scheduler_names import BUILT_IN
from .base import Scheduler


def load(name: str, site: Dict[str, Any]) -> Scheduler:
    """The adapter called ``name``. Raises NodeError ``spec_invalid`` for an unknown one."""
    if name in BUILT_IN:
        module = importlib.import_module(".%s.adapter" % name, __name__)
        return getattr(module, BUILT_IN[name]).for_site(site)  # type: ignore[no-any-return]
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "_hpc_backend.py")
    if not os.path.isfile(path):
        raise NodeError("spec_invalid", "no scheduler adapter %r is deployed" % name)
    spec = importlib.util.spec_from_file_location("_hpc_backend", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_hpc_backend"] = module
    spec.loader.exec_module(module)
    return module.scheduler(site)  # type: ignore[no-any-return]
