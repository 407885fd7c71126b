"""The parts that a view is made of: plain values, which know nothing of a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

STYLES = ("", "good", "bad", "busy", "warn", "dim", "strong", "title")
# How the states of runs and tasks look.
STATE_STYLES = {
    "complete": "good",
    "converged": "good",
    "running": "busy",
    "in_flight": "busy",
    "planned": "busy",
    "pending": "dim",
    "failed": "bad",
    "abandoned": "bad",
    "stuck": "warn",
    "timeout": "warn",
    "unknown": "warn",
}


class Cell(NamedTuple):
    """Text with one style; ``whole``: it is copied, so it is never broken at words."""

    text: str
    style: str = ""
    whole: bool = False


Content = str | Cell | list[str | Cell]
Fact = tuple[str | Cell, Content]


@dataclass(frozen=True)
class Title:
    """The first line: what the answer is about, and in which state that is."""

    content: Content


@dataclass(frozen=True)
class Heading:
    """The name of what follows, after an empty line."""

    text: str


@dataclass(frozen=True)
class Para:
    """Sentences, wrapped at words; a command in quotes stays whole."""

    content: Content
    indent: int = 0


@dataclass(frozen=True)
class Line:
    """One line that is never wrapped or cut here: a command to copy, a path."""

    content: Content
    indent: int = 0


@dataclass(frozen=True)
class Raw:
    """Text with its own lines, as a program wrote it; with ``hang`` long lines go on so far from the left."""

    text: str
    indent: int = 0
    hang: int | None = None


@dataclass(frozen=True)
class Facts:
    """Names with their values, below each other."""

    rows: list[Fact]
    indent: int = 0


class Column(NamedTuple):
    """``wraps``: its text may be broken at words. ``right``: its cells end at one edge."""

    name: str
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under the names of their columns; each row below the other where the terminal is too narrow."""

    columns: list[Column]
    rows: list[list[Content]] = field(default_factory=list)
    indent: int = 0


@dataclass(frozen=True)
class Bar:
    """A bar whose parts have the shares of ``counts``, a number for each state."""

    counts: dict[str, int]
    total: int


@dataclass(frozen=True)
class Gap:
    """An empty line."""


Block = Title | Heading | Para | Line | Raw | Facts | Table | Bar | Gap


def state(name: str) -> Cell:
    """Return the name of a state in its colour."""
    return Cell(name.replace("_", " "), STATE_STYLES.get(name, ""))
