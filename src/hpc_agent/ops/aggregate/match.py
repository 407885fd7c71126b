"""Match the rows of runs by their parameters, and compare the metrics of those that match."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hpc_agent.node.shared.metric_table import Metric, Table, grid_key
from hpc_agent.node.shared.moments import number_in
from hpc_agent.ops.aggregate.intervals import Difference, paired, welch

MISSING = ""  # in place of the JSON text of a parameter that a run does not have


class Cell(NamedTuple):
    """The values of one metric at one grid point of a run: one for each replicate, by the replicate's parameters."""

    values: dict[str, list[float]]  # a list of several: repeated tasks with equal parameters
    mean: float | None
    weighted: bool

    @property
    def all(self) -> list[float]:
        return [value for values in self.values.values() for value in values]


class Compared(NamedTuple):
    """One metric at one grid point of the first run and of another."""

    point: dict[str, Any]
    metric: str
    run: int  # position of the other run
    first: float | None
    other: float | None
    n_first: int
    n_other: int
    found: Difference | None  # None where a mean does not exist


class Matched(NamedTuple):
    """What a comparison found; positions are those of the runs."""

    rows: list[Compared]
    unmatched: list[tuple[int, int, dict[str, Any]]]  # (the run that has the point, the run that has not, the point)
    differs: dict[str, list[Any]]  # parameter that has one value in each run: those values


def match(tables: Sequence[Table], over: Sequence[str], metrics: Sequence[str] = ()) -> Matched:
    """Compare every table with the first. The tables have one row for each combination of parameters, without ``over``.

    A parameter that is the same in all rows of a run, and another in another run, tells the runs apart: rows are matched
    by the others.
    """
    groups = [_points(table, over) for table in tables]
    differs = _differing([[json.loads(point) for point in found] for found in groups])
    runs = [{grid_key(json.loads(point), differs): cells for point, cells in found.items()} for found in groups]
    rows: list[Compared] = []
    unmatched: list[tuple[int, int, dict[str, Any]]] = []
    for number, other in enumerate(runs[1:], 1):
        for point in {**runs[0], **other}:
            if point in runs[0] and point in other:
                rows += _compared(json.loads(point), number, runs[0][point], other[point], metrics)
            else:
                places = (0, number) if point in runs[0] else (number, 0)
                unmatched.append((*places, json.loads(point)))
    return Matched(rows, unmatched, differs)


def _points(table: Table, over: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Return, by grid point, the rows of its replicates: {replicate: [number of tasks, {metric: partial}]}."""
    found: dict[str, dict[str, list[Any]]] = {}
    groups = table.to_json()["groups"]
    for kwargs, key in table.points():
        replicate = json.dumps({name: kwargs[name] for name in sorted(over) if name in kwargs}, sort_keys=True)
        found.setdefault(grid_key(kwargs, over), {})[replicate] = groups[key]
    return found


def _differing(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[Any]]:
    differs = {}
    for name in sorted({name for points in runs for point in points for name in point}):
        texts = [{json.dumps(p[name], sort_keys=True) if name in p else MISSING for p in points} for points in runs]
        if all(len(found) == 1 for found in texts) and len(set.union(*texts)) > 1:
            differs[name] = [json.loads(next(iter(found)) or "null") for found in texts]
    return differs


def _compared(
    point: dict[str, Any], run: int, first: dict[str, list[Any]], other: dict[str, list[Any]], metrics: Sequence[str]
) -> Iterator[Compared]:
    names = [{name for _, found in group.values() for name in found} for group in (first, other)]
    for metric in sorted(set.intersection(*names)):
        if not metrics or metric in metrics:
            one, two = _cell(first, metric), _cell(other, metric)
            yield Compared(point, metric, run, one.mean, two.mean, len(one.all), len(two.all), difference(one, two))


def _cell(group: dict[str, list[Any]], metric: str) -> Cell:
    """Return the values of a metric. A task that has several counts with their mean; NaN and infinities count nowhere."""
    values: dict[str, list[float]] = {}
    total, means = Metric(), Metric()
    weighted = False
    for replicate, (tasks, found) in group.items():
        if metric not in found:
            continue
        part = Metric.from_json(found[metric])
        total.merge(part)
        several = found[metric].get("values", []) if isinstance(found[metric], dict) else found[metric]
        several = several if isinstance(several, list) else [several]
        weighted = weighted or any(isinstance(item, list) for item in several)
        if tasks > 1 and len(several) + part.nan_count + part.inf_count == tasks and not weighted:
            values[replicate] = [number_in(item) for item in several]
        elif (mean := part.summary()["mean"]) is not None:
            values[replicate] = [mean]
    summary = total.summary()
    cell = Cell(values, summary["mean"], weighted or "weighted" in summary)
    if cell.weighted or len(cell.all) == summary["count"]:
        return cell
    for value in cell.all:
        means.add(value)
    return cell._replace(mean=means.summary()["mean"])


def difference(one: Cell, two: Cell) -> Difference | None:
    """Return the second mean less the first: by pairs where both have the same replicates, else by Welch's method."""
    if one.mean is None or two.mean is None:
        return None
    if one.weighted or two.weighted:
        return Difference(two.mean - one.mean, None, "")
    try:
        single = all(len(values) == 1 for cell in (one, two) for values in cell.values.values())
        if single and one.values.keys() == two.values.keys() and len(one.values) > 1:
            return paired(one.all, [two.values[name][0] for name in one.values])
        return welch(one.all, two.all)
    except OverflowError:
        return None
