"""The best points of past campaigns and runs, and the command that begins a campaign at the best of them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from hpc_agent.campaign.journal import CampaignJournal
from hpc_agent.campaign.manifest import Manifest, campaign_folder, read_manifest
from hpc_agent.errors import HpcError
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared.metric_names import REPEATING, direction_of, main_metric
from hpc_agent.ops.memory.interviews import Facts
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

# So many of the newest campaigns are looked into, and so many points of one kind and metric are shown.
MOST_CAMPAIGNS = 100
MOST_POINTS = 3
MOST_GROUPS = 3
MOST_TABLE_BYTES = 20 << 20
LONG_SCALE = 100  # a positive parameter that spans such a factor is searched on a logarithmic scale
LEAST_TASKS = 10
LONGEST_NAME = 50
WORDS = {"min": "minimize", "max": "maximize"}


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


class Wanted(NamedTuple):
    """The metric that is asked for, and the direction of its best value; None: as its name or its campaign says."""

    metric: str | None
    direction: str | None


class _Source(NamedTuple):
    """Points of one campaign or run, and the settings of a campaign that goes on there; None where there is no search space."""

    starts: list[Start]
    repo: RepoLayout
    manifest: Manifest | None


def grounding(found: Sequence[Facts], wanted: Wanted, world: World) -> tuple[list[Start], str, list[str]]:
    """Return the best points, the command that begins a campaign at the first of them, and notes about what was left out.

    Points are compared within one kind of task and one metric only; kinds come in the order of their newest interview.
    """
    notes: list[str] = []
    if len(found) > MOST_CAMPAIGNS:
        notes.append(f"starts are from the newest {MOST_CAMPAIGNS} of {len(found)} interviews: filters narrow them")
    groups: dict[tuple[str | None, str, str], list[tuple[Start, _Source]]] = {}
    for facts in found[:MOST_CAMPAIGNS]:
        for source in _sources(facts, wanted, world, notes):
            for start in source.starts:
                key = (start.task_kind, start.metric, start.direction)
                groups.setdefault(key, []).append((start, source))
    shown: list[tuple[Start, _Source]] = []
    for (_, _, direction), points in list(groups.items())[:MOST_GROUPS]:
        sign = 1 if direction == "minimize" else -1
        distinct: dict[str, tuple[Start, _Source]] = {}
        for point in sorted(points, key=lambda pair: sign * pair[0].value):
            distinct.setdefault(json.dumps(point[0].params, sort_keys=True), point)
        shown += list(distinct.values())[:MOST_POINTS]
    if len(groups) > MOST_GROUPS:
        notes.append(f"starts are of {MOST_GROUPS} of {len(groups)} kinds and metrics: --task-kind and --metric choose")
    command = next((_command(start, source, world) for start, source in shown if source.manifest), "")
    return [start for start, _ in shown], command, notes


def _sources(facts: Facts, wanted: Wanted, world: World, notes: list[str]) -> Iterator[_Source]:
    """Yield the campaigns of a repo, and its runs that have a table. What cannot be read is noted."""
    repo = RepoLayout(Path(facts.interview.campaign_dir))
    mine: set[str] = set()
    campaigns = repo.hpc / "campaigns"
    for path in sorted(campaigns.iterdir()) if campaigns.is_dir() else ():
        try:
            if (path / "manifest.json").is_file() and not (manifest := read_manifest(repo, path.name)).is_own:
                history = CampaignJournal(world, repo, path.name).history()
                mine |= set(history.runs)
                yield _Source(_of_campaign(manifest, history, wanted, facts), repo, manifest)
        except HpcError as error:
            notes.append(error.message)
    for table in _tables(repo, world):
        try:
            if table.stat().st_size > MOST_TABLE_BYTES:
                notes.append(f"{table} is larger than {MOST_TABLE_BYTES >> 20} MiB and was left out")
                continue
            document = json.loads(table.read_bytes())
            if document["run_id"] not in mine:  # the trials of a campaign are in its journal
                yield _of_run(repo, document, wanted, facts, notes)
        except OSError as error:
            notes.append(f"{table}: {error.strerror}")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            notes.append(f"{table} is no table of a run: {error}")


def _tables(repo: RepoLayout, world: World) -> list[Path]:
    """Return the tables of a repo's runs: where aggregate puts them, and where the journal says that they are."""
    written = {Path(run.output) for run in Journal(world, repo).all()[0] if run.output}
    usual = set((repo.root / "results").glob("*/table.json"))
    return sorted(usual | {path for folder in written if (path := folder / "table.json").is_file()})


def _of_campaign(manifest: Manifest, history: Any, wanted: Wanted, facts: Facts) -> list[Start]:
    names = [metric.name for metric in manifest.metrics]
    if wanted.metric not in (None, *names):
        return []
    chosen = next(metric for metric in manifest.metrics if wanted.metric in (None, metric.name))
    return [
        Start(
            value=trial.values[chosen.name],
            metric=chosen.name,
            direction=chosen.direction,
            params=trial.params,
            task_kind=facts.interview.task_kind,
            campaign_dir=facts.interview.campaign_dir,
            campaign_id=manifest.campaign_id,
            run_id=trial.run_id or None,
        )
        for trial in history.ranked(manifest, chosen.name)[:MOST_POINTS]
    ]


def _of_run(repo: RepoLayout, document: dict[str, Any], wanted: Wanted, facts: Facts, notes: list[str]) -> _Source:
    """Return the best rows of a run's table; rows that differ in a repeating parameter only are one point, their mean."""
    run_id, rows = str(document["run_id"]), document["rows"]
    metric = _metric(document, wanted, facts)
    if metric is None:
        if document["metrics"]:
            told = ", ".join(map(str, document["metrics"][:5]))
            notes.append(f"{run_id} measured {told}: --metric and --direction say what is best")
        return _Source([], repo, None)
    name, direction = metric
    points: dict[str, list[tuple[float, int, dict[str, Any]]]] = {}
    # A table over seeds has no seeds: the first one is in the interview.
    folded = {key: facts.space[key].few[0] for key in document.get("over") or () if key in facts.space}
    rows = [{**row, "kwargs": {**folded, **row["kwargs"]}} for row in rows]
    repeating = {key: row["kwargs"][key] for row in rows[:1] for key in row["kwargs"] if key in {*REPEATING, *folded}}
    for row in rows:
        figures = row["metrics"].get(name) or {}
        if isinstance(figures.get("mean"), (int, float)) and math.isfinite(figures["mean"]):
            key = json.dumps({k: v for k, v in row["kwargs"].items() if k not in repeating}, sort_keys=True)
            points.setdefault(key, []).append((float(figures["mean"]), int(figures["count"]), row["kwargs"]))
    starts = [
        Start(
            value=sum(mean * count for mean, count, _ in same) / (total := sum(count for _, count, _ in same)),
            metric=name,
            direction=direction,
            params={**same[0][2], **repeating},
            task_kind=facts.interview.task_kind,
            campaign_dir=facts.interview.campaign_dir,
            run_id=run_id,
            repeats=total,
        )
        for same in points.values()
    ]
    starts.sort(key=lambda start: start.value if direction == "minimize" else -start.value)
    manifest = None
    with contextlib.suppress(HpcError, msgspec.ValidationError):
        kwargs = [{**row["kwargs"], **repeating} for row in rows]
        manifest = _manifest_of_run(repo, run_id, name, direction, kwargs)
    return _Source(starts[:MOST_POINTS], repo, manifest)


def _metric(document: dict[str, Any], wanted: Wanted, facts: Facts) -> tuple[str, str] | None:
    """Return the metric of a table that is asked for, else the interview's, else the main one, and its direction."""
    there = [str(name) for name in document["metrics"]]
    asked = wanted.metric or facts.interview.abort_if.get("metric")
    name = str(asked) if asked in there else None if wanted.metric else main_metric(there)
    found = direction_of(name) if name else None
    direction = wanted.direction or (WORDS[found] if found else None)
    return (name, direction) if name and direction else None


def _manifest_of_run(
    repo: RepoLayout, run_id: str, metric: str, direction: str, kwargs: list[dict[str, Any]]
) -> Manifest:
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
    metrics = [{"name": metric, "direction": direction}]
    document = {"campaign_id": sidecar.run_name, "space": space, "metrics": metrics, "submit": submit}
    budget = {"max_tasks": max(LEAST_TASKS, sidecar.task_count)}  # a campaign without a limit would go on for ever
    return msgspec.convert({**document, "budget": budget}, Manifest)


def _observed(values: list[Any]) -> dict[str, Any]:
    """Return the search space of a parameter: between its extremes if it is a number, else the values that it had."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not numbers or min(values) == max(values):
        return {"type": "categorical", "values": list({json.dumps(value): value for value in values}.values())}
    low, high = min(values), max(values)
    is_int = all(isinstance(value, int) for value in values)
    is_log = {"log": True} if low > 0 and high / low >= LONG_SCALE else {}
    return {"type": "int" if is_int else "float", "low": low, "high": high, **is_log}


def _command(start: Start, source: _Source, world: World) -> str:
    """Return the campaign-init that asks for ``start`` first; an earlier campaign is its seed.

    It begins in the folder of this call where that is an experiment repo, else in that of the earlier campaign.
    """
    manifest = source.manifest
    assert manifest is not None
    here = RepoLayout(world.cwd.resolve())
    repo = here if here.hpc.is_dir() else source.repo
    name, number = manifest.campaign_id, 2
    while campaign_folder(repo, new := f"{name[:LONGEST_NAME]}-{number}").exists():
        number += 1
    words = ["hpc-agent", "campaign-init", "--campaign-id", new]
    if repo.root != here.root:
        words += ["--experiment-dir", str(repo.root)]
    if start.campaign_id:
        words += ["--seed-from", name if repo.root == source.repo.root else f"{source.repo.root}:{name}"]
    return quote([*words, "--start", json.dumps([start.params]), *_flags(manifest)])


def _flags(manifest: Manifest) -> Iterator[str]:
    """Yield the flags that give a campaign the settings of another one."""
    told = msgspec.to_builtins(manifest)
    usual = msgspec.to_builtins(Manifest(campaign_id="", space={}, metrics=[]))
    told |= {"strategy": manifest.strategy.name, "strategy_params": manifest.strategy.params}
    usual |= {"strategy": usual["strategy"]["name"], "strategy_params": {}}
    for nested in ("budget", "stop_criteria"):
        told |= told.pop(nested)
        usual |= usual.pop(nested)
    for name, value in told.items():
        if value != usual[name] and name not in (
            "campaign_id",
            "created_at",
            "seed_from",
            "start",
            "manifest_schema_version",
        ):
            text = value if isinstance(value, str) else json.dumps(_short(value), ensure_ascii=False)
            flag = f"--{name.replace('_', '-')}"
            yield from [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _short(value: Any) -> Any:
    """Return a document without fields that say nothing: null, false, an empty list."""
    if not isinstance(value, dict):
        return value
    kept = {name: _short(item) for name, item in value.items()}
    return {name: item for name, item in kept.items() if item is not None and item is not False and item != []}
