"""The flags that every verb has; they may stand anywhere after the verb, and no verb has a flag of these names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NamedTuple

from hpc_agent.errors import SpecInvalid


class GlobalFlag(NamedTuple):
    """``metavar`` stands for the value; a flag without one is a switch."""

    flag: str
    metavar: str | None
    help: str


GLOBAL_FLAGS = (
    GlobalFlag("--json", None, "print the one line of JSON on a terminal too; elsewhere it is always printed"),
    GlobalFlag("--yes", None, "submit without the question that a terminal is asked"),
    GlobalFlag("--field", "PATH", "print one value of the answer: data.run_id or run_id, rows.0, waiting[0].reason"),
)


@dataclass(frozen=True)
class Globals:
    """What the flags of every verb ask for."""

    json: bool = False
    yes: bool = False
    field: str | None = None

    @property
    def for_programs(self) -> bool:
        """Is the answer for a program, whatever standard output is?"""
        return self.json or self.field is not None


def take_globals(arguments: list[str]) -> tuple[Globals, list[str]]:
    """Return what the global flags ask for, and the other words. Words after ``--`` are no flags.

    Raises SpecInvalid where ``--field`` has no value.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words, others, taken = iter(arguments[:end]), [], Globals()
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--json":
            taken = Globals(True, taken.yes, taken.field)
        elif word == "--yes":
            taken = Globals(taken.json, True, taken.field)
        elif name == "--field":
            path = value if equals else next(words, "")
            if not path or path.startswith("--"):
                raise SpecInvalid(
                    "--field needs the name of a value, for example data.run_id", field="--field", remediation=_HELP
                )
            taken = Globals(taken.json, taken.yes, path)
        else:
            others.append(word)
    return taken, [*others, *arguments[end:]]


_HELP = "Run 'hpc-agent describe <verb>' to see what its answer holds."


def add_globals(parser: argparse.ArgumentParser) -> None:
    """Show the global flags in a verb's help. Their values have been taken before the parser sees the words."""
    group = parser.add_argument_group("options of every command")
    for flag, metavar, text in GLOBAL_FLAGS:
        if metavar:
            group.add_argument(flag, metavar=metavar, help=text)
        else:
            group.add_argument(flag, action="store_true", help=text)
