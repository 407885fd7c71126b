"""Values as Python literals, wrapped as a person would wrap them."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 110


def literal(value: Any, indent: int = 0, prefix: int = 0) -> str:
    """Return ``value`` (text, numbers, booleans, None, lists, dicts) as source, on one line if it fits.

    ``indent`` is the indent of the first line, and ``prefix`` the number of characters before the literal on it.
    """
    line = _line(value)
    if len(line) + indent + prefix <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        rows = [f"{_line(key)}: " for key in value]
        rows = [row + literal(item, indent + 4, len(row)) for row, item in zip(rows, value.values(), strict=True)]
        opening, closing = "{", "}"
    else:
        rows = [literal(item, indent + 4) for item in value]
        rows = _filled(rows, indent + 4) if all(not isinstance(item, (dict, list)) for item in value) else rows
        opening, closing = "[", "]"
    return opening + "\n" + "".join(f"{inner}{row},\n" for row in rows) + " " * indent + closing


def _line(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_line(key)}: {_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_line, value)) + "]"
    return repr(value)


def _filled(rows: list[str], indent: int) -> list[str]:
    """Return lines that hold as many of the items as fit."""
    lines: list[str] = []
    for row in rows:
        if lines and len(lines[-1]) + len(row) + 2 + indent <= WIDTH:
            lines[-1] += ", " + row
        else:
            lines.append(row)
    return lines
