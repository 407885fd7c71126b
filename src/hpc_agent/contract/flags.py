"""Command-line flags derived from a request struct: scalars and one level of nested structs; what may be null is JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import inspect as mi

from hpc_agent.contract.primitive import Request
from hpc_agent.errors import SpecInvalid

_KINDS: dict[type, str] = {mi.BoolType: "bool", mi.IntType: "int", mi.FloatType: "float", mi.StrType: "str"}


def flags_of(request: type[Request]) -> list[dict[str, Any]]:
    """One entry per flag: flag, path (field names from the top), kind, help, default, choices, required."""
    info = mi.type_info(request)
    assert isinstance(info, mi.StructType)
    return _struct_flags(info, ())


def _struct_flags(info: mi.StructType, path: tuple[str, ...]) -> list[dict[str, Any]]:
    flags: list[dict[str, Any]] = []
    for field in info.fields:
        here = (*path, field.encode_name)
        inner, description = _unwrap(field.type)
        if isinstance(inner, mi.StructType) and not path and not _optional(field.type):
            flags.extend(_struct_flags(inner, here))
            continue
        flags.append(
            {
                "flag": "--" + field.encode_name.replace("_", "-"),
                "path": list(here),
                "kind": _kind(inner),
                "help": description,
                "default": _default(field),
                "choices": [str(v) for v in inner.values] if isinstance(inner, mi.LiteralType) else None,
                "required": field.required,
            }
        )
    return flags


def _optional(kind: mi.Type) -> bool:
    """Whether it may be null: such a struct is one JSON flag, for its fields only make sense together."""
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    return isinstance(kind, mi.UnionType) and any(isinstance(t, mi.NoneType) for t in kind.types)


def _unwrap(kind: mi.Type) -> tuple[mi.Type, str]:
    """The type without Optional and Annotated, and the description found on the way."""
    description = ""
    while True:
        if isinstance(kind, mi.Metadata):
            description = (kind.extra_json_schema or {}).get("description", description)
            kind = kind.type
        elif isinstance(kind, mi.UnionType):
            rest = [t for t in kind.types if not isinstance(t, mi.NoneType)]
            if len(rest) != 1:
                return kind, description
            kind = rest[0]
        else:
            return kind, description


def _kind(kind: mi.Type) -> str:
    if isinstance(kind, mi.LiteralType):
        return "str"
    if isinstance(kind, mi.ListType):
        item, _ = _unwrap(kind.item_type)
        return {mi.IntType: "ints", mi.StrType: "strs"}.get(type(item), "json")
    if isinstance(kind, mi.UnionType) and any(isinstance(t, mi.StrType) for t in kind.types):
        return "value"  # JSON, or text that needs no quotes of its own
    return _KINDS.get(type(kind), "json")


def _default(field: mi.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    return None


def parse_value(flag: dict[str, Any], text: str) -> Any:
    """The text of a flag as the JSON value its field wants. Raises SpecInvalid naming the field."""
    kind = flag["kind"]
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        if kind == "ints":
            return [int(part) for part in text.split(",") if part.strip()]
        if kind == "strs":
            return [part.strip() for part in text.split(",") if part.strip()]
        if kind == "json":
            return json.loads(text)
        if kind == "value":
            return _json_or_text(text)
    except ValueError as error:
        wanted = {"int": "a whole number", "float": "a number", "ints": "whole numbers separated by commas"}
        raise SpecInvalid(
            f"{flag['flag']}: {text!r} is not {wanted.get(kind, 'a JSON value')}", field=".".join(flag["path"])
        ) from error
    return text


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
