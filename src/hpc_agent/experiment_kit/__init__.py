"""The helpers that experiments import: ``@register_run`` and the helpers for series.

They travel with every run: Python 3.6, standard library only, no import from the rest of the package.
"""

from .registered_functions import main, read_kw_env, register_run, write_metrics

__all__ = ["main", "read_kw_env", "register_run", "write_metrics"]
