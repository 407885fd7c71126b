"""The registry as records: the entry of each verb, its flags, its JSON Schemas. CLI, ``capabilities`` and pages read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect as mi

from hpc_agent.contract.envelope import Failure, Success
from hpc_agent.contract.primitive import Primitive
from hpc_agent.errors import SpecInvalid

_KINDS = {mi.BoolType: "bool", mi.IntType: "int", mi.FloatType: "float", mi.StrType: "str", mi.LiteralType: "str"}
_WANTED = {"int": "a whole number", "float": "a number", "ints": "whole numbers separated by commas"}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Flag(msgspec.Struct, kw_only=True, frozen=True):
    """A command-line flag: ``path`` has the field names from the top; ``kind`` says how the text is read."""

    flag: str
    path: list[str]
    kind: str
    help: str
    default: Any
    choices: list[str] | None
    required: bool


class CatalogueEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A verb as catalogue.json has it."""

    module: str
    stage: str
    summary: str
    aliases: list[str]
    positional: str | None
    progress: bool
    effects: list[str]
    idempotent: bool
    errors: list[str]
    input_schema: str
    output_schema: str
    flags: list[Flag]


class Catalogue(msgspec.Struct, frozen=True):
    verbs: dict[str, CatalogueEntry]


def catalogue_entry(primitive: Primitive) -> CatalogueEntry:
    return CatalogueEntry(
        module=primitive.function.__module__,
        stage=primitive.stage,
        summary=primitive.summary,
        aliases=list(primitive.aliases),
        positional=primitive.positional,
        progress=primitive.progress,
        effects=sorted(effect.name.lower() for effect in primitive.effects),
        idempotent=primitive.idempotent,
        errors=sorted(error.error_code for error in primitive.errors),
        input_schema=f"{primitive.name}.input.json",
        output_schema=f"{primitive.name}.output.json",
        flags=_flags(mi.type_info(primitive.request), []),
    )


def _flags(info: mi.Type, path: list[str]) -> list[Flag]:
    """Return the flags of a request: its scalars and one level of nested structs; a struct that may be null is JSON."""
    flags: list[Flag] = []
    assert isinstance(info, mi.StructType)
    for field in info.fields:
        here = [*path, field.encode_name]
        inner, description, optional = _unwrap(field.type)
        if isinstance(inner, mi.StructType) and not path and not optional:
            flags.extend(_flags(inner, here))
            continue
        flags.append(
            Flag(
                flag="--" + field.encode_name.replace("_", "-"),
                path=here,
                kind=_kind(inner),
                help=description,
                default=default_of(field),
                choices=[str(v) for v in inner.values] if isinstance(inner, mi.LiteralType) else None,
                required=field.required,
            )
        )
    return flags


def _unwrap(kind: mi.Type, description: str = "", optional: bool = False) -> tuple[mi.Type, str, bool]:
    """Return the type without Optional and Annotated, its description, and True for a type that may be null."""
    if isinstance(kind, mi.Metadata):
        return _unwrap(kind.type, (kind.extra_json_schema or {}).get("description", description), optional)
    if isinstance(kind, mi.UnionType):
        rest = [t for t in kind.types if not isinstance(t, mi.NoneType)]
        optional = optional or len(rest) < len(kind.types)
        if len(rest) == 1:
            return _unwrap(rest[0], description, optional)
    return kind, description, optional


def _kind(kind: mi.Type) -> str:
    if isinstance(kind, mi.ListType):
        return {mi.IntType: "ints", mi.StrType: "strs"}.get(type(_unwrap(kind.item_type)[0]), "json")
    if isinstance(kind, mi.UnionType) and any(isinstance(t, mi.StrType) for t in kind.types):
        return "value"  # JSON, or text that needs no quotes of its own
    return _KINDS.get(type(kind), "json")


def default_of(field: mi.Field) -> Any:
    """Return the default of a field as JSON; null for a required field."""
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    return None if field.default_factory is msgspec.NODEFAULT else msgspec.to_builtins(field.default_factory())


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "ints": lambda text: [int(part) for part in _parts(text)],
    "strs": _parts,
    "json": json.loads,
    "value": json.loads,
}


def parse_value(flag: Flag, text: str) -> Any:
    """Return the text of a flag as the JSON value of its field. Raises SpecInvalid, which names the field."""
    try:
        return _READERS.get(flag.kind, str)(text)
    except ValueError as error:
        if flag.kind == "value":
            return text
        message = f"{flag.flag}: {text!r} is not {_WANTED.get(flag.kind, 'a JSON value')}"
        raise SpecInvalid(message, field=".".join(flag.path)) from error


def schema(kind: type, title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a struct, with every definition inside it."""
    document = {**msgspec.json.schema(kind), "$schema": _DIALECT, "title": title}
    return json.loads(json.dumps(document), object_hook=_without_indents)  # type: ignore[no-any-return]


def _without_indents(document: dict[str, Any]) -> dict[str, Any]:
    """Return a description as one line: docstrings have the indentation of their source."""
    if isinstance(document.get("description"), str):
        document["description"] = re.sub(r"\s+", " ", document["description"])
    return document


def envelope_schema() -> dict[str, Any]:
    """Return the schema of the envelope: success or failure, with no other key."""
    success, failure = schema(Success, "success"), schema(Failure, "failure")
    definitions = {**success.pop("$defs", {}), **failure.pop("$defs", {})}
    for name in ("Success", "Failure"):
        definitions[name]["additionalProperties"] = False
    definitions["Success"]["properties"]["ok"] = {"const": True}
    definitions["Failure"]["properties"]["ok"] = {"const": False}
    return {
        "$schema": _DIALECT,
        "title": "envelope",
        "description": "The one line that every hpc-agent command prints on stdout.",
        "oneOf": [{"$ref": "#/$defs/Success"}, {"$ref": "#/$defs/Failure"}],
        "$defs": definitions,
    }
