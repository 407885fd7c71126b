"""Two models, three horizons: six grid points."""

import itertools

TASKS = [
    {"executor": executor, "horizon": horizon, "start": "2022-01-01", "end": "2023-12-31"}
    for executor, horizon in itertools.product(["ml_ridge", "ml_gbm"], [1, 5, 25])
]


def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
