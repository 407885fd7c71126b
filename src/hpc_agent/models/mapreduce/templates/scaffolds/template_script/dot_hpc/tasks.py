"""The grid: three horizons, two penalties, so six tasks. Each name is a flag of executors/train.py."""

import itertools

TASKS = [{"horizon": horizon, "alpha": alpha} for horizon, alpha in itertools.product([1, 5, 25], [0.1, 10.0])]


def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
