"""The executors of a repo, scripts and functions, by name; and the script that a command starts."""

from __future__ import annotations

import difflib
import itertools
import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.child_process import options_from_help
from hpc_agent.experiment.reading.console_scripts import console_scripts
from hpc_agent.experiment.reading.discovery import (
    find_executors,
    find_runs,
    function_facts,
    named_script_facts,
    script_facts,
)
from hpc_agent.experiment.reading.environment import READS_ALL
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, RunFacts, SubcommandFacts
from hpc_agent.experiment.reading.starts import PYTHON, Start, console_start, start_of
from hpc_agent.experiment.reading.syntax import module_paths
from hpc_agent.experiment.reading.text_scripts import notebook_facts, text_facts
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
INTERPRETERS = re.compile(r"^(?:.*/)?(python[\d.]*|Rscript|julia|bash|sh|zsh|perl|ruby|node|octave)$")
_CSV_CALLS = ("to_csv(", "csv.writer(", "DictWriter(", "write_csv(", "write.csv(", "fwrite(", "CSV.write(")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_MODULE = re.compile(r"^\s*(?:\w+=\S*\s+)*\S*python[\d.]*(?:\s+-[a-zA-Z]+)*\s+-m\s+([\w.]+)")
# By interpreter: letters of options that stand for a script (its text, a module, the input), and of options with a value.
_OPTIONS = {"python": ("cm", "WX"), "Rscript": ("e", "g"), "julia": ("eE", "tpLJCH"), "perl": ("eE", "I"),
            "ruby": ("e", "Ir"), "node": ("ep", "r"), "octave": ("", "p")}  # fmt: skip
_SHELL_OPTIONS = ("cs", "oO")
_LONG_TEXT = ("-", "--eval", "--print")
_REDIRECTIONS = (">", ">>", "<", "<<", "<<<", "<>", ">|", ">&", "<&", "&>", "&>>")
_LIMIT = 1000


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
    returns_metrics: bool | None = None
    problem: str | None = None
    fix: str = "Correct the file, then call again."
    start: Start | None = None
    apart: bool = False
    doubts: tuple[str, ...] = ()
    names_result_dir: bool = False
    uses_kit: bool = False
    given: frozenset[str] = frozenset()
    subcommands: tuple[SubcommandFacts, ...] = ()
    subcommand_name: str | None = None
    subcommand_required: bool = False
    environment: tuple[FlagFacts, ...] = ()
    spelling: str = ""
    help_said: str = ""  # why --help, which was run, does not show the parameters that are missing

    def option_of_unlisted(self, name: str) -> str | None:
        """Return the option of a parameter that the source does not show; None when only the environment can give it."""
        return self.spelling.format(name=name, path=name.replace("__", ".")) or None

    @property
    def is_function(self) -> bool:
        return ":" in self.key

    @property
    def aliases(self) -> tuple[str, ...]:
        path, _, function = self.key.partition(":")
        return (self.key, self.name, path, Path(path).stem, Path(path).name, *([function] if function else []))

    @property
    def passes_all(self) -> bool:
        """True for a function and a notebook, which get all parameters by name."""
        return self.is_function or self.key.endswith(".ipynb")

    @property
    def takes_slices(self) -> bool:
        """True when the kit gives the executor its part of a series: start, end, halo and ahead need no flags."""
        return self.passes_all or self.uses_kit

    @property
    def subcommand_parameter(self) -> str:
        """The parameter that names the subcommand."""
        return self.subcommand_name or "command"

    @property
    def output_flag(self) -> FlagFacts | None:
        """The flag that names the file or folder that a script writes to."""
        return None if self.passes_all else output_flag_of(self.flags)


def output_flag_of(flags: list[FlagFacts]) -> FlagFacts | None:
    by_name = {flag.name: flag for flag in flags if flag.type in ("str", "path") and flag.action == "store"}
    return next((by_name[name] for name in (*FILE_NAMES, *FOLDER_NAMES) if name in by_name), None)


def all_executors(root: Path) -> tuple[list[Executor], list[str]]:
    """Return every registered function and every executor script of the repo, and notes."""
    runs, notes = find_runs(root)
    scripts, more_notes = find_executors(root)
    registered = {run.path for run in runs}
    found = [_of_function(f"{run.path}:{run.name}", "register_run", run) for run in runs]
    found += [_of_script(root, script) for script in scripts if script.path not in registered]
    names = [executor.name for executor in found]
    unique = [one if names.count(one.name) == 1 else replace(one, name=one.key) for one in found]
    return unique, [*notes, *more_notes]


def executor_at(root: Path, key: str) -> Executor | None:
    """Return the executor with this key; None when it does not exist. Only its file is read."""
    path, _, function = key.partition(":")
    if function:
        run = function_facts(root, path, function)
        if run is None:
            return None
        return replace(_of_function(key, "function", run), name=function)
    if not _is_inside(root, path):
        return None
    try:
        start = start_of(root, path)
    except SpecInvalid as error:
        return _not_startable(path, error)
    if path.endswith(".ipynb"):
        return _of_script(root, notebook_facts(root, path))
    if not start.is_python:
        facts, apart = text_facts(root, path, start)
        return replace(_of_script(root, facts), apart=apart)
    called = next((function for _, _, module, function in console_scripts(root) if module == path), None)
    if called is None or script_facts(root, path):
        return _of_script(root, named_script_facts(root, path))
    start = console_start(path, called)
    return replace(_of_script(root, named_script_facts(root, path, start)), start=start)


def _not_startable(path: str, error: SpecInvalid) -> Executor:
    return Executor(path, Path(path).stem, "plain", [], False, problem=error.message, fix=error.remediation)


def _of_function(key: str, framework: str, run: RunFacts) -> Executor:
    executor = Executor(key, run.name, framework, run.flags, True, run.accepts_any)
    return replace(executor, returns_metrics=run.returns_metrics, problem=run.problem)


def _is_inside(root: Path, path: str) -> bool:
    found = local_path(root, path, "executors")
    return found.is_file() and found.is_relative_to(root.resolve())


def help_of(
    root: Path, executor: Executor, python: str, timeout_sec: float, env: Mapping[str, str]
) -> tuple[set[str], str]:
    """Run a script and each of its subcommands with --help. Return the options, and the problem when there are none.

    Each run may take ``timeout_sec`` seconds.
    """
    start = executor.start
    if start is None or executor.passes_all:
        return set(), executor.problem or "its parameters are no options"
    words = [python if word == PYTHON else str(root / word) if word == executor.key else word for word in start.words]
    path = os.pathsep.join(filter(None, [str(root / start.path), env.get("PYTHONPATH")]))
    is_hydra = executor.framework == "hydra"
    options, problem = options_from_help(root, words, timeout_sec, {**env, "PYTHONPATH": path}, is_hydra)
    for one in executor.subcommands:
        options |= options_from_help(root, [*words, one.name], timeout_sec, {**env, "PYTHONPATH": path})[0]
    return options, problem


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
    if ":" not in plain and (here := executor_at(root, plain)):
        return here
    for _, command, path, _ in console_scripts(root):
        if command == plain and (here := executor_at(root, path)):
            return here
    for path in [base + path for base in ("", "src/") for path in module_paths(plain)]:
        if path.endswith(f"/{plain.rpartition('.')[2]}.py") and (here := executor_at(root, path)):
            return here
    first, _, subcommand = plain.rpartition(" ")
    if first and (one := _of_subcommand(_named(executors, first, root), subcommand)):
        return one
    close = difflib.get_close_matches(plain, [alias for e in executors for alias in e.aliases], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    details = {"found": [executor.key for executor in executors][:50]}
    remedy = "See them with 'hpc-agent discover-executors' and 'hpc-agent discover-runs'."
    message = f"there is no executor {name!r} in {root}{hint}"
    raise ExecutorNotFound(message, field="executors", details=details, remediation=remedy)


def _of_subcommand(executor: Executor, name: str) -> Executor | None:
    """Return the executor for one of its subcommands, which no parameter has to name; None for no such subcommand."""
    chosen = tuple(one for one in executor.subcommands if one.name == name)
    return replace(executor, subcommands=chosen, subcommand_required=True) if chosen else None


def _of_script(root: Path, script: ExecutorFacts) -> Executor:
    """Return a script with the name of its metrics file: by the suffix of its flag's default, else by its calls."""
    try:
        start = start_of(root, script.path)
    except SpecInvalid as error:
        return _not_startable(script.path, error)
    executor = Executor(
        script.path,
        script.name,
        script.framework,
        script.flags,
        script.complete,
        any(READS_ALL in note for note in script.notes),
        start=start,
        doubts=tuple(script.notes),
        subcommands=tuple(script.subcommands),
        subcommand_name=script.subcommand_name,
        subcommand_required=script.subcommand_required,
        environment=tuple(script.environment),
        spelling=script.spelling,
    )
    source = (root / script.path).read_text(encoding="utf-8", errors="replace")
    executor = replace(executor, names_result_dir="RESULT_DIR" in source, uses_kit="experiment_kit" in source)
    outputs = [executor.output_flag, *(output_flag_of(one.flags) for one in script.subcommands)]
    flag = next(filter(None, outputs), None)
    if flag is None or flag.name in FOLDER_NAMES:
        return executor
    suffix = Path(str(flag.default or "")).suffix.lower()
    if suffix not in (".json", ".csv", ""):
        return replace(executor, metrics_file=f"output{suffix}")
    writes_csv = any(word in source for word in _CSV_CALLS)
    is_csv = suffix == ".csv" or (not suffix and writes_csv and "json.dump" not in source)
    return replace(executor, metrics_file="metrics.csv" if is_csv else "metrics.json")


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
        path = posixpath.normpath(path)
        if path not in files:
            problem = "is not among the files that would be pushed"
            remedy = (
                did_you_mean(path, files)
                + "Correct the path (relative to the repo; see .hpcignore), then run 'hpc-agent submit' again."
            )
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
    words = list(itertools.dropwhile(re.compile(r"\w+=").match, _first_command(executor)))
    if not words:
        return "", False
    interpreter = INTERPRETERS.match(words[0])
    if not interpreter:
        return (words[0], True) if "/" in words[0] else ("", False)
    return _script_word(interpreter[1].rstrip("0123456789."), words[1:]), False


def _first_command(executor: str) -> list[str]:
    """Return the words of the first simple command, without redirections; none when the shell's grammar hides them."""
    lexer = shlex.shlex(executor, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        tokens = list(lexer)
    except ValueError:
        return []
    words: list[str] = []
    waiting = iter(tokens)
    for token in waiting:
        if token in _REDIRECTIONS:
            next(waiting, None)
            if words and words[-1].isdigit():  # 2>errors.txt
                words.pop()
        elif token and set(token) <= set("();<>|&"):
            return [] if "(" in token else words
        else:
            words.append(token)
    return words


def _script_word(interpreter: str, words: list[str]) -> str:
    """Return the first word that is neither an option nor an option's value; empty when the program is no file."""
    text, valued = _OPTIONS.get(interpreter, _SHELL_OPTIONS)
    waiting = iter(words)
    for word in waiting:
        if not word.startswith(("-", "+") if interpreter not in _OPTIONS else "-"):
            return word
        is_short = not word.startswith("--")
        if word in _LONG_TEXT or (is_short and word[-1] in text):
            return ""
        if is_short and word[-1] in valued:
            next(waiting, None)
    return ""


def started_scripts(
    executor: str, tasks: Iterable[tuple[int, dict[str, Any]]], root: Path
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Yield the tasks in which the command starts a file of the repo, also as ``python -m``, each with this file."""
    word, _ = _program(executor)
    if not word and (found := _MODULE.search(executor)):
        names = module_paths(found[1]) + module_paths(f"{found[1]}.__main__")
        paths = (base + name for base in ("", "src/") for name in names)
        if script := next((path for path in paths if (root / path).is_file()), None):
            yield from ((task, kwargs, script) for task, kwargs in tasks)
        return
    known: dict[str, str | None] = {}
    for task, kwargs in tasks if word else ():
        path = _filled(word, kwargs)
        if path and path not in known:
            known[path] = posixpath.normpath(path) if _is_inside(root, path) else None
        if path and (script := known[path]):
            yield task, kwargs, script


def _filled(word: str, kwargs: dict[str, Any]) -> str | None:
    """Return the word with the task's variables filled in; None when it holds a variable of the environment or a pattern."""
    if any(mark in word for mark in ("$(", "`", "*")):
        return None
    if "$" not in word:
        return word
    values = {"HPC_KW_" + key.upper(): text_of(value) for key, value in kwargs.items()}
    values.update({key.upper(): text_of(value) for key, value in kwargs.items() if not is_reserved(key)})
    try:
        return _VARIABLE.sub(lambda match: values[match[1] or match[2]], word)
    except KeyError:
        return None
