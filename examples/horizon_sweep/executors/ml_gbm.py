"""Gradient boosting on lags: how well is the demand known ``--horizon`` days ahead?"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.loading import lagged, load
from sklearn.ensemble import GradientBoostingRegressor

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--horizon", type=int, required=True, help="days ahead")
parser.add_argument("--start", default="2022-01-01", help="first day used")
parser.add_argument("--end", default="2023-12-31", help="last day used")
parser.add_argument("--output-file", required=True, help="where the metrics go (JSON)")


def main():
    args = parser.parse_args()
    train, test = lagged(load(args.start, args.end), args.horizon)
    model = GradientBoostingRegressor(n_estimators=60, random_state=0).fit(*train)
    error = model.predict(test[0]) - test[1]
    metrics = {"mae": float(abs(error).mean()), "rmse": float((error**2).mean() ** 0.5), "n_test": len(error)}
    Path(args.output_file).write_text(json.dumps(metrics))
    print("gbm", args.horizon, metrics)


if __name__ == "__main__":
    main()
