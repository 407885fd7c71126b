"""argparse fed from the generated catalogue: only the chosen verb's options are ever built."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hpc_agent.contract.flags import parse_value
from hpc_agent.errors import SpecInvalid

CATALOGUE = Path(__file__).with_name("catalogue.json")
# Verbs that seed documents spell as two words: `hpc-agent build submit-spec`, `hpc-agent clusters list`.
GROUPS = ("build", "validate", "clusters", "campaign")


class _Parser(argparse.ArgumentParser):
    """argparse whose errors become envelopes; its own would go to stderr with exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise SpecInvalid(message, remediation=f"Run '{self.prog} --help'.")


def load_catalogue() -> dict[str, dict[str, Any]]:
    return json.loads(CATALOGUE.read_bytes())["verbs"]  # type: ignore[no-any-return]


def find_verb(arguments: list[str], catalogue: dict[str, dict[str, Any]]) -> tuple[str, list[str]]:
    """The canonical verb name and what is left of the arguments. Raises SpecInvalid for an unknown verb."""
    word, rest = arguments[0], arguments[1:]
    if word in GROUPS and rest and not rest[0].startswith("-"):
        joined = f"{word}-{rest[0]}"
        if joined in catalogue or rest[0] in catalogue:
            return (joined if joined in catalogue else rest[0]), rest[1:]
    if word in catalogue:
        return word, rest
    for name, entry in catalogue.items():
        if word in entry["aliases"]:
            return name, rest
    names = [*catalogue, *(alias for entry in catalogue.values() for alias in entry["aliases"])]
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"Did you mean 'hpc-agent {close[0]}'? " if close else ""
    raise SpecInvalid(f"unknown command '{word}'", remediation=hint + "Run 'hpc-agent --help' to see them all.")


def build_parser(verb: str, entry: dict[str, Any]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"hpc-agent {verb}",
        description=entry["summary"],
        epilog=f"Every field: hpc-agent describe {verb}",
        allow_abbrev=False,
    )
    parser.add_argument("--spec", metavar="FILE", help="the whole request as JSON; - reads standard input")
    for number, flag in enumerate(entry["flags"]):
        text = (flag["help"] or "").replace("%", "%%")
        if flag["default"] not in (None, [], {}, "", False):
            text += f" [{json.dumps(flag['default'])}]"
        if flag["kind"] == "bool":
            parser.add_argument(flag["flag"], dest=f"f{number}", action=argparse.BooleanOptionalAction, help=text)
        elif flag["choices"]:
            parser.add_argument(flag["flag"], dest=f"f{number}", choices=flag["choices"], help=text)
        else:
            metavar = {"ints": "N,N", "strs": "A,B"}.get(flag["kind"], flag["kind"].upper())
            parser.add_argument(flag["flag"], dest=f"f{number}", metavar=metavar, help=text)
    positional = entry.get("positional")
    if positional:
        parser.add_argument("positional", nargs="?", metavar=positional.upper(), help=argparse.SUPPRESS)
    return parser


def parse_request(
    verb: str, entry: dict[str, Any], arguments: list[str], read_stdin: Callable[[], bytes], cwd: Path
) -> dict[str, Any]:
    """The request document: --spec first, flags over it. Raises SpecInvalid; ``--help`` raises SystemExit(0)."""
    options, unknown = build_parser(verb, entry).parse_known_args(_short_spellings(arguments, entry))
    if unknown:
        raise _unknown_argument(verb, entry, unknown[0].partition("=")[0])
    document = _read_spec(options.spec, read_stdin, cwd) if options.spec else {}
    if entry.get("positional") and options.positional is not None:
        document[entry["positional"]] = options.positional
    for number, flag in enumerate(entry["flags"]):
        value = getattr(options, f"f{number}")
        if value is None:
            continue
        target = document
        for name in flag["path"][:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise SpecInvalid(f"'{name}' must be a JSON object", field=name)
        target.pop(flag["path"][-1] + "onds", None)
        target[flag["path"][-1]] = value if isinstance(value, bool) else parse_value(flag, value)
    return document


def _short_spellings(arguments: list[str], entry: dict[str, Any]) -> list[str]:
    """Return the arguments with ``--x-seconds`` written as ``--x-sec`` where the verb has that flag."""
    flags = {flag["flag"] for flag in entry["flags"]}
    words = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        short = name[: -len("onds")] if name.endswith("-seconds") else name
        words.append(short + equals + value if short in flags and name not in flags else argument)
    return words


def _unknown_argument(verb: str, entry: dict[str, Any], name: str) -> SpecInvalid:
    close = difflib.get_close_matches(name, ["--spec", *(flag["flag"] for flag in entry["flags"])], n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return SpecInvalid(f"unrecognized arguments: {name}", remediation=f"{hint}Run 'hpc-agent {verb} --help'.")


def _read_spec(name: str, read_stdin: Callable[[], bytes], cwd: Path) -> dict[str, Any]:
    try:
        data = read_stdin() if name == "-" else (cwd / name).expanduser().read_bytes()
        document = json.loads(data)
    except OSError as error:
        raise SpecInvalid(f"cannot read the spec {name}: {error.strerror}", field="spec") from error
    except ValueError as error:
        raise SpecInvalid(f"the spec {name} is not JSON: {error}", field="spec") from error
    if not isinstance(document, dict):
        raise SpecInvalid(f"the spec {name} must be a JSON object", field="spec")
    return document


def overview(catalogue: dict[str, dict[str, Any]]) -> str:
    """The text of ``hpc-agent --help``: verbs by stage."""
    lines = ["usage: hpc-agent VERB [--spec FILE|-] [options]      hpc-agent VERB --help", ""]
    stages: dict[str, list[str]] = {}
    for name, entry in catalogue.items():
        stages.setdefault(entry["stage"], []).append(f"  {name:<22} {entry['summary']}")
    for stage, rows in stages.items():
        lines += [f"{stage}:", *rows, ""]
    lines.append("stdout is one line of JSON. Exit codes: 0 ok, 1 user, 2 cluster or network, 3 internal.")
    return "\n".join(lines) + "\n"
