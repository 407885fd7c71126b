"""The verbs as this server knows them: catalogue entries, what they may do, and their schemas in few bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import hpc_agent
from hpc_agent.contract.catalogue import CatalogueEntry
from hpc_agent.ops.run.invoke import catalogue

_PACKAGE = Path(hpc_agent.__file__).parent


@cache
def names() -> dict[str, str]:
    """Return the name of each verb, by name and by alias."""
    return {word: name for name, entry in catalogue().items() for word in (name, *entry.aliases)}


def submits(entry: CatalogueEntry) -> bool:
    """Return True for a verb that may submit jobs."""
    return "submit" in entry.effects


def writes(entry: CatalogueEntry) -> bool:
    """Return True for a verb that a read-only server refuses.

    A verb that asks the cluster keeps the answer in the journal, which changes nothing. One that writes into the journal
    without a question makes a decision.
    """
    decides = "journal" in entry.effects and "ssh" not in entry.effects
    return decides or not {"files", "push", "submit", "remove"}.isdisjoint(entry.effects)


def hints(entry: CatalogueEntry) -> dict[str, bool]:
    """Return the four hints of a tool, from the effects of its verb.

    No verb cancels jobs. A removal, and a submission, which spends an allocation, cannot be taken back: both are destructive.
    """
    return {
        "read_only_hint": not writes(entry),
        "destructive_hint": submits(entry) or "remove" in entry.effects,
        "idempotent_hint": entry.idempotent,
        "open_world_hint": not {"ssh", "push", "submit"}.isdisjoint(entry.effects),
    }


@cache
def _document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_PACKAGE / "schemas" / name).read_bytes())
    return found


def input_schema(verb: str, shown: tuple[str, ...] = (), nested: bool = True) -> dict[str, Any]:
    """Return the schema of a verb's request with the fields ``shown``, all by default; see ``compact``."""
    return compact(_document(catalogue()[verb].input_schema), shown, nested)


def output_fields(verb: str) -> dict[str, Any]:
    """Return the fields of a verb's result with their types only."""
    root, definitions = _root(_document(catalogue()[verb].output_schema))
    return {
        name: {"type": kind} if (kind := _types(field, definitions)) else {}
        for name, field in root["properties"].items()
        if name != "partial_errors"
    }


def certain_fields(verb: str) -> dict[str, Any]:
    """Return the fields that every result of a verb has, with their types: those without a default."""
    root, _ = _root(_document(catalogue()[verb].output_schema))
    return {name: kind for name, kind in output_fields(verb).items() if name in root.get("required", ())}


def compact(document: dict[str, Any], shown: tuple[str, ...] = (), nested: bool = True) -> dict[str, Any]:
    """Return a schema whose root is an object, in few bytes: no titles, no defaults that say nothing, null left out.

    A structure within it is written out if ``nested``; else it is an object. The verb itself validates the whole request.
    """
    root, definitions = _root(document)
    properties = {
        name: _field(field, definitions, nested)
        for name, field in root["properties"].items()
        if not shown or name in shown
    }
    required = [name for name in root.get("required", []) if name in properties]
    schema = {"type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema


def _root(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    definitions = document.get("$defs", {})
    return definitions[document["$ref"].rpartition("/")[2]], definitions


def _options(field: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a field without null, references resolved."""
    found = []
    for option in field.get("anyOf", [field]):
        if "$ref" in option:
            option = definitions[option["$ref"].rpartition("/")[2]]
        if option.get("type") != "null":
            found.append(option)
    return found


def _field(field: dict[str, Any], definitions: dict[str, Any], nested: bool) -> dict[str, Any]:
    options = _options(field, definitions)
    short: dict[str, Any] = {}
    if len(options) == 1:
        (only,) = options
        short = {name: only[name] for name in ("type", "enum", "minimum", "maximum") if name in only}
        if "properties" in only and nested:
            inner = {name: _field(part, definitions, False) for name, part in only["properties"].items()}
            short = {"type": "object", "properties": inner}
        elif only.get("type") == "array" and "items" in only:
            kind = _types(only["items"], definitions)
            short["items"] = {"type": kind} if kind else {}
    elif kinds := _types(field, definitions):
        short["type"] = kinds
    if description := field.get("description"):
        short["description"] = description
    if field.get("default") not in (None, "", [], {}, False):
        short["default"] = field["default"]
    return short


def _types(field: dict[str, Any], definitions: dict[str, Any]) -> str | list[str] | None:
    """Return the JSON types of a field, null among them; None where it may be anything."""
    kinds = []
    for option in field.get("anyOf", [field]):
        if "$ref" in option:
            option = definitions[option["$ref"].rpartition("/")[2]]
        kind = option.get("type") or ("string" if "enum" in option else None)
        if kind is None:
            return None
        kinds.append(kind)
    return kinds[0] if len(kinds) == 1 else sorted(set(kinds))
