"""The primitive: one typed function, from which the CLI, the JSON Schemas and the docs are derived."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

import msgspec

from hpc_agent.errors import HpcError
from hpc_agent.world import World


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of every request. An unknown field is an error."""


class PartialError(msgspec.Struct, frozen=True):
    """A source that did not answer while the rest of the call succeeded."""

    code: str
    detail: str


class Result(msgspec.Struct, kw_only=True):
    """Base of every result. ``partial_errors`` travels beside ``data`` in the envelope."""

    partial_errors: list[PartialError] = []

    def _repr_html_(self) -> str:
        """Return what a notebook shows in place of the text of the struct: tables."""
        html: str = importlib.import_module("hpc_agent.view.notebook").html(self)
        return html


class Effect(enum.Enum):
    """An effect of a call outside its own process."""

    FILES = "writes files in the experiment folder"
    JOURNAL = "appends to the journal on this machine"
    SSH = "runs a command on the cluster"
    PUSH = "copies files to the cluster"
    SUBMIT = "submits jobs"
    REMOVE = "removes runs on the cluster, with a token"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a primitive."""

    stage: str
    effects: Collection[Effect] = ()
    idempotent: bool = True  # repeating the call has no second effect
    errors: Sequence[type[HpcError]] = ()
    aliases: Sequence[str] = ()
    positional: str | None = None  # the field that may be given without its flag; of a verb about runs their ids
    progress: bool = False  # the call may be long
    brief: str = ""  # at most 30 characters: the line of the verb in `capabilities`
    example: Mapping[str, Any] = field(
        default_factory=dict
    )  # a request that works in the repo of examples/horizon_sweep
    next_verbs: Sequence[str] = ()  # the verbs that usually follow
    # What a short answer keeps and what it gives up first, as paths in the result: rows[].log
    whole: Collection[str] = ()  # fields that stay whole: another verb reads them
    spare: Sequence[str] = ()
    larger: Collection[
        str
    ] = ()  # fields of the request that ask for a longer answer where they are above their default


@dataclass(frozen=True, kw_only=True)
class Primitive(Options):
    """A registered capability. ``name`` is the CLI verb, the catalogue name and the tool name alike."""

    name: str
    function: Callable[[Any, World], Result]
    request: type[Request]
    result: type[Result]
    summary: str
    description: str


REGISTRY: dict[str, Primitive] = {}

F = TypeVar("F", bound=Callable[..., Result])


class primitive(Options):  # noqa: N801 - a decorator
    """Register ``function(request, world) -> result`` under its own name with dashes.

    The first line of the function's docstring is the help text, the rest the description.
    """

    def __call__(self, function: F) -> F:
        hints = get_type_hints(function)
        name = function.__name__.rstrip("_").replace("_", "-")
        summary, _, description = (inspect.getdoc(function) or "").partition("\n")
        first = next(iter(hints["request"].__struct_fields__), None)
        positional = self.positional or (first if first in ("run_id", "run_ids") else None)
        REGISTRY[name] = Primitive(
            **{**vars(self), "positional": positional},
            name=name,
            function=function,
            request=hints["request"],
            result=hints["return"],
            summary=summary.strip(),
            description=description.strip(),
        )
        return function


def load_all() -> dict[str, Primitive]:
    """Import every module below ``hpc_agent.ops`` and return the whole registry, by name."""
    import pkgutil

    package = importlib.import_module("hpc_agent.ops")
    for module in pkgutil.walk_packages(package.__path__, prefix="hpc_agent.ops."):
        importlib.import_module(module.name)
    return dict(sorted(REGISTRY.items()))


def by_any_name() -> dict[str, Primitive]:
    """Return the whole registry, by name and by every alias."""
    return {name: found for found in load_all().values() for name in (found.name, *found.aliases)}
