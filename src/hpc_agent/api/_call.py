"""Carry a call of ``hpc_agent.api`` to its verb. What a call needs is imported when the first one is made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_agent.errors import HpcError
    from hpc_agent.world import Progress


def call(verb: str, function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Return the result of ``verb`` for the arguments that ``function`` was called with, its local variables."""
    from hpc_agent.errors import HpcError
    from hpc_agent.ops.run.invoke import catalogue, invoke
    from hpc_agent.world import World

    shows_progress = catalogue()[verb].progress and given.pop("progress")
    progress = _reporter(shows_progress)
    world = World(stdin=lambda: b"", progress=progress)
    try:
        return invoke(verb, _document(verb, function, given), world)
    except HpcError as error:
        _tell_remedy(error)
        raise
    finally:
        progress.close()


def _document(verb: str, function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the request: the arguments that are not the function's defaults, those of nested structs in their struct."""
    from hpc_agent.contract.catalogue import nested
    from hpc_agent.ops.run.invoke import catalogue

    defaults = {**_positional_defaults(function), **(function.__kwdefaults__ or {})}
    chosen = {name: value for name, value in given.items() if name not in defaults or value is not defaults[name]}
    return nested({name: _plain(value, name) for name, value in chosen.items()}, catalogue()[verb].flags)


def _positional_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    values = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return dict(zip(names[len(names) - len(values) :], values, strict=True))


def _plain(value: Any, name: str) -> Any:
    """Return an argument as JSON has it: paths as text, arrays and other series as lists, structs as objects.

    Raises SpecInvalid, which names the argument, for what JSON has no form for.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if hasattr(value, "tolist"):  # an array or a number of numpy, a column of pandas
        return _plain(value.tolist(), name)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [_plain(item, name) for item in value]
    return _struct_or_date(value, name)


def _struct_or_date(value: Any, name: str) -> Any:
    import msgspec

    from hpc_agent.errors import SpecInvalid

    try:
        return msgspec.to_builtins(value, enc_hook=_refuse)
    except TypeError as error:
        message = f"{name}: {type(value).__name__} has no form in JSON"
        remediation = "Give text, numbers, lists or dicts; 'hpc-agent capabilities' leads to every field."
        raise SpecInvalid(message, field=name, remediation=remediation) from error


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)


def _reporter(shown: bool) -> Progress:
    from hpc_agent.world import Progress

    if not shown:
        return Progress()
    from hpc_agent.view.progress import PlainLine, for_stderr

    if sys.stderr.isatty() or "HPC_PROGRESS" in os.environ:
        return for_stderr(os.environ)
    return PlainLine(sys.stderr)  # a notebook, or a log


def _tell_remedy(error: HpcError) -> None:
    """Show the remedy below the traceback, where Python can (from 3.11 on)."""
    if hasattr(error, "add_note"):
        error.add_note(f"{error.error_code}: {error.remediation}")
