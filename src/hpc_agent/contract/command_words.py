"""Write a request as the words of a command line, by the flags of its verb."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from hpc_agent.contract.catalogue import CatalogueEntry, Flag, parse_value


def flag_words(flag: Flag, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words that give the field of ``flag``: none where it is not given, or has its default."""
    value: Any = document
    for name in flag.path:
        value = value.get(name) if isinstance(value, Mapping) else None
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


def example_line(verb: str, entry: CatalogueEntry) -> str:
    """Return the example of a verb as a command line; a field that may be given without its flag is."""
    first: list[str] = []
    words: list[str] = []
    for flag in entry.flags:
        given = list(flag_words(flag, entry.example))
        if [entry.positional] == flag.path and len(given) == 2:
            first = given[1:]
        else:
            words += given
    return shlex.join(["hpc-agent", verb, *first, *words])
