"""How parameters reach an executor: rows of FLAGS for .hpc/cli.py, and the parameters that do not fit or do not arrive."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from hpc_agent.experiment.reading.executors import CHOOSER, FOLDER_NAMES, RESULT_DIR, Executor, output_flag_of
from hpc_agent.experiment.reading.flag_facts import FlagFacts, SubcommandFacts
from hpc_agent.experiment_kit.registered_functions import PLACING
from hpc_agent.node.shared.task_environment import is_reserved

_BOOLEAN_ACTIONS = ("store_true", "store_false", "boolean_optional", "store_bool", "store_const")
_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}
POSITIONAL = "positional"
Rows = list[dict[str, Any]]


class Problem(msgspec.Struct, frozen=True):
    """One parameter that does not fit. ``severity`` is error, warning or info."""

    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    fix: str
    field: str = "axes"
    evidence: dict[str, Any] = {}


def with_given(executor: Executor, ways: dict[str, str]) -> Executor:
    """Return the executor with ways for parameters: name -> option (``--lr``, ``lr=``), variable (``$LR``) or ``positional``."""
    known = {flag.name: flag for flag in executor.flags}
    given = [
        msgspec.structs.replace(known.get(name, FlagFacts(name=name)), options=[] if way == POSITIONAL else [way])
        for name, way in ways.items()
    ]
    variables = [flag for flag in given if flag.options and flag.options[0].startswith("$")]
    flags = [flag for flag in executor.flags if flag.name not in ways] + [
        flag for flag in given if flag not in variables
    ]
    others = [flag for flag in executor.environment if flag.name not in ways]
    return replace(executor, flags=flags, environment=(*others, *variables), given=frozenset(ways))


def flag_rows(executor: Executor) -> Rows:
    """Return the executor's rows of FLAGS, which .hpc/cli.py reads."""
    rows = [_row(executor, flag, executor.output_flag) for flag in executor.flags]
    for flag in executor.environment:
        variable, upper = flag.options[0].removeprefix("$"), flag.name.upper()
        if flag.name in executor.given or variable not in (upper, f"HPC_KW_{upper}"):
            given = {"given": True} if flag.name in executor.given else {}
            rows.append({"name": flag.name, "variable": variable, "type": flag.type, **given})
    if executor.subcommands:
        own = {one.name: _rows_of_subcommand(executor, one) for one in executor.subcommands}
        only = {"value": next(iter(own))} if len(own) == 1 and executor.subcommand_required else {}
        rows.append({"name": executor.subcommand_parameter, "subcommands": own, **only})
    return rows


def _rows_of_subcommand(executor: Executor, subcommand: SubcommandFacts) -> Rows:
    return [_row(executor, flag, output_flag_of(subcommand.flags)) for flag in subcommand.flags]


def _row(executor: Executor, flag: FlagFacts, output: FlagFacts | None) -> dict[str, Any]:
    long = [option for option in flag.options if option.startswith("--")]
    option, off, value = next(iter(long or flag.options), None), None, None
    if flag.action == "boolean_optional":
        # --no-x, else the second of --fast/--slow.
        negative = [name for name in long if name.startswith("--no-")] or long[1:][-1:]
        option = next((name for name in long if name not in negative), option or "")
        off = negative[0] if negative and negative[0] != "--no-" + option[2:] else None
    if flag is output:
        value = RESULT_DIR if flag.name in FOLDER_NAMES else f"{RESULT_DIR}/{executor.metrics_file}"
    row = {
        "name": flag.name,
        "option": option,
        "type": flag.type,
        "action": None if flag.action == "store" else flag.action,
        "off": off,
        "nargs": flag.nargs,
        "choices": flag.choices,
        "required": flag.required or None,
        "default": None if flag.required else flag.default,
        "help": " ".join(flag.help.split())[:80] or None,
        "value": value,
        "apart": executor.apart or None,
        "given": flag.name in executor.given or None,
    }
    return {name: entry for name, entry in row.items() if entry is not None}


def metrics_file_of(flags: dict[str, Rows]) -> str | None:
    """Return the file that every executor of FLAGS writes its metrics to; None for the default one or several."""
    found: set[str | None] = set()
    for key, rows in flags.items():
        inner = [each for row in rows for each in row.get("subcommands", {}).values()]
        for each in [[*rows, *more] for more in inner] or [rows]:
            values = [row["value"] for row in each if "option" in row and row.get("value", RESULT_DIR) != RESULT_DIR]
            found.add(Path(values[0]).name if values and ":" not in key else None)
    name = found.pop() if len(found) == 1 else None
    return name if name and name.endswith((".json", ".csv")) else None


def check_kwargs(executor: Executor, kwargs: dict[str, Any], rows: Rows | None = None) -> list[Problem]:
    """Return parameters that do not arrive, required ones that are missing, and values that the executor would refuse.

    ``rows`` are those of tasks.py where they exist: .hpc/cli.py passes nothing on that has no row.
    """
    if executor.problem:
        return [_problem(executor, "cannot_start", executor.problem, executor.fix)]
    flags, subcommand = {flag.name: flag for flag in executor.flags}, None
    if executor.subcommands:
        subcommand, missing = _chosen(executor, kwargs, rows or [])
        if missing:
            names = [one.name for one in executor.subcommands]
            return [_problem(executor, "missing_subcommand", *missing, subcommands=names)]
        flags.update((flag.name, flag) for flag in (subcommand.flags if subcommand else []))
    outputs = [executor.output_flag, output_flag_of(subcommand.flags) if subcommand else None]
    given = {row["name"] for row in rows or [] if row.get("given")}
    taken = {CHOOSER, *given, *([executor.subcommand_parameter] if executor.subcommands else [])}
    names = [name for name in kwargs if name not in taken]
    found = [_problem_of(executor, name, kwargs[name], flags, rows, outputs) for name in names]
    for flag in flags.values():
        if flag.required and flag.name not in kwargs and flag not in outputs:
            message = f"{executor.key} needs the parameter '{flag.name}', which no axis gives"
            fix = f"Add '{flag.name}' to the axes or to fixed_params, then call again."
            found.append(_problem(executor, "missing_parameter", message, fix, parameter=flag.name, type=flag.type))
    return [problem for problem in found if problem]


def _problem(executor: Executor, code: str, message: str, fix: str, **evidence: Any) -> Problem:
    return Problem("error", code, message, fix, evidence={"executor": executor.key, **evidence})


def _problem_of(
    executor: Executor,
    name: str,
    value: Any,
    flags: dict[str, FlagFacts],
    rows: Rows | None,
    outputs: list[FlagFacts | None],
) -> Problem | None:
    """Return why the parameter does not arrive, or why its value does not fit; None for a parameter that is right."""
    if name not in flags:
        is_placed = name in PLACING and (executor.takes_slices or not value)
        if is_placed or executor.accepts_any or any(flag.name == name for flag in executor.environment):
            return None
        return _problem(executor, *_does_not_arrive(executor, name, flags), parameter=name, known=list(flags))
    if value is None and flags[name].required and not executor.passes_all:
        message = f"{executor.key} needs the parameter '{name}', and a task has null, which gives no value"
        return _problem(executor, "missing_parameter", message, f"Leave null out of '{name}', then call again.")
    if misfit := _misfit(flags[name], value):
        message, fix = f"'{name}' of {executor.key} {misfit}", f"Correct '{name}', then call again."
        return _problem(executor, "wrong_value", message, fix, parameter=name, value=value)
    if flags[name] in outputs:
        message = f"'{name}' of {executor.key} names its output, which hpc-agent puts into the task's result folder"
        return _problem(executor, "output_parameter", message, f"Leave '{name}' out, then call again.", parameter=name)
    if rows is not None and not executor.passes_all and name not in names_of_rows(rows):
        message = f"FLAGS of tasks.py has no '{name}' for {executor.key}: the parameter would not reach it"
        return _problem(executor, "not_in_flags", message, "Run 'hpc-agent build-tasks-py' again.", parameter=name)
    return None


def names_of_rows(rows: Rows) -> set[str]:
    """Return the parameters that rows of FLAGS pass on."""
    inner = [each for row in rows for each in row.get("subcommands", {}).values()]
    return {row["name"] for each in [rows, *inner] for row in each}


def _chosen(
    executor: Executor, kwargs: dict[str, Any], rows: Rows
) -> tuple[SubcommandFacts | None, tuple[str, str] | None]:
    """Return the subcommand of a task; or message and fix when the subcommand is missing or does not exist."""
    name, by_name = executor.subcommand_parameter, {one.name: one for one in executor.subcommands}
    value = next((row["value"] for row in rows if "subcommands" in row and "value" in row), kwargs.get(name))
    if value in by_name:
        return by_name[value], None
    if value is None and executor.subcommand_required and len(by_name) == 1:
        return next(iter(by_name.values())), None
    words = ", ".join(by_name)
    example = f"""--fixed-params '{{"{name}": "{next(iter(by_name))}"}}'"""
    fix = f"Name one as the parameter '{name}', in the axes or in fixed_params ({example}); then call again."
    if value is not None:
        return None, (f"{executor.key} has no subcommand {value!r}, only {words}", fix)
    general = {flag.name for flag in executor.flags} | {flag.name for flag in executor.environment}
    if executor.subcommand_required or not set(kwargs) - set(PLACING) <= general:
        return None, (f"{executor.key} has the subcommands {words}, and no parameter says which one is meant", fix)
    return None, None


def _does_not_arrive(executor: Executor, name: str, flags: dict[str, FlagFacts]) -> tuple[str, str, str]:
    """Return code, message and fix for a parameter that nothing in the source of the executor takes."""
    path, others = executor.key, [one.name for one in executor.subcommands if name in {f.name for f in one.flags}]
    if others:
        message = f"'{name}' belongs to the subcommand {' or '.join(others)} of {path}"
        fix = (
            f"Leave '{name}' out for the other subcommands (task_generator enumerated has a set of parameters a task)."
        )
        return "unknown_parameter", message, fix
    option = executor.option_of_unlisted(name) or f"--{name.replace('_', '-')}"
    variable = f"HPC_KW_{name.upper()}" if is_reserved(name) else name.upper()
    known = [*flags, *(flag.name for flag in executor.environment)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if executor.complete or executor.is_function:
        fix = f"Use one of its parameters ({', '.join(known) or 'it has none'}), or leave '{name}' out.{hint} "
        fix += "See 'hpc-agent discover-executors'."
        if not executor.is_function:
            fix += f""" If it reads '{name}' in another way, say how: --pass-as '{{"{name}": "{option}"}}' (or "${variable}")."""
        return "unknown_parameter", f"{path} has no parameter '{name}'", fix
    why = f" ({'; '.join(executor.doubts[:2])})" if executor.doubts else ""
    message = f"'{name}' may not reach {path}: its source shows neither {option} nor a use of ${variable}{why}"
    fix = "Let its --help decide: add --check-help to 'hpc-agent build-tasks-py'; or say how it is passed on: "
    if executor.help_said:
        fix = f"Its --help {executor.help_said.rstrip('.')}. Say how '{name}' is passed on: "
    fix += f"""--pass-as '{{"{name}": "{option}"}}' (or "${variable}" for a variable, "{POSITIONAL}").{hint}"""
    return "may_not_arrive", message, fix


def _misfit(flag: FlagFacts, value: Any) -> str:
    """Return what the value must be; an empty text for a value that fits."""
    if value is None:
        return ""
    items = value if isinstance(value, list) and (flag.nargs is not None or flag.action == "append") else [value]
    fold = str.casefold if flag.any_case else str
    known = flag.choices or []  # 1 is one of 1.0 and 2.0
    words = {fold(str(choice)) for choice in known}
    if known and any(item not in known and fold(str(item)) not in words for item in items):
        return f"must be one of {', '.join(map(str, known))}, not {value!r}"
    kind = "bool" if flag.action in _BOOLEAN_ACTIONS else flag.type
    wrong = [item for item in items if not _fits(flag, item)]
    return f"must be {_TYPE_NAMES[kind]}, not {wrong[0]!r}" if wrong else ""


def _fits(flag: FlagFacts, value: Any) -> bool:
    if any(option.endswith("=") for option in flag.options):
        return True  # hydra takes any value for a key: the type of the default is no rule
    if flag.inferred and flag.action != "store_bool":  # store_bool would turn another value into True or False
        return True
    if flag.action in _BOOLEAN_ACTIONS:
        return isinstance(value, bool)
    if flag.type not in ("int", "float"):
        return True
    if isinstance(value, str):  # a command line consists of text
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float) if flag.type == "float" else int) and not isinstance(value, bool)
