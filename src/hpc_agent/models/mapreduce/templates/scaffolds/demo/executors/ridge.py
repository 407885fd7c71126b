"""Ridge regression, one penalty and one fold: a plain script that knows nothing of clusters.

With scikit-learn it fits the diabetes data that scikit-learn ships; without, made-up data with the standard library alone.
"""

import argparse
import json
import random


def made_up_data(rows=400, features=6):
    chance = random.Random(7)
    weights = [chance.uniform(-2, 2) for _ in range(features)]
    x = [[chance.gauss(0, 1) for _ in range(features)] for _ in range(rows)]
    y = [sum(w * v for w, v in zip(weights, row)) + chance.gauss(0, 1) for row in x]
    return x, y


def fit_by_hand(x, y, alpha):
    """Coordinate descent: each weight in turn becomes the best one beside the others."""
    weights = [0.0] * len(x[0])
    rest = y
    for _ in range(30):
        for i, column in enumerate(zip(*x)):
            better = sum(v * (r + weights[i] * v) for v, r in zip(column, rest)) / (sum(v * v for v in column) + alpha)
            rest = [r - (better - weights[i]) * v for v, r in zip(column, rest)]
            weights[i] = better
    return lambda rows: [sum(w * v for w, v in zip(weights, row)) for row in rows]


def load():
    try:
        from sklearn.datasets import load_diabetes
        from sklearn.linear_model import Ridge
    except ImportError:
        return (*made_up_data(), fit_by_hand)
    data = load_diabetes()
    return data.data.tolist(), data.target.tolist(), lambda x, y, alpha: Ridge(alpha=alpha).fit(x, y).predict


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, required=True, help="penalty")
    parser.add_argument("--fold", type=int, required=True, help="which fifth of the rows is the test set")
    parser.add_argument("--output-file", required=True)
    options = parser.parse_args()
    x, y, fit = load()
    test = [i for i in range(len(y)) if i % 5 == options.fold]
    train = [i for i in range(len(y)) if i % 5 != options.fold]
    predict = fit([x[i] for i in train], [y[i] for i in train], options.alpha)
    errors = [float(p) - y[i] for p, i in zip(predict([x[i] for i in test]), test)]
    mean = sum(y[i] for i in test) / len(test)
    squared = sum(e * e for e in errors)
    metrics = {
        "rmse": (squared / len(errors)) ** 0.5,
        "r2": 1 - squared / sum((y[i] - mean) ** 2 for i in test),
    }
    with open(options.output_file, "w") as handle:
        json.dump(metrics, handle)
    print("alpha", options.alpha, "fold", options.fold, metrics)


if __name__ == "__main__":
    main()
