"""The Standard Workload Format: one job a line, 18 numbers, -1 for what is not known; header lines start with a semicolon.

The format and the logs: D. G. Feitelson, D. Tsafrir, D. Krakov, "Experience with using the Parallel Workloads Archive",
J. Parallel Distrib. Comput. 74 (10), 2014; https://www.cs.huji.ac.il/labs/parallel/workload/swf.html
"""

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

FIELDS = (
    "number submit wait run procs cpu_used memory_used procs_asked time_asked memory_asked status user group executable "
    "queue partition preceding think_time"
).split()
_HEADER = re.compile(r"^;\s*([A-Za-z]+):\s*(.*)$")


class SwfJob(NamedTuple):
    """One line of a log, all 18 fields; times are seconds, ``submit`` counts from the start of the log."""

    number: int
    submit: float
    wait: float = -1
    run: float = -1
    procs: int = -1
    cpu_used: float = -1
    memory_used: float = -1
    procs_asked: int = -1
    time_asked: float = -1
    memory_asked: float = -1
    status: int = -1
    user: int = -1
    group: int = -1
    executable: int = -1
    queue: int = -1
    partition: int = -1
    preceding: int = -1
    think_time: float = -1

    @property
    def size(self) -> int:
        """Return the processors of the job: those it was given, else those it asked for; 0 where nobody knows."""
        return max(0, self.procs if self.procs > 0 else self.procs_asked)

    @property
    def limit(self) -> float:
        """Return the time that the job asked for; where it is not known or too short, the time that it ran."""
        return max(self.time_asked, self.run)

    @property
    def is_usable(self) -> bool:
        """Return True for a job that ran: cancelled ones have no run time, damaged ones no size."""
        return self.size > 0 and self.run > 0 and self.submit >= 0


class Log(NamedTuple):
    """The header fields of a log, and its jobs in the order of submission."""

    header: dict[str, str]
    jobs: list[SwfJob]
    skipped: int  # lines that are no jobs

    @property
    def max_procs(self) -> int:
        """Return the processors of the machine, from the header; without one the largest job."""
        told = re.match(r"\d+", self.header.get("MaxProcs") or self.header.get("MaxNodes") or "")
        return int(told.group()) if told and int(told.group()) else max((job.size for job in self.jobs), default=0)


def read_swf(path: Path) -> Log:
    """Return the log at ``path``, which may be gzipped, unsorted, and have short lines or fractions of seconds."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    header: dict[str, str] = {}
    jobs, skipped = [], 0
    for line in io.StringIO(data.decode("utf-8", "replace")):
        text = line.strip()
        if text.startswith(";"):
            if found := _HEADER.match(text):
                header.setdefault(found.group(1), found.group(2).strip())
        elif text:
            job = _job(text)
            skipped += job is None
            jobs += [job] if job else []
    return Log(header, sorted(jobs, key=lambda job: (job.submit, job.number)), skipped)


def _job(text: str) -> SwfJob | None:
    """Return the job of a line; None for one that holds no numbers, or not even number and submit time."""
    words = text.split()[: len(FIELDS)]
    if len(words) < 2:
        return None
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    if any(value != value or abs(value) == float("inf") for value in values):
        return None
    floats = {"submit", "wait", "run", "cpu_used", "memory_used", "time_asked", "memory_asked", "think_time"}
    known = zip(FIELDS, values, strict=False)
    return SwfJob(**{name: value if name in floats else int(value) for name, value in known})


def write_swf(path: Path, jobs: Iterable[SwfJob], header: dict[str, str]) -> None:
    """Write a log; gzipped where the name ends in .gz."""
    lines = [f"; {name}: {value}" for name, value in header.items()] + list(_lines(jobs))
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _lines(jobs: Iterable[SwfJob]) -> Iterator[str]:
    for job in jobs:
        yield " ".join(f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}" for value in job)
