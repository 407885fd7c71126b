"""The helpers that experiments import: ``@register_run``, ``prior``, ``report``, and the helpers for series.

They travel with every run: Python 3.6, the standard library, and a few modules of ``node/shared``.
"""

from .early_stop import report, reports, should_stop
from .history import prior
from .registered_functions import main, read_kw_env, register_run, write_metrics

__all__ = ["main", "prior", "read_kw_env", "register_run", "report", "reports", "should_stop", "write_metrics"]
