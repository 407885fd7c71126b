"""Numbers of rows as expressions over a function's parameters: ``window - 1``, ``max(a - 1, b + 2)``."""

from __future__ import annotations

from dataclasses import dataclass

MOST_ALTERNATIVES = 8


@dataclass(frozen=True)
class Linear:
    """A whole number plus whole multiples of terms; a term is a parameter's name or another expression's text."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    @property
    def value(self) -> int | None:
        """Return the number, None where there are terms."""
        return None if self.terms else self.constant

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        counts = dict(self.terms)
        for term, count in other.terms:
            counts[term] = counts.get(term, 0) + factor * count
        kept = tuple(sorted((term, count) for term, count in counts.items() if count))
        return Linear(self.constant + factor * other.constant, kept)

    def times(self, factor: int) -> Linear:
        return Linear().plus(self, factor)

    def positive_part(self) -> Linear:
        """Return max(0, self)."""
        if self.value is not None:
            return Linear(max(0, self.value))
        return Linear(0, ((f"max(0, {self})", 1),))

    def __str__(self) -> str:
        text = ""
        for term, count in self.terms:
            single = term.isidentifier() or term.startswith("max(") or abs(count) == 1 == count
            factor = "" if abs(count) == 1 else f"{abs(count)} * "
            text += (" - " if count < 0 else " + ") + factor + (term if single else f"({term})")
        if self.constant or not self.terms:
            text += f" {'-' if self.constant < 0 else '+'} {abs(self.constant)}"
        text = text.removeprefix(" ").removeprefix("+ ")
        return f"-{text[2:]}" if text.startswith("- ") else text


def named(term: str) -> Linear:
    return Linear(0, ((term, 1),))


class TooManyRows(Exception):
    """More alternatives than a person would read."""


@dataclass(frozen=True)
class Reach:
    """The largest of some numbers of rows, each of which is at least 0; none: no rows."""

    alternatives: frozenset[Linear] = frozenset()

    def or_more(self, other: Reach) -> Reach:
        found = self.alternatives | other.alternatives
        largest: dict[tuple[tuple[str, int], ...], int] = {}
        for linear in found:
            largest[linear.terms] = max(linear.constant, largest.get(linear.terms, linear.constant))
        if len(largest) > MOST_ALTERNATIVES:
            raise TooManyRows
        return Reach(frozenset(Linear(constant, terms) for terms, constant in largest.items()))

    def then(self, other: Reach) -> Reach:
        """Return the rows of a step that follows another one: their sum."""
        if not self.alternatives or not other.alternatives:
            return self.or_more(other)
        sums = Reach()
        for mine in self.alternatives:
            for theirs in other.alternatives:
                sums = sums.or_more(Reach(frozenset({mine.plus(theirs)})))
        return sums

    def __str__(self) -> str:
        texts = sorted(str(linear) for linear in self.alternatives)
        if not texts:
            return "0"
        return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"


def rows(linear: Linear | int) -> Reach:
    """Return the reach of so many rows; 0 rows are no reach."""
    linear = Linear(linear) if isinstance(linear, int) else linear
    return Reach() if linear.value == 0 else Reach(frozenset({linear}))


NONE, ZERO = Reach(), Linear()
