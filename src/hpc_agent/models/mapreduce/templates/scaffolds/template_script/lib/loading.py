"""The data of the experiment. Read your own files here, from the folder data/."""

import random


def load_series(rows=400, seed=7):
    """A made-up series of ``rows`` values that wanders around zero; the same one for the same seed."""
    chance = random.Random(seed)
    series = [0.0]
    while len(series) < rows:
        series.append(0.9 * series[-1] + chance.gauss(0, 1))
    return series
