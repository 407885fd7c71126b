"""The registry as plain data: what the CLI, ``capabilities`` and the generated pages read."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hpc_agent.contract.envelope import Failure, Success
from hpc_agent.contract.flags import flags_of
from hpc_agent.contract.primitive import Primitive


def row(primitive: Primitive) -> dict[str, Any]:
    """A primitive's catalogue entry."""
    return {
        "module": primitive.function.__module__,
        "stage": primitive.stage,
        "summary": primitive.summary,
        "aliases": list(primitive.aliases),
        "positional": primitive.positional,
        "progress": primitive.progress,
        "effects": sorted(effect.name.lower() for effect in primitive.effects),
        "idempotent": primitive.idempotent,
        "errors": sorted(error.error_code for error in primitive.errors),
        "input_schema": f"{primitive.name}.input.json",
        "output_schema": f"{primitive.name}.output.json",
        "flags": flags_of(primitive.request),
    }


def schema(kind: type, title: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of a struct, with every definition inside it."""
    document = msgspec.json.schema(kind)
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["title"] = title
    return _without_indents(document)  # type: ignore[no-any-return]


def _without_indents(value: Any) -> Any:
    """Docstrings come with their source indentation; a schema's description should not."""
    if isinstance(value, dict):
        return {
            key: re.sub(r"\s+", " ", inner)
            if key == "description" and isinstance(inner, str)
            else _without_indents(inner)
            for key, inner in value.items()
        }
    return [_without_indents(inner) for inner in value] if isinstance(value, list) else value


def envelope_schema() -> dict[str, Any]:
    """Success and failure; no other key is ever written."""
    success, failure = schema(Success, "success"), schema(Failure, "failure")
    definitions = {**success.pop("$defs", {}), **failure.pop("$defs", {})}
    for name in ("Success", "Failure"):
        definitions[name]["additionalProperties"] = False
    definitions["Success"]["properties"]["ok"] = {"const": True}
    definitions["Failure"]["properties"]["ok"] = {"const": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "envelope",
        "description": "The one line that every hpc-agent command prints on stdout.",
        "oneOf": [{"$ref": "#/$defs/Success"}, {"$ref": "#/$defs/Failure"}],
        "$defs": definitions,
    }
