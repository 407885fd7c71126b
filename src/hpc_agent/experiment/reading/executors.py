"""The executors of a repo, scripts and functions: their rows of FLAGS, checks of parameters and commands."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.discovery import find_executors, find_runs, function_facts, script_facts
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts
from hpc_agent.experiment_kit.registered_functions import PLACING
from hpc_agent.node.shared.task_environment import is_reserved, text_of
from hpc_agent.state.repo_files import local_path

FILE_NAMES = (
    "output_file out_file outfile output_path out_path output out metrics_file metrics_path metrics_out metrics_output "
    "result_file results_file result_path results_path json_out save_path"
).split()  # fmt: skip
FOLDER_NAMES = "output_dir out_dir outdir output_folder result_dir results_dir save_dir".split()
RESULT_DIR = "$HPC_RESULT_DIR"
# The parameter that names the executor of a task.
CHOOSER = "executor"
_BOOLEAN_ACTIONS = ("store_true", "store_false", "boolean_optional")
INTERPRETERS = re.compile(r"^(?:.*/)?(python[\d.]*|Rscript|julia|bash|sh|zsh|perl|ruby|node|octave)$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NO_SCRIPT = ("-c", "-m", "-e", "-s", "-")
_LIMIT = 1000
_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Executor:
    """One executor: ``key`` is its path, or ``path:function``; ``name`` is its value of the parameter ``executor``."""

    key: str
    name: str
    framework: str
    flags: list[FlagFacts]
    complete: bool
    accepts_any: bool = False
    metrics_file: str | None = None

    @property
    def is_function(self) -> bool:
        return ":" in self.key

    @property
    def aliases(self) -> tuple[str, ...]:
        path, _, function = self.key.partition(":")
        return (self.key, self.name, path, Path(path).stem, Path(path).name, *([function] if function else []))

    @property
    def output_flag(self) -> FlagFacts | None:
        """The flag that names the file or folder that a script writes to."""
        names = () if self.is_function else (*FILE_NAMES, *FOLDER_NAMES)
        by_name = {flag.name: flag for flag in self.flags if flag.type in ("str", "path") and flag.action == "store"}
        return next((by_name[name] for name in names if name in by_name), None)


def all_executors(root: Path) -> tuple[list[Executor], list[str]]:
    """Return every registered function and every executor script of the repo, and notes."""
    runs, notes = find_runs(root)
    scripts, more_notes = find_executors(root)
    registered = {run.path for run in runs}
    found = [
        Executor(f"{run.path}:{run.name}", run.name, "register_run", run.flags, True, run.accepts_any) for run in runs
    ]
    found += [_of_script(root, script) for script in scripts if script.path not in registered]
    names = [executor.name for executor in found]
    unique = [one if names.count(one.name) == 1 else replace(one, name=one.key) for one in found]
    return unique, [*notes, *more_notes]


def executor_at(root: Path, key: str) -> Executor | None:
    """Return the executor with this key; None when it does not exist. Only its file is read."""
    path, _, function = key.partition(":")
    if function:
        run = function_facts(root, path, function)
        return Executor(key, function, "function", run.flags, True, run.accepts_any) if run else None
    script = script_facts(root, path)
    if script is not None:
        return _of_script(root, script)
    return Executor(path, Path(path).stem, "plain", [], False) if (root / path).is_file() else None


def named_executors(root: Path, names: list[str]) -> list[Executor]:
    """Return the executors with these names (path, stem, function, or ``path:function``); all for no names.

    Raises ExecutorNotFound with the names that exist, and SpecInvalid for a name that fits several.
    """
    found, _ = all_executors(root)
    return [_named(found, name, root) for name in names] if names else found


def _named(executors: list[Executor], name: str, root: Path) -> Executor:
    plain = name.removeprefix("./")
    fitting = [e for e in executors if plain in (e.key, e.name)] or [e for e in executors if plain in e.aliases]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        message = f"{name!r} may be {' or '.join(e.key for e in fitting)}"
        raise SpecInvalid(message, field="executors", remediation="Name one of them in full, then call again.")
    if local_path(root, plain, "executors").is_file() and plain.endswith((".sh", ".R", ".jl", ".py")):
        return Executor(plain, Path(plain).stem, "plain", [], False)
    close = difflib.get_close_matches(plain, [alias for e in executors for alias in e.aliases], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    details = {"found": [executor.key for executor in executors][:50]}
    remedy = "See them with 'hpc-agent discover-executors' and 'hpc-agent discover-runs'."
    message = f"there is no executor {name!r} in {root}{hint}"
    raise ExecutorNotFound(message, field="executors", details=details, remediation=remedy)


def _of_script(root: Path, script: ExecutorFacts) -> Executor:
    """Return a script with the name of its metrics file: by the suffix of its flag's default, else by its calls."""
    executor = Executor(script.path, script.name, script.framework, script.flags, script.complete)
    flag = executor.output_flag
    if flag is None or flag.name in FOLDER_NAMES:
        return executor
    suffix = Path(str(flag.default or "")).suffix.lower()
    if suffix not in (".json", ".csv", ""):
        return replace(executor, metrics_file=f"output{suffix}")
    source = (root / script.path).read_text(encoding="utf-8", errors="replace")
    writes_csv = any(word in source for word in ("to_csv(", "csv.writer(", "DictWriter(", "write_csv("))
    is_csv = suffix == ".csv" or (not suffix and writes_csv and "json.dump" not in source)
    return replace(executor, metrics_file="metrics.csv" if is_csv else "metrics.json")


def flag_rows(executor: Executor) -> list[dict[str, Any]]:
    """Return the executor's rows of FLAGS, which .hpc/cli.py reads."""
    rows = []
    output = executor.output_flag
    for flag in executor.flags:
        long = [option for option in flag.options if option.startswith("--")]
        option, off, value = next(iter(long or flag.options), None), None, None
        if flag.action == "boolean_optional":
            negative = [option for option in long if option.startswith("--no-")]
            option = next((option for option in long if option not in negative), option or "")
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
        }
        rows.append({name: entry for name, entry in row.items() if entry is not None})
    return rows


def metrics_file_of(flags: dict[str, list[dict[str, Any]]]) -> str | None:
    """Return the file that every executor of FLAGS writes its metrics to; None for the default one or several."""
    found: set[str | None] = set()
    for key, rows in flags.items():
        values = [row["value"] for row in rows if "value" in row and row["value"] != RESULT_DIR]
        found.add(Path(values[0]).name if values and ":" not in key else None)
    name = found.pop() if len(found) == 1 else None
    return name if name and name.endswith((".json", ".csv")) else None


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
    flags, path = {flag.name: flag for flag in executor.flags}, executor.key
    found = []

    def add(code: str, message: str, fix: str, sure: bool = True, **evidence: Any) -> None:
        facts = {"executor": path, **evidence}
        found.append(Problem("error" if sure else "warning", code, message, fix, evidence=facts))

    for name, value in kwargs.items():
        if name in flags:
            if problem := _misfit(flags[name], value):
                fix = f"Correct '{name}', then call again."
                add("wrong_value", f"'{name}' of {path} {problem}", fix, parameter=name, value=value)
        elif name not in PLACING and not executor.accepts_any:
            close = difflib.get_close_matches(name, flags, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            fix = f"Use one of its parameters ({', '.join(flags) or 'it has none'}), or leave '{name}' out.{hint} "
            fix += "See 'hpc-agent discover-executors'."
            message = f"{path} has no parameter '{name}'"
            add("unknown_parameter", message, fix, executor.complete, parameter=name, known=list(flags))
    for flag in executor.flags:
        if flag.required and flag.name not in kwargs and flag is not executor.output_flag:
            message = f"{path} needs the parameter '{flag.name}', which no axis gives"
            fix = f"Add '{flag.name}' to the axes or to fixed_params, then call again."
            add("missing_parameter", message, fix, parameter=flag.name, type=flag.type)
    return found


def _misfit(flag: FlagFacts, value: Any) -> str:
    """Return what the value must be; an empty text for a value that fits."""
    if value is None:
        return ""
    items = value if isinstance(value, list) and (flag.nargs is not None or flag.action == "append") else [value]
    if flag.choices and any(str(item) not in map(str, flag.choices) for item in items):
        return f"must be one of {', '.join(map(str, flag.choices))}, not {value!r}"
    kind = "bool" if flag.action in _BOOLEAN_ACTIONS else flag.type
    wrong = [item for item in items if not _fits(flag, item)]
    return f"must be {_TYPE_NAMES[kind]}, not {wrong[0]!r}" if wrong else ""


def _fits(flag: FlagFacts, value: Any) -> bool:
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


def check_command(executor: str) -> None:
    """Raises SpecInvalid for an empty command, and for one with a NUL character."""
    if not executor.strip():
        raise SpecInvalid("the executor is empty", field="executor")
    if "\0" in executor:
        raise SpecInvalid("the executor holds a NUL character", field="executor")


def check_program(executor: str, all_kwargs: Iterable[dict[str, Any]], files: dict[str, bool]) -> None:
    """Check the script that each task would start. Raises ExecutorNotFound when it is not pushed or not executable.

    Only relative paths are checked, with the task's variables filled in: the files of the cluster are not known here.
    """
    word, direct = _program(executor)
    seen: set[str] = set()
    for task, kwargs in enumerate(all_kwargs if word else ()):
        path = _filled(word, kwargs)
        if path is None or path.startswith(("/", "~")) or ("/" not in path and "." not in path) or path in seen:
            continue
        seen.add(path)
        path = path.removeprefix("./")
        if path not in files:
            problem = "is not among the files that would be pushed"
            remedy = "Correct the path (relative to the repo; see .hpcignore), then run 'hpc-agent submit' again."
        elif direct and not files[path]:
            problem = "may not be executed"
            remedy = f"Run 'chmod +x {path}' or start it with its interpreter (python3 {path}), then submit again."
        elif len(seen) < _LIMIT:
            continue
        else:
            return
        message, details = f"the executor's {path} {problem}", {"path": path, "task": task}
        raise ExecutorNotFound(message, field="executor", details=details, remediation=remedy)


def _program(executor: str) -> tuple[str, bool]:
    """Return the word that names the script (empty for a program of the cluster), and True when no interpreter starts it."""
    try:
        words = list(itertools.dropwhile(re.compile(r"\w+=").match, shlex.split(executor)))
    except ValueError:
        return "", False
    if not words or any(mark in words[0] for mark in ";|&<>("):
        return "", False
    if not INTERPRETERS.match(words[0]):
        return (words[0], True) if "/" in words[0] else ("", False)
    first = next((word for word in words[1:] if word in _NO_SCRIPT or not word.startswith("-")), "-")
    return "" if first in _NO_SCRIPT else first, False


def _filled(word: str, kwargs: dict[str, Any]) -> str | None:
    """Return the word with the task's variables filled in; None when it holds a variable of the environment or a pattern."""
    values = {"HPC_KW_" + key.upper(): text_of(value) for key, value in kwargs.items()}
    values.update({key.upper(): text_of(value) for key, value in kwargs.items() if not is_reserved(key)})
    if any(mark in word for mark in ("$(", "`", "*")):
        return None
    try:
        return _VARIABLE.sub(lambda match: values[match[1] or match[2]], word)
    except KeyError:
        return None
