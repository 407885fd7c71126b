"""``find``: verbs by words, as the verb ``find`` ranks them, and one verb in full."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.mcp_server.calls import verb_of
from hpc_agent.mcp_server.meta_requests import FindRequest, FindResult, FoundVerb
from hpc_agent.mcp_server.session import Settings
from hpc_agent.mcp_server.tools import offered
from hpc_agent.mcp_server.verbs import input_schema, output_fields, writes
from hpc_agent.ops.run.invoke import catalogue
from hpc_agent.world import World

SHOWN = 8


def find(request: FindRequest, settings: Settings, world: World) -> FindResult:
    """Return one verb in full, or the verbs that fit the words, the best first. Raises SpecInvalid for an unknown verb."""
    if request.verb is not None:
        return _in_full(verb_of(request.verb))
    if not request.words.strip():
        return FindResult(verbs=[_row(name, entry.brief, settings) for name, entry in catalogue().items()])
    from hpc_agent.ops.introspect import find as ranking

    found = ranking.find(ranking.FindRequest(words=[request.words], limit=SHOWN), world)
    return FindResult(verbs=[_row(match.verb, match.summary, settings) for match in found.verbs], more=found.others)


def _row(name: str, does: str, settings: Settings) -> FoundVerb:
    refused = writes(catalogue()[name]) and not settings.allow_submit
    return FoundVerb(
        verb=name, does=does, way="refused" if refused else "tool" if name in offered(settings) else "call"
    )


def _in_full(name: str) -> FindResult:
    entry = catalogue()[name]
    return FindResult(
        verb=name,
        description=entry.summary,
        effects=entry.effects,
        errors=entry.errors,
        input_schema=input_schema(name),
        output_fields=output_fields(name),
        example=entry.example,
        next_verbs=entry.next_verbs,
    )


def as_data(result: FindResult) -> dict[str, Any]:
    """Return the fields of the result that are set."""
    found: dict[str, Any] = msgspec.to_builtins(result)
    return {name: value for name, value in found.items() if value or name == "verbs"}
