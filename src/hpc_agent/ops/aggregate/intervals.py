"""Compute 95 % confidence intervals of means by Student's t distribution."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpc_agent.node.shared.moments import Moments

# The quantile of one degree of freedom and that of the normal distribution: all others lie between them.
WIDEST, NARROWEST = 12.706204736174707, 1.9599639845400536
TAILS = 0.05
SERIES_FROM = 500  # degrees of freedom from which the expansion is right to the last digits


@functools.lru_cache(maxsize=4096)
def t_quantile(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t distribution for at least one degree of freedom, which may be a fraction.

    Newton's method on the distribution function, kept within a bracket. The function is the incomplete beta function
    I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2): NIST Digital Library of Mathematical Functions, section 8.17.
    """
    t = _expansion(freedom)
    if freedom > SERIES_FROM:
        return t
    low, high = NARROWEST, WIDEST
    t = min(t, high)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    for _ in range(60):
        excess = _both_tails(t, freedom) - TAILS
        low, high = (t, high) if excess > 0 else (low, t)
        density = math.exp(log_scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = t + excess / (2 * density)
        step = step if low <= step <= high else (low + high) / 2
        if abs(step - t) <= 1e-14 * t:
            return step
        t = step
    return t


def _expansion(freedom: float) -> float:
    """Return the quantile by M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions (1964), 26.7.5."""
    x = NARROWEST
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


def _both_tails(t: float, freedom: float) -> float:
    """Return the probability of a value beyond t or -t."""
    x = freedom / (freedom + t * t)
    a, b = freedom / 2, 0.5
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _beta_fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of DLMF 8.17.22, by Lentz's method."""
    tiny = 1e-300
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    c, value = 1.0, d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d, tiny)
            c = _nonzero(1 + term / c, tiny)
            value *= c * d
        if abs(value - before) <= 1e-16 * abs(value):
            break
    return value


def _nonzero(number: float, tiny: float) -> float:
    return number if abs(number) > tiny else tiny


def half_width(facts: Mapping[str, Any], tasks: int) -> float | None:
    """Return half the width of the interval of a mean over replicates; None where there is no honest one.

    ``facts`` is the summary of a metric, ``tasks`` the number of tasks of its row. Several values of one task are no
    replicates, and weighted values have another spread.
    """
    n, deviation = facts.get("count", 0), facts.get("std")
    values = n + facts.get("nan_count", 0) + facts.get("inf_count", 0)
    if n < 2 or deviation is None or values > tasks or facts.get("weighted"):
        return None
    return float(t_quantile(n - 1) * deviation / math.sqrt(n))


class Difference(NamedTuple):
    """The difference of two means; ``ci95`` is half the width of its interval, None where there is no replicate."""

    difference: float
    ci95: float | None
    test: str  # "paired", "welch", or "" for single values


def paired(first: list[float], second: list[float]) -> Difference:
    """Return the mean of ``second[i] - first[i]``, for at least two pairs."""
    n = len(first)
    summary = Moments((b - a, 1.0) for a, b in zip(first, second, strict=True)).summary()
    mean, std = summary["mean"], summary["std"]
    if mean is None or std is None:
        raise OverflowError("a difference is beyond the range of a float")
    return Difference(mean, t_quantile(n - 1) * std / math.sqrt(n), "paired")


def welch(first: list[float], second: list[float]) -> Difference:
    """Return the difference of the means, for at least one value each, with the interval of B. L. Welch (Biometrika 34, 1947)."""
    one, two = (Moments((value, 1.0) for value in values).summary() for values in (first, second))
    if one["mean"] is None or two["mean"] is None:
        raise OverflowError("a mean is beyond the range of a float")
    difference = two["mean"] - one["mean"]
    if one["variance"] is None or two["variance"] is None:
        return Difference(difference, None, "")
    shares = [one["variance"] / len(first), two["variance"] / len(second)]
    error = math.fsum(shares)
    if not error:
        return Difference(difference, 0.0, "welch")
    freedom = 1 / math.fsum(
        (share / error) ** 2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True)
    )
    return Difference(difference, t_quantile(max(1.0, freedom)) * math.sqrt(error), "welch")
