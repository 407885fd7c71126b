"""The best points of past campaigns and runs, and the command that begins a campaign at the best of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hpc_agent.campaign.journal import CampaignJournal, History
from hpc_agent.campaign.manifest import Manifest, next_free_name, read_manifest
from hpc_agent.errors import HpcError
from hpc_agent.experiment.grid.tasks_file_facts import read_tasks_file
from hpc_agent.experiment.reading.executors import started_scripts
from hpc_agent.experiment.writing.tasks_file import CLI
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared.metric_names import sign_of
from hpc_agent.ops.memory.interviews import Facts
from hpc_agent.ops.memory.run_starts import MOST_POINTS, NO_DIRECTION, Source, Start, Wanted, starts_of_run, tables
from hpc_agent.ops.run.campaign_flags import settings_flags
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

# So many of the newest repos are looked into, and points of so many kinds and metrics are shown.
MOST_CAMPAIGNS = 100
MOST_GROUPS = 3
MOST_TABLE_BYTES = 20 << 20
TURNED = {"minimize": "maximize", "maximize": "minimize"}


def grounding(found: Sequence[Facts], wanted: Wanted, world: World) -> tuple[list[Start], str, list[str]]:
    """Return the best points, the command that begins a campaign at the first of them, and notes about what was left out.

    Points are compared within one kind of task and one metric only, without a kind within one repo; kinds come in the order
    of their newest interview, the first with three points, the others with one.
    """
    notes: list[str] = []
    if len(found) > MOST_CAMPAIGNS:
        notes.append(f"starts are from the newest {MOST_CAMPAIGNS} of {len(found)} repos: filters narrow them")
    groups: dict[tuple[str, str, str], list[tuple[Start, Source]]] = {}
    for facts in found[:MOST_CAMPAIGNS]:
        kind = facts.interview.task_kind or facts.interview.campaign_dir
        for source in _sources(facts, wanted, world, notes):
            for start in source.starts:
                groups.setdefault((kind, start.metric, start.direction), []).append((start, source))
    shown: list[tuple[Start, Source]] = []
    for (_, _, direction), points in list(groups.items())[:MOST_GROUPS]:
        distinct: dict[str, tuple[Start, Source]] = {}
        for point in sorted(points, key=lambda pair: sign_of(direction) * pair[0].value):
            distinct.setdefault(json.dumps(point[0].params, sort_keys=True), point)
        shown += list(distinct.values())[: 1 if shown else MOST_POINTS]
    if len(groups) > MOST_GROUPS:
        notes.append(f"starts are of {MOST_GROUPS} of {len(groups)} kinds and metrics: --task-kind and --metric choose")
    both = {metric for kind, metric, end in groups if (kind, metric, TURNED[end]) in groups}
    notes += [f"{name} was minimized and maximized: --metric {name} --direction choose" for name in sorted(both)]
    if not groups and wanted.metric is not None and not any(note.endswith(NO_DIRECTION) for note in notes):
        others = {start.metric for start in grounding(found, Wanted(None, None), world)[0]}
        told = f"there are some for {', '.join(sorted(others))}" if others else "nor any other"
        notes.append(f"no start has the metric {wanted.metric}: {told}")
    command = next((_command(start, source, world) for start, source in shown if source.manifest), "")
    return [start for start, _ in shown], command, notes


def _sources(facts: Facts, wanted: Wanted, world: World, notes: list[str]) -> Iterator[Source]:
    """Yield the campaigns of a repo, and its runs that have a table. What cannot be read is noted."""
    repo = RepoLayout(Path(facts.interview.campaign_dir))
    mine: set[str] = set()
    for path in sorted(repo.hpc.glob("campaigns/*/manifest.json")):
        try:
            if not (manifest := read_manifest(repo, path.parent.name)).is_own:
                history = CampaignJournal(world, repo, path.parent.name).history()
                mine |= set(history.runs)
                yield from _of_campaign(repo, manifest, history, wanted, facts, notes)
        except HpcError as error:
            notes.append(error.message)
    for table in tables(repo, world):
        try:
            if table.stat().st_size > MOST_TABLE_BYTES:
                notes.append(f"{table} is larger than {MOST_TABLE_BYTES >> 20} MiB and was left out")
                continue
            document = json.loads(table.read_bytes())
            if document["run_id"] not in mine:  # the trials of a campaign are in its journal
                yield starts_of_run(repo, document, wanted, facts, notes)
        except OSError as error:
            notes.append(f"{table}: {error.strerror}")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, IsADirectoryError) as error:
            notes.append(f"{table} is no table of a run: {error}")


def _of_campaign(
    repo: RepoLayout, manifest: Manifest, history: History, wanted: Wanted, facts: Facts, notes: list[str]
) -> Iterator[Source]:
    """Yield the best trials of a campaign, and its settings with the direction that is asked for."""
    metrics = sorted(manifest.metrics, key=lambda metric: metric.name != manifest.stop_criteria.metric)
    own = {metric.name: metric.direction for metric in metrics}
    chosen = wanted.choose(own)
    if chosen is None:
        if wanted.metric is None:
            told = ", ".join(f"{direction}s {name}" for name, direction in own.items())
            notes.append(f"{manifest.campaign_id} {told}, and is left out: --metric {metrics[0].name} turns it round")
        return
    name, direction = chosen
    if direction != own[name]:
        notes.append(f"{manifest.campaign_id} {own[name]}s {name}: its points and the command follow --direction")
        manifest = _turned(manifest, name, direction)
    said = {"metric": name, "direction": direction, "campaign_id": manifest.campaign_id, **facts.place()}
    best = history.ranked(manifest, name)[:MOST_POINTS]
    starts = [Start(value=one.values[name], params=one.params, run_id=one.run_id or None, **said) for one in best]
    yield Source(starts, repo, manifest)


def _turned(manifest: Manifest, name: str, direction: Any) -> Manifest:
    """Return the manifest with another direction of a metric, also where the other parts repeat the direction."""
    metrics = [replace(one, direction=direction) if one.name == name else one for one in manifest.metrics]
    early, criteria = manifest.early_stop, manifest.stop_criteria
    if early and early.metric == name:
        early = replace(early, direction=direction)
    if criteria.direction and criteria.metric in (None, name):
        criteria = replace(criteria, direction=direction)
    return replace(manifest, metrics=metrics, early_stop=early, stop_criteria=criteria)


def _command(start: Start, source: Source, world: World) -> str:
    """Return the campaign-init that asks for ``start`` first; an earlier campaign is its seed.

    It begins in the folder of this call where that is an experiment repo with the same program, else where the start is from.
    """
    manifest = source.manifest
    assert manifest is not None
    here = RepoLayout(world.cwd.resolve())
    repo = here if here.hpc.is_dir() and _same_program(manifest, start, here, source.repo) else source.repo
    name = manifest.campaign_id
    new = next_free_name(repo, name)
    words = ["hpc-agent", "campaign-init", "--campaign-id", new]
    if repo.root != here.root:
        words += ["--experiment-dir", str(repo.root)]
    if start.campaign_id:
        words += ["--seed-from", name if repo.root == source.repo.root else f"{source.repo.root}:{name}"]
    return quote([*words, "--start", json.dumps([start.params]), *settings_flags(manifest)])


def _same_program(manifest: Manifest, start: Start, here: RepoLayout, there: RepoLayout) -> bool:
    """Return True where the command starts a file of the repo, and this file is the same in both repos, by its bytes.

    Of .hpc/cli.py the executors that tasks.py names have to be the same files too.
    """
    command = str(manifest.submit.get("executor") or "")
    files = {script for _, _, script in started_scripts(command, [(0, start.params)], there.root)}
    if f".hpc/{CLI}" in files:
        mine, theirs = read_tasks_file(here.tasks), read_tasks_file(there.tasks)
        if mine != theirs or not theirs.flags:
            return False
        files |= {key.partition(":")[0] for key in theirs.flags}
    try:
        return bool(files) and all((here.root / one).read_bytes() == (there.root / one).read_bytes() for one in files)
    except OSError:
        return False
