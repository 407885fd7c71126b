"""Numbers, times, sizes and lists as a person reads them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400
ISO = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?")


def number(value: float) -> str:
    """Return a number without digits that nobody needs: 6 of a fraction."""
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def counted(count: int, noun: str) -> str:
    """Return ``1 task`` or ``12,000 tasks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return ``0.02 s``, ``48 s``, ``12 min``, ``3 h 20 min`` or ``2 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    for unit, name, part, part_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if seconds >= unit:
            whole, rest = divmod(round(seconds / part), unit // part)
            return f"{whole} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Return a number of bytes as ``900 B``, ``54 KiB``, ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{number(round(count, 1 if count < 10 else 0))} {unit}"
        count /= 1024
    return f"{number(round(count, 1))} TiB"


def clock(value: Any) -> str:
    """Return a time (seconds since the epoch, or ISO text) as ``2026-11-29 20:47``, in this machine's zone."""
    if isinstance(value, (int, float)):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    return moment(str(value))


def moment(text: str) -> str:
    """Return ISO text in UTC as ``2026-11-29 20:47`` of this machine's zone; other text as it is."""
    found = ISO.fullmatch(text)
    if not found or found[5] not in ("Z", "+00:00"):
        return text
    import calendar

    seconds = calendar.timegm(time.strptime(f"{found[1]} {found[2]}", "%Y-%m-%d %H:%M"))
    return clock(float(seconds))


def counts(facts: Mapping[str, Any]) -> str:
    """Return ``8 complete, 4 failed``: what is not zero, in the given order."""
    parts = [f"{value:,} {name.replace('_', ' ')}" for name, value in facts.items() if isinstance(value, int) and value]
    return ", ".join(parts)


def pairs(facts: Mapping[str, Any]) -> str:
    """Return ``x=29, model=ridge``."""
    return ", ".join(f"{name}={brief(value)}" for name, value in facts.items() if value is not None)


def brief(value: Any) -> str:
    """Return any value on one line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, Mapping):
        return pairs(value) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(brief, value)) or "-"
    return str(value)


def named(name: str, value: Any) -> str:
    """Return a value whose name tells its unit: ``walltime_sec`` 14400 is ``4 h``."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if plain and re.search(r"(^|_)(sec|seconds)$", name):
        return duration(value)
    if plain and name.endswith("_mb"):
        return size(value * 1024 * 1024)
    if plain and re.search(r"(^|_)bytes$", name):
        return size(value)
    if plain and re.search(r"hours$", name):
        return f"{value:.3g}"
    if name.endswith(("_at", "_seen")) and (plain or isinstance(value, str)):
        return clock(value)
    return brief(value)


def ranges_and_more(facts: Mapping[str, Any]) -> str:
    """Return ranges of tasks (``count``, ``ranges``, ``truncated``)."""
    return f"{facts['ranges']}{' and more' if facts.get('truncated') else ''}"
