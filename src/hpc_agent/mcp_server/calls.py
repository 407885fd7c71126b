"""Run one verb, as the command line does: the same request, the same result, the same advice."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import Any

from hpc_agent.contract import envelope
from hpc_agent.contract.primitive import REGISTRY
from hpc_agent.errors import HpcError, SpecInvalid
from hpc_agent.mcp_server.verbs import names
from hpc_agent.ops.run.invoke import catalogue, invoke
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
        result = invoke(verb, arguments, world)  # which registers the verb
        line = envelope.success(REGISTRY[verb], result)
    except HpcError as error:
        line = envelope.failure(error)
    return Outcome(verb, arguments, json.loads(line))


def failed(verb: str, arguments: dict[str, Any], error: HpcError) -> Outcome:
    """Return the outcome of a call that ended before its verb began."""
    return Outcome(verb, arguments, json.loads(envelope.failure(error)))
