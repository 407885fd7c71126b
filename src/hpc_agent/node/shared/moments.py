"""Sums without rounding: every float is a whole number of units of 2 ** -1074, so its sums and products are ints.

A sum of products of two numbers counts units of 2 ** -2148, and so on: ``factors`` is the number of factors.
"""

import math
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

UNIT_BITS = 1074
INT64 = 1 << 63

Observation = Tuple[float, float]  # value and weight


def dyadic(number: float) -> Tuple[int, int]:
    """A finite float or an int as (mantissa, shift): it has ``mantissa << shift`` units."""
    if isinstance(number, int):
        return number, UNIT_BITS
    numerator, denominator = number.as_integer_ratio()
    return numerator, UNIT_BITS + 1 - denominator.bit_length()


ONE = 1, UNIT_BITS  # as dyadic gives it


def exact_text(total: int, factors: int) -> str:
    """Return the odd mantissa in hex and the exponent, which no JSON reader rounds; ``0p0`` for zero."""
    zeros = (total & -total).bit_length() - 1 if total else factors * UNIT_BITS
    return "%xp%d" % (total >> zeros, zeros - factors * UNIT_BITS)


def exact_out(total: int, factors: int) -> Union[int, str]:
    """Return a small int; else text."""
    number = total >> factors * UNIT_BITS
    is_small = number.bit_length() <= 53 and number << factors * UNIT_BITS == total
    return number if is_small else exact_text(total, factors)


def exact_in(document: Union[int, str], factors: int) -> int:
    """Raises ValueError when the text is not what exact_text gives."""
    if isinstance(document, int):
        return document << factors * UNIT_BITS
    mantissa, _, exponent = document.partition("p")
    return int(mantissa, 16) << (int(exponent) + factors * UNIT_BITS)


def canonical(number: float) -> float:
    """One spelling of each number, so that 1 and 1.0, or 0.0 and -0.0, cannot make the order show.

    A float, unless that would round an int; infinity for an int beyond the range of a float.
    """
    try:
        real = float(number) + 0.0
    except OverflowError:
        return math.inf
    return real if real == number else number


def number_out(number: float) -> Union[float, str]:
    """An int of more than 64 bits as text: some JSON readers would make a rounded float of it."""
    return str(number) if isinstance(number, int) and not -INT64 <= number < INT64 else number


def number_in(document: Union[float, str]) -> float:
    return int(document) if isinstance(document, str) else document


def ratio(top: int, bottom: int) -> Optional[float]:
    """The correctly rounded quotient; None where it is beyond the range of a float."""
    try:
        return top / bottom
    except OverflowError:
        return None


def root(top: int, bottom: int) -> Optional[float]:
    """The square root of the quotient, even where the quotient itself leaves the range of a float."""
    half = (top.bit_length() - bottom.bit_length()) // 2
    try:
        return math.ldexp(math.sqrt((top << max(-2 * half, 0)) / (bottom << max(2 * half, 0))), half)
    except OverflowError:
        return None


class Moments(object):
    """Count, extremes and the exact sums of w, w*x and w*x*x of canonical numbers."""

    __slots__ = ("count", "high", "low", "sums")

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        self.count = 0
        self.low = math.inf
        self.high = -math.inf
        self.sums: List[int] = [0, 0, 0]
        for value, weight in observations:
            self.add(value, weight)

    def add(self, value: float, weight: float) -> None:
        x, shift = dyadic(value)
        w, w_shift = ONE if weight == 1 else dyadic(weight)
        self.count += 1
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        self.sums[0] += w << w_shift
        self.sums[1] += w * x << w_shift + shift
        self.sums[2] += w * x * x << w_shift + 2 * shift

    def merge(self, other: "Moments") -> None:
        self.count += other.count
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums)]

    def summary(self) -> Dict[str, Optional[float]]:
        """``sum`` is that of w*x; the variance is the mean square about the mean, times n / (n - 1)."""
        w, wx, wxx = self.sums
        figures: Dict[str, Optional[float]] = {
            "mean": ratio(wx, w << UNIT_BITS), "sum": ratio(wx, 1 << 2 * UNIT_BITS), "min": self.low, "max": self.high,
            "variance": None, "std": None,
        }  # fmt: skip
        if self.count > 1:
            # Both count units of 2 ** -4296; exact, so never negative.
            top = (w * wxx - wx * wx) * self.count
            bottom = (w * w << 2 * UNIT_BITS) * (self.count - 1)
            figures.update(variance=ratio(top, bottom), std=root(top, bottom))
        return figures

    def to_json(self) -> Dict[str, Any]:
        w, wx, wxx = (exact_out(total, factors) for factors, total in enumerate(self.sums, 1))
        low, high = number_out(self.low), number_out(self.high)
        return {"count": self.count, "min": low, "max": high, "w": w, "wx": wx, "wxx": wxx}

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "Moments":
        moments = cls()
        moments.count = int(document["count"])
        moments.low, moments.high = (canonical(number_in(document[name])) for name in ("min", "max"))
        moments.sums = [exact_in(document[name], factors) for factors, name in enumerate(("w", "wx", "wxx"), 1)]
        return moments
