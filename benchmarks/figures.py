"""Statistics of few repetitions: median, spread, ratios of medians, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

_SECONDS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (1e-6, 1e6, "us"), (0.0, 1e9, "ns"))
_BYTES = ((1e9, 1e-9, "GB"), (1e6, 1e-6, "MB"), (1e3, 1e-3, "KB"), (0.0, 1.0, "B"))


def median(values: Sequence[float]) -> float:
    """Return the median. Raises ValueError where nothing was measured."""
    if not values:
        raise ValueError("nothing was measured")
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """Return the half of (largest - smallest), as a share of the median; 0 for a single value or a median of 0."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def ratio(of: Sequence[float], *to: Sequence[float]) -> float:
    """Return the median of ``of`` over the sum of the medians of ``to``. Raises ValueError for a division by 0."""
    below = sum(median(values) for values in to)
    if not below:
        raise ValueError("a ratio to nothing")
    return median(of) / below


def rounded(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 123, 12,345."""
    if not value:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0") if "e" in text else text


def written(value: float, unit: str) -> str:
    """``0.0123`` s as 12.3 ms, ``2048`` bytes as 2.05 KB; any other unit as it is."""
    scales = {"s": _SECONDS, "B": _BYTES}.get(unit)
    if scales is None or value <= 0:
        return f"{rounded(value)} {unit}".strip()
    _, factor, name = next(scale for scale in scales if value >= scale[0])
    return f"{rounded(value * factor)} {name}"
