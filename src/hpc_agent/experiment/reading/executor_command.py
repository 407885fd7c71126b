"""Checks of the per-task command before anything is pushed: the program it names must be among the files that
travel.
"""

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
    """Raises SpecInvalid for a command that no shell could run."""
    if not executor.strip():
        raise SpecInvalid("the executor is empty", field="executor")
    if "\0" in executor:
        raise SpecInvalid("the executor holds a NUL character", field="executor")


def check_program(executor: str, all_kwargs: Iterable[dict[str, Any]], files: dict[str, bool]) -> None:
    """Raises ExecutorNotFound when the script that a task would start is not in the repo, or cannot be executed.

    Only what can be known is checked: a relative path, with the task's variables filled in. A program on the
    cluster's PATH or an absolute path is left to the cluster.
    """
    word, direct = _program(executor)
    if word is None:
        return
    seen: set[str] = set()
    for task, kwargs in enumerate(all_kwargs):
        path = _filled(word, kwargs)
        if path is None or path.startswith(("/", "~")) or ("/" not in path and "." not in path) or path in seen:
            continue
        seen.add(path)
        _check_one(path.removeprefix("./"), direct and "/" in path, files, task)
        if len(seen) >= _LIMIT:
            return


def _check_one(path: str, direct: bool, files: dict[str, bool], task: int) -> None:
    if path not in files:
        raise ExecutorNotFound(
            f"the executor's {path} is not among the files that would be pushed",
            field="executor",
            details={"path": path, "task": task},
            remediation="Correct the path (relative to the repo; see .hpcignore), then run 'hpc-agent submit' again.",
        )
    if direct and not files[path]:
        raise ExecutorNotFound(
            f"the executor's {path} may not be executed",
            field="executor",
            details={"path": path, "task": task},
            remediation=f"Run 'chmod +x {path}' or start it with its interpreter (python3 {path}), then submit again.",
        )


def _program(executor: str) -> tuple[str | None, bool]:
    """The word that names the script, and whether it is started directly. None where only the cluster can tell."""
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
    """The word with the task's variables in it; None when it needs one that is not a kwarg."""
    values = {"HPC_KW_" + key.upper(): text_of(value) for key, value in kwargs.items()}
    values.update({key.upper(): text_of(value) for key, value in kwargs.items() if not is_reserved(key)})
    names = [a or b for a, b in _VARIABLE.findall(word)]
    if any(name not in values for name in names) or "$(" in word or "`" in word or "*" in word:
        return None
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], word)
