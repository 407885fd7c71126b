"""Write a request as the command line that makes the same call: for a next step that runs as printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from hpc_agent.contract.catalogue import Flag, flags_of, parse_value
from hpc_agent.contract.primitive import Request
from hpc_agent.infra.transport import quote


def command_line(verb: str, request: Request) -> str:
    """Return ``hpc-agent VERB --flag value ...`` with the fields of ``request`` that differ from their defaults."""
    document = msgspec.to_builtins(request)
    words = (word for flag in flags_of(type(request), []) for word in _words(flag, document))
    return quote(["hpc-agent", verb, *words])


def _words(flag: Flag, value: Any) -> Iterator[str]:
    """Yield the words that give the field of ``flag`` in the document ``value``: none where it has its default."""
    for name in flag.path:
        value = value[name]
    if value is None or (value == flag.default and not flag.required):
        return
    if isinstance(value, bool):
        yield flag.flag if value else f"--no-{flag.flag[2:]}"
        return
    is_text = isinstance(value, str) and parse_value(flag, value) == value
    text = value if is_text else json.dumps(value, ensure_ascii=False)
    if flag.kind in ("ints", "strs") and parse_value(flag, joined := ",".join(map(str, value))) == value:
        text = joined
    # Options of another program (--nice=5) must not be taken for options of hpc-agent.
    yield from [f"{flag.flag}={text}"] if text.startswith("-") else [flag.flag, text]
