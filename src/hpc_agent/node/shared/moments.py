"""Sums without rounding: every float is an integer times a power of two, so a sum of floats is one too."""

import math
from typing import Any, Dict, Optional, Tuple, Union

INT64 = 1 << 63

Dyadic = Tuple[int, int]


class Exact(object):
    """A sum of dyadic numbers: ``mantissa * 2 ** exponent``."""

    __slots__ = ("exponent", "mantissa")

    def __init__(self, mantissa: int = 0, exponent: int = 0) -> None:
        self.mantissa = mantissa
        self.exponent = exponent

    @property
    def pair(self) -> Dyadic:
        return self.mantissa, self.exponent

    def add(self, mantissa: int, exponent: int) -> None:
        if exponent < self.exponent:
            self.mantissa <<= self.exponent - exponent
            self.exponent = exponent
        self.mantissa += mantissa << (exponent - self.exponent)

    def to_json(self) -> Union[int, str]:
        """A small int; else the odd mantissa in hex and the exponent as text, which no JSON reader rounds."""
        mantissa, exponent = self._reduced()
        if exponent >= 0 and mantissa.bit_length() + exponent <= 53:
            return mantissa << exponent
        return self.to_text()

    def to_text(self) -> str:
        """Return the odd mantissa in hex and the exponent, ``0p0`` for zero."""
        return "%xp%d" % self._reduced()

    def _reduced(self) -> Dyadic:
        if self.mantissa == 0:
            return 0, 0
        zeros = (self.mantissa & -self.mantissa).bit_length() - 1
        return self.mantissa >> zeros, self.exponent + zeros

    @classmethod
    def from_json(cls, document: Union[int, str]) -> "Exact":
        """Raises ValueError when the text is not what to_json gives."""
        if isinstance(document, int):
            return cls(document)
        mantissa, _, exponent = document.partition("p")
        return cls(int(mantissa, 16), int(exponent))


def dyadic(number: float) -> Dyadic:
    """A finite float or an int as (mantissa, exponent)."""
    if isinstance(number, int):
        return number, 0
    numerator, denominator = number.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


def canonical(number: float) -> float:
    """One spelling of each finite number, so that 1 and 1.0, or 0.0 and -0.0, cannot make the order show.

    A float, unless that would round an int. Raises OverflowError for an int beyond the range of a float.
    """
    real = float(number) + 0.0
    return real if real == number else number


def number_out(number: float) -> Union[float, str]:
    """An int of more than 64 bits as text: some JSON readers would make a rounded float of it."""
    return str(number) if isinstance(number, int) and not -INT64 <= number < INT64 else number


def number_in(document: Union[float, str]) -> float:
    return int(document) if isinstance(document, str) else document


def ratio(top: Dyadic, bottom: Dyadic) -> Optional[float]:
    """The correctly rounded quotient; None where it is beyond the range of a float."""
    shift = top[1] - bottom[1]
    try:
        return (top[0] << max(shift, 0)) / (bottom[0] << max(-shift, 0))
    except OverflowError:
        return None


def root(top: Dyadic, bottom: Dyadic) -> Optional[float]:
    """The square root of the quotient, even where the quotient itself leaves the range of a float."""
    half = (top[0].bit_length() + top[1] - bottom[0].bit_length() - bottom[1]) // 2
    scaled = ratio((top[0], top[1] - 2 * half), bottom)
    try:
        return None if scaled is None else math.ldexp(math.sqrt(scaled), half)
    except OverflowError:
        return None


class Moments(object):
    """Count, extremes and the exact sums of w, w*x and w*x*x of canonical numbers."""

    __slots__ = ("count", "high", "low", "sums")

    def __init__(self) -> None:
        self.count = 0
        self.low = math.inf
        self.high = -math.inf
        self.sums = (Exact(), Exact(), Exact())

    def add(self, value: float, weight: float) -> None:
        x, x_exponent = dyadic(value)
        w, w_exponent = dyadic(weight)
        self.count += 1
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        sum_w, sum_wx, sum_wxx = self.sums
        sum_w.add(w, w_exponent)
        sum_wx.add(w * x, w_exponent + x_exponent)
        sum_wxx.add(w * x * x, w_exponent + 2 * x_exponent)

    def merge(self, other: "Moments") -> None:
        self.count += other.count
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        for mine, theirs in zip(self.sums, other.sums):
            mine.add(*theirs.pair)

    def summary(self) -> Dict[str, Optional[float]]:
        """``sum`` is that of w*x; the variance is the mean square about the mean, times n / (n - 1)."""
        w, wx, wxx = self.sums
        figures: Dict[str, Optional[float]] = {
            "mean": ratio(wx.pair, w.pair), "sum": ratio(wx.pair, (1, 0)), "min": self.low, "max": self.high,
            "variance": None, "std": None,
        }  # fmt: skip
        if self.count > 1:
            # With W, S and Q the sums of w, w*x and w*x*x: n (WQ - SS) over (n - 1) WW, exact, so never negative.
            squares = Exact(wxx.mantissa * w.mantissa, wxx.exponent + w.exponent)
            squares.add(-wx.mantissa * wx.mantissa, 2 * wx.exponent)
            top = (squares.mantissa * self.count, squares.exponent)
            bottom = (w.mantissa * w.mantissa * (self.count - 1), 2 * w.exponent)
            figures.update(variance=ratio(top, bottom), std=root(top, bottom))
        return figures

    def to_json(self) -> Dict[str, Any]:
        w, wx, wxx = (exact.to_json() for exact in self.sums)
        low, high = number_out(self.low), number_out(self.high)
        return {"count": self.count, "min": low, "max": high, "w": w, "wx": wx, "wxx": wxx}

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "Moments":
        moments = cls()
        moments.count = int(document["count"])
        moments.low, moments.high = (canonical(number_in(document[name])) for name in ("min", "max"))
        w, wx, wxx = (Exact.from_json(document[name]) for name in ("w", "wx", "wxx"))
        moments.sums = (w, wx, wxx)
        return moments
