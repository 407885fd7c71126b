"""The start of a task whose executor is a function."""

from typing import Any, Dict

from .loading import load_function
from .registered_functions import call, write_metrics


def run_function(entry: str, root: str, kwargs: Dict[str, Any]) -> int:
    """Call the function ``path.py:name`` with ``kwargs`` and write metrics.json. Return the exit code 0."""
    metrics = call(load_function(entry, root), kwargs)
    if metrics:
        write_metrics(metrics)
    return 0
