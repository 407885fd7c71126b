"""Compare the kept partials of a run with its ledger and records. Nothing is folded anew into files, nothing is changed."""

import os
import re
from collections import Counter
from typing import Any, Dict, List, Optional, Set

from ..look.run_status import RunStatus, ranges_of
from ..shared import task_states
from ..shared.files import read_json
from ..shared.ranges import count, decode_ranges, encode_ranges
from ..shared.run_folder import RunFolder, existing_run
from ..shared.task_environment import DIGEST_BYTES, digest
from ..shared.task_record import TaskRecord
from .combine import FORMAT, NOT_ENDED, fold, partial_path, read_partial, tasks_in, waves_of

KEYS_SHOWN = 20
_PARTIAL = re.compile(r"wave_([0-9]+)\.json\Z")


def verify_aggregation(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return what is wrong with the partials of a run, as ranges of waves and of tasks, each empty where nothing is.

    A wave is damaged when its table is not that of the records, stale when tasks became complete (or lost their record)
    since it was combined, foreign when another run wrote it. ``columns``: metrics that each task must have written.
    """
    folder = existing_run(request["root"], request["run_id"])
    return _Check(folder, request).answer()


class _Check(object):
    """The partials of a run beside what they should be."""

    def __init__(self, folder: RunFolder, request: Dict[str, Any]) -> None:
        self.folder = folder
        self.run = read_json(folder.document)
        self.status = RunStatus(folder, request.get("site") or {})
        self.status.save()
        self.waves = waves_of(self.status.arrays)
        results = self.run.get("results") or {}
        declared = request.get("columns") or results.get("expected_columns") or []
        self.columns = sorted({*declared, *([results["weight"]] if results.get("weight") else [])})
        self.digests = _bytes_of(folder.digests)
        self.bad: Dict[str, Set[int]] = {name: set() for name in ("missing", "damaged", "stale", "foreign")}  # waves
        self.counted: "Counter[int]" = Counter()
        self.unexpected: Set[int] = set()
        self.unreadable: Set[int] = set()
        self.keys: Set[str] = set()
        self.without: Dict[str, List[int]] = {name: [] for name in self.columns}
        self.wrote: Dict[str, Set[int]] = {}

    def answer(self) -> Dict[str, Any]:
        for wave, members in self.waves.items():
            self._check_wave(wave, members)
        self._check_others()
        status, states = self.status, self.status.state
        planned = {task for members in self.waves.values() for task in members}
        found = set(self.counted)
        uneven = {name: found - tasks for name, tasks in sorted(self.wrote.items()) if name not in self.columns}
        return {
            "expected_waves": len(self.waves),
            "waves": {name: encode_ranges(waves) for name, waves in self.bad.items()},
            "expected_tasks": status.total,
            "unplanned": encode_ranges(set(range(status.total)) - planned),
            "included": encode_ranges(found),
            "missing": encode_ranges(set(range(status.total)) - found),
            "repeated": encode_ranges(task for task, times in self.counted.items() if times > 1),
            "unexpected": encode_ranges(self.unexpected),
            "unreadable": encode_ranges(self.unreadable),
            "unexpected_keys": sorted(self.keys)[:KEYS_SHOWN],
            "unexpected_key_count": len(self.keys),
            "failed": ranges_of(states, task_states.FAILED, task_states.LOST),
            "not_ended": ranges_of(states, *NOT_ENDED),
            "columns": self.columns,
            "violations": {name: encode_ranges(tasks) for name, tasks in self.without.items() if tasks},
            "uneven": {name: encode_ranges(tasks) for name, tasks in uneven.items() if tasks},
            "stale": status.stale,
        }

    def _check_wave(self, wave: str, members: List[int]) -> None:
        kept = read_partial(self.folder, wave)
        number = int(wave)
        if not kept:
            self.bad["damaged" if os.path.exists(partial_path(self.folder, wave)) else "missing"].add(number)
            return
        if kept.get("run_id") != self.run["run_id"] or kept.get("wave") != number:
            self.bad["foreign"].add(number)
            return
        included = _tasks_of(kept)
        if included is None or kept.get("format") != FORMAT:
            self.bad["damaged"].add(number)
            return
        self.counted.update(included)
        complete = [task for task in members if self.status.state[task] == task_states.COMPLETE]
        self.unexpected.update(set(included) - set(members))
        if set(included) != set(complete):
            self.bad["stale"].add(number)
        there = sorted(set(included) & set(complete))
        replicates = kept.get("replicates") or []
        groups = fold(self.folder, self.run, there, replicates, self._check_record)["table"]["groups"]
        kept_groups = (kept.get("table") or {}).get("groups") or {}
        # A task that is complete no more, or of another wave, has no record to compare with.
        if len(there) == len(included) and kept_groups != groups and not self.unreadable.intersection(there):
            self.keys.update(set(kept_groups) - set(groups))
            self.bad["damaged"].add(number)

    def _check_record(self, task: int, record: Optional[TaskRecord]) -> None:
        if record is None:
            self.unreadable.add(task)
            return
        expected = self.digests[task * DIGEST_BYTES : (task + 1) * DIGEST_BYTES]
        if expected and digest(record.kwargs or {}) != expected:
            self.unexpected.add(task)
        metrics = record.metrics or {}
        for name in metrics:
            self.wrote.setdefault(name, set()).add(task)
        for name in self.columns:
            if name not in metrics:
                self.without[name].append(task)

    def _check_others(self) -> None:
        """Find partials of waves that the run does not have."""
        try:
            names = os.listdir(self.folder.combiner)
        except OSError:
            return
        for found in filter(None, map(_PARTIAL.match, names)):
            if found.group(1) not in self.waves:
                self.bad["foreign"].add(int(found.group(1)))


def _tasks_of(kept: Dict[str, Any]) -> Optional[List[int]]:
    """Return the tasks that a partial names, None where they are no ranges, or not as many as its table counts."""
    try:
        # Counted before they are listed: a damaged range may name more tasks than there is memory for.
        return decode_ranges(kept["included"]) if count(kept["included"]) == tasks_in(kept) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _bytes_of(path: str) -> bytes:
    """Return the digests of all tasks' parameters; nothing where an earlier version wrote none."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return b""
