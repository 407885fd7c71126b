"""Predict the needs of tasks from the measurements of earlier tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hpc_agent.experiment.grid.resolved_tasks import ResolvedTasks
from hpc_agent.experiment.series.axes_file import path_of, read_axes
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.task_samples import load_samples

Row = dict[str, Any]
START_UP_SEC = 60
MEMORY_FLOOR_MB = 64
MEMORY_STEP_MB = 16
# Above this number only a sample of the tasks is read: the largest values of a grid repeat.
MOST_TASKS = 50_000
# Share of the variance (of logarithms) that a model must explain.
CLEAR = 0.8
FEWEST_ROWS = 6
MOST_GROUPS = 24
# Below this spread of logarithms the values count as equal.
FLAT = 0.1
# Above this multiple of the largest measured value, a prediction is marked as beyond.
FAR = 4.0
# From so many rows on, a quantile is taken for the largest value.
FEW_ROWS, MANY_ROWS, QUANTILE = 5, 20, 0.95
# The margin above a limit that tasks reached: recovery doubles it too.
BOUND_MARGIN = 2.0
# Metric -> class of the failures that end where the metric reaches its limit.
ENDED_BY = {"seconds": "walltime", "max_rss_mb": "out_of_memory"}


@dataclass(frozen=True)
class Model:
    """log(value) = base[group] + slope * log(number); without either, one base for all."""

    group: str | None
    number: str | None
    bases: dict[Any, float]
    slope: float
    residuals: list[float]
    largest: float = 0.0

    def at(self, kwargs: Row) -> float | None:
        """Return the logarithm of the expected value; None for a group or a number without measurements."""
        base = self.bases.get(_key(kwargs.get(self.group)) if self.group else None)
        if base is None or self.number is None:
            return base
        x = _positive(kwargs.get(self.number))
        return None if x is None else base + self.slope * math.log(x)

    def words(self) -> str:
        """Return the parameters of the model, as in "model and n^1.9"."""
        power = f"{self.number}^{self.slope:.1f}" if self.number else None
        return " and ".join(filter(None, (self.group, power)))


@dataclass(frozen=True)
class Prediction:
    """``worst``: the largest need of a task, without margin. ``typical``: the mean over the tasks.

    ``rows``: complete tasks; ``ended``: those that failed at ``worst`` or beyond what complete tasks explain, so that
    ``worst`` is a lower bound. ``share``: of the rows, those within ``worst``.
    """

    worst: float
    typical: float
    rows: int
    by: str
    beyond: bool
    ended: int = 0
    share: float = 1.0


def predict(rows: list[Row], metric: str, tasks: Iterable[Row]) -> Prediction | None:
    """Predict the need of ``tasks`` from rows with ``kwargs`` and a positive ``metric``. Return None without such rows.

    Of one number (log-log regression), one category (means of logarithms) and both, the simplest model that explains
    80 % of the variance is used; otherwise the plain 95 % quantile of all rows. Fewer than 20 rows: their maximum. The rows of
    failed tasks have ``<metric>_at_least``: the prediction is not below them. They alone, without a complete task, count
    where the task was ended at the limit of this metric.
    """
    data = [(row.get("kwargs") or {}, math.log(value)) for row in rows if (value := _positive(row.get(metric)))]
    failed = [(row, math.log(value)) for row in rows if (value := _positive(row.get(f"{metric}_at_least")))]
    if not data:
        limits = [y for row, y in failed if row.get("class") == ENDED_BY.get(metric)]
        worst = math.exp(max(limits, default=0.0))
        return Prediction(worst, worst, 0, "", False, ended=len(limits)) if limits else None
    model = _best(data)
    share = 1.0 if len(data) < MANY_ROWS else QUANTILE
    spread = sorted(model.residuals)[math.ceil(share * len(data)) - 1]
    # By how much failed tasks exceeded what the model expects of them; None: it expects nothing.
    excess = [(y, None if at is None else y - at) for row, y in failed for at in [model.at(row.get("kwargs") or {})]]
    most = max(y for _, y in data)
    ended = sum(y > most if above is None else above > spread for y, above in excess)
    spread = max([spread, *(above for _, above in excess if above is not None)])
    most = max([most, *(y for y, _ in excess)])
    floor = max((y for y, above in excess if above is None), default=-math.inf)
    expected, beyond = [], False
    for kwargs in tasks:
        y = model.at(kwargs)
        far = model.number is not None and float(kwargs[model.number]) > model.largest * FAR
        beyond = beyond or y is None or far
        expected.append(most - spread if y is None else y)
    if not expected:
        return None
    worst, typical = math.exp(max(max(expected) + spread, floor)), fmean(map(math.exp, expected))
    return Prediction(worst, typical, len(data), model.words(), beyond, ended, share)


def _best(data: list[tuple[Row, float]]) -> Model:
    ys = [y for _, y in data]
    mean = fmean(ys)
    flat = Model(None, None, {None: mean}, 0.0, [y - mean for y in ys])
    total = _squares(flat.residuals)
    if len(data) < FEWEST_ROWS or math.sqrt(total / len(data)) < FLAT:
        return flat
    numbers, groups = _candidates(data)
    fits = [[_fit(data, None, x) for x in numbers], [_fit(data, g, None) for g in groups]]
    fits.append([_fit(data, g, x) for g in groups for x in numbers if g != x])
    for simplest in fits:
        found = [model for model in simplest if model is not None and 1 - _squares(model.residuals) / total >= CLEAR]
        if found:
            return min(found, key=lambda model: _squares(model.residuals))
    return flat


def _candidates(data: list[tuple[Row, float]]) -> tuple[list[str], list[str]]:
    """Return the parameters that fit as a number (three positive values) and as a category (few values, each twice)."""
    numbers, groups = [], []
    for name in sorted({name for kwargs, _ in data for name in kwargs}):
        values = [kwargs.get(name) for kwargs, _ in data]
        distinct = set(map(_key, values))
        if len(distinct) < 2:
            continue
        if len(distinct) >= 3 and all(_positive(value) for value in values):
            numbers.append(name)
        counts = [sum(_key(value) == one for value in values) for one in distinct]
        if len(distinct) <= MOST_GROUPS and min(counts) >= 2:
            groups.append(name)
    return numbers, groups


def _fit(data: list[tuple[Row, float]], group: str | None, number: str | None) -> Model | None:
    """Fit by least squares; the groups share one slope (analysis of covariance)."""
    members: dict[Any, list[tuple[float, float]]] = {}
    for kwargs, y in data:
        x = math.log(kwargs[number]) if number else 0.0
        members.setdefault(_key(kwargs.get(group)) if group else None, []).append((x, y))
    centres = {key: (fmean(x for x, _ in pairs), fmean(y for _, y in pairs)) for key, pairs in members.items()}
    sxx = sum((x - centres[key][0]) ** 2 for key, pairs in members.items() for x, _ in pairs)
    sxy = sum((x - centres[key][0]) * (y - centres[key][1]) for key, pairs in members.items() for x, y in pairs)
    if number and sxx < 1e-12:
        return None
    slope = sxy / sxx if number else 0.0
    bases = {key: y - slope * x for key, (x, y) in centres.items()}
    residuals = [y - bases[key] - slope * x for key, pairs in members.items() for x, y in pairs]
    largest = max(float(kwargs[number]) for kwargs, _ in data) if number else 0.0
    return Model(group, number, bases, slope, residuals, largest)


def _key(value: Any) -> Any:
    """Return a hashable key in which True differs from 1."""
    return (type(value).__name__, value) if isinstance(value, (bool, str)) else value


def _positive(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value > 0 else None


def _squares(values: list[float]) -> float:
    return math.fsum(value * value for value in values)


@dataclass(frozen=True)
class TimeNeed:
    """The seconds of one task. ``task_sec`` includes a margin, the other numbers none; ``rows``: measured tasks."""

    task_sec: float
    worst_sec: float
    typical_sec: float
    rows: int
    origin: str

    def needed_sec(self, in_turn: int) -> int:
        """Return the seconds that an element with so many tasks in turn takes as far as is known, without margin."""
        return math.ceil(self._element_sec(self.worst_sec, in_turn))

    def tight_sec(self, in_turn: int) -> int:
        """Return the seconds below which an element has less than the margin."""
        return math.ceil(self._element_sec(self.task_sec, in_turn))

    def walltime_sec(self, in_turn: int) -> int:
        """Return the walltime to ask for: with the margin and the start-up, in whole minutes."""
        return math.ceil((self._element_sec(self.task_sec, in_turn) + START_UP_SEC) / 60) * 60

    def _element_sec(self, worst: float, in_turn: int) -> float:
        """Return the seconds of one worst task and of the others, each between the typical need and the worst one."""
        return worst + (in_turn - 1) * math.sqrt(self.typical_sec * worst)


@dataclass(frozen=True)
class Evidence:
    """The needs of one task: each is None where nothing is known. ``mem_mb`` includes a margin."""

    time: TimeNeed | None
    mem_mb: int | None
    memory_origin: str


def measured(
    repo: RepoLayout, cluster: str, executors: list[str], command: str, gpu_type: str | None, tasks: ResolvedTasks
) -> Evidence | None:
    """Return the evidence for these tasks; None without measurements of their executors."""
    samples = load_samples(repo, cluster)
    if not samples.runs:
        return None
    step = max(1, tasks.total // MOST_TASKS)
    kwargs = [one for _, one in tasks.every(step)]
    chosen = {str(one["executor"]) for one in kwargs if one.get("executor")}
    rows = samples.rows_of(chosen or ({executors[0]} if len(executors) == 1 else {command}), gpu_type)
    recorded = read_axes(path_of(repo))
    if recorded and recorded.homogeneous_axes:  # tasks along these axes take the same time
        alike = set(recorded.homogeneous_axes)
        kwargs = [_without(alike, one) for one in kwargs]
        rows = [{**row, "kwargs": _without(alike, row.get("kwargs") or {})} for row in rows]
    return from_rows(rows, kwargs)


def _without(names: set[str], kwargs: Row) -> Row:
    return {name: value for name, value in kwargs.items() if name not in names}


def from_rows(rows: list[Row], kwargs: list[Row]) -> Evidence | None:
    """Return the evidence in rows of earlier tasks for new tasks with these parameters. Pure."""
    seconds, memory = predict(rows, "seconds", kwargs), predict(rows, "max_rss_mb", kwargs)
    if seconds is None and memory is None:
        return None
    steps = math.ceil(memory.worst * _margin(memory) / MEMORY_STEP_MB) if memory else 0
    time = None
    if seconds is not None:
        origin = _origin(rows, seconds, "s")
        time = TimeNeed(seconds.worst * _margin(seconds), seconds.worst, seconds.typical, seconds.rows, origin)
    return Evidence(
        time=time,
        mem_mb=max(MEMORY_FLOOR_MB, steps * MEMORY_STEP_MB) if memory else None,
        memory_origin=_origin(rows, memory, "MiB") if memory else "",
    )


def _margin(prediction: Prediction) -> float:
    """Return the factor of the margin: larger for fewer measured tasks, and above a lower bound."""
    margin = 2.0 if prediction.rows < FEW_ROWS else 1.5 if prediction.rows < MANY_ROWS else 1.25
    margin = margin * 1.5 if prediction.beyond else margin
    return max(margin, BOUND_MARGIN) if prediction.ended else margin


def _origin(rows: list[Row], prediction: Prediction, unit: str) -> str:
    """Return the origin in a phrase. "At most" is said only of the largest value of all complete tasks."""
    runs = list(dict.fromkeys(str(row["run_id"]) for row in rows if "run_id" in row))
    which = runs[0] if len(runs) == 1 else f"{len(runs)} runs, last {runs[0]}" if runs else "earlier runs"
    number = f"{prediction.worst:.3g}" if prediction.worst < 100 else f"{prediction.worst:.0f}"
    of = f"{_tasks(prediction.rows)} of {which}"
    if prediction.ended:
        text = f"measured: at least {number} {unit}, where {_tasks(prediction.ended)} failed; beside {of}"
    elif prediction.by:
        text = f"predicted: {number} {unit} by {prediction.by}, from {of}"
    elif prediction.share < 1:
        text = f"measured: {number} {unit} or less in {prediction.share:.0%} of {of}"
    else:
        text = f"measured: {number} {unit} at most, by {of}"
    text += "; beyond what was measured" if prediction.beyond else ""
    return f"{text}; with a margin of {_margin(prediction) - 1:.0%}"


def _tasks(number: int) -> str:
    return f"{number} task{'' if number == 1 else 's'}"
