"""What experiments import: ``@register_run`` and the helpers for series. Standard library of Python 3.6 only, because it
travels with every run; it imports nothing from the rest of the package.
"""

from .registered_functions import main, read_kw_env, register_run, write_metrics

__all__ = ["main", "read_kw_env", "register_run", "write_metrics"]
