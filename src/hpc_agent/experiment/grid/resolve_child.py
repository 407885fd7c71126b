"""The child process that imports the user's tasks.py and writes the parameters of each task as a line of JSON.

argv: tasks.py, output file, task limit. The last line of the output is {"total": n} or {"error": {...}}.
"""

from __future__ import annotations

import functools
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

from hpc_agent.node.shared.task_environment import canonical, load_tasks, problems


class TasksFileError(Exception):
    """An error of tasks.py: its message, the number of the task, and the traceback."""


def resolve_all(path: str, limit: int, write: Callable[[bytes], object]) -> int:
    module = _called(lambda: load_tasks(path), "importing tasks.py")
    for name in ("total", "resolve"):
        if not callable(getattr(module, name, None)):
            raise TasksFileError(f"tasks.py has no function {name}()")
    total = _called(module.total, "total()")
    if isinstance(total, bool) or not isinstance(total, int):
        raise TasksFileError(f"total() must return an int, not {type(total).__name__}")
    if total < 1:
        raise TasksFileError(f"total() is {total}: there is nothing to run")
    if total > limit:
        most = f"the {limit:,} tasks that one run may have (constraints.max_tasks)"
        raise TasksFileError(f"total() is {total:,}: more than {most}")
    for task in range(total):
        kwargs = _called(functools.partial(module.resolve, task), f"resolve({task})", task)
        if not isinstance(kwargs, dict):
            raise TasksFileError(f"resolve({task}) must return a dict, not {type(kwargs).__name__}", task)
        try:
            found, line = problems(kwargs), canonical(kwargs)
        except Exception as error:  # a value may be an object of any class
            raise TasksFileError(f"resolve({task}): {_not_json(kwargs)}", task) from error
        if found:
            raise TasksFileError(f"resolve({task}): {found[0]}", task)
        write(line + b"\n")
    return total


def _not_json(kwargs: dict[str, Any]) -> str:
    """Return the first parameter that JSON cannot hold, with the reason."""
    for name, value in kwargs.items():
        try:
            canonical({name: value})
        except Exception as error:  # noqa: BLE001 - see above
            return f"the value of {name!r} is one that JSON cannot hold: {_said(error)}"
    return "its names are not all text"


def _said(error: BaseException) -> str:
    """Return the message of an exception, whose own ``__str__`` may fail."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the class of the exception says something too
        return "(its message cannot be shown)"


def _called(call: Callable[[], Any], what: str, task: int | None = None) -> Any:
    mine = os.getpid()
    try:
        return call()
    except BaseException as error:
        trace = traceback.format_exc()[-3000:]
        raise TasksFileError(f"{what} raised {type(error).__name__}: {_said(error)}", task, trace) from error
    finally:
        if os.getpid() != mine:
            os._exit(0)  # a process that tasks.py forked must not write into the same file


def main(path: str, output: str, limit: str) -> None:
    os.dup2(2, 1)  # the user's prints go to stderr
    with open(output, "wb", buffering=1 << 20) as handle:  # noqa: PTH123 - a plain path from the parent
        try:
            outcome: dict[str, Any] = {"total": resolve_all(path, int(limit), handle.write)}
        except TasksFileError as refused:
            outcome = {"error": dict(zip(("message", "task", "traceback"), refused.args, strict=False))}
        handle.write(json.dumps(outcome).encode() + b"\n")
