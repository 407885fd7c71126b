"""The error that crosses from the node side to the client, and the version of what both speak."""

import time
from typing import Any, Dict, Optional

PROTOCOL = 1


class NodeError(Exception):
    """An error the client turns into an envelope: ``code`` is one of its error codes."""

    def __init__(
        self, code: str, message: str, remediation: Optional[str] = None, details: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remediation = remediation
        self.details = details or {}


def iso(seconds: Optional[float] = None) -> str:
    """Seconds since the epoch as ``2026-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if seconds is None else seconds))
