"""Record tasks of a run as if they had run, through the product's own writer on the cluster: a run of 100,000 tasks in seconds.

    python write_records.py RUN_FOLDER FIRST LAST METRICS     complete tasks with so many random metrics
    python write_records.py RUN_FOLDER < RECORDS              a JSON object a line: task, state, and other fields of a record

The only place of the benchmarks that knows how the runtime records a task. Elements take their tasks from the run's ledger.
"""

import json
import os
import random
import sys
import time

folder = sys.argv[1]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(folder, "work", ".hpc"))
from _hpc_runtime.job import dispatch, task_runner  # noqa: E402
from _hpc_runtime.job.element import Element  # noqa: E402
from _hpc_runtime.shared.ledger import arrays_of  # noqa: E402
from _hpc_runtime.shared.run_folder import RunFolder  # noqa: E402
from _hpc_runtime.shared.task_record import COMPLETE  # noqa: E402


def a_second(element, task, metrics):
    """The fields of a task that took a second."""
    values = {"metric_%d" % index: random.random() for index in range(metrics)} or None
    now = time.time()
    return {
        "state": COMPLETE,
        "exit_code": 0,
        "kwargs": element.parameters(task),
        "metrics": values,
        "result_dir": "results/%d" % task,
        "seconds": 1.0,
        "cpu_seconds": 0.5,
        "max_rss_mb": 20.0,
        "started_at": now - 1,
        "ended_at": now,
    }


def asked():
    """Return a function from an element and its task to the fields of the record; None for a task that is to have none."""
    if len(sys.argv) > 2:
        first, last, metrics = map(int, sys.argv[2:])
        return lambda element, task: a_second(element, task, metrics) if first <= task <= last else None
    given = {row["task"]: row for row in map(json.loads, sys.stdin)}
    return lambda _element, task: given.get(task)


def record_all(element, chosen):
    """Record the chosen tasks of an element: it starts, and each task begins, prints nothing and ends."""
    books = dispatch.books_of(element)
    if not books.open():
        raise SystemExit("another job has claimed the tasks of element %d" % element.index)
    for task, fields in chosen:
        books.take(task)
        attempt = books.begin(task, books.outcomes.known(task))
        record = task_runner.new_record(element, task, attempt.number)._replace(**fields)
        task_runner.write_record(books, books.printed(record, attempt))
    books.close()


written, fields_of = 0, asked()
for array in arrays_of(RunFolder(folder)):
    for index in range(array.elements):
        environ = {
            "HPC_RUN_DIR": folder,
            "HPC_ARRAY": array.array,
            "HPC_ELEMENT": str(index),
            "HPC_JOB_ID": array.job_id or "1",
        }
        element = Element(dict(os.environ, **environ))
        found = ((task, fields_of(element, task)) for task in element.tasks)
        chosen = [(task, fields) for task, fields in found if fields is not None]
        if chosen:
            record_all(element, chosen)
            written += len(chosen)
print(json.dumps({"written": written}))
