"""The best rows of a run's table as starts, and the campaign that would search the observed ranges of the run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from hpc_agent.campaign.manifest import Manifest
from hpc_agent.errors import HpcError
from hpc_agent.node.shared.metric_names import LONG_WORDS, REPEATING, best_end, direction_of, main_metric, sign_of
from hpc_agent.ops.memory.interviews import Facts
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

MOST_POINTS = 3
LONG_SCALE = 100  # a positive parameter that spans such a factor is searched on a logarithmic scale
LEAST_TASKS = 10
NO_DIRECTION = "--direction says if its lowest or its highest value is the best"


class Start(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A point to start from: parameters and the value that was measured there."""

    value: float
    metric: str
    direction: str
    params: dict[str, Any]
    task_kind: str | None = None
    campaign_dir: str
    campaign_id: str | None = None
    run_id: str | None = None
    repeats: Annotated[int, doc("tasks that the value is the mean of")] = 1


class Source(NamedTuple):
    """Points of one campaign or run, and the settings of a campaign that goes on there; None where there is no search space."""

    starts: list[Start]
    repo: RepoLayout
    manifest: Manifest | None


class Wanted(NamedTuple):
    """The metric that is asked for (None: the main one), and the direction of its best value, in any of its words."""

    metric: str | None
    direction: str | None

    def choose(self, metrics: Mapping[str, str | None]) -> tuple[str, str] | None:
        """Return a metric, and minimize or maximize; None where none fits, or where nothing says what is best.

        ``metrics``: the most wanted first, each with its own direction. A metric that is asked for by name takes the
        direction that is asked for; else the first one whose own direction, or name, says this direction.
        """
        asked = best_end(self.direction)
        if self.metric is not None:
            names = [name for name in metrics if name == self.metric]
        elif asked:
            ends = {name: {best_end(own), direction_of(name)} - {None} for name, own in metrics.items()}
            names = [name for name in metrics if asked in ends[name]] or [name for name in metrics if not ends[name]]
        else:
            names = list(metrics)
        for name in names[:1]:
            if end := asked or best_end(metrics[name], name):
                return name, LONG_WORDS[end]
        return None


def tables(repo: RepoLayout, world: World) -> list[Path]:
    """Return the tables of a repo's runs: where aggregate puts them, and where the journal says that they are."""
    written = {Path(run.output) for run in Journal(world, repo).all()[0] if run.output}
    usual = set((repo.root / "results").glob("*/table.json"))
    return sorted(usual | {path for folder in written if (path := folder / "table.json").is_file()})


def starts_of_run(repo: RepoLayout, document: dict[str, Any], wanted: Wanted, facts: Facts, notes: list[str]) -> Source:
    """Return the best rows of a run's table; rows that differ in a repeating parameter only are one point, their mean.

    Raises LookupError, TypeError, ValueError or AttributeError for a document that is no table.
    """
    run_id, there = str(document["run_id"]), [str(name) for name in document["metrics"]]
    first = (facts.interview.abort_if.get("metric"), main_metric(there), *there)
    chosen = wanted.choose({str(name): None for name in first if name in there})
    if chosen is None:
        if wanted.metric in there:
            notes.append(f"{run_id} measured {wanted.metric}: {NO_DIRECTION}")
        elif there and wanted.metric is None:
            notes.append(f"{run_id} measured {', '.join(there[:5])}: --metric and --direction say what is best")
        return Source([], repo, None)
    name, direction = chosen
    # The rows of a table over seeds have no seed; the first one of a table of an earlier version is in the interview.
    folded = {key: facts.space[key].few[0] for key in document.get("over") or () if key in facts.space}
    folded |= document.get("over_first") or {}
    rows = [{**row, "kwargs": {**folded, **row["kwargs"]}} for row in document["rows"]]
    repeating = {key: row["kwargs"][key] for row in rows[:1] for key in row["kwargs"] if key in {*REPEATING, *folded}}
    points: dict[str, list[tuple[float, int, dict[str, Any]]]] = {}
    for row in rows:
        figures = row["metrics"].get(name) or {}
        if isinstance(figures.get("mean"), (int, float)) and math.isfinite(figures["mean"]):
            key = json.dumps({k: v for k, v in row["kwargs"].items() if k not in repeating}, sort_keys=True)
            points.setdefault(key, []).append((float(figures["mean"]), int(figures["count"]), row["kwargs"]))
    said = {"metric": name, "direction": direction, "run_id": run_id, **facts.place()}
    starts = []
    for same in points.values():
        total = sum(count for _, count, _ in same)
        value = sum(mean * count for mean, count, _ in same) / total
        starts.append(Start(value=value, params={**same[0][2], **repeating}, repeats=total, **said))
    starts.sort(key=lambda start: sign_of(direction) * start.value)
    manifest = None
    with contextlib.suppress(HpcError, msgspec.ValidationError):
        kwargs = [{**row["kwargs"], **repeating} for row in rows]
        manifest = _manifest(repo, run_id, name, direction, kwargs)
    return Source(starts[:MOST_POINTS], repo, manifest)


def _manifest(repo: RepoLayout, run_id: str, metric: str, direction: str, kwargs: list[dict[str, Any]]) -> Manifest:
    """Return the campaign that would search the observed ranges of a run's parameters, with as many tasks as the run.

    Raises an HpcError (the run's sidecar cannot be read), or ValidationError (a value that no search space has).
    """
    sidecar = read_run_sidecar(repo, run_id)
    settings: tuple[tuple[str, Any, Any], ...] = (
        ("env", sidecar.env, {}),
        ("results", {key: value for key, value in sidecar.results.items() if value}, {}),
        ("outputs", sidecar.outputs, ["results", "logs"]),
        ("shared_paths", list(sidecar.shared), []),
    )
    submit = {name: value for name, value, usual in settings if value != usual}
    submit |= {"cluster": sidecar.cluster, "executor": sidecar.executor}
    names = dict.fromkeys(name for one in kwargs for name in one)
    space = {name: _observed([one[name] for one in kwargs if name in one]) for name in names}
    document = {
        "campaign_id": sidecar.run_name,
        "space": space,
        "metrics": [{"name": metric, "direction": direction}],
        "submit": submit,
        "budget": {"max_tasks": max(LEAST_TASKS, sidecar.task_count)},  # else it would go on for ever
    }
    return msgspec.convert(document, Manifest)


def _observed(values: list[Any]) -> dict[str, Any]:
    """Return the search space of a parameter: between its extremes if it is a number, else the values that it had."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not numbers or min(values) == max(values):
        return {"type": "categorical", "values": list({json.dumps(value): value for value in values}.values())}
    low, high = min(values), max(values)
    is_int = all(isinstance(value, int) for value in values)
    is_log = {"log": True} if low > 0 and high / low >= LONG_SCALE else {}
    return {"type": "int" if is_int else "float", "low": low, "high": high, **is_log}
