"""The registry as records: the entry of each verb, its flags, its JSON Schemas. CLI, ``capabilities`` and pages read them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.contract.envelope import Failure, Success
from hpc_agent.contract.primitive import Primitive
from hpc_agent.errors import SpecInvalid

_KINDS = {"boolean": "bool", "integer": "int", "number": "float", "string": "str"}
CATALOGUE = Path(__file__).resolve().parents[1] / "cli" / "catalogue.json"
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
    brief: str
    example: dict[str, Any]
    next_verbs: list[str]
    aliases: list[str]
    positional: str | None
    progress: bool
    effects: list[str]
    idempotent: bool
    errors: list[str]
    input_schema: str
    output_schema: str
    flags: list[Flag]


@cache
def load_catalogue() -> dict[str, CatalogueEntry]:
    """Return the entry of every verb, as it was generated: no module of ``ops`` is imported for it."""
    return msgspec.json.decode(CATALOGUE.read_bytes(), type=dict[str, CatalogueEntry])


def catalogue_entry(primitive: Primitive) -> CatalogueEntry:
    """Return the entry of a verb; fields of the same name are the primitive's."""
    facts = {
        **vars(primitive),
        "module": primitive.function.__module__,
        "effects": sorted(effect.name.lower() for effect in primitive.effects),
        "errors": sorted({error.error_code for error in primitive.errors}),
        "input_schema": f"{primitive.name}.input.json",
        "output_schema": f"{primitive.name}.output.json",
        "flags": list(flags_of(primitive.request, [])),
    }
    return msgspec.convert(facts, CatalogueEntry)


def flags_of(struct: Any, path: list[str]) -> Iterator[Flag]:
    """Yield the flags of a request: its scalars and one level of nested structs; a struct that may be null is JSON."""
    for field in msgspec.structs.fields(struct):
        here, facts = [*path, field.encode_name], msgspec.json.schema(field.type)
        if "$ref" in facts and not path:
            yield from flags_of(getattr(field.type, "__origin__", field.type), here)  # without Annotated
            continue
        options = [option for option in facts.get("anyOf", [facts]) if option.get("type") != "null"]
        yield Flag(
            flag="--" + field.encode_name.replace("_", "-"),
            path=here,
            kind=_kind(options),
            help=facts.get("description", ""),
            default=default_of(field),
            choices=options[0].get("enum"),
            required=field.required,
        )


def nested(fields: Mapping[str, Any], flags: Iterable[Flag]) -> dict[str, Any]:
    """Return a request with the fields of a part in that part: ``mem_mb`` is the name that its flag has of resources.mem_mb.

    A part that is given as something else than an object stays as it is, for the check of the request to name.
    """
    inner = {flag.path[-1]: flag.path[0] for flag in flags if len(flag.path) > 1}
    document = {name: value for name, value in fields.items() if name not in inner}
    for name in fields.keys() & inner.keys():
        part = document.get(inner[name]) or {}
        document[inner[name]] = {**part, name: fields[name]} if isinstance(part, dict) else part
    return document


def _kind(options: list[dict[str, Any]]) -> str:
    kinds = ["string" if "enum" in option else option.get("type", "object") for option in options]
    if kinds == ["array"]:
        return {"integer": "ints", "string": "strs"}.get(options[0].get("items", {}).get("type"), "json")
    if len(kinds) > 1:
        return "value" if "string" in kinds else "json"  # JSON, or text that needs no quotes of its own
    return _KINDS.get(kinds[0], "json")


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """Return the default of a field as JSON; null for a required field."""
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    return None if field.default_factory is msgspec.NODEFAULT else msgspec.to_builtins(field.default_factory())


def _parts(text: str) -> list[str]:
    """Return the items between commas; a JSON array is taken as it is, for items that hold a comma."""
    if text.startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            return list(map(str, json.loads(text)))
    return [part.strip() for part in text.split(",") if part.strip()]


# Kind -> the reader of a flag's text, and the words for a text that it cannot read.
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "ints": (lambda text: [int(part) for part in _parts(text)], "whole numbers separated by commas"),
    "strs": (_parts, ""),
    "json": (json.loads, "a JSON value"),
    "value": (json.loads, ""),
}


def parse_value(flag: Flag, text: str) -> Any:
    """Return the text of a flag as the JSON value of its field. Raises SpecInvalid, which names the field."""
    read, wanted = _READERS.get(flag.kind, (str, ""))
    try:
        return read(text)
    except (ValueError, RecursionError) as error:
        if flag.kind == "value":
            return text
        raise SpecInvalid(f"{flag.flag}: {text!r} is not {wanted}", field=".".join(flag.path)) from error


def schema(kind: type, title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a struct, with every definition inside it."""
    document = {**msgspec.json.schema(kind), "$schema": _DIALECT, "title": title}
    return json.loads(json.dumps(document), object_hook=_as_json_schema)  # type: ignore[no-any-return]


def _as_json_schema(document: dict[str, Any]) -> dict[str, Any]:
    r"""Return a description as one line, without the indentation of its source, and a pattern with the end of JSON Schema.

    There ``$`` is the end of the text, and ``\Z`` is unknown; in Python ``$`` allows one more newline.
    """
    if isinstance(document.get("description"), str):
        document["description"] = re.sub(r"\s+", " ", document["description"])
    if isinstance(document.get("pattern"), str):
        document["pattern"] = document["pattern"].replace(r"\Z", "$")
    return document


def envelope_schema() -> dict[str, Any]:
    """Return the schema of the envelope: success or failure, with no other key."""
    variants, definitions = msgspec.json.schema_components([Success, Failure], ref_template="#/$defs/{name}")
    for name, ok in (("Success", True), ("Failure", False)):
        definitions[name]["additionalProperties"] = False
        definitions[name]["properties"]["ok"] = {"const": ok}
    return {
        "$schema": _DIALECT,
        "title": "envelope",
        "description": "The one line that every hpc-agent command prints on stdout.",
        "oneOf": list(variants),
        "$defs": definitions,
    }
