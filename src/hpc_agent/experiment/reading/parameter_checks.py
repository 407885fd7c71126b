"""A task's parameters held against the flags of its executor."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import msgspec

from hpc_agent.experiment.reading.entries import Entry, output_flag
from hpc_agent.experiment.reading.flag_facts import FlagFacts
from hpc_agent.experiment_kit.runs import PLACING

_NUMBERS = {"int": (int,), "float": (int, float)}


class Problem(msgspec.Struct, frozen=True):
    """One thing that does not fit. ``severity`` is error, warning or info."""

    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    fix: str
    field: str = "axes"
    evidence: dict[str, Any] = {}


def check_kwargs(entry: Entry, kwargs: dict[str, Any]) -> list[Problem]:
    """Unknown parameters, required ones that are missing, values that the executor would refuse.

    Where the source does not tell all flags of a script, an unknown parameter is a warning.
    """
    flags = {flag.name: flag for flag in entry.flags}
    output = None if entry.is_function else output_flag(entry)
    found = []
    for name, value in kwargs.items():
        if name in flags:
            found += _check_value(entry, flags[name], value)
        elif name not in PLACING and not entry.accepts_any:
            found.append(_unknown(entry, name, list(flags)))
    missing = [f for f in entry.flags if f.required and f.name not in kwargs and f is not output]
    return found + [_missing(entry, flag) for flag in missing]


def _unknown(entry: Entry, name: str, known: list[str]) -> Problem:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    severity: Literal["error", "warning"] = "error" if entry.complete else "warning"
    return Problem(
        severity,
        "unknown_parameter",
        f"{entry.key} has no parameter '{name}'",
        f"Use one of its parameters ({', '.join(known) or 'it has none'}), or leave '{name}' out.{hint} "
        f"See 'hpc-agent discover-executors'.",
        evidence={"executor": entry.key, "parameter": name, "known": known},
    )


def _missing(entry: Entry, flag: FlagFacts) -> Problem:
    return Problem(
        "error",
        "missing_parameter",
        f"{entry.key} needs the parameter '{flag.name}', which no axis gives",
        f"Add '{flag.name}' to the axes or to fixed_params, then call again.",
        evidence={"executor": entry.key, "parameter": flag.name, "type": flag.type},
    )


def _check_value(entry: Entry, flag: FlagFacts, value: Any) -> list[Problem]:
    if value is None:
        return []
    items = value if isinstance(value, list) and (flag.nargs is not None or flag.action == "append") else [value]
    wrong = next((item for item in items if not _fits(flag, item)), None)
    if flag.choices and any(str(item) not in map(str, flag.choices) for item in items):
        what = f"'{flag.name}' of {entry.key} must be one of {', '.join(map(str, flag.choices))}, not {value!r}"
    elif wrong is not None:
        what = f"'{flag.name}' of {entry.key} must be {_kind(flag)}, not {wrong!r}"
    else:
        return []
    evidence = {"executor": entry.key, "parameter": flag.name, "value": value}
    return [Problem("error", "wrong_value", what, f"Correct '{flag.name}', then call again.", evidence=evidence)]


def _kind(flag: FlagFacts) -> str:
    if flag.action in ("store_true", "store_false", "boolean_optional"):
        return "true or false"
    words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    return words.get(flag.type, flag.type)


def _fits(flag: FlagFacts, value: Any) -> bool:
    if flag.action in ("store_true", "store_false", "boolean_optional"):
        return isinstance(value, bool)
    if flag.type not in _NUMBERS:
        return True
    if isinstance(value, str):  # a command line is text anyway
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, _NUMBERS[flag.type]) and not isinstance(value, bool)
