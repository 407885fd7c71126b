"""The one line of JSON on stdout, and the request that came in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from hpc_agent.contract.primitive import Effect, PartialError, Primitive, Request, Result
from hpc_agent.contract.shorten import shorten
from hpc_agent.errors import HpcError, SpecInvalid

R = TypeVar("R", bound=Request)

MOST_BYTES = 4095  # of an answer; with the end of the line 4 KB
_COMMAND = 400  # characters of a command that is worth its place in a short answer

_FIELD = re.compile(r"(?P<problem>unknown|missing required) field `(?P<name>[^`]*)`")

_CHOICE = re.compile(r"^Invalid enum value '(?P<word>[^']*)'")


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What both kinds of answer may have: ``left_out`` counts what a short answer lacks, by field; a command shows it."""

    left_out: dict[str, int] = {}
    whole_answer: str = ""


class Success(Answer, kw_only=True, omit_defaults=True):
    """The answer of a call that succeeded. ``idempotent``: this call changed nothing."""

    ok: bool = msgspec.field()
    idempotent: bool = msgspec.field()
    data: dict[str, Any] = msgspec.field()
    partial_errors: list[PartialError] = []


class Failure(Answer, kw_only=True, omit_defaults=True):
    """The answer of a call that failed. ``retry_safe``: the same call may be repeated as it is."""

    ok: bool = msgspec.field()
    error_code: str = msgspec.field()
    message: str = msgspec.field()
    category: str = msgspec.field()
    retry_safe: bool = msgspec.field()
    remediation: str = msgspec.field()
    field: str | None = None
    details: dict[str, Any] = {}


def success(
    primitive: Primitive,
    result: Result,
    finish: Callable[[Any], Any] = lambda data: data,
    whole: Callable[[], str] | None = None,
) -> bytes:
    """Return the line of a result; ``finish`` gives its data the last form.

    ``whole`` returns the command that prints all of it: with one, a long answer is shortened.
    """
    data = finish(msgspec.to_builtins(result))
    data.pop("partial_errors", None)
    mutates = not {Effect.FILES, Effect.SUBMIT, Effect.PUSH, Effect.REMOVE}.isdisjoint(primitive.effects)
    unchanged = not mutates or bool(getattr(result, "deduped", False))
    answer = Success(ok=True, idempotent=unchanged, data=data, partial_errors=result.partial_errors)
    return _line(answer, whole, primitive.whole, primitive.spare)


def failure(error: HpcError, whole: Callable[[], str] | None = None) -> bytes:
    """Return the line of an error; ``whole`` is as for a success."""
    names = set(Failure.__struct_fields__) - {"ok", "left_out", "whole_answer"}
    facts = {name: getattr(error, name) for name in names}
    for name in ("message", "remediation"):  # a word of the command line may hold bytes that are no UTF-8
        facts[name] = facts[name].encode(errors="backslashreplace").decode()
    return _line(Failure(ok=False, **facts), whole)


def asks_more(primitive: Primitive, request: Request) -> bool:
    """Return whether the request itself asks for a longer answer, as ``--lines 500`` does."""
    return any(
        (getattr(request, field.name) or 0) > (field.default or 0)
        for field in msgspec.structs.fields(request)
        if field.name in primitive.larger
    )


def _line(
    answer: Success | Failure, whole: Callable[[], str] | None, kept: Collection[str] = (), spare: Sequence[str] = ()
) -> bytes:
    line = msgspec.json.encode(answer, order="sorted")
    if whole is None or len(line) <= MOST_BYTES:
        return line
    document = msgspec.to_builtins(answer)
    command = whole().encode(errors="backslashreplace").decode()
    document["whole_answer"] = command if len(command) <= _COMMAND else "the same command with --full"
    shorten(document, MOST_BYTES, kept, spare)
    return msgspec.json.encode(document, order="sorted")


def convert(document: Any, request: type[R], verb: str) -> R:
    """Return the typed request. Raises SpecInvalid, which names the field and the accepted values."""
    if not isinstance(document, dict):
        raise SpecInvalid(f"the request of '{verb}' must be a JSON object, not {type(document).__name__}")
    try:
        for name, value in document.items():
            if b"\\u0000" in msgspec.json.encode([name, value]).replace(b"\\\\", b""):
                message = f"'{name}' holds a NUL character, which no path, command or variable may hold"
                raise SpecInvalid(message, field=name, remediation="Leave the character out, then call again.")
        return msgspec.convert(document, request)
    except UnicodeEncodeError as error:
        message = f"the request of '{verb}' holds text that is no Unicode: {ascii(error.object)[:80]}"
        raise SpecInvalid(message, remediation="Write the name or the value in UTF-8, then call again.") from error
    except msgspec.ValidationError as error:
        named = ((current_name(key, request.__struct_fields__), key, value) for key, value in document.items())
        current = {key if name in document else name: value for name, key, value in named}
        if current != document:
            return convert(current, request, verb)
        missing = [
            f.encode_name for f in msgspec.structs.fields(request) if f.required and f.encode_name not in document
        ]
        raise _explained(str(error), request, verb, missing) from error


def current_name(name: str, known: Container[str]) -> str:
    """Return the flag or field that ``name`` means: one that ends in ``sec`` may be spelled out as ``seconds``."""
    short = name[: -len("onds")] if name.endswith(("-seconds", "_seconds")) else name
    return short if short in known and name not in known else name


def _explained(text: str, request: type[Request], verb: str, missing: list[str]) -> SpecInvalid:
    """Return the error for a message of msgspec, which may end in `` - at `$.path` ``; it names all ``missing`` fields."""
    what, _, path = text.rpartition(" - at `") if text.endswith("`") and " - at `" in text else (text, "", "")
    prefix = path.rstrip("`").removeprefix("$").lstrip(".")
    see = f"Run 'hpc-agent describe {verb}' to see every field."
    match = _FIELD.search(what)
    if match is None:
        what = what.replace("`", "'")
        see = _nearest_choice(what, request, prefix) + see
        return SpecInvalid(f"{prefix or 'request'}: {what}", field=prefix or None, remediation=see)
    name = match["name"]
    field = f"{prefix}.{name}" if prefix else name
    if match["problem"] == "missing required":
        names = missing if not prefix else [field]
        flags = " and ".join("--" + each.replace("_", "-") for each in names)
        found = "'hpc-agent resolve-submit-inputs' finds what can be found. " if "executor" in names else ""
        verb_is = "is required" if len(names) == 1 else "are required"
        message = f"{' and '.join(map(repr, names))} {verb_is}"
        return SpecInvalid(message, field=field, remediation=f"Give {flags}. {found}{see}")
    fields = [f.encode_name for kind in _kinds_at(request, prefix) for f in getattr(kind, "fields", ())]
    hint = did_you_mean(name, fields)
    return SpecInvalid(f"unknown field '{field}'", field=field, remediation=hint + see)


def _nearest_choice(what: str, request: type[Request], path: str) -> str:
    """Return a hint for a value that is none of the choices of the field at ``path``."""
    match = _CHOICE.search(what)
    kinds = _kinds_at(request, path) if match else []
    choices = [str(value) for kind in kinds for value in getattr(kind, "values", ())]
    if not match or not choices:
        return ""
    return f"{did_you_mean(match['word'], choices)}It is one of {', '.join(choices)}. "


def _kinds_at(request: type[Request], path: str) -> list[Any]:
    """Return the types that the field at ``path`` may have, without those around them."""
    kinds: list[Any] = [msgspec.inspect.type_info(request)]
    for step in filter(None, re.sub(r"\[[^\]]*\]", ".[]", path).split(".")):
        below = (f.type for kind in kinds for f in getattr(kind, "fields", ()) if f.encode_name == step)
        items = (kind.item_type for kind in kinds if hasattr(kind, "item_type")) if step == "[]" else below
        kinds = [plain for kind in items for plain in _plain(kind)]
    return kinds


def _plain(kind: Any) -> Iterator[Any]:
    """Yield the options of a union, each without its metadata."""
    inner = [kind.type] if isinstance(kind, msgspec.inspect.Metadata) else getattr(kind, "types", None)
    if inner is None:
        yield kind
    for each in inner or ():
        yield from _plain(each)


def did_you_mean(word: str, known: Iterable[str], form: str = "'{}'") -> str:
    """Return ``Did you mean 'x'? `` for the nearest known word, or an empty string when none is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {form.format(close[0])}? " if close else ""
