"""Compute quantiles of kept observations, and of a mergeable sketch where there are too many to keep."""

import bisect
import itertools
import math
from collections import Counter
from typing import Any, Dict, List, Sequence, Tuple

from .moments import dyadic, exact_in, exact_out

Observation = Tuple[float, float]


def exact_quantiles(observations: Sequence[Observation], percents: Sequence[int]) -> List[float]:
    """Return quantiles of sorted (value, weight) pairs by linear interpolation, as numpy's default ("type 7").

    Unequal weights follow A. Akinshin, "Weighted quantile estimators", arXiv:2304.07265 (2023): the mean of the
    quantile function over a window as wide as one observation of Kish's effective sample size.
    """
    weighted = len({weight for _, weight in observations}) > 1
    return [(_weighted if weighted else _unweighted)(observations, percent) for percent in percents]


def _unweighted(observations: Sequence[Observation], percent: int) -> float:
    index, rest = divmod(percent * (len(observations) - 1), 100)
    low = observations[index][0]
    if not rest:
        return low
    high = observations[index + 1][0]
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


class Sketch(object):
    """DDSketch with linearly interpolated bins, 64 to a power of two: values lie within 1/128 of a bin's middle.

    C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
    Guarantees", PVLDB 12(12), 2019. The bins come from frexp, because log() differs in its last digit between
    machines; none are collapsed, because that would let the order of merging show.
    """

    PER_OCTAVE = 64
    # Lifts the smallest power of two (2 ** -1074) above zero, so that a bin's number has the sign of its values.
    OFFSET = 1100

    def __init__(self) -> None:
        self.bins: "Counter[int]" = Counter()  # exact weights

    @classmethod
    def bin_of(cls, value: float) -> int:
        if value == 0:
            return 0
        fraction, exponent = math.frexp(abs(float(value)))
        number = (exponent + cls.OFFSET) * cls.PER_OCTAVE + int((2 * fraction - 1) * cls.PER_OCTAVE)
        return number if value > 0 else -number

    @classmethod
    def middle_of(cls, number: int) -> float:
        if number == 0:
            return 0.0
        exponent, part = divmod(abs(number), cls.PER_OCTAVE)
        middle = math.ldexp(0.5 + (part + 0.5) / (2 * cls.PER_OCTAVE), exponent - cls.OFFSET)
        return middle if number > 0 else -middle

    def add(self, value: float, weight: float) -> None:
        mantissa, shift = dyadic(weight)
        self.bins[self.bin_of(value)] += mantissa << shift

    def merge(self, other: "Sketch") -> None:
        self.bins.update(other.bins)

    def quantiles(self, percents: Sequence[int], count: int) -> List[float]:
        """Return the values at rank q * (n - 1), n being ``count``: where the cumulative weight exceeds that share."""
        numbers = sorted(self.bins)
        cumulative = list(itertools.accumulate(self.bins[number] for number in numbers))
        targets = [percent * (count - 1) * cumulative[-1] // (100 * count) for percent in percents]
        return [self.middle_of(numbers[bisect.bisect_right(cumulative, target)]) for target in targets]

    def to_json(self) -> Dict[str, Any]:
        return {str(number): exact_out(weight, 1) for number, weight in sorted(self.bins.items())}

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> "Sketch":
        """Raises ValueError when a bin is not what to_json gives."""
        sketch = cls()
        sketch.bins.update({int(number): exact_in(weight, 1) for number, weight in document.items()})
        return sketch
