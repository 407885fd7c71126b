"""The daily demand series and its lags."""

import csv
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data" / "demand.csv"
LAGS = (0, 1, 2, 6, 13)


def load(start, end):
    """Demand of the days from ``start`` to ``end`` (ISO dates, both included), shape (days,)."""
    with DATA.open(newline="") as handle:
        return np.array([float(row["demand"]) for row in csv.DictReader(handle) if start <= row["day"] <= end])


def lagged(series, horizon):
    """((x, y) to train on, (x, y) to test on): the last fifth of the days is the test set. x has one column a lag."""
    first, last = max(LAGS), len(series) - horizon
    x = np.column_stack([series[first - lag : last - lag] for lag in LAGS])
    y = series[first + horizon : last + horizon]
    split = int(len(y) * 0.8)
    return (x[:split], y[:split]), (x[split:], y[split:])
