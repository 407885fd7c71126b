"""The flags that every verb has; they may stand anywhere in the command. Of a verb's own flags only --full is one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from hpc_agent.errors import SpecInvalid


class GlobalFlag(NamedTuple):
    """``metavar`` stands for the value; a flag without one is a switch."""

    flag: str
    metavar: str | None
    help: str


GLOBAL_FLAGS = (
    GlobalFlag("--json", None, "print the one line of JSON on a terminal too; elsewhere it is always printed"),
    GlobalFlag("--yes", None, "submit without the question that a terminal is asked; prune-runs removes what it finds"),
    GlobalFlag("--field", "PATH", "print one value of the answer: data.run_id or run_id, rows.0, waiting[0].reason"),
    GlobalFlag("--full", None, "print the whole answer, however long; else lists are shortened to keep it below 4 KB"),
)


@dataclass(frozen=True)
class Globals:
    """What the flags of every verb ask for."""

    json: bool = False
    yes: bool = False
    field: str | None = None
    full: bool = False

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
            taken = replace(taken, json=True)
        elif word == "--yes":
            taken = replace(taken, yes=True)
        elif name == "--field":
            path = value if equals else next(words, "")
            if not path or path.startswith("--"):
                raise SpecInvalid(
                    "--field needs the name of a value, for example data.run_id", field="--field", remediation=_HELP
                )
            taken = replace(taken, field=path)
        else:
            taken = replace(taken, full=taken.full or word == "--full")
            others.append(word)  # --full also goes to the verb: some have more to tell with it
    ahead = next((place for place, word in enumerate(others) if word != "--full"), len(others))
    # the verb stands first, wherever the flags of every verb were written
    others = [*others[ahead : ahead + 1], *(others[:ahead] if others[ahead:] else []), *others[ahead + 1 :]]
    return taken, [*others, *arguments[end:]]


_HELP = "Run 'hpc-agent describe <verb>' to see what its answer holds."
