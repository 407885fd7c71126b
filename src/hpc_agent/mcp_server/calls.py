"""Run one verb, as the command line does: the same request, the same result, the same advice."""

from __future__ import annotations

import errno
import importlib
import json
import traceback
from dataclasses import dataclass, field
from typing import Any

from hpc_agent.contract import envelope
from hpc_agent.contract.advice import runnable
from hpc_agent.contract.primitive import REGISTRY
from hpc_agent.errors import HpcError, InternalError, PreconditionFailed, SpecInvalid, StorageFull
from hpc_agent.mcp_server.verbs import catalogue, names
from hpc_agent.world import World


@dataclass(frozen=True)
class Outcome:
    """The envelope that one call gave, and what was called."""

    verb: str
    arguments: dict[str, Any]
    envelope: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return bool(self.envelope["ok"])

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.envelope.get("data", {})
        return found


def verb_of(name: str) -> str:
    """Return the verb that a name or an alias means. Raises SpecInvalid with the nearest name."""
    known = names()
    if name in known:
        return known[name]
    hint = envelope.did_you_mean(name, known)
    raise SpecInvalid(
        f"there is no verb '{name}'", field="verb", remediation=f"{hint}Run 'hpc-agent capabilities' for the list."
    )


def typed_request(verb: str, arguments: dict[str, Any]) -> Any:
    """Return the typed request of a verb. Raises SpecInvalid."""
    importlib.import_module(catalogue()[verb].module)
    return envelope.convert(arguments, REGISTRY[verb].request, verb)


def run_verb(verb: str, arguments: dict[str, Any], world: World) -> Outcome:
    """Return the outcome of a call; every error is in the envelope."""
    try:
        line = _call(verb, arguments, world)
    except Exception as error:  # noqa: BLE001 - a bug is answered with an envelope and no traceback
        line = envelope.failure(as_answer(error))
    return Outcome(verb, arguments, json.loads(line))


def _call(verb: str, arguments: dict[str, Any], world: World) -> bytes:
    request = typed_request(verb, arguments)
    primitive, entry = REGISTRY[verb], catalogue()[verb]

    def whole_command() -> str:
        from hpc_agent.ops.run.command_line import command_line

        return command_line(verb, request)

    def with_whole_commands(answer: Any, again: bool) -> Any:
        takes_repo = any(flag.path == ["experiment_dir"] and flag.default == "." for flag in entry.flags)
        folder = arguments.get("experiment_dir", ".") if takes_repo else "."
        return runnable(answer, verb, whole_command if again else None, folder, catalogue())

    try:
        result = primitive.function(request, world)
        return envelope.success(primitive, result, lambda data: with_whole_commands(data, True))
    except HpcError as error:
        # A field that is to be corrected would be wrong in the same call again.
        again = (error.field or "").partition(".")[0] not in primitive.request.__struct_fields__
        advice = {"remediation": error.remediation, "details": error.details}
        vars(error).update(with_whole_commands(advice, again))
        raise


def as_answer(error: BaseException) -> HpcError:
    """Return the error of the envelope for any exception."""
    if isinstance(error, HpcError):
        return error
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        from hpc_agent.node.shared.files import is_disk_full

        message = (f"{error.filename}: " if error.filename else "") + str(error.strerror)
        if is_disk_full(error):
            return StorageFull(f"{message} (on this machine)")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return PreconditionFailed(message)
    return InternalError(message, details={"traceback": traceback.format_exc()[-4000:]})
