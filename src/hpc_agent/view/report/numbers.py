"""Write numbers, durations and sizes for readers, and choose the ticks of axes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from hpc_agent.node.shared.quantiles import quantile

MINUS, TIMES, PLUS_MINUS = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{PLUS-MINUS SIGN}"
HYPHEN = "\N{NON-BREAKING HYPHEN}"
NBSP = "\N{NO-BREAK SPACE}"  # between a number and its unit
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000)
MOST_TIME_TICKS = 6
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def number(value: float, digits: int = 4, keep: bool = False) -> str:
    """Return so many significant digits: 0.9821, 12,300, 1.2x10^-5 with a real times sign and superscripts.

    ``keep``: also zeros at the end, so that the numbers of a column are equally exact; a whole number has none.
    """
    exact = Decimal(value)
    if not exact.is_finite():
        return str(value)
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(exact)
    size = rounded.adjusted() if rounded else 0
    if exact == exact.to_integral_value() and -4 <= size < 6:
        return f"{rounded:,.0f}".replace("-", MINUS)
    if keep and rounded:
        rounded = rounded.quantize(Decimal(1).scaleb(size - digits + 1), rounding=ROUND_HALF_UP)
    if -4 <= size < 6:
        return _stripped(f"{rounded:,f}" if size < digits else f"{rounded:,.0f}", keep)
    mantissa = _stripped(f"{rounded.scaleb(-size):f}", keep)
    return f"{mantissa}{TIMES}10{str(size).translate(_SUPERSCRIPTS)}"


def _stripped(text: str, keep: bool) -> str:
    return (text.rstrip("0").rstrip(".") if "." in text and not keep else text).replace("-", MINUS)


def spread(mean: float, deviation: float) -> str:
    """Return ``0.970 +- 0.007`` with a real sign: the deviation has two digits, the mean as many decimals."""
    exact = Decimal(deviation)
    decimals = 1 - exact.adjusted() if exact and exact.is_finite() else 10
    if not -4 <= decimals <= 9 or abs(mean) >= 1e6:
        return f"{number(mean)} {PLUS_MINUS} {number(deviation, 2)}"
    unit = Decimal(1).scaleb(-decimals)
    texts = (f"{Decimal(each).quantize(unit, rounding=ROUND_HALF_UP):,f}" for each in (mean, deviation))
    return f" {PLUS_MINUS} ".join(texts).replace("-", MINUS)


def fence(values: Sequence[float], reach: float) -> tuple[float, float]:
    """Return the extremes, or nearer limits: so many interquartile ranges (Tukey's fences) around the middle half."""
    ordered = sorted(values)
    quarter, three_quarters = quantile(ordered, 25), quantile(ordered, 75)
    room = reach * (three_quarters - quarter)
    if not room:
        return ordered[0], ordered[-1]
    return max(ordered[0], quarter - room), min(ordered[-1], three_quarters + room)


def moment(seconds: float) -> str:
    """Return ``2026-01-31 12:00 UTC``; nothing for 0, which is no time."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds else ""


def cell(value: Any, digits: int = 6) -> str:
    """Return a parameter's value; a float is rounded to so many digits."""
    return number(value, digits) if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return seconds with the unit that keeps the number small: ``0.42 s``, ``12 min``, ``3.5 h``."""
    size, unit = next((pair for pair in _UNITS if seconds >= 2 * pair[0] or seconds == pair[0]), _UNITS[-1])
    return f"{number(seconds / size, 2 if seconds < 100 * size else 3)}{NBSP}{unit}"


def core_time(hours: float, total: float = 0.0) -> str:
    """Return core-hours, or core-seconds where the hours, or those of a total, would be a small fraction."""
    if max(hours, total) >= 0.1:
        return f"{number(hours, 3)}{NBSP}core{HYPHEN}hours"
    return f"{number(hours * 3600, 3)}{NBSP}core{HYPHEN}seconds"


def percent(share: float) -> str:
    return f"{number(100 * share, 2 if share < 0.1 else 3)}{NBSP}%"


def mebibytes(size: float) -> str:
    return f"{number(size / 1024, 3)}{NBSP}GiB" if size >= 1024 else f"{number(size, 3)}{NBSP}MiB"


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten within [low, high]; ``low`` alone where there is no room."""
    span = high - low
    if not (math.isfinite(span) and span > 0) or span < abs(low) * 1e-12:
        return [low]
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    if power == 0:
        return [low]
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.7)
    first = math.ceil(low / step - 1e-9)
    found = [(first + at) * step for at in range(int(span / step + 1e-9) + 1)]
    return [round(tick, 12 - math.floor(math.log10(step))) if 1e-9 < step < 1e9 else tick
            for tick in found if low - span * 1e-9 <= tick <= high + span * 1e-9] or [low]  # fmt: skip


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten within [low, high], at most 6; with fewer than 3 also 2 and 5 times them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)
    every = max(1, -(-(last - first) // 5))
    found = [factor * float(f"1e{power}") for power in range(first, last + 1, every) for factor in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001 and 0 < tick < math.inf] or [low]


def time_ticks(high: float) -> tuple[list[float], float, str]:
    """Return ticks in seconds from 0 to ``high``, and the unit's length and name in which their labels are written."""
    if high < 5:
        return ticks(0.0, high, MOST_TIME_TICKS), 1.0, "s"
    step = next((step for step in _STEPS if high / step <= MOST_TIME_TICKS), 0)
    step = step or _STEPS[-1] * math.ceil(high / MOST_TIME_TICKS / _STEPS[-1])
    size, unit = next(pair for pair in _UNITS if step % pair[0] == 0 and high >= pair[0])
    return [float(at) for at in range(0, int(high) + 1, step)], size, unit


def tick_label(value: float, all_ticks: list[float]) -> str:
    """Return a label with as many decimals as the steps between ticks need."""
    if len(all_ticks) > 1:
        step = min(abs(b - a) for a, b in itertools.pairwise(all_ticks))
        largest = max(abs(tick) for tick in all_ticks)
        if step and step >= 1e-4 and largest < 1e6:
            decimals = next((n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6 * step * 10**n), 5)
            return f"{value:,.{decimals}f}".replace("-", MINUS)
        if step and largest:
            return number(value, max(1, math.floor(math.log10(largest)) - math.floor(math.log10(step)) + 1))
    return number(value)
