"""What was measured, in results.json: a row is replaced as a whole, and the file by a rename, so a kill leaves it whole."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

FOLDER = Path(__file__).resolve().parent
RESULTS, PAGE = FOLDER / "results.json", FOLDER / "RESULTS.md"


class Measure(msgspec.Struct, omit_defaults=True):
    """The repetitions of one side of a row. ``count`` tasks share a value; ``floor`` is what one of them is compared to."""

    name: str
    unit: str = "s"
    values: list[float] = []
    count: int = 1
    floor: str = ""
    note: str = ""


class Skipped(msgspec.Struct):
    """A side of a row that was not measured, and why."""

    name: str
    why: str


class Result(msgspec.Struct, omit_defaults=True):
    """One row as it was measured."""

    row: str
    taken_at: str = ""
    seconds: float = 0.0
    commit: str = ""
    floors: dict[str, float] = {}
    versions: dict[str, str] = {}
    measures: list[Measure] = []
    skipped: list[Skipped] = []
    broken_off: str = ""

    def values(self, name: str) -> list[float]:
        """The repetitions of a side; none where it was not measured."""
        return next((measure.values for measure in self.measures if measure.name == name), [])

    def add(self, taken: Measure) -> None:
        """Add repetitions to a side, which is made with the first of them."""
        known = next((measure for measure in self.measures if measure.name == taken.name), None)
        if known is None:
            self.measures.append(taken)
        else:
            known.values += taken.values


class Book(msgspec.Struct):
    """All rows that were ever measured, and the machine of the last one."""

    machine: dict[str, str] = {}
    rows: dict[str, Result] = {}


def load(path: Path = RESULTS) -> Book:
    return msgspec.json.decode(path.read_bytes(), type=Book) if path.exists() else Book()


def save(book: Book, page: str, results: Path = RESULTS, markdown: Path = PAGE) -> None:
    """Write both files, each by a rename. The order of names stays, so that the page of what is read again is the same."""
    text = msgspec.json.format(msgspec.json.encode(book), indent=1) + b"\n"
    for path, content in ((results, text), (markdown, page.encode())):
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
