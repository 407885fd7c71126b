"""The registry as records: the entry of each verb, its flags, its JSON Schemas. CLI, ``capabilities`` and pages read them."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import inspect as mi

from hpc_agent.contract.envelope import Failure, Success
from hpc_agent.contract.primitive import Primitive, Request
from hpc_agent.errors import SpecInvalid

_KINDS: dict[type, str] = {mi.BoolType: "bool", mi.IntType: "int", mi.FloatType: "float", mi.StrType: "str"}
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
        flags=flags_of(primitive.request),
    )


def flags_of(request: type[Request]) -> list[Flag]:
    """Return the flags of a request: its scalars and one level of nested structs; a struct that may be null is JSON."""
    info = mi.type_info(request)
    assert isinstance(info, mi.StructType)
    return _struct_flags(info, [])


def _struct_flags(info: mi.StructType, path: list[str]) -> list[Flag]:
    flags: list[Flag] = []
    for field in info.fields:
        here = [*path, field.encode_name]
        inner, description, optional = _unwrap(field.type)
        if isinstance(inner, mi.StructType) and not path and not optional:
            flags.extend(_struct_flags(inner, here))
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


def _unwrap(kind: mi.Type) -> tuple[mi.Type, str, bool]:
    """Return the type without Optional and Annotated, its description, and True for a type that may be null."""
    description, optional = "", False
    while True:
        if isinstance(kind, mi.Metadata):
            description = (kind.extra_json_schema or {}).get("description", description)
            kind = kind.type
        elif isinstance(kind, mi.UnionType):
            rest = [t for t in kind.types if not isinstance(t, mi.NoneType)]
            optional = optional or len(rest) < len(kind.types)
            if len(rest) != 1:
                return kind, description, optional
            kind = rest[0]
        else:
            return kind, description, optional


def _kind(kind: mi.Type) -> str:
    if isinstance(kind, mi.LiteralType):
        return "str"
    if isinstance(kind, mi.ListType):
        return {mi.IntType: "ints", mi.StrType: "strs"}.get(type(_unwrap(kind.item_type)[0]), "json")
    if isinstance(kind, mi.UnionType) and any(isinstance(t, mi.StrType) for t in kind.types):
        return "value"  # JSON, or text that needs no quotes of its own
    return _KINDS.get(type(kind), "json")


def default_of(field: mi.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    return None if field.default_factory is msgspec.NODEFAULT else msgspec.to_builtins(field.default_factory())


def parse_value(flag: Flag, text: str) -> Any:
    """Return the text of a flag as the JSON value of its field. Raises SpecInvalid, which names the field."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        match flag.kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "ints":
                return [int(part) for part in parts]
            case "strs":
                return parts
            case "json" | "value":
                return json.loads(text)
    except ValueError as error:
        if flag.kind != "value":
            message = f"{flag.flag}: {text!r} is not {_WANTED.get(flag.kind, 'a JSON value')}"
            raise SpecInvalid(message, field=".".join(flag.path)) from error
    return text


def schema(kind: type, title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a struct, with every definition inside it."""
    document = {**msgspec.json.schema(kind), "$schema": _DIALECT, "title": title}
    return _without_indents(document)  # type: ignore[no-any-return]


def _without_indents(value: Any) -> Any:
    """Return a schema whose descriptions are one line each: docstrings have the indentation of their source."""
    if isinstance(value, list):
        return [_without_indents(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _without_indents(inner) for key, inner in value.items()}
    if isinstance(plain.get("description"), str):
        plain["description"] = re.sub(r"\s+", " ", plain["description"])
    return plain


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
