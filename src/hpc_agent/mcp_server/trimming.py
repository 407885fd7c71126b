"""Keep a result within its bytes: what is cut off is named, with the call that gives the rest."""

from __future__ import annotations

import json
from typing import Any

from hpc_agent.errors import SpecInvalid

# 4,000 tokens of four bytes, less the room for summary, next and the calls that give the rest.
MOST_BYTES = 4000 * 4 - 2000
_CUTS = 6
# A result is cut between its own fields only when it has more than so many.
_MANY = 50


def size(value: Any) -> int:
    """Return the bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def fit(data: Any, most: int = MOST_BYTES) -> tuple[Any, list[dict[str, Any]]]:
    """Return the data with its largest parts cut until it fits, and the cuts: ``field``, ``shown``, ``of``."""
    cuts: dict[str, dict[str, Any]] = {}
    for _ in range(_CUTS):
        excess = size(data) - most
        if excess <= 0:
            break
        path = _largest(data)
        whole = part_at(data, path)
        short = _head(whole, max(0, size(whole) - excess - 20))
        data = _replaced(data, path, short)
        name = ".".join(map(str, path))
        cuts[name] = {"field": name, "shown": len(short), "of": cuts.get(name, {}).get("of", len(whole))}
    return data, list(cuts.values())


def _largest(data: Any) -> list[str | int]:
    """Return the path to the part to cut: the largest one that does not owe most of its size to one part of its own."""
    path: list[str | int] = []
    while True:
        children = list(data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ())
        sizes = [(size(child), key) for key, child in children if isinstance(child, dict | list | str)]
        if not sizes:
            return path
        most, key = max(sizes, key=lambda pair: pair[0])
        # a list is cut between its items, unless one item is nearly all of it
        if (path or isinstance(data, list) or len(children) > _MANY) and most < size(data) * (
            0.9 if isinstance(data, list) else 0.5
        ):
            return path
        path.append(key)
        data = data[key]


def _head(whole: Any, most: int) -> Any:
    """Return the first items, or characters, of a part that fit into ``most`` bytes."""
    if isinstance(whole, str):
        return _head_of_text(whole, most)
    items = list(whole.items()) if isinstance(whole, dict) else list(whole)
    used = 2
    for number, item in enumerate(items):
        used += size(item) + 2
        if used > most:
            items = items[:number]
            break
    return dict(items) if isinstance(whole, dict) else items


def _head_of_text(whole: str, most: int) -> str:
    """Return the longest beginning of a text that fits as JSON, where quotes and line ends take two bytes."""
    low, high = 0, len(whole)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(whole[:middle]) <= most else (low, middle - 1)
    return whole[:low]


def _replaced(data: Any, path: list[str | int], value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(data, dict):
        return {**data, key: _replaced(data[key], rest, value)}
    return [_replaced(item, rest, value) if number == key else item for number, item in enumerate(data)]


def part_at(data: Any, path: list[str | int] | list[str]) -> Any:
    """Return the part of the data at a path. Raises SpecInvalid, which names the fields that are there."""
    for key in path:
        try:
            data = data[int(key)] if isinstance(data, list) else data[key]
        except (KeyError, IndexError, ValueError, TypeError):
            known = _known(data)
            message = f"the result has no field '{'.'.join(map(str, path))}' (there: {known})"
            raise SpecInvalid(message, field="field", remediation="Name one of these, then call again.") from None
    return data


def _known(data: Any) -> str:
    """Return the fields that a part has."""
    if isinstance(data, dict):
        return ", ".join(list(data)[:20])
    return f"numbers below {len(data)}" if isinstance(data, list) else "none: it is a single value"


def page(data: Any, field: str, offset: int) -> tuple[Any, dict[str, Any] | None]:
    """Return the part ``field`` from ``offset`` on, as much as fits, and the cut at its end. Raises SpecInvalid."""
    whole = part_at(data, field.split(".") if field else [])
    if not isinstance(whole, dict | list | str):
        return whole, None
    rest: Any = dict(list(whole.items())[offset:]) if isinstance(whole, dict) else whole[offset:]
    shown = _head(rest, MOST_BYTES)
    if rest and not shown:  # one item that is larger than a whole answer
        key = next(iter(rest)) if isinstance(rest, dict) else offset
        return page(data, f"{field}.{key}".lstrip("."), 0)
    end = offset + len(shown)
    return shown, {"field": field, "shown": end, "of": len(whole)} if end < len(whole) else None
