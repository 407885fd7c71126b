"""Compute quantiles of kept observations, and of a mergeable sketch where there are too many to keep."""

import bisect
import itertools
import math
from typing import Dict, List, Sequence

from .moments import Moments, Observation

QUANTILES = {"q05": 5, "q25": 25, "median": 50, "q75": 75, "q95": 95}  # percent
PER_OCTAVE = 64
# Lifts the smallest power of two (2 ** -1074) above zero, so that a bin's number has the sign of its values.
OFFSET = 1100


def exact_quantiles(observations: Sequence[Observation]) -> Dict[str, float]:
    """Return quantiles of sorted (value, weight) pairs by linear interpolation, as numpy's default ("type 7").

    Unequal weights follow A. Akinshin, "Weighted quantile estimators", arXiv:2304.07265 (2023): the mean of the
    quantile function over a window as wide as one observation of Kish's effective sample size.
    """
    if len({weight for _, weight in observations}) > 1:
        return {name: _weighted(observations, percent) for name, percent in QUANTILES.items()}
    values = [value for value, _ in observations]
    return {name: quantile(values, percent) for name, percent in QUANTILES.items()}


def quantile(ordered: Sequence[float], percent: int) -> float:
    """Return the quantile of sorted values by linear interpolation."""
    index, rest = divmod(percent * (len(ordered) - 1), 100)
    low = ordered[index]
    if not rest:
        return low
    high = ordered[index + 1]
    return clamp(low * (1 - rest / 100) + high * (rest / 100), low, high)


def _weighted(observations: Sequence[Observation], percent: int) -> float:
    heaviest = max(weight for _, weight in observations)
    shares = [(value, weight / heaviest) for value, weight in observations]
    total = math.fsum(share for _, share in shares)
    size = total * total / math.fsum(share * share for _, share in shares)
    left = percent / 100 * (size - 1) / size
    right = left + 1 / size
    parts: List[Observation] = []
    seen = 0.0
    for value, share in shares:
        start, seen = seen, seen + share
        overlap = min(seen / total, right) - max(start / total, left)
        if overlap > 0:
            parts.append((value, overlap))
    width = math.fsum(overlap for _, overlap in parts)
    # fsum raises where a partial sum overflows, even if the mean itself would fit
    scale = 0.25 if max(abs(value) for value, _ in parts) > 1e300 else 1.0
    mean = math.fsum(value * scale * (overlap / width) for value, overlap in parts) / scale
    return clamp(mean, parts[0][0], parts[-1][0])


def clamp(value: float, low: float, high: float) -> float:
    """Return the value within its neighbours, which rounding may have left."""
    return min(max(value, low), high)


def sketched_quantiles(bins: Dict[int, int], moments: Moments) -> Dict[str, float]:
    """Return the values at rank q * (count - 1), by the weights of DDSketch's bins, within the extremes.

    DDSketch with linearly interpolated bins, 64 to a power of two: values lie within 1/128 of a bin's middle.
    C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
    Guarantees", PVLDB 12(12), 2019. The bins come from frexp, because log() differs in its last digit between
    machines; none are collapsed, because that would let the order of merging show.
    """
    numbers = sorted(bins)
    cumulative = list(itertools.accumulate(bins[number] for number in numbers))
    found = {}
    for name, percent in QUANTILES.items():
        target = percent * (moments.count - 1) * cumulative[-1] // (100 * moments.count)
        middle = middle_of(numbers[bisect.bisect_right(cumulative, target)])  # where the weight exceeds that share
        found[name] = clamp(middle, moments.low, moments.high)
    return found


def bin_of(value: float) -> int:
    if value == 0:
        return 0
    fraction, exponent = math.frexp(abs(float(value)))
    number = (exponent + OFFSET) * PER_OCTAVE + int((2 * fraction - 1) * PER_OCTAVE)
    return number if value > 0 else -number


def middle_of(number: int) -> float:
    if number == 0:
        return 0.0
    exponent, part = divmod(abs(number), PER_OCTAVE)
    middle = math.ldexp(0.5 + (part + 0.5) / (2 * PER_OCTAVE), exponent - OFFSET)
    return middle if number > 0 else -middle
