"""How many rows something reaches back or ahead, as arithmetic over a function's parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpc_agent.experiment_kit.axis import ema_halo

MOST_ALTERNATIVES = 6
Number = int | float


@dataclass(frozen=True)
class Linear:
    """``const`` plus each term (the text of a parameter or a bracketed expression) times its factor."""

    const: Number = 0
    terms: tuple[tuple[str, Number], ...] = field(default=())

    def plus(self, other: Linear, factor: Number = 1) -> Linear:
        terms = dict(self.terms)
        for text, times in other.terms:
            terms[text] = terms.get(text, 0) + factor * times
        kept = tuple(sorted((text, times) for text, times in terms.items() if times))
        return Linear(self.const + factor * other.const, kept)

    def minus(self, other: Linear) -> Linear:
        return self.plus(other, -1)

    def times(self, factor: Number) -> Linear:
        return Linear().plus(self, factor)

    @property
    def number(self) -> Number | None:
        """Its value where no parameter is in it."""
        return None if self.terms else self.const

    def at_least_zero(self) -> bool:
        """Whether that is certain."""
        return not self.terms and self.const >= 0

    def __str__(self) -> str:
        parts = [(times < 0, text if abs(times) == 1 else f"{abs(times)} * {text}") for text, times in self.terms]
        if self.const or not parts:
            parts.append((self.const < 0, str(abs(self.const))))
        parts.sort(key=lambda part: part[0])
        first, *rest = parts
        head = ("-" if first[0] else "") + first[1]
        return head + "".join((" - " if negative else " + ") + text for negative, text in rest)


ZERO = Linear()
ONE = Linear(1)


def term(text: str) -> Linear:
    return Linear(0, ((text, 1),))


def bracketed(linear: Linear) -> str:
    """Its text as an operand."""
    plain = linear.number is not None and linear.const >= 0
    single = linear.const == 0 and len(linear.terms) == 1 and linear.terms[0][1] == 1
    text = str(linear)
    return text if plain or (single and text.isidentifier()) else f"({text})"


@dataclass(frozen=True)
class Reach:
    """The largest of some numbers of rows."""

    options: frozenset[Linear] = frozenset({ZERO})

    @property
    def none(self) -> bool:
        return self.options == {ZERO}

    def or_more(self, other: Reach) -> Reach:
        return Reach(_without_smaller(self.options | other.options))

    def plus(self, other: Reach) -> Reach:
        return Reach(_without_smaller(a.plus(b) for a in self.options for b in other.options))

    def less(self, linear: Linear) -> Reach:
        """Reduced by so many rows where that is a number; otherwise left as it is, which is never too small."""
        if linear.number is None or any(option.terms for option in self.options):
            return self
        return Reach(frozenset({Linear(max(0, option.const - linear.const)) for option in self.options}))

    @property
    def too_wide(self) -> bool:
        return len(self.options) > MOST_ALTERNATIVES

    def __str__(self) -> str:
        texts = sorted(map(str, self.options))
        return texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"


NONE = Reach()


def rows(linear: Linear) -> Reach:
    """So many rows; of a number below zero none."""
    return Reach(frozenset({Linear(max(0, linear.const)) if not linear.terms else linear}))


def positive_part(linear: Linear) -> Reach:
    """max(0, linear), for a lag that may be a lead."""
    return rows(linear) if linear.number is not None else rows(term(f"max(0, {linear})"))


def distance(linear: Linear) -> Reach:
    """So many rows; where parameters alone decide its sign, of that sign."""
    signs = {times > 0 for _, times in linear.terms}
    if signs == {True}:
        return rows(linear)
    return NONE if signs == {False} and linear.const <= 0 else positive_part(linear)


def largest(reaches: Iterable[Reach]) -> Reach:
    found = NONE
    for reach in reaches:
        found = found.or_more(reach)
    return found


def _without_smaller(options: Iterable[Linear]) -> frozenset[Linear]:
    """Of options that differ by a number the larger. A plain 0 goes: a negative rest is refused when it is evaluated."""
    best: dict[tuple[tuple[str, Number], ...], Linear] = {}
    for option in options:
        known = best.get(option.terms)
        if known is None or known.const < option.const:
            best[option.terms] = option
    kept = frozenset(best.values())
    return kept - {ZERO} or kept


def fading(alpha: Linear) -> Reach | None:
    """Rows until y = alpha * x + (1 - alpha) * y has forgotten; None when it never does. As ``ema_halo``, or longer."""
    number = alpha.number
    if number is None:
        return rows(term(f"89 // min({alpha}, {Linear(2).minus(alpha)})").plus(ONE))
    nearest = min(number, 2 - number)
    return rows(Linear(ema_halo(nearest))) if 0 < nearest <= 1 else None


def fading_of_ewm(name: str, value: Linear) -> Reach | None:
    """The same for the arguments of pandas' ewm: alpha, span, halflife, com. None for one that ewm refuses."""
    number = value.number
    if number is None:
        operand = bracketed(value)
        texts = {
            "alpha": f"89 // {operand} + 1",
            "span": f"89 * ({value} + 1) // 2 + 1",
            "halflife": f"128 * {operand} // 1 + 2",
            "com": f"89 * ({value} + 1) // 1 + 2",
        }
        return rows(term(texts[name]))
    alpha = _alpha(name, number)
    return rows(Linear(ema_halo(alpha))) if 0 < alpha <= 1 else None


def _alpha(name: str, number: Number) -> Number:
    """As pandas has it; 0 where pandas refuses the number."""
    if name == "span":
        return 2 / (number + 1) if number >= 1 else 0
    if name == "halflife":
        return 1 - math.exp(-math.log(2) / number) if number > 0 else 0
    if name == "com":
        return 1 / (1 + number) if number >= 0 else 0
    return number
