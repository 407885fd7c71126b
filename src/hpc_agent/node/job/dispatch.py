"""Run the tasks of one array element: claim, resolve, execute, record. The job template starts this module.

The template sets HPC_RUN_DIR, HPC_ARRAY, HPC_ELEMENT (0-based) and HPC_JOB_ID. The record of a task is written last, after
the result folder is in place: a task without a record is not complete. Where: ``books.py``, ``element_books.py``.
"""

import os
from contextlib import suppress
from typing import List

from ..shared.files import DISK_FULL_EXIT, is_disk_full
from . import execute
from .books import Books
from .element import Element
from .element_books import ElementBooks
from .task_runner import TaskRunner, new_record, say, write_failure


def main(arguments: List[str]) -> int:
    """Run every task of this element. Return 0 when all of them are complete."""
    try:
        element = Element(dict(os.environ))
        if arguments[:1] == ["--environment-failed"]:
            return _fail_all(element, " ".join(arguments[1:]))
        return _run_tasks(element)
    except OSError as error:
        if not is_disk_full(error):
            raise
        with suppress(OSError):  # the log may lie on the same disk
            os.write(2, ("hpc-agent: %s: %s\n" % (error.filename or "the run's folder", error.strerror)).encode())
        return DISK_FULL_EXIT


def _fail_all(element: Element, message: str) -> int:
    """Write a record for every task: the environment of the job could not be made."""
    books = books_of(element)
    if books.open():
        for task in element.tasks:
            number = max(books.outcomes.known(task).begun + books.outcomes.begun_alone(task), 1)
            write_failure(books, new_record(element, task, number), "environment", message)
        books.close()
    return 1


def _run_tasks(element: Element) -> int:
    if not os.path.exists(element.run.environment):
        from .environment import look_once  # only the first elements of a run need its imports

        look_once(element)
    if element.document.nfs_data_dir:
        from .staging import Staged  # only few clusters need its imports

        staged = Staged(element.document.nfs_data_dir)  # in use until this function returns
        os.environ["LOCAL_DATA_DIR"] = staged.path
    books = books_of(element)
    if not books.open():
        say("skipped: another job has claimed the tasks of this element")
        return 0
    try:
        with execute.Signals() as signals:
            if element.slots > 1 and isinstance(books, ElementBooks):
                from .slots import Slots  # few elements run several tasks at once

                return Slots(element, books, signals).run()
            return 0 if TaskRunner(element, books, signals).run_each(element.tasks) else 1
    finally:
        books.close()


def books_of(element: Element) -> Books:
    """Return the books of the element: packed ones have a log of their own."""
    return ElementBooks(element) if element.is_packed else Books(element)
