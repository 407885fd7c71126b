"""Call a verb by its name inside this process: the request, the errors and the advice are those of the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import msgspec

from hpc_agent.contract import envelope
from hpc_agent.contract.advice import runnable
from hpc_agent.contract.any_error import as_hpc_error
from hpc_agent.contract.catalogue import load_catalogue as catalogue
from hpc_agent.contract.primitive import REGISTRY, Request, Result
from hpc_agent.errors import HpcError, PreconditionFailed
from hpc_agent.world import PLANS, WORKER, World

__all__ = ["Adviser", "adviser", "as_hpc_error", "catalogue", "correct", "invoke", "refuse_unconfirmed"]

Adviser = Callable[[Any, bool], Any]


def invoke(verb: str, document: dict[str, Any], world: World) -> Result:
    """Return the verb's result; commands in its advice run as printed. Raises HpcError, and nothing else but a signal."""
    entry = catalogue()[verb]
    try:
        importlib.import_module(entry.module)
        primitive = REGISTRY[verb]
        request = envelope.convert(document, primitive.request, verb)
        refuse_unconfirmed(verb, request, world)
        advise = adviser(verb, request, document)
        try:
            result = primitive.function(request, world)
        except HpcError as error:
            correct(error, primitive.request, advise)
            raise
        advised: Result = _advised(result, advise)
        return advised
    except HpcError:
        raise
    except Exception as error:
        raise as_hpc_error(error) from error


def refuse_unconfirmed(verb: str, request: Request, world: World) -> None:
    """Refuse what submits jobs to a worker that may only plan: its prompt says so, and this holds. Raises PreconditionFailed."""
    only_plans = world.env.get(WORKER) == PLANS and "submit" in catalogue()[verb].effects
    if only_plans and not getattr(request, "dry_run", False):
        message = f"no person has agreed to a submission: this worker plans only, and '{verb}' may submit jobs"
        agree = "A person agrees by: hpc-agent run --workflow submit --confirmed"
        remedy = f"Report the command as the next one, or add --dry-run. {agree}"
        raise PreconditionFailed(message, remediation=remedy)


def correct(error: HpcError, request: type[Request], advise: Adviser) -> None:
    """Make the commands in the advice of an error whole."""
    # A field that is to be corrected would be wrong in the same command again.
    again = (error.field or "").partition(".")[0] not in request.__struct_fields__
    vars(error).update(advise({"remediation": error.remediation, "details": error.details}, again))


def adviser(verb: str, request: Request, document: dict[str, Any]) -> Adviser:
    """Return the function that makes the commands in an answer whole; its flag: ``verb`` alone means this call again."""
    entries = catalogue()
    # the advice of a verb with a folder of its own (demo) begins with a change to it
    takes_repo = any(flag.path == ["experiment_dir"] and flag.default == "." for flag in entries[verb].flags)
    folder = document.get("experiment_dir", ".") if takes_repo else "."

    def this_call() -> str:
        from hpc_agent.ops.run.command_line import command_line

        return command_line(verb, request)

    def advise(answer: Any, again: bool) -> Any:
        return runnable(answer, verb, this_call if again else None, folder, entries)

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
