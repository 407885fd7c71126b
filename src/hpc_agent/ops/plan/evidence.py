"""What a run should ask for, going by what its executor used before on the same cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpc_agent.experiment.grid.resolved_tasks import ResolvedTasks
from hpc_agent.ops.plan.predict import Prediction, Row, predict
from hpc_agent.state.layout import RepoLayout
from hpc_agent.state.samples import load_samples

START_UP_SEC = 60
MEMORY_FLOOR_MB = 64
MEMORY_STEP_MB = 16
# Beyond so many tasks only some are looked at: the most demanding values of a grid occur over and over.
MOST_TASKS = 50_000


@dataclass(frozen=True)
class Evidence:
    """Needs of one task and the sentence that says where they come from. ``task_sec`` and ``mem_mb`` have their margin;
    ``worst_sec`` and ``typical_sec`` have none.
    """

    task_sec: float
    worst_sec: float
    typical_sec: float
    mem_mb: int | None
    time_origin: str
    memory_origin: str

    def walltime_sec(self, pack: int) -> int:
        """Seconds of an element that runs ``pack`` tasks in turn: one of them the worst, the others typical."""
        others = math.sqrt(self.typical_sec * self.task_sec)  # between the typical one and the worst with its margin
        return math.ceil((self.task_sec + (pack - 1) * others + START_UP_SEC) / 60) * 60


def measured(
    repo: RepoLayout, cluster: str, executors: list[str], command: str, gpu_type: str | None, tasks: ResolvedTasks
) -> Evidence | None:
    """The evidence for these tasks; None when nothing of the kind was measured."""
    samples = load_samples(repo, cluster)
    if not samples.runs:
        return None
    step = max(1, tasks.total // MOST_TASKS)
    kwargs = [one for _, one in tasks.every(step)]
    chosen = {str(one["executor"]) for one in kwargs if one.get("executor")}
    rows = samples.rows_of(chosen or ({executors[0]} if len(executors) == 1 else {command}), gpu_type)
    return from_rows(rows, kwargs)


def from_rows(rows: list[Row], kwargs: list[Row]) -> Evidence | None:
    """Pure: rows of earlier tasks and the kwargs of the new ones."""
    seconds = predict(rows, "seconds", kwargs)
    if seconds is None:
        return None
    memory = predict(rows, "max_rss_mb", kwargs)
    return Evidence(
        task_sec=seconds.worst * _margin(seconds),
        worst_sec=seconds.worst,
        typical_sec=seconds.typical,
        mem_mb=_rounded(memory.worst * _margin(memory)) if memory else None,
        time_origin=_origin(rows, seconds, "s"),
        memory_origin=_origin(rows, memory, "MiB") if memory else "",
    )


def _margin(prediction: Prediction) -> float:
    """The fewer tasks were measured, the more is added."""
    margin = 2.0 if prediction.rows < 5 else 1.5 if prediction.rows < 20 else 1.25
    return margin * 1.5 if prediction.beyond else margin


def _rounded(megabytes: float) -> int:
    return max(MEMORY_FLOOR_MB, math.ceil(megabytes / MEMORY_STEP_MB) * MEMORY_STEP_MB)


def _origin(rows: list[Row], prediction: Prediction, unit: str) -> str:
    runs = list(dict.fromkeys(str(row["run_id"]) for row in rows if "run_id" in row))
    which = runs[0] if len(runs) == 1 else f"{len(runs)} runs, last {runs[0]}" if runs else "earlier runs"
    text = f"measured: {prediction.worst:.3g} {unit} at most, by {prediction.rows} tasks of {which}"
    text += f", by {prediction.by}" if prediction.by else ""
    text += "; beyond what was measured" if prediction.beyond else ""
    return f"{text}; with a margin of {_margin(prediction) - 1:.0%}"
