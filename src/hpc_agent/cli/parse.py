"""Parse a command line with the generated catalogue. Only the options of the chosen verb are built."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hpc_agent.cli.globals import GLOBAL_FLAGS
from hpc_agent.contract.catalogue import CatalogueEntry, parse_value
from hpc_agent.contract.envelope import current_name, did_you_mean
from hpc_agent.errors import SpecInvalid
from hpc_agent.state.user_files import read_user_file

# First words of verbs that may be written as two words: `hpc-agent build submit-spec`, `hpc-agent clusters list`.
GROUPS = ("build", "validate", "clusters", "campaign")
GROUP_WORDS = [[group] for group in GROUPS]  # command lines that name a group and no verb of it
SWITCHES = [each.flag for each in GLOBAL_FLAGS if each.metavar is None]
_SWITCH = re.compile(r"argument (?P<flag>--\S+?)(, \S+)*: ignored explicit argument ")
_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<known>.*)\)")


class _Parser(argparse.ArgumentParser):
    """A parser that raises SpecInvalid for an error, where argparse itself would write to stderr and exit with 2."""

    def error(self, message: str) -> NoReturn:
        if switch := _SWITCH.match(message):
            raise _takes_no_value(switch["flag"].split("/")[0], self.prog)
        choice = _CHOICE.search(message)
        hint = did_you_mean(choice["word"], re.findall(r"[\w-]+", choice["known"]), "{}") if choice else ""
        raise SpecInvalid(message, remediation=f"{hint}Run '{self.prog} --help'.")


def _takes_no_value(flag: str, command: str) -> SpecInvalid:
    remedy = f"Write {flag} alone: it is on where it stands. Run '{command} --help'."
    return SpecInvalid(f"{flag} takes no value", field=flag, remediation=remedy)


class _Width(argparse.HelpFormatter):
    """A formatter that does not ask for the terminal's width, for which argparse imports modules; help.py has the help."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


def find_verb(arguments: list[str], catalogue: Mapping[str, CatalogueEntry]) -> tuple[str, list[str]]:
    """Return the verb's canonical name and the arguments after it. Raises SpecInvalid for an unknown verb."""
    word, rest = arguments[0], arguments[1:]
    if word in GROUPS and rest:
        for name in (f"{word}-{rest[0]}", rest[0]):
            if name in catalogue:
                return name, rest[1:]
    names = {alias: name for name, entry in catalogue.items() for alias in (*entry.aliases, name)}
    if word in names:
        return names[word], rest
    hint = did_you_mean(word, names, "'hpc-agent {}'")
    raise SpecInvalid(f"unknown command '{word}'", remediation=f"{hint}Run 'hpc-agent --help' to see every command.")


def _build_parser(verb: str, entry: CatalogueEntry) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"hpc-agent {verb}", add_help=False, allow_abbrev=False, formatter_class=_Width)
    parser.add_argument("--spec")
    for number, flag in enumerate(entry.flags):
        extra: dict[str, Any] = {}
        if flag.kind == "bool":
            extra = {"action": argparse.BooleanOptionalAction}
        elif flag.choices:
            extra = {"choices": flag.choices}
        elif flag.kind in ("ints", "strs"):
            extra = {"action": "append"}
        parser.add_argument(flag.flag, dest=f"f{number}", **extra)
    if all(flag.flag != "--full" for flag in entry.flags):
        parser.add_argument("--full", action="store_true")  # of every verb; the others are taken before
    if entry.positional:
        several = any(flag.path == [entry.positional] and flag.kind == "strs" for flag in entry.flags)
        parser.add_argument("positional", nargs="*" if several else "?")
    return parser


def parse_request(
    verb: str, entry: CatalogueEntry, arguments: list[str], read_stdin: Callable[[], bytes], cwd: Path
) -> dict[str, Any]:
    """Return the request document: ``--spec``, with the flags over it. Raises SpecInvalid."""
    flags = {flag.flag for flag in entry.flags}
    words = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        words.append(current_name(name, flags) + equals + value)
    options, unknown = _build_parser(verb, entry).parse_known_args(words)
    if unknown:
        name, has_value, _ = unknown[0].partition("=")
        if has_value and name in SWITCHES:
            raise _takes_no_value(name, f"hpc-agent {verb}")
        hint = did_you_mean(name, ("--spec", *flags, *(each.flag for each in GLOBAL_FLAGS)), "{}")
        raise SpecInvalid(f"unrecognized arguments: {name}", remediation=f"{hint}Run 'hpc-agent {verb} --help'.")
    document = _request_in(_read_spec(options.spec, read_stdin, cwd), entry) if options.spec else {}
    if entry.positional and options.positional not in (None, []):
        document[entry.positional] = _items(options.positional)
    for number, flag in enumerate(entry.flags):
        value = getattr(options, f"f{number}")
        if value is None:
            continue
        target = document
        for name in flag.path[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise SpecInvalid(f"'{name}' must be a JSON object", field=name)
        target.pop(flag.path[-1] + "onds", None)
        value = "--" if value == [] else value  # what argparse makes of --flag=--
        if isinstance(value, list):  # a flag of a list may be repeated
            target[flag.path[-1]] = [item for text in value for item in parse_value(flag, "--" if text == [] else text)]
        else:
            target[flag.path[-1]] = value if isinstance(value, bool) else parse_value(flag, value)
    return document


def _items(given: str | list[str]) -> str | list[str]:
    """Return the words without a flag: of a list each may be several, as behind its flag (``compare A,B`` or ``compare A B``)."""
    return (
        given if isinstance(given, str) else [item for word in given for item in word.split(",") if item or word == ""]
    )


def batch_in(verb: str, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the verb and the request: ``submit`` with ``specs`` is a batch, and its other fields are those of each spec."""
    if verb != "submit" or "specs" not in document:
        return verb, document
    own: dict[str, Any] = {name: document[name] for name in ("specs", "experiment_dir") if name in document}
    given = document.get("common") or {}
    rest = {name: value for name, value in document.items() if name not in (*own, "common")}
    return "submit-flow-batch", {**own, "common": {**given, **rest} if isinstance(given, dict) else given}


def _read_spec(name: str, read_stdin: Callable[[], bytes], cwd: Path) -> dict[str, Any]:
    try:
        data = read_stdin() if name == "-" else read_user_file((cwd / name).expanduser())
        document = json.loads(data)
    except OSError as error:
        raise SpecInvalid(f"cannot read the spec {name}: {error.strerror}", field="spec") from error
    except (ValueError, RecursionError) as error:
        raise SpecInvalid(f"the spec {name} is not JSON: {error}", field="spec") from error
    if not isinstance(document, dict):
        raise SpecInvalid(f"the spec {name} must be a JSON object", field="spec")
    return document


def _request_in(document: dict[str, Any], entry: CatalogueEntry) -> dict[str, Any]:
    """Return the request in the envelope of another verb: its ``spec``, else its fields that this verb requires.

    A document that is no envelope is the request itself. Raises SpecInvalid for the envelope of a call that failed, with
    the message and remediation of that call.
    """
    if document.get("ok") is False and "error_code" in document:
        remedy = str(document.get("remediation") or "")
        details = {name: value for name, value in document.items() if name in ("error_code", "field", "details")}
        message = f"the command before this one failed: {document.get('message')}"
        raise SpecInvalid(message, field="spec", remediation=remedy, details=details)
    data = document.get("data")
    if document.get("ok") is not True or not isinstance(data, dict):
        return document
    if isinstance(data.get("spec"), dict):
        return dict(data["spec"])
    wanted = {flag.path[0] for flag in entry.flags if flag.required or flag.path[0] == "run_id"}
    return {name: data[name] for name in sorted(wanted) if name in data}
