"""Write a time as text."""

import time
from typing import Optional


def iso(seconds: Optional[float] = None) -> str:
    """Return seconds since the epoch, or the time now, as ``2026-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if seconds is None else seconds))
