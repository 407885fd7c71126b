"""Compare the kept partials of a run with its ledger and records. Nothing is folded anew into files, nothing is changed."""

import glob
import os
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Set

from ..look.run_status import RunStatus
from ..shared import task_states
from ..shared.files import read_bytes, read_json, read_object
from ..shared.ranges import count, decode_ranges, encode_ranges, ranges_of
from ..shared.run_folder import RunFolder, existing_run
from ..shared.task_environment import DIGEST_BYTES, digest
from ..shared.task_record import TaskRecord
from .combine import FORMAT, NOT_ENDED, fold, partial_path, tasks_in, waves_of

KEYS_SHOWN = 20


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
        self.digests = read_bytes(folder.digests) or b""  # an earlier version wrote none
        self.bad: Dict[str, Set[int]] = {name: set() for name in ("missing", "damaged", "stale", "foreign")}  # waves
        self.counted: "Counter[int]" = Counter()
        self.unexpected: Set[int] = set()
        self.unreadable: Set[int] = set()
        self.keys: Set[str] = set()
        self.without: Dict[str, List[int]] = {name: [] for name in self.columns}
        self.wrote: Dict[str, Set[int]] = {}

    def answer(self) -> Dict[str, Any]:
        for wave, members in self.waves.items():
            for defect in self._defects(wave, members):
                self.bad[defect].add(int(wave))
        kept = glob.glob(os.path.join(glob.escape(self.folder.combiner), "wave_*.json"))
        found_waves = (os.path.basename(path)[5:-5] for path in kept)
        self.bad["foreign"].update(int(wave) for wave in found_waves if wave.isdigit() and wave not in self.waves)
        status, states = self.status, self.status.state
        everything, found = set(range(status.total)), set(self.counted)
        uneven = {name: found - tasks for name, tasks in sorted(self.wrote.items()) if name not in self.columns}
        return {
            "expected_waves": len(self.waves),
            "waves": {name: encode_ranges(waves) for name, waves in self.bad.items()},
            "expected_tasks": status.total,
            "unplanned": encode_ranges(everything.difference(*self.waves.values())),
            "included": encode_ranges(found),
            "missing": encode_ranges(everything - found),
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

    def _defects(self, wave: str, members: List[int]) -> Iterator[str]:
        path = partial_path(self.folder, wave)
        kept = read_object(path)
        if not kept:
            yield "damaged" if os.path.exists(path) else "missing"
            return
        if kept.get("run_id") != self.run["run_id"] or kept.get("wave") != int(wave):
            yield "foreign"
            return
        included = _tasks_of(kept)
        if included is None or kept.get("format") != FORMAT:
            yield "damaged"
            return
        self.counted.update(included)
        complete = {task for task in members if self.status.state[task] == task_states.COMPLETE}
        self.unexpected.update(included.difference(members))
        if included != complete:
            yield "stale"
        there = sorted(included & complete)
        groups = fold(self.status.reader, self.run, there, kept.get("replicates") or [], self._check_record)["table"][
            "groups"
        ]
        kept_groups = (kept.get("table") or {}).get("groups") or {}
        # A task that is complete no more, or of another wave, has no record to compare with.
        if included <= complete and kept_groups != groups and not self.unreadable.intersection(there):
            self.keys.update(set(kept_groups) - set(groups))
            yield "damaged"

    def _check_record(self, task: int, record: Optional[TaskRecord]) -> None:
        if record is None:
            self.unreadable.add(task)
            return
        expected = self.digests[task * DIGEST_BYTES : (task + 1) * DIGEST_BYTES]
        if record.task != task or (expected and digest(record.kwargs or {}) != expected):
            self.unexpected.add(task)
        metrics = record.metrics or {}
        for name in metrics:
            self.wrote.setdefault(name, set()).add(task)
        for name in self.columns:
            if name not in metrics:
                self.without[name].append(task)


def _tasks_of(kept: Dict[str, Any]) -> Optional[Set[int]]:
    """Return the tasks that a partial names, None where they are no ranges, or not as many as its table counts."""
    try:
        # Counted before they are listed: a damaged range may name more tasks than there is memory for.
        return set(decode_ranges(kept["included"])) if count(kept["included"]) == tasks_in(kept) else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
