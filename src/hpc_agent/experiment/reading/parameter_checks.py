"""Checks of a task's parameters against the flags of its executor."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import msgspec

from hpc_agent.experiment.reading.executors import Executor
from hpc_agent.experiment.reading.flag_facts import FlagFacts
from hpc_agent.experiment_kit.registered_functions import PLACING

_NUMBERS = {"int": (int,), "float": (int, float)}
_BOOLEAN_ACTIONS = ("store_true", "store_false", "boolean_optional")
_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}


class Problem(msgspec.Struct, frozen=True):
    """One parameter that does not fit. ``severity`` is error, warning or info."""

    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    fix: str
    field: str = "axes"
    evidence: dict[str, Any] = {}


def check_kwargs(executor: Executor, kwargs: dict[str, Any]) -> list[Problem]:
    """Return unknown parameters, required ones that are missing, and values that the executor would refuse.

    An unknown parameter is a warning when the source of a script does not show all of its flags.
    """
    flags = {flag.name: flag for flag in executor.flags}
    found = []
    for name, value in kwargs.items():
        if name in flags:
            found += _check_value(executor, flags[name], value)
        elif name not in PLACING and not executor.accepts_any:
            found.append(_unknown(executor, name, list(flags)))
    missing = [f for f in executor.flags if f.required and f.name not in kwargs and f is not executor.output_flag]
    return found + [_missing(executor, flag) for flag in missing]


def _unknown(executor: Executor, name: str, known: list[str]) -> Problem:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return Problem(
        "error" if executor.complete else "warning",
        "unknown_parameter",
        f"{executor.key} has no parameter '{name}'",
        f"Use one of its parameters ({', '.join(known) or 'it has none'}), or leave '{name}' out.{hint} "
        f"See 'hpc-agent discover-executors'.",
        evidence={"executor": executor.key, "parameter": name, "known": known},
    )


def _missing(executor: Executor, flag: FlagFacts) -> Problem:
    return Problem(
        "error",
        "missing_parameter",
        f"{executor.key} needs the parameter '{flag.name}', which no axis gives",
        f"Add '{flag.name}' to the axes or to fixed_params, then call again.",
        evidence={"executor": executor.key, "parameter": flag.name, "type": flag.type},
    )


def _check_value(executor: Executor, flag: FlagFacts, value: Any) -> list[Problem]:
    if value is None:
        return []
    items = value if isinstance(value, list) and (flag.nargs is not None or flag.action == "append") else [value]
    wrong = [item for item in items if not _fits(flag, item)]
    if flag.choices and any(str(item) not in map(str, flag.choices) for item in items):
        problem = f"must be one of {', '.join(map(str, flag.choices))}, not {value!r}"
    elif wrong:
        kind = "bool" if flag.action in _BOOLEAN_ACTIONS else flag.type
        problem = f"must be {_TYPE_NAMES.get(kind, kind)}, not {wrong[0]!r}"
    else:
        return []
    evidence = {"executor": executor.key, "parameter": flag.name, "value": value}
    message, fix = f"'{flag.name}' of {executor.key} {problem}", f"Correct '{flag.name}', then call again."
    return [Problem("error", "wrong_value", message, fix, evidence=evidence)]


def _fits(flag: FlagFacts, value: Any) -> bool:
    if flag.action in _BOOLEAN_ACTIONS:
        return isinstance(value, bool)
    if flag.type not in _NUMBERS:
        return True
    if isinstance(value, str):  # a command line consists of text
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, _NUMBERS[flag.type]) and not isinstance(value, bool)
