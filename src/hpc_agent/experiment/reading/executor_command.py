"""Checks of the command of a task before the push: the program must be among the pushed files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.node.shared.task_environment import is_reserved, text_of

INTERPRETERS = re.compile(r"^(?:.*/)?(python[\d.]*|Rscript|julia|bash|sh|zsh|perl|ruby|node|octave)$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LIMIT = 1000


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
        path = _filled(word or "", kwargs)
        if path is None or path.startswith(("/", "~")) or ("/" not in path and "." not in path) or path in seen:
            continue
        seen.add(path)
        _check_file(path.removeprefix("./"), direct and "/" in path, files, task)
        if len(seen) >= _LIMIT:
            return


def _check_file(path: str, direct: bool, files: dict[str, bool], task: int) -> None:
    if path not in files:
        problem = "is not among the files that would be pushed"
        remediation = "Correct the path (relative to the repo; see .hpcignore), then run 'hpc-agent submit' again."
    elif direct and not files[path]:
        problem = "may not be executed"
        remediation = f"Run 'chmod +x {path}' or start it with its interpreter (python3 {path}), then submit again."
    else:
        return
    details = {"path": path, "task": task}
    raise ExecutorNotFound(
        f"the executor's {path} {problem}", field="executor", details=details, remediation=remediation
    )


def _program(executor: str) -> tuple[str | None, bool]:
    """Return the word that names the script (None for a program of the cluster), and True when no interpreter starts it."""
    try:
        words = shlex.split(executor)
    except ValueError:
        return None, False
    while words and re.match(r"^\w+=", words[0]):
        words = words[1:]
    if not words or any(mark in words[0] for mark in ";|&<>("):
        return None, False
    if not INTERPRETERS.match(words[0]):
        return (words[0], True) if "/" in words[0] else (None, False)
    for word in words[1:]:
        if word in ("-c", "-m", "-e", "-s", "-"):
            return None, False
        if not word.startswith("-"):
            return word, False
    return None, False


def _filled(word: str, kwargs: dict[str, Any]) -> str | None:
    """Return the word with the task's variables filled in; None when it holds a variable of the environment or a pattern."""
    values = {"HPC_KW_" + key.upper(): text_of(value) for key, value in kwargs.items()}
    values.update({key.upper(): text_of(value) for key, value in kwargs.items() if not is_reserved(key)})
    names = [a or b for a, b in _VARIABLE.findall(word)]
    if any(name not in values for name in names) or "$(" in word or "`" in word or "*" in word:
        return None
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], word)
