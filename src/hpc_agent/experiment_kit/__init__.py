"""The helpers that experiments import: ``@register_run``, ``prior``, and the helpers for series.

They travel with every run: Python 3.6, the standard library, and of the package ``node/shared/moments.py`` alone.
"""

from .history import prior
from .registered_functions import main, read_kw_env, register_run, write_metrics

__all__ = ["main", "prior", "read_kw_env", "register_run", "write_metrics"]
