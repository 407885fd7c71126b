"""The job ids that squeue and sacct print: ``12``, ``12_3``, ``12_[0-9:2,12%4]`` and ``12+1`` (part of a heterogeneous job)."""

import re
from typing import List, Match

from .. import base

ROW_ID = re.compile(r"^([0-9]+)(?:\+[0-9]+)?(?:_(?:([0-9]+)|\[([^\]|%]*)(?:%[0-9]+)?\]))?$")


def elements(match: Match[str]) -> List[int]:
    """Return the indices in a match of ``ROW_ID``; a job that is no array has element 0. Raises ValueError for a cut list."""
    if match.group(3) is not None:
        return base.parse_indices(match.group(3))
    return [int(match.group(2) or 0)]
