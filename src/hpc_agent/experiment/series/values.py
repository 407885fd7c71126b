"""What an expression of the classified function stands for."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hpc_agent.experiment.series.column_methods import Fold
from hpc_agent.experiment.series.reach import NONE, ZERO, Linear, Reach


class Doubt(Exception):
    """A line of the source that no rule covers."""

    def __init__(self, node: ast.AST | int, why: str) -> None:
        super().__init__(why)
        self.line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        self.why = why


class Stateful(Doubt):
    """A line that carries a state from row to row."""


@dataclass(frozen=True)
class Number:
    """A value without rows; ``linear`` where it can be a number of rows."""

    linear: Linear | None = None


@dataclass(frozen=True)
class Series:
    """A value for each row, from so many rows before and after it; or a fold of all rows."""

    back: Reach = NONE
    ahead: Reach = NONE
    fold: Fold | None = None
    trimmed: bool = False  # without the rows of the halo

    def with_(self, other: Series) -> Series:
        return Series(self.back.or_more(other.back), self.ahead.or_more(other.ahead))

    def after(self, back: Reach, ahead: Reach, fold: Fold | None = None) -> Series:
        """Return the series of a step on this one."""
        return Series(self.back.then(back), self.ahead.then(ahead), fold)


@dataclass
class Frame:
    """A pandas object whose columns may be replaced; every name of it sees that. ``rest``: all other columns."""

    rest: Series | None = field(default_factory=Series)
    columns: dict[str, Series | Number] = field(default_factory=dict)

    def parts(self) -> list[Series]:
        known = [value for value in self.columns.values() if isinstance(value, Series)]
        return known if self.rest is None else [self.rest, *known]


@dataclass(frozen=True)
class Group:
    """A dict, a list or a tuple of values that leave the function together."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Container:
    """What a loop fills or carries: a list (``list``), an array as long as the series (``filled``), a deque, a first row."""

    kind: str
    size: Linear = ZERO


Value = Number | Series | Frame | Group | Container


@dataclass
class Notes:
    """What was noticed on the way: lines with what they show, and what has to hold."""

    evidence: list[tuple[int, str]] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    series_used: bool = False

    def show(self, node: ast.AST, text: str, caveat: str | None = None) -> None:
        self.evidence.append((getattr(node, "lineno", 1), text))
        if caveat:
            self.require(caveat)

    def require(self, caveat: str) -> None:
        if caveat not in self.caveats:
            self.caveats.append(caveat)
