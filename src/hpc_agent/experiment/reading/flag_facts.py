"""Facts about executors, functions and reducers that are known without running them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Action = Literal["store", "store_true", "store_false", "boolean_optional", "append", "count", "store_const"]
FlagType = Literal["str", "int", "float", "bool", "path", "json"]


class FlagFacts(msgspec.Struct, kw_only=True):
    """One flag: ``name`` is the name of its value, ``options`` are its spellings (none for a positional argument)."""

    name: str
    options: list[str] = []
    type: FlagType = "str"
    required: bool = False
    default: Any = None
    default_text: str | None = None
    choices: list[Any] | None = None
    nargs: int | str | None = None
    action: Action = "store"
    help: str = ""
    dynamic: bool = False
    hidden: bool = False


class ExecutorFacts(msgspec.Struct, kw_only=True):
    """A script that can be started. ``complete`` is false when flags cannot be read from its source."""

    name: str
    path: str
    framework: Literal["argparse", "optparse", "click", "typer", "fire", "plain"]
    has_main_guard: bool
    doc: str = ""
    flags: list[FlagFacts] = []
    complete: bool = True
    subcommands: list[str] = []
    notes: list[str] = []


class RunFacts(msgspec.Struct, kw_only=True):
    """A function decorated with @register_run."""

    name: str
    function: str
    path: str
    module: str | None
    cell: int | None
    line: int
    gpu: bool
    doc: str
    run_signature_sha: str
    flags: list[FlagFacts]
    accepts_any: bool = False


class ReducerFacts(msgspec.Struct, kw_only=True):
    """A script that seems to reduce results; ``matches`` are the reasons."""

    name: str
    path: str
    matches: list[str]
    docstring: str
    score: int


def type_of_value(value: Any) -> FlagType:
    """Return the type of a flag with this default or this choice."""
    if isinstance(value, (dict, list)):
        return "json"
    kinds: dict[type, FlagType] = {bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "str")
