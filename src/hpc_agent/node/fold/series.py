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
from ..shared.files import make_folder, read_bytes, read_object, remove_quietly, write_json
from ..shared.ranges import encode_ranges
from ..shared.run_folder import RunFolder, existing_run
from ..shared.task_environment import DIGEST_BYTES, canonical, digest, load_tasks, text_of
from .series_files import FORMATS, Joined, row_count

SLICE_NAMES: Dict[str, Any] = {"start": None, "end": None, "halo": 0, "ahead": 0}  # with their defaults


class Part(NamedTuple):
    """The rows of one task, ``start`` .. ``end`` (exclusive)."""

    start: int
    end: int
    task: int
    halo: int
    ahead: int
    path: str = ""  # of its file
    why: str = ""  # why there are no rows of this task
    skip: int = 0  # rows of the file before the first of these
    size: int = 0  # bytes of the file


def join_series(request: Dict[str, Any]) -> Dict[str, Any]:
    """Join the file ``file`` of every result folder. Series whose parts are the same as before are not joined again.

    Raises NodeError ``precondition_failed`` when no task has rows, ``spec_invalid`` for a format that cannot be joined.
    """
    folder = existing_run(request["root"], request["run_id"])
    ending = os.path.splitext(request["file"])[1]
    if ending.lower() not in FORMATS:
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
    for key, parts in sorted(series.items()):
        parameters = json.loads(key)
        facts = _Series(place, _name(parameters, names), ending, parts).join(bool(unknown))
        joined.append(dict(facts, parameters=parameters))
    return {"path": place, "series": joined, "unknown": encode_ranges(unknown), "stale": status.stale}


def _parts(status: RunStatus, name: str) -> Tuple[Dict[str, List[Part]], List[int]]:
    """Return the parts of each series, by its parameters as JSON, and the tasks whose parameters are not known."""
    series: Dict[str, List[Part]] = {}
    unknown = []
    parameters = _Parameters(status.folder)
    for task in range(status.total):
        record = status.reader.read(task)
        kwargs = (record.kwargs if record else None) or parameters.of(task)
        if kwargs is None:
            unknown.append(task)
            continue
        start, end, halo, ahead = rows = [kwargs.get(name, default) for name, default in SLICE_NAMES.items()]
        if any(isinstance(row, bool) or not isinstance(row, int) for row in rows):
            continue
        path, why = "", "" if status.state[task] == task_states.COMPLETE else task_states.NAMES[status.state[task]]
        if record is not None and not why:
            path = os.path.join(status.folder.path, record.result_dir, name) if record.result_dir else ""
            why = "" if path and os.path.isfile(path) else "wrote no %s" % name
        others = {key: value for key, value in kwargs.items() if key not in SLICE_NAMES}
        series.setdefault(canonical(others).decode("ascii"), []).append(Part(start, end, task, halo, ahead, path, why))
    return series, unknown


class _Parameters(object):
    """The parameters of tasks that left no record, where they can be worked out here."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._digests = read_bytes(folder.digests) or b""
        self._lines: Optional[List[bytes]] = None
        self._module: Any = None

    def of(self, task: int) -> Optional[Dict[str, Any]]:
        """Return the parameters as they were submitted, or None."""
        with suppress(Exception, SystemExit):  # tasks.py may need what this node does not have
            kwargs = self._resolve(task)
            if self._digests[task * DIGEST_BYTES : (task + 1) * DIGEST_BYTES] == digest(kwargs):
                return kwargs
        return None

    def _resolve(self, task: int) -> Dict[str, Any]:
        if self._lines is None:
            self._lines = (read_bytes(self._folder.given_tasks) or b"").splitlines()
        if self._lines:
            return dict(json.loads(self._lines[task].decode("utf-8")))
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
        self._gaps: Dict[str, Tuple[List[Tuple[int, int]], List[int]]] = {}  # by cause: spans of rows, tasks
        self._covered = 0

    def join(self, more_may_come: bool) -> Dict[str, Any]:
        """Write the file. Return its facts: rows, length, gaps, segments, bytes."""
        parts = [part for part in map(self._found, self._parts) if part is not None]
        self._gap(self._length)
        rows = sum(part.end - part.start for part in parts)
        whole, partial = self._name + self._ending, self._name + ".partial" + self._ending
        name, other = (partial, whole) if self._gaps or more_may_come else (whole, partial)
        path, kept = os.path.join(self._place, name), os.path.join(self._place, self._name + ".parts.json")
        stamp = {"file": name, "parts": [[part.task, part.start, part.end, part.skip, part.size] for part in parts]}
        fresh = not (os.path.isfile(path) and read_object(kept) == stamp)
        if fresh and parts:
            self._write(path, rows, parts)
            write_json(kept, stamp)
        for unwanted in [other] if parts else [name, other]:
            remove_quietly(os.path.join(self._place, unwanted))
        return {
            "file": name if parts else "",
            "rows": rows,
            "length": self._length,
            "gaps": [
                {"why": why, "rows": _text(_runs(spans)), "tasks": encode_ranges(tasks)}
                for why, (spans, tasks) in self._gaps.items()
            ],
            "segments": _runs([(part.start, part.end) for part in parts]),
            "bytes": os.path.getsize(path) if parts else 0,
            "fresh": fresh,
        }

    def _found(self, part: Part) -> Optional[Part]:
        """Return a part with the place of its rows, None for one that has to be a gap."""
        why, found = part.why, None
        if part.start < self._covered and not why:
            why = "rows that an earlier task gave too"
        if not why:
            try:
                found = self._trimmed(part)
            except (ValueError, OSError, KeyError, TypeError) as error:
                why = "%s: %s" % (os.path.basename(part.path), error)
        self._gap(part.start)
        if why:  # rows that an earlier part gave are there all the same
            self._note(why, max(part.start, min(self._covered, part.end - 1)), part.end, part.task)
        self._covered = max(self._covered, part.end)
        return found

    def _trimmed(self, part: Part) -> Part:
        """Return the part without its halo. Raises ValueError when the file has neither its own rows nor those it saw."""
        found, own = row_count(part.path), part.end - part.start
        first = max(0, part.start - part.halo)
        seen = min(part.end + part.ahead, self._length) - first
        if found not in (own, seen):
            told = "" if own == seen else " (with those around it %d)" % seen
            raise ValueError("it has %d rows, and the task %d%s" % (found, own, told))
        return part._replace(skip=0 if found == own else part.start - first, size=os.path.getsize(part.path))

    def _gap(self, until: int) -> None:
        """Note the rows from those that are covered to ``until``: no task has them."""
        if until > self._covered:
            self._note("no task has these rows", self._covered, until)
            self._covered = until

    def _note(self, why: str, start: int, end: int, *tasks: int) -> None:
        spans, of = self._gaps.setdefault(why, ([], []))
        spans.append((start, end))
        of.extend(tasks)

    def _write(self, path: str, rows: int, parts: List[Part]) -> None:
        building = os.path.join(self._place, "%s.building-%d%s" % (self._name, os.getpid(), self._ending))
        joined = Joined(building, rows)
        try:
            for part in parts:
                try:
                    joined.append(part.path, part.skip, part.end - part.start)
                except ValueError as error:
                    message = "the rows of task %d do not fit: %s" % (part.task, error)
                    raise NodeError("combiner_failed", message, None, {"file": part.path}) from error
            joined.close()
            os.replace(building, path)
        finally:
            joined.abandon()
            remove_quietly(building)


def _runs(spans: List[Tuple[int, int]]) -> List[List[int]]:
    """Return the spans, with those joined that meet."""
    runs: List[List[int]] = []
    for start, end in spans:
        if runs and runs[-1][1] == start:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return runs


def _text(runs: List[List[int]]) -> str:
    return ",".join("%d-%d" % (start, end - 1) if end - start > 1 else "%d" % start for start, end in runs)
