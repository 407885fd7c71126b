"""Compute 95 % confidence intervals of means by Student's t distribution."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpc_agent.node.shared.moments import Moments

NORMAL = 1.9599639845400536  # the 0.975 quantile of the normal distribution
TAILS = 0.05
SERIES_FROM = 500  # degrees of freedom from which the expansion is right to the last digits


@functools.lru_cache(maxsize=4096)
def t_quantile(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t distribution for at least one degree of freedom, which may be a fraction.

    Newton's method on the probability of a value beyond t or -t, which is the incomplete beta function
    I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2): NIST Digital Library of Mathematical Functions, section 8.17.
    The first value is that of M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions (1964), 26.7.5.
    """
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    t = z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
    if freedom > SERIES_FROM:
        return t
    a = freedom / 2
    log_scale = math.lgamma(a + 0.5) - math.lgamma(a) - math.log(math.pi) / 2
    step = math.inf
    while abs(step) > 1e-9 * t:  # the number of right digits doubles with each step
        x = freedom / (freedom + t * t)
        front = math.exp(log_scale + a * math.log(x) + math.log1p(-x) / 2)
        step = (front * _beta_fraction(x, a) / a - TAILS) * t / (2 * front)
        t += step
    return t


def _beta_fraction(x: float, a: float) -> float:
    """Return the continued fraction of I_x(a, 1/2), DLMF 8.17.22, by Lentz's method, for x < (a + 1) / (a + 2.5)."""
    b = 0.5
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, before = d, 0.0
    m = 0
    while abs(value - before) > 1e-15 * value:
        m, before = m + 1, value
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
    return value


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
