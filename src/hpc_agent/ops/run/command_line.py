"""Write a request as the command line that makes the same call: for a next step that runs as printed."""

from __future__ import annotations

import msgspec

from hpc_agent.contract.catalogue import flags_of
from hpc_agent.contract.command_words import flag_words
from hpc_agent.contract.primitive import Request
from hpc_agent.infra.transport import quote


def command_line(verb: str, request: Request) -> str:
    """Return ``hpc-agent VERB --flag value ...`` with the fields of ``request`` that differ from their defaults."""
    document = msgspec.to_builtins(request)
    words = (word for flag in flags_of(type(request), []) for word in flag_words(flag, document))
    return quote(["hpc-agent", verb, *words])
