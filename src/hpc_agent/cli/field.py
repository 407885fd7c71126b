"""``--field PATH``: one value of the answer, as text or as compact JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import msgspec

from hpc_agent.contract.envelope import Success, did_you_mean
from hpc_agent.errors import SpecInvalid

SHOWN, SEARCHED = 12, 2000
_ABSENT = object()


def check_path(path: str, verb: str, fields: Collection[str]) -> None:
    """Refuse a path that no answer of the verb has, before the call. Raises SpecInvalid, which names the nearest."""
    steps = _steps(path)
    known = {*fields, "partial_errors"} if steps[:1] == ["data"] else {*Success.__struct_fields__, *fields}
    first = steps[1:2] if steps[:1] == ["data"] else steps[:1]
    if not steps or (first and first[0] not in known and not any(name.startswith(f"{first[0]}.") for name in known)):
        message = f"--field {path}: no answer of '{verb}' has it"
        raise _unknown(message, did_you_mean("".join(first), known), known, verb)


def value_at(answer: dict[str, Any], path: str, verb: str) -> Any:
    """Return the value of ``path`` from the top of the envelope, or from its ``data``. Raises SpecInvalid."""
    steps = _steps(path)
    for root in (answer, answer["data"]):
        found = _look_up(root, steps)
        if found is not _ABSENT:
            return found
    parent: Any = answer if steps[0] in answer else answer["data"]
    done = 0
    while (below := _look_up(parent, steps[done : done + 1])) is not _ABSENT:
        parent, done = below, done + 1
    where = f"'{'.'.join(steps[:done])}'" if done else "the answer"
    known = list(parent) if isinstance(parent, dict) else []
    if isinstance(parent, list):
        where += f", a list of {len(parent)}"
    message = f"--field {path}: there is no '{steps[done]}' in {where}; the command itself succeeded"
    same = (found for found in islice(_paths(answer["data"], ""), SEARCHED) if found.rpartition(".")[2] == steps[done])
    hint = did_you_mean(steps[done], known) or "".join(f"Did you mean '{found}'? " for found in islice(same, 1))
    raise _unknown(message, hint, known, verb)


def as_text(value: Any) -> bytes:
    """Return text as it is, any other value as JSON on one line."""
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _steps(path: str) -> list[str]:
    return [step for step in re.split(r"[.\[\]]+", path) if step]


def _look_up(value: Any, steps: list[str]) -> Any:
    """Return the value that ``steps`` lead to; a key may hold dots (``optimizer.lr``)."""
    if not steps:
        return value
    if isinstance(value, list) and re.fullmatch(r"-?[0-9]+", steps[0]):
        index = int(steps[0])
        return _look_up(value[index], steps[1:]) if -len(value) <= index < len(value) else _ABSENT
    if isinstance(value, dict):
        for number in range(1, len(steps) + 1):
            key = ".".join(steps[:number])
            if key in value and (found := _look_up(value[key], steps[number:])) is not _ABSENT:
                return found
    return _ABSENT


def _paths(value: Any, prefix: str) -> Iterator[str]:
    """Yield the paths below ``value``, those of the first item of a list for all of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        path = f"{prefix}.{key}" if prefix else str(key)
        yield path
        yield from _paths(item, path)


def _unknown(message: str, hint: str, known: Collection[str], verb: str) -> SpecInvalid:
    names = sorted(known)
    listed = f"It has {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}. " if names and not hint else ""
    remedy = f"{hint}{listed}Run 'hpc-agent describe {verb}' to see what its answer holds."
    return SpecInvalid(message, field="--field", remediation=remedy)
