"""Claims: of all elements that are given a task in one generation, only one runs the task.

A claim is a file with the name of its element, then one line for each attempt.
"""

import errno
import os
import time
from typing import TYPE_CHECKING

from ..shared.files import make_folder, remove_quietly

if TYPE_CHECKING:
    from .element import Element


def claim(element: "Element", task: int) -> bool:
    """Claim the task in the element's generation. Return False when another element has claimed the task.

    An element that the scheduler requeued claims its tasks again.
    """
    path = element.run.claim(task, element.generation)
    make_folder(os.path.dirname(path))
    # The file is written under another name and linked into place, so that a claim always names its owner. A link is
    # atomic on NFS too.
    temporary = "%s.%s.%d.%s" % (path, element.host, os.getpid(), os.urandom(4).hex())
    attempt = "%s %d\n" % (element.host, time.time())
    with open(temporary, "w") as handle:
        handle.write("%s\n%s" % (element.owner, attempt))
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        with open(path, "r+") as handle:
            if handle.readline().rstrip("\n") != element.owner:
                return False
            handle.seek(0, os.SEEK_END)
            handle.write(attempt)  # also renews the file's time, which a status reads
    finally:
        remove_quietly(temporary)
    return True


def superseded(element: "Element", task: int) -> bool:
    """Return True when an element of a later generation has claimed the task."""
    later = {int(name.rpartition("-")[0][1:]) for name in element.run.arrays() if name[0] in "rs"}
    return any(os.path.exists(element.run.claim(task, g)) for g in later if g > element.generation)


def attempts(element: "Element", task: int) -> int:
    """Count how often the task was begun, this time included: a line for each in the claims of all generations."""
    lines = 0
    for generation in range(1, element.generation + 1):
        try:
            with open(element.run.claim(task, generation), "rb") as handle:
                lines += handle.read().count(b"\n") - 1
        except OSError:
            continue
    return max(lines, 1)
