"""Facts about executors, functions and reducers that are known without running them."""

from __future__ import annotations

import ast
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.experiment.reading.syntax import Scope, Unknown, as_json

# store_bool is an option that is followed by True or False.
Action = Literal[
    "store", "store_true", "store_false", "boolean_optional", "append", "count", "store_const", "store_bool"
]
FlagType = Literal["str", "int", "float", "bool", "path", "json"]
# The action, type and default that a switch of argparse or click gives to its flag.
Switch = tuple[Action, FlagType, bool | None]
# The types by the last part of their name in a call of argparse, optparse or click, and in an annotation.
TYPES: dict[str, FlagType] = {
    "str": "str", "string": "str", "int": "int", "long": "int", "INT": "int", "IntRange": "int", "float": "float",
    "FLOAT": "float", "FloatRange": "float", "bool": "bool", "BOOL": "bool", "Path": "path", "PathLike": "path",
    "File": "path", "FileType": "path", "loads": "json",
}  # fmt: skip


class FlagFacts(msgspec.Struct, kw_only=True):
    """One flag: ``name`` is the parameter, ``options`` are its spellings (none for a positional argument).

    A part of a nested name is set off by two underscores: ``optimizer__lr`` is ``--optimizer.lr``. An option that ends
    with "=" is joined to its value: ``lr=`` of hydra.
    """

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
    any_case: Annotated[bool, Meta(description="choices are compared without regard to case")] = False
    inferred: Annotated[bool, Meta(description="the type is only that of the default: other values are allowed")] = (
        False
    )

    def set_default(self, node: ast.expr, scope: Scope) -> bool:
        """Set the default, or one line of its source when its value is unknown. Return True for a known value."""
        try:
            self.default = as_json(scope.value(node))
        except Unknown:
            self.default_text = " ".join(ast.unparse(node).split())[:200]
        return self.default_text is None

    def infer_type(self) -> None:
        """Set the type to that of the default, which a program without a type of its own need not keep."""
        self.type = type_of_value(self.default)
        self.inferred = self.type in ("int", "float", "bool")

    def set_choices(self, node: ast.expr, scope: Scope) -> None:
        try:
            self.choices = as_json(list(scope.value(node)))
        except (Unknown, TypeError):
            self.dynamic = True


class SubcommandFacts(msgspec.Struct, kw_only=True):
    """A subcommand with the flags of its own, which follow its name."""

    name: str
    doc: str = ""
    flags: list[FlagFacts] = []


class ExecutorFacts(msgspec.Struct, kw_only=True):
    """A script that can be started.

    ``complete`` is true when its source proves that there are no other parameters than those in ``flags``,
    ``subcommands`` and ``environment``. ``flags`` go before the name of a subcommand, which is the value of the
    parameter ``subcommand_name``.
    """

    name: str
    path: str
    framework: Annotated[str, Meta(description="library that reads the command line; plain for none")]
    has_main_guard: bool
    doc: str = ""
    module: Annotated[str | None, Meta(description="python -m starts it: it has relative imports")] = None
    flags: list[FlagFacts] = []
    complete: bool = True
    subcommands: list[SubcommandFacts] = []
    subcommand_name: Annotated[str | None, Meta(description="parameter that names the subcommand")] = None
    subcommand_required: bool = False
    environment: Annotated[
        list[FlagFacts], Meta(description="parameters read from the environment; option $LR is the variable LR")
    ] = []
    spelling: Annotated[
        str, Meta(description="option of a parameter that is not listed; {path} has a dot for __; empty: no option")
    ] = ""
    notes: list[str] = []

    def doubt(self, reason: str) -> None:
        """Note why there may be parameters that are not listed."""
        self.complete = False
        self.notes += [] if reason in self.notes else [reason]


class RunFacts(msgspec.Struct, kw_only=True):
    """A function decorated with @register_run. ``problem`` is why no task can call it, with the line that is right."""

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
    returns_metrics: Annotated[
        bool | None, Meta(description="true: a dict; false: rows or text, which a task may not return; null: not known")
    ] = None
    problem: str | None = None


class ReducerFacts(msgspec.Struct, kw_only=True):
    """A script that seems to reduce results; ``matches`` are the reasons."""

    name: str
    path: str
    matches: list[str]
    docstring: str
    score: int


def type_of_value(value: Any) -> FlagType:
    """Return the type of a flag with this default or this choice."""
    return "json" if isinstance(value, (dict, list)) else TYPES.get(type(value).__name__, "str")
