"""Join the rows that the tasks of a split series wrote, in their order, into one file for each series.

A series is the tasks whose parameters are the same but for ``start``, ``end``, ``halo`` and ``ahead``. Rows that no task
gave are a gap: the file then has ``.partial`` in its name, and its segments are told.
"""

import json
import os
import re
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from ..look.run_status import RunStatus
from ..shared import task_states
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, remove_quietly, write_json
from ..shared.ranges import encode_ranges
from ..shared.run_folder import RunFolder, existing_run
from ..shared.task_environment import DIGEST_BYTES, canonical, digest, load_tasks, text_of
from ..shared.task_record import read_record
from .series_files import FORMATS, Joined, row_count

SLICE_NAMES = ("start", "end", "halo", "ahead")


class Part(NamedTuple):
    """The rows of one task, ``start`` .. ``end`` (exclusive)."""

    start: int
    end: int
    task: int
    halo: int
    ahead: int
    path: str = ""  # of its file
    why: str = ""  # why there are no rows of this task


class Piece(NamedTuple):
    """The rows of a part as its file has them."""

    part: Part
    skip: int
    size: int


def join_series(request: Dict[str, Any]) -> Dict[str, Any]:
    """Join the file ``file`` of every result folder. Series whose parts are the same as before are not joined again.

    Raises NodeError ``precondition_failed`` when no task has rows, ``spec_invalid`` for a format that cannot be joined.
    """
    folder = existing_run(request["root"], request["run_id"])
    if os.path.splitext(request["file"])[1].lower() not in FORMATS:
        raise NodeError("spec_invalid", "%s: only %s are joined" % (request["file"], ", ".join(FORMATS)))
    status = RunStatus(folder, request.get("site") or {})
    status.save()
    series, unknown = _parts(status, request["file"])
    if not series:
        message = "no task of %s has whole numbers start and end among its parameters" % request["run_id"]
        raise NodeError("precondition_failed", message, "See docs/series.md for a series in parts.")
    place = os.path.join(folder.combiner, "series", re.sub(r"[^A-Za-z0-9._-]", "_", request["file"]))
    make_folder(place)
    names: Set[str] = set()
    joined = []
    for key in sorted(series):
        name = _name(json.loads(key), names)
        facts = _Series(place, name, os.path.splitext(request["file"])[1], series[key]).join(bool(unknown))
        joined.append(dict(facts, parameters=json.loads(key)))
    return {"path": place, "series": joined, "unknown": encode_ranges(unknown), "stale": status.stale}


def _parts(status: RunStatus, name: str) -> Tuple[Dict[str, List[Part]], List[int]]:
    """Return the parts of each series, by its parameters as JSON, and the tasks whose parameters are not known."""
    series: Dict[str, List[Part]] = {}
    unknown = []
    parameters = _Parameters(status.folder)
    for task in range(status.total):
        record = read_record(status.folder, task)
        kwargs = (record.kwargs if record else None) or parameters.of(task)
        if kwargs is None:
            unknown.append(task)
            continue
        rows = [kwargs.get("start"), kwargs.get("end"), kwargs.get("halo", 0), kwargs.get("ahead", 0)]
        if any(isinstance(row, bool) or not isinstance(row, int) for row in rows):
            continue
        path, why = "", "" if status.state[task] == task_states.COMPLETE else task_states.NAMES[status.state[task]]
        if record is not None and not why:
            path = os.path.join(status.folder.path, record.result_dir or "", name)
            why = "" if os.path.isfile(path) else "wrote no %s" % name
        others = {key: value for key, value in kwargs.items() if key not in SLICE_NAMES}
        part = Part(int(rows[0]), int(rows[1]), task, int(rows[2]), int(rows[3]), path, why)
        series.setdefault(canonical(others).decode("ascii"), []).append(part)
    return series, unknown


class _Parameters(object):
    """The parameters of tasks that left no record, where they can be worked out here."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines: Optional[List[str]] = None
        self._module: Any = None

    def of(self, task: int) -> Optional[Dict[str, Any]]:
        """Return the parameters as they were submitted, or None."""
        with suppress(Exception, SystemExit):  # tasks.py may need what this node does not have
            kwargs = self._resolve(task)
            with open(self._folder.digests, "rb") as handle:
                handle.seek(task * DIGEST_BYTES)
                return kwargs if handle.read(DIGEST_BYTES) == digest(kwargs) else None
        return None

    def _resolve(self, task: int) -> Dict[str, Any]:
        if self._lines is None:
            self._lines = []
            with suppress(OSError), open(self._folder.given_tasks) as handle:
                self._lines = handle.readlines()
        if self._lines:
            return dict(json.loads(self._lines[task]))
        if self._module is None:
            self._module = False  # a tasks.py that cannot be imported here is not tried again for each task
            self._module = load_tasks(os.path.join(self._folder.work, ".hpc", "tasks.py"))
        return dict(self._module.resolve(task))


def _name(parameters: Dict[str, Any], taken: Set[str]) -> str:
    """Return the file name of a series, without its ending: its parameters."""
    words = ["%s=%s" % (key, text_of(value)) for key, value in sorted(parameters.items())]
    name = re.sub(r"[^A-Za-z0-9._=+-]", "_", ",".join(words).replace(",", "__")) or "series"
    if len(name) > 100 or name in taken or name.startswith("."):
        name = "%s-%s" % (name[:80].lstrip("."), digest(parameters).hex())
    taken.add(name)
    return name


class _Series(object):
    """The parts of one series, and its file."""

    def __init__(self, place: str, name: str, ending: str, parts: List[Part]) -> None:
        self._place, self._name, self._ending = place, name, ending
        self._parts = sorted(parts)
        self._length = max(part.end for part in parts)
        self._gaps: List[Tuple[int, int, Optional[int], str]] = []  # first row, end, task, why
        self._covered = 0

    def join(self, more_may_come: bool) -> Dict[str, Any]:
        """Write the file. Return its facts: rows, length, gaps, segments, bytes."""
        pieces = [piece for piece in map(self._piece, self._parts) if piece is not None]
        self._gap(self._length)
        rows = sum(piece.part.end - piece.part.start for piece in pieces)
        is_whole = not self._gaps and not more_may_come
        names = [self._name + self._ending, self._name + ".partial" + self._ending]
        name = names[0 if is_whole else 1]
        path, kept = os.path.join(self._place, name), os.path.join(self._place, self._name + ".parts.json")
        stamp = [[piece.part.task, piece.part.start, piece.part.end, piece.skip, piece.size] for piece in pieces]
        fresh = not (os.path.isfile(path) and _read(kept) == {"file": name, "parts": stamp})
        if fresh and pieces:
            self._write(path, rows, pieces)
            write_json(kept, {"file": name, "parts": stamp})
        for other in names:
            if other != name or not pieces:
                remove_quietly(os.path.join(self._place, other))
        return {
            "file": name if pieces else "",
            "rows": rows,
            "length": self._length,
            "gaps": self._told_gaps(),
            "segments": _runs([(piece.part.start, piece.part.end) for piece in pieces]),
            "bytes": os.path.getsize(path) if pieces else 0,
            "fresh": fresh,
        }

    def _piece(self, part: Part) -> Optional[Piece]:
        """Return the rows of a part, None for one that has to be a gap."""
        why, piece = part.why, None
        if part.start < self._covered and not why:
            why = "rows that an earlier task gave too"
        if not why:
            try:
                piece = self._trimmed(part)
            except (ValueError, OSError, KeyError, TypeError) as error:
                why = "%s: %s" % (os.path.basename(part.path), error)
        if piece is None:
            self._bad(part, why)
            return None
        self._gap(part.start)
        self._covered = part.end
        return piece

    def _trimmed(self, part: Part) -> Piece:
        """Return the part without its halo. Raises ValueError when the file has neither its own rows nor those it saw."""
        found, own = row_count(part.path), part.end - part.start
        first = max(0, part.start - part.halo)
        seen = min(part.end + part.ahead, self._length) - first
        if found not in (own, seen):
            told = "" if own == seen else " (with those around it %d)" % seen
            raise ValueError("it has %d rows, and the task %d%s" % (found, own, told))
        return Piece(part, 0 if found == own else part.start - first, os.path.getsize(part.path))

    def _bad(self, part: Part, why: str) -> None:
        """Note the rows of a part that cannot be joined; those that an earlier part gave are there all the same."""
        self._gap(part.start)
        self._gaps.append((max(part.start, min(self._covered, part.end - 1)), part.end, part.task, why))
        self._covered = max(self._covered, part.end)

    def _gap(self, until: int) -> None:
        """Note the rows from those that are covered to ``until``: no task has them."""
        if until > self._covered:
            self._gaps.append((self._covered, until, None, "no task has these rows"))
            self._covered = until

    def _told_gaps(self) -> List[Dict[str, Any]]:
        """Return the gaps: why, and the ranges of rows and of tasks."""
        by_cause: Dict[str, List[Tuple[int, int, Optional[int], str]]] = {}
        for gap in self._gaps:
            by_cause.setdefault(gap[3], []).append(gap)
        return [
            {
                "why": why,
                "rows": ",".join(_rows(start, end) for start, end in _runs([(gap[0], gap[1]) for gap in found])),
                "tasks": encode_ranges(gap[2] for gap in found if gap[2] is not None),
            }
            for why, found in by_cause.items()
        ]

    def _write(self, path: str, rows: int, pieces: List[Piece]) -> None:
        building = os.path.join(self._place, "%s.building-%d%s" % (self._name, os.getpid(), self._ending))
        joined = Joined(building, rows)
        try:
            for piece in pieces:
                try:
                    joined.append(piece.part.path, piece.skip, piece.part.end - piece.part.start)
                except ValueError as error:
                    message = "the rows of task %d do not fit: %s" % (piece.part.task, error)
                    raise NodeError("combiner_failed", message, None, {"file": piece.part.path}) from error
            joined.close()
            os.replace(building, path)
        finally:
            joined.abandon()
            remove_quietly(building)


def _rows(start: int, end: int) -> str:
    return "%d-%d" % (start, end - 1) if end - start > 1 else "%d" % start


def _read(path: str) -> Any:
    try:
        return read_json(path)
    except ValueError:
        return None


def _runs(spans: List[Tuple[int, int]]) -> List[List[int]]:
    """Return the spans, with those joined that meet."""
    runs: List[List[int]] = []
    for start, end in spans:
        if runs and runs[-1][1] == start:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return runs
