"""The canonical .hpc/tasks.py: copy it, keep the pattern that fits, delete the other two.

The contract is two functions. ``total()`` returns the number of tasks; ``resolve(task_id)`` (0 .. total()-1) returns the
task's parameters as a dict. Names must be valid variable names, values must be JSON: text, numbers, booleans, None,
lists, dicts. Both must return the same values every time, here and on the cluster: no clock, no unseeded chance.

A task sees each parameter as a variable: ``horizon=5`` arrives as HORIZON=5 and as HPC_KW_HORIZON=5, and all of them as JSON
in HPC_KW_JSON. The executor needs no knowledge of hpc-agent:

    hpc-agent submit --cluster local \
        --executor 'python3 executors/"$EXECUTOR".py --horizon "$HORIZON" --output-file "$HPC_RESULT_DIR/metrics.json"'
"""

import datetime
import itertools


def cartesian_product():
    """Return every combination of a few axes (pattern 1)."""
    executors = ["ml_ridge", "ml_gbm"]
    horizons = [1, 5, 25]
    return [{"executor": executor, "horizon": horizon} for executor, horizon in itertools.product(executors, horizons)]


def row_chunks(rows=100000, chunk=5000):
    """Return the chunks of one table, of ``chunk`` rows each (pattern 2); ``end`` is one past the last row."""
    return [{"start": start, "end": min(start + chunk, rows)} for start in range(0, rows, chunk)]


def date_windows(first="2020-01-01", last="2024-12-31", train_days=365, test_days=30):
    """Return the windows of a walk-forward backtest (pattern 3): each trains on the past and tests on the days after."""
    begin = datetime.datetime.strptime(first, "%Y-%m-%d").date()
    end = datetime.datetime.strptime(last, "%Y-%m-%d").date()
    windows = []
    while begin + datetime.timedelta(days=train_days + test_days) <= end:
        split = begin + datetime.timedelta(days=train_days)
        windows.append(
            {
                "train_start": begin.isoformat(),
                "test_start": split.isoformat(),
                "test_end": (split + datetime.timedelta(days=test_days)).isoformat(),
            }
        )
        begin += datetime.timedelta(days=test_days)
    return windows


TASKS = cartesian_product()


def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
