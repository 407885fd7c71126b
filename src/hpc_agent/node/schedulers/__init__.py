"""Scheduler adapters. An adapter of another package is deployed beside this package, as ``_hpc_backend.py``."""

import importlib
import importlib.util
from typing import Any, Dict

from ..shared.errors import NodeError
from ..shared.scheduler_names import BUILT_IN
from .base import Scheduler


def load(name: str, site: Dict[str, Any]) -> Scheduler:
    """Return the adapter called ``name``. Raises NodeError ``spec_invalid`` for an unknown one."""
    if name in BUILT_IN:
        module = importlib.import_module(".%s.adapter" % name, __name__)
        return getattr(module, BUILT_IN[name]).for_site(site)  # type: ignore[no-any-return]
    if importlib.util.find_spec("_hpc_backend") is None:
        raise NodeError("spec_invalid", "no scheduler adapter %r is deployed" % name)
    return importlib.import_module("_hpc_backend").scheduler(site)  # type: ignore[no-any-return]
