"""``find``: the catalogue by words, and one verb in full."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hpc_agent.contract.catalogue import CatalogueEntry
from hpc_agent.mcp_server.calls import verb_of
from hpc_agent.mcp_server.meta_requests import FindRequest, FindResult, FoundVerb
from hpc_agent.mcp_server.session import Settings
from hpc_agent.mcp_server.tools import offered
from hpc_agent.mcp_server.verbs import catalogue, input_schema, output_fields, writes

SHOWN = 12
_WORD = re.compile(r"[a-z0-9]+")


def find(request: FindRequest, settings: Settings) -> FindResult:
    """Return one verb in full, or the verbs that fit the words, the best first. Raises SpecInvalid for an unknown verb."""
    if request.verb is not None:
        return _in_full(verb_of(request.verb))
    words = _WORD.findall(request.words.lower())
    ranked = sorted((-_score(name, entry, words), name) for name, entry in catalogue().items())
    fitting = [name for score, name in ranked if score < 0 or not words]
    shown = fitting[:SHOWN] if words else fitting
    return FindResult(verbs=[_row(name, settings, bool(words)) for name in shown], more=len(fitting) - len(shown))


def _row(name: str, settings: Settings, whole: bool) -> FoundVerb:
    entry = catalogue()[name]
    refused = writes(entry) and not settings.allow_submit
    way = "refused" if refused else "tool" if name in offered(settings) else "call"
    return FoundVerb(verb=name, does=entry.summary if whole else entry.brief or entry.summary[:60], way=way)


def _score(name: str, entry: CatalogueEntry, words: list[str]) -> float:
    """Return how well a verb fits: its name counts more than its summary, and that more than its flags."""
    places = (
        (4.0, f"{name} {' '.join(entry.aliases)} {entry.stage}"),
        (2.0, f"{entry.summary} {entry.brief}"),
        (0.5, " ".join(f"{flag.flag} {flag.help}" for flag in entry.flags)),
    )
    score = 0.0
    for weight, text in places:
        there = _WORD.findall(text.lower())
        score += weight * sum(any(_same(word, other) for other in there) for word in words)
    return score


def _same(word: str, other: str) -> bool:
    """Return True for the same word, or the same beginning: ``fails`` fits ``failures``."""
    stem = max(4, min(len(word), len(other)) - 2)
    return word == other or (len(word) > 3 and word[:stem] == other[:stem])


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
