"""Five penalties, five folds: 25 tasks."""

import itertools

TASKS = [{"alpha": alpha, "fold": fold} for alpha, fold in itertools.product([0.001, 0.01, 0.1, 1.0, 10.0], range(5))]


def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
