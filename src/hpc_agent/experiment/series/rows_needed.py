"""The meaning of an expression in a function: a number, or a series with the rows that each of its values needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product

from hpc_agent.experiment.series.column_methods import Fold
from hpc_agent.experiment.series.function_source import Doubt
from hpc_agent.experiment_kit.axis import evaluate_rows

MOST_SUMS = 8


class Rows(dict[tuple[str, ...], int]):
    """A number of rows: the largest of sums, none of which is below 0. Each has its terms as key, and its constant.

    A term is a parameter's name, or an expression over one. Without sums there are no rows.
    """

    def or_more(self, other: Rows) -> Rows:
        # Of the same terms the largest constant is last, and stays.
        found = Rows(sorted([*self.items(), *other.items()]))
        if len(found) > MOST_SUMS:
            raise Doubt(1, "the rows that it needs make too long an expression")
        return found

    def then(self, other: Rows) -> Rows:
        """Return the rows of a step that follows another one: their sum."""
        if not self or not other:
            return self.or_more(other)
        pairs = product(self.items(), other.items())
        sums = sorted((tuple(sorted(mine + theirs)), one + two) for (mine, one), (theirs, two) in pairs)
        return Rows().or_more(Rows(sums))

    def __str__(self) -> str:
        texts = sorted(_sum(terms, constant) for terms, constant in self.items()) or ["0"]
        return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"


def _sum(terms: tuple[str, ...], constant: int | float | None) -> str:
    single = {term: term if term.isidentifier() else f"({term})" for term in terms}
    texts = [term if count == 1 else f"{count} * {single[term]}" for term, count in Counter(terms).items()]
    if constant or not texts:
        texts.append(str(constant))
    return " + ".join(texts).replace("+ -", "- ")


@dataclass(frozen=True)
class Number:
    """A value without rows: a parameter, ``term``, plus ``constant``; that is None where it cannot be a number of rows."""

    constant: int | float | None = None
    term: str = ""

    def __str__(self) -> str:
        return _sum((self.term,) if self.term else (), self.constant)

    def plus(self, other: Number, sign: int = 1) -> Number:
        """Return the sum, or the difference: an unknown number for two parameters, and for less than a parameter."""
        if self.constant is None or other.constant is None or (other.term and (self.term or sign < 0)):
            return Number()
        return Number(self.constant + sign * other.constant, self.term or other.term)

    def rows(self, expression: str = "{0}", more: int = 0) -> Rows:
        """Return an expression over this number ({0}, in brackets {1}), and ``more`` rows.

        Raises ValueError where that is no number of rows.
        """
        text = str(self)
        if self.term and expression == "{0}" and type(self.constant) is int:
            return Rows({(self.term,): self.constant + more})
        filled = expression.format(text, text if text.isidentifier() else f"({text})")
        if self.term:
            return Rows({(filled,): more})
        count = evaluate_rows("halo", filled, {}) + more
        return Rows({(): count} if count else {})


@dataclass(frozen=True)
class Series:
    """A value for each row, from ``back`` rows before and ``ahead`` rows after it; or a fold of all rows.

    ``kind``: column, loaded (the object that was given, whose columns have names), list, trimmed (without the rows of the
    halo), rolling, ewm, expanding; in a loop row (the value of one row) and rows (several around it).
    """

    back: Rows = field(default_factory=Rows)
    ahead: Rows = field(default_factory=Rows)
    fold: Fold | None = None
    kind: str = "column"

    def beside(self, other: Series) -> Series:
        return replace(self, back=self.back.or_more(other.back), ahead=self.ahead.or_more(other.ahead))

    def after(self, back: Rows, ahead: Rows, kind: str) -> Series:
        """Return the series of a step on this one."""
        return Series(self.back.then(back), self.ahead.then(ahead), kind=kind)


@dataclass(frozen=True)
class Position:
    """The number of a loop's row in the series ``of``, plus a constant and a parameter, minus a parameter.

    ``first``: the smallest number that the loop's row has here. ``clipped`` where a negative number becomes 0.
    """

    of: Series
    constant: int = 0
    plus: str = ""
    minus: str = ""
    first: Number = Number(0)
    clipped: bool = False


@dataclass(frozen=True)
class Start:
    """The object that a loop fills: a deque with ``back`` rows before each one, the first row of ``of``, an empty list."""

    back: Rows | None = None
    of: Series | None = None


Value = Number | Series | Position | Start
