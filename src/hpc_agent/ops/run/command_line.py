"""Write a request as the command line that makes the same call: for a next step that runs as printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from hpc_agent.contract.catalogue import Flag, catalogue_entry
from hpc_agent.contract.primitive import REGISTRY, Request
from hpc_agent.infra.transport import quote

_MISSING = object()


def command_line(verb: str, request: Request | dict[str, Any]) -> str:
    """Return ``hpc-agent VERB --flag value ...`` for the fields that differ from their defaults. ``verb`` is registered."""
    document = msgspec.to_builtins(request)
    return quote(
        [
            "hpc-agent",
            verb,
            *(word for flag in catalogue_entry(REGISTRY[verb]).flags for word in _words(flag, document)),
        ]
    )


def _words(flag: Flag, document: Any) -> Iterator[str]:
    value = document
    for name in flag.path:
        value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
    if value is _MISSING or value is None or (value == flag.default and not flag.required):
        return
    if isinstance(value, bool):
        yield flag.flag if value else f"--no-{flag.flag[2:]}"
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if flag.kind in ("ints", "strs") and not any("," in str(item) for item in value):
        text = ",".join(map(str, value))
    # An option of another program (--nice=5) is no option of hpc-agent.
    yield from [f"{flag.flag}={text}"] if text.startswith("-") else [flag.flag, text]
