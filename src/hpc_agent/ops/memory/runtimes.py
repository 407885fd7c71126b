"""Time and failures of the tasks of past campaigns: from the samples in .hpc/runtimes/ and from the journal of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.ops.memory.rollup import quantiles
from hpc_agent.state.task_samples import RUNTIMES


class _Row(msgspec.Struct):
    seconds: float | None = None


class _Run(msgspec.Struct):
    rows: list[_Row] = []


class _Samples(msgspec.Struct):
    """As much of a samples file as is counted here."""

    runs: list[_Run] = []


class _Counts(msgspec.Struct):
    failed: int = 0
    complete: int = 0


class _Look(msgspec.Struct):
    """As much of a journal line as is counted here."""

    counts: _Counts


def runtime_rollup(campaigns: Sequence[str], journal_root: Path) -> dict[str, Any]:
    """Return the seconds of complete tasks, and the share of failed tasks among those that have ended, over all campaigns.

    The seconds are of at most 300 tasks a run, evenly spread, of the ten newest runs of an executor. Failures are those of
    the last look at a run from this machine. A campaign without a sample counts in ``campaigns_with_no_runtime``.
    """
    seconds: list[float] = []
    silent = failed = ended = 0
    for folder in campaigns:
        measured = list(_seconds(folder))
        seconds += measured
        silent += not measured
        for counts in _last_counts(folder, journal_root):
            failed += counts.failed
            ended += counts.failed + counts.complete
    return {
        "walltime_per_task_sec": {**quantiles(seconds), "n_samples": len(seconds)},
        "failure_rate": round(failed / ended, 4) if ended else None,
        "tasks_ended": ended,
        "total_task_samples": len(seconds),
        "campaigns_with_no_runtime": silent,
    }


def _seconds(folder: str) -> Iterator[float]:
    """Yield the measured seconds of complete tasks. A file that is no samples file has none."""
    for data in _contents(f"{folder}/.hpc/{RUNTIMES}", ".json"):
        with contextlib.suppress(msgspec.MsgspecError):
            for run in msgspec.json.decode(data, type=_Samples).runs:
                yield from [row.seconds for row in run.rows if row.seconds is not None]


def _last_counts(folder: str, journal_root: Path) -> Iterator[_Counts]:
    """Yield the counts of each run of a repo as of the last look. Only the last line with counts is read as JSON."""
    # The folder has no links: the walk resolved its root and follows none, so this is RepoLayout.repo_hash.
    repo_hash = hashlib.sha256(folder.encode()).hexdigest()[:12]
    for data in _contents(f"{journal_root}/{repo_hash}/runs", ".jsonl"):
        start = data.rfind(b'"event": "status"')
        line = data[data.rfind(b"\n", 0, start) + 1 :].partition(b"\n")[0]
        if start >= 0:
            with contextlib.suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(line, type=_Look).counts


def _contents(folder: str, ending: str) -> Iterator[bytes]:
    """Yield what is in the files of a folder; nothing for a folder that is missing."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - 10,000 times
    except OSError:
        return
    for name in names:
        if name.endswith(ending):
            with contextlib.suppress(OSError), open(f"{folder}/{name}", "rb") as handle:  # noqa: PTH123
                yield handle.read()
