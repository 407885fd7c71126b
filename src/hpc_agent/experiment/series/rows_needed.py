"""What an expression of a function stands for: a number, or a series with the rows that each of its values needs."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hpc_agent.experiment.series.column_methods import Fold

MOST_ALTERNATIVES = 8


class Doubt(Exception):
    """A line of the source that no rule covers."""

    def __init__(self, node: ast.AST | int, why: str) -> None:
        super().__init__(why)
        self.line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        self.why = why


class Stateful(Doubt):
    """A line that carries a state from row to row."""


@dataclass(frozen=True)
class Linear:
    """A whole number plus whole multiples of terms; a term is a parameter's name or an expression's text."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        counts = dict(self.terms)
        for term, count in other.terms:
            counts[term] = counts.get(term, 0) + factor * count
        kept = tuple(sorted((term, count) for term, count in counts.items() if count))
        return Linear(self.constant + factor * other.constant, kept)

    def __str__(self) -> str:
        if not self.terms:
            return str(self.constant)
        single = {term: term if term.isidentifier() else f"({term})" for term, _ in self.terms}
        text = " + ".join(term if count == 1 else f"{count} * {single[term]}" for term, count in self.terms)
        return text + (f" {'-' if self.constant < 0 else '+'} {abs(self.constant)}" if self.constant else "")


@dataclass(frozen=True)
class Reach:
    """The largest of some numbers of rows, each of which is at least 0; none: no rows."""

    alternatives: frozenset[Linear] = frozenset()

    def or_more(self, other: Reach) -> Reach:
        largest: dict[tuple[tuple[str, int], ...], int] = {}
        for linear in self.alternatives | other.alternatives:
            largest[linear.terms] = max(linear.constant, largest.get(linear.terms, linear.constant))
        if len(largest) > MOST_ALTERNATIVES:
            raise Doubt(1, "the rows that it needs make too long an expression")
        return Reach(frozenset(Linear(constant, terms) for terms, constant in largest.items()))

    def then(self, other: Reach) -> Reach:
        """Return the rows of a step that follows another one: their sum."""
        if not self.alternatives or not other.alternatives:
            return self.or_more(other)
        sums = [mine.plus(theirs) for mine in self.alternatives for theirs in other.alternatives]
        return Reach().or_more(Reach(frozenset(sums)))

    def __str__(self) -> str:
        texts = sorted(map(str, self.alternatives)) or ["0"]
        return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"


ZERO, ONE = Linear(), Linear(1)


def rows(linear: Linear | int) -> Reach:
    """Return the reach of a number of rows; 0 rows are no reach."""
    linear = Linear(linear) if isinstance(linear, int) else linear
    return Reach() if linear == ZERO else Reach(frozenset({linear}))


def term(text: str, constant: int = 0) -> Linear:
    return Linear(constant, ((text, 1),))


@dataclass(frozen=True)
class Number:
    """A value without rows; ``linear`` where it can be a number of rows, ``parameter`` plus or minus a whole number."""

    linear: Linear | None = None


@dataclass(frozen=True)
class Series:
    """A value for each row, from ``back`` rows before and ``ahead`` rows after it; or a fold of all rows."""

    back: Reach = field(default_factory=Reach)
    ahead: Reach = field(default_factory=Reach)
    fold: Fold | None = None
    trimmed: bool = False  # without the rows of the halo
    loaded: bool = False  # the object that was given or loaded, whose columns have names

    def beside(self, other: Series) -> Series:
        return Series(self.back.or_more(other.back), self.ahead.or_more(other.ahead))

    def after(self, back: Reach, ahead: Reach | None = None, fold: Fold | None = None) -> Series:
        """Return the series of a step on this one."""
        return Series(self.back.then(back), self.ahead.then(ahead or Reach()), fold)


@dataclass(frozen=True)
class Group:
    """A dict or a tuple of values that leave the function together."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Container:
    """An object that a loop fills or carries: a list (``list``), a ``deque`` of ``size`` rows, the ``first`` row."""

    kind: str
    size: Linear = ZERO


Value = Number | Series | Group | Container


@dataclass
class Notes:
    """Lines with a sentence on each, and the conditions under which the proposal holds."""

    evidence: list[tuple[int, str]] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    series_used: bool = False

    def show(self, node: ast.AST, text: str, caveat: str | None = None) -> None:
        self.evidence.append((getattr(node, "lineno", 1), text))
        if caveat and caveat not in self.caveats:
            self.caveats.append(caveat)
