"""The error that crosses from the node side to the client, and the version of their protocol."""

from typing import Any, Dict, Optional

PROTOCOL = 1


class NodeError(Exception):
    """An error that the client turns into an envelope: ``code`` is one of its error codes."""

    def __init__(
        self, code: str, message: str, remediation: Optional[str] = None, details: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remediation = remediation
        self.details = details or {}
