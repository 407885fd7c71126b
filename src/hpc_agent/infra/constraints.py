"""The limits of a cluster (the ``constraints`` block of clusters.yaml), and durations as people write them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.errors import SpecInvalid

_SECONDS = re.compile(r"[0-9]{1,9}")
_CLOCK = re.compile(r"(?:([0-9]{1,5})-)?([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])")
_DAYS_HOURS = re.compile(r"([0-9]{1,5})-([0-9]{1,2})(?::([0-5][0-9]))?")
_UNITS = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,9})s)?")
_WEIGHTS = (86400, 3600, 60, 1)


class ClusterConstraints(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that a submission plan keeps to. Durations are in seconds."""

    max_array_size: Annotated[int, Meta(ge=1, description="elements that one array may have")] = 1000
    max_concurrent_jobs: Annotated[
        int, Meta(ge=1, description="arrays that may be ready at once; each more waits for an end")
    ] = 10
    max_walltime_sec: Annotated[int, Meta(ge=1, description="walltime that an element may ask for")] = 86400
    est_spin_up_sec: Annotated[int, Meta(ge=1, description="estimated wait in the queue and start-up of a wave")] = 300
    max_tasks: Annotated[int, Meta(ge=1, description="tasks that one run may have")] = 1_000_000
    max_submitted: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="elements that you may have submitted at once, all of your jobs counted; what is above waits"),
    ] = None


def parse_constraints(document: Mapping[str, Any] | None = None, field: str = "constraints") -> ClusterConstraints:
    """Return the constraints of a mapping; a limit that is left out has its default.

    ``max_walltime`` and ``est_spin_up`` are durations (``parse_duration``), also accepted under the field's full name.
    Raises SpecInvalid, naming ``field`` and the key, for an unknown key, a wrong type, or a value below one.
    """
    document = {} if document is None else document
    if not isinstance(document, Mapping):
        raise _invalid(field, f"must be a mapping of limits, not {_kind(document)}")
    values: dict[str, int] = {}
    for key, value in document.items():
        # A field in seconds is written without its unit, because the value carries one: est_spin_up: 5m.
        name = key if key in ClusterConstraints.__struct_fields__ else f"{key}_sec"
        if name not in ClusterConstraints.__struct_fields__:
            raise _unknown(field, key)
        path = f"{field}.{key}"
        if name in values:
            raise _invalid(path, f"is given twice: {name.removesuffix('_sec')} and {name} are the same limit")
        if value is not None or name != "max_submitted":
            values[name] = parse_duration(value, path) if name.endswith("_sec") else _positive(value, path)
    return ClusterConstraints(**values)


def parse_duration(value: Any, field: str) -> int:
    """Return the seconds of a number, ``24:00:00``, ``1-12:00:00`` (also ``1-12``) or ``90s``, ``5m``, ``1h30m``, ``7d``.

    ``30:00`` is refused: it is 30 minutes to SLURM and 30 hours to some readers. Raises SpecInvalid naming ``field``.
    """
    if not isinstance(value, str):
        return _positive(value, field)
    text = value.strip().lower()
    if _SECONDS.fullmatch(text):
        return _positive(int(text), field)
    match = _CLOCK.fullmatch(text) or _DAYS_HOURS.fullmatch(text) or (text and _UNITS.fullmatch(text))
    if not match:
        raise _invalid(field, f"is {value!r}; write seconds, 24:00:00, 1-12:00:00, 90s, 5m, 1h30m or 7d")
    parts = zip(match.groups(), _WEIGHTS, strict=False)
    return _positive(sum(int(amount) * weight for amount, weight in parts if amount), field)


def _positive(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(field, f"must be a whole number, not {_kind(value)}")
    if value < 1:
        raise _invalid(field, f"is {value}; it must be at least 1")
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _invalid(field: str, complaint: str) -> SpecInvalid:
    return SpecInvalid(
        f"{field} {complaint}",
        field=field,
        remediation=f"Correct {field}; 'hpc-agent capabilities --full' lists the keys with their types and defaults.",
    )


def _unknown(field: str, key: Any) -> SpecInvalid:
    known = [name.removesuffix("_sec") for name in ClusterConstraints.__struct_fields__]
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known)}"
    error = _invalid(f"{field}.{key}", f"is not a known key; {hint}")
    error.details.update(known=known, closest=close[0] if close else None)
    return error
