"""Counts, quantiles, observed ranges and runtimes over interviews. What an interview does not say counts as "unstated"."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.node.shared.quantiles import exact_quantiles
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.memory.interviews import MOST_VALUES, Facts, Values
from hpc_agent.state.task_samples import RUNTIMES

MOST_KEYS = 20
MOST_PARAMETERS = 50
UNSTATED = "unstated"


def rollup(found: Sequence[Facts]) -> dict[str, Any]:
    """Return the counts and quantiles of all interviews; what none of them says is left out."""
    seen = [facts.interview for facts in found]
    counts = [one.task_count for one in seen if one.task_count is not None]
    times = [facts.at for facts in found if facts.at is not None]
    span = {"earliest": iso(min(times)), "latest": iso(max(times))} if times else {}
    told = {
        "task_kind_distribution": _histogram(one.task_kind for one in seen),
        "operators": _histogram(one.operator for one in seen),
        "produced_by_kinds": _histogram(one.produced_by_kind for one in seen),
        "task_generator_kinds": _histogram(one.task_generator.get("kind") for one in seen),
        "clusters": _histogram(one.cluster_target.get("cluster") for one in seen),
        "data_axis_kinds": _histogram(kind for one in seen for kind in one.data_axes or [UNSTATED]),
        "task_count": _with_unstated(quantiles(counts), len(found) - len(counts)),
        "materialized_at": _with_unstated(span, len(found) - len(times)),
    }
    return {"count": len(found), **{name: facts for name, facts in told.items() if facts.keys() - {UNSTATED}}}


def _histogram(values: Iterable[Any]) -> dict[str, int]:
    """Return the counts of the most frequent values; those of the others stand under "(others)"."""
    counts = Counter(UNSTATED if value is None else str(value) for value in values)
    most = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_KEYS])
    others = counts.total() - sum(most.values())
    return {**most, **({"(others)": others} if others else {})}


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Return p50, p95, min and max; nothing for no value."""
    ordered = sorted(values)
    if not ordered:
        return {}
    exact = exact_quantiles([(value, 1.0) for value in ordered])
    return {"p50": exact["median"], "p95": exact["q95"], "min": ordered[0], "max": ordered[-1]}


def _with_unstated(facts: dict[str, Any], unstated: int) -> dict[str, Any]:
    return {**facts, UNSTATED: unstated} if unstated else facts


def generator_rollup(found: Sequence[Facts]) -> dict[str, Any]:
    """Return, by kind of generator, the observed values of each parameter.

    ``axis_value_unions`` has parameters of ten values at most, ``param_envelopes`` the lowest and highest number of the others
    and, of those that are no numbers, some values with ``more: true``.
    """
    kinds: dict[str, list[Facts]] = {}
    for facts in found:
        kinds.setdefault(facts.interview.task_generator.get("kind", UNSTATED), []).append(facts)
    return {"by_kind": {kind: _ranges(kinds[kind]) for kind in sorted(kinds)}}


def _ranges(found: list[Facts]) -> dict[str, Any]:
    merged: dict[str, Values] = {}
    used: Counter[str] = Counter()
    for facts in found:
        for name, values in facts.space.items():
            merged.setdefault(name, Values()).merge(values)
            used[name] += 1
    shown = [name for name, _ in used.most_common(MOST_PARAMETERS)]
    answer = {
        "count": len(found),
        "param_envelopes": {name: _envelope(merged[name]) for name in shown if merged[name].more},
        "axis_value_unions": {name: _sorted(merged[name].few) for name in shown if not merged[name].more},
        "parameters_not_shown": len(merged) - len(shown),
    }
    return {name: value for name, value in answer.items() if value}


def _envelope(values: Values) -> dict[str, Any]:
    if values.low is not None:
        return {"low": values.low, "high": values.high}
    return {"values": _sorted(values.few[:MOST_VALUES]), "more": True}


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))


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
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
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
            with contextlib.suppress(msgspec.MsgspecError, RecursionError):
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
