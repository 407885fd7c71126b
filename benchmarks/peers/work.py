"""The tasks that every side runs, and the record of their outputs. Imported by the workers of each peer."""

import json
import os
import subprocess


def function(number):
    """Do nothing, and return a value that the other side can check."""
    return 2 * number


def process(_number):
    """Run a process that does nothing; return its exit code."""
    return subprocess.call(["/bin/true"])


def heavy(number):
    """Import what most scientific tasks import, and use it a little."""
    import numpy
    from sklearn.linear_model import Ridge

    model = Ridge().fit(numpy.array([[0.0], [1.0]]), numpy.array([0.0, 2.0 * number]))
    return 2 * number if model.coef_.shape == (1,) else -1


def append(kind, number, path):
    """Run a task that has to keep its value itself: one line, appended in one write."""
    line = json.dumps([number, globals()[kind](number)]) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def record(path, values):
    """Write one line a task, on the disk before the file has its name."""
    with open(path + ".part", "w") as handle:
        for number, value in values:
            handle.write(json.dumps([number, value]) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(path + ".part", path)
