"""Ridge regression on the last value of a series, and its error --horizon steps ahead.

A plain script for Python 3.6 or newer; it needs nothing of hpc-agent.
"""

import argparse
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib.loading import load_series


def train(horizon, alpha):
    """Fit on the first three quarters of the series with the penalty ``alpha``. Return the metrics of the rest."""
    series = load_series()
    pairs = list(zip(series, series[horizon:]))
    cut = len(pairs) * 3 // 4
    slope = sum(x * y for x, y in pairs[:cut]) / (sum(x * x for x, _ in pairs[:cut]) + alpha)
    errors = [slope * x - y for x, y in pairs[cut:]]
    return {"rmse": (sum(error**2 for error in errors) / len(errors)) ** 0.5, "n_test": len(errors)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--horizon", type=int, default=5, help="steps ahead")
    parser.add_argument("--alpha", type=float, default=0.1, help="penalty")
    parser.add_argument("--output-file", help="where the metrics go (JSON); without it they are printed")
    options = parser.parse_args()
    metrics = train(options.horizon, options.alpha)
    if not options.output_file:
        print(json.dumps(metrics))
        return
    with open(options.output_file, "w") as handle:
        json.dump(metrics, handle)


if __name__ == "__main__":
    main()
