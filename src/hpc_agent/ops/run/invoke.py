"""Call a verb by its name inside this process: the request, the errors and the advice are those of the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import hpc_agent
from hpc_agent.contract import envelope
from hpc_agent.contract.advice import runnable
from hpc_agent.contract.any_error import as_hpc_error
from hpc_agent.contract.catalogue import CatalogueEntry
from hpc_agent.contract.primitive import REGISTRY, Request, Result
from hpc_agent.errors import HpcError
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.world import World

__all__ = ["as_hpc_error", "catalogue", "invoke"]

_CATALOGUE = Path(hpc_agent.__file__).parent / "cli" / "catalogue.json"


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Return the entry of every verb, as it was generated: no module of ``ops`` is imported for it."""
    return msgspec.json.decode(_CATALOGUE.read_bytes(), type=dict[str, CatalogueEntry])


def invoke(verb: str, document: dict[str, Any], world: World) -> Result:
    """Return the verb's result; commands in its advice run as printed. Raises HpcError, and nothing else but a signal."""
    entry = catalogue()[verb]
    try:
        importlib.import_module(entry.module)
        primitive = REGISTRY[verb]
        request = envelope.convert(document, primitive.request, verb)
        advise = _adviser(verb, request, document)
        try:
            result = primitive.function(request, world)
        except HpcError as error:
            # A field that is to be corrected would be wrong in the same command again.
            again = (error.field or "").partition(".")[0] not in primitive.request.__struct_fields__
            advice = {"remediation": error.remediation, "details": error.details}
            vars(error).update(advise(advice, again))
            raise
        advised: Result = _advised(result, advise)
        return advised
    except HpcError:
        raise
    except Exception as error:
        raise as_hpc_error(error) from error


Adviser = Callable[[Any, bool], Any]


def _adviser(verb: str, request: Request, document: dict[str, Any]) -> Adviser:
    """Return the function that makes the commands in an answer whole; its flag: ``verb`` alone means this call again."""
    entries = catalogue()
    # the advice of a verb with a folder of its own (demo) begins with a change to it
    takes_repo = any(flag.path == ["experiment_dir"] and flag.default == "." for flag in entries[verb].flags)
    folder = document.get("experiment_dir", ".") if takes_repo else "."

    def advise(answer: Any, again: bool) -> Any:
        whole = (lambda: command_line(verb, request)) if again else None
        return runnable(answer, verb, whole, folder, entries)

    return advise


def _advised(value: Any, advise: Adviser) -> Any:
    """Return a result with whole commands in its advice: the same struct, or a copy with other fields."""
    if isinstance(value, list):
        return (
            [_advised(item, advise) for item in value] if any(isinstance(i, msgspec.Struct) for i in value) else value
        )
    if not isinstance(value, msgspec.Struct):
        return value
    changed = {}
    for name in value.__struct_fields__:
        before = getattr(value, name)
        has_structs = isinstance(before, msgspec.Struct) or (
            isinstance(before, list) and any(isinstance(item, msgspec.Struct) for item in before)
        )
        after = _advised(before, advise) if has_structs else advise({name: before}, True)[name] if before else before
        if after != before:
            changed[name] = after
    return msgspec.structs.replace(value, **changed) if changed else value
