"""``campaign-init``: write the manifest of a campaign, and the trials of earlier campaigns into its journal."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import msgspec

from hpc_agent.campaign.journal import SEEDED, Ask, CampaignJournal, Tell, event_of
from hpc_agent.campaign.manifest import (
    Manifest,
    Metric,
    Settings,
    Source,
    Strategy,
    StrategyName,
    campaign_folder,
    check_manifest,
    manifest_path,
    next_free_name,
    no_direction,
    read_manifest,
    told_direction,
    write_manifest,
)  # fmt: skip
from hpc_agent.campaign.space import fitting, points
from hpc_agent.campaign.stopping import LIMITS
from hpc_agent.campaign.strategies import check_strategy
from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import NeedsResolution, PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.campaign.decisions import save_command
from hpc_agent.ops.campaign.known_campaign import CAMPAIGN_ERRORS, CampaignScoped, known_campaign
from hpc_agent.ops.campaign.submission import check_submission, first_tasks
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import EXAMPLE_RIDGE, ExperimentDir, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS
from hpc_agent.ops.run.run_request import Name
from hpc_agent.state.repo_files import experiment_root, locked
from hpc_agent.world import World


class CampaignInitRequest(Settings, Request, kw_only=True):
    """What is searched, how, and when it ends. Without a space, tasks.py chooses (strategy ``own``)."""

    campaign_id: Annotated[Name, doc("the campaign; see campaign-list")]
    experiment_dir: ExperimentDir = "."
    strategy: Annotated[StrategyName | None, doc("who chooses the points; quasi_random, or own without a space")] = None
    strategy_params: Annotated[dict[str, Any], doc("params of the strategy: see docs/workflows/campaign.md")] = {}
    seed_from: Annotated[list[str], doc("earlier campaigns, ID or REPO:ID, whose trials the strategy knows")] = []


class CampaignInitResult(Result, kw_only=True, omit_defaults=True):
    campaign_id: str
    manifest_path: str
    manifest_path_relative: Annotated[str, doc("below the repo")]
    created: Annotated[bool, doc("false: the same campaign was there already")]
    strategy: str
    directions: Annotated[dict[str, str], doc("what is better, by metric; early_stop's too")] = {}
    seed_from: Annotated[list[Source], doc("trials that were taken over, and those that do not fit the space")] = []
    next_command: str
    notes: list[str] = []


@primitive(
    stage="campaign",
    effects=[Effect.FILES],
    errors=[*CAMPAIGN_ERRORS, *FREEZE_ERRORS, NeedsResolution, PreconditionFailed],
    positional="campaign_id",
    brief="begin a campaign",
    example={
        "campaign_id": "horizons",
        "space": {"horizon": {"type": "int", "low": 1, "high": 25}},
        "metrics": [{"name": "mae", "direction": "minimize"}],
        "batch": 3,
        "stop_criteria": {"max_iters": 2},
        "submit": {"cluster": "local", "executor": EXAMPLE_RIDGE},
    },
    next_verbs=["campaign-driver", "campaign-status"],
)
def campaign_init(request: CampaignInitRequest, world: World) -> CampaignInitResult:
    """Begin a campaign: write its manifest, and the trials of earlier campaigns as a start. Submits nothing.

    The same request again changes nothing. Another request for the same id takes the place of a campaign that has asked
    no trial, and is an error for one that has.
    """
    scope = CampaignScoped(campaign_id=request.campaign_id, experiment_dir=request.experiment_dir)
    repo = experiment_root(world.cwd, request.experiment_dir)
    path = manifest_path(repo, request.campaign_id)
    wanted = _manifest(request, world)
    sources, seeds = list[Source](), list[tuple[Ask, Tell]]()
    for text in request.seed_from:
        sources.append(_add_seeds(seeds, wanted, text, world, request))
    wanted = msgspec.structs.replace(wanted, seed_from=sources)
    other = _differs(read_manifest(repo, request.campaign_id), wanted) if path.exists() else []
    notes: list[str] = []
    if created := bool(other) or not path.exists():
        if not wanted.is_own:
            notes += check_submission(world, repo, wanted, first_tasks(wanted))
        if other:
            _make_room(world, request, wanted, other)
            notes.append(f"it takes the place of one that had asked no trial, with other values of {', '.join(other)}")
        if seeds or not wanted.is_own:
            path.parent.mkdir(parents=True, exist_ok=True)
            events = [json.dumps(event_of(line, world.now()), sort_keys=True) + "\n" for seed in seeds for line in seed]
            journal = CampaignJournal(world, repo, request.campaign_id).path
            write_bytes(str(journal), "".join(events).encode())  # before the manifest, which makes the campaign
        write_manifest(repo, wanted)
    manifest = read_manifest(repo, request.campaign_id)
    known = known_campaign(world, scope)
    directions: dict[str, str] = {one.name: one.direction for one in manifest.metrics}
    if manifest.early_stop:
        directions[manifest.early_stop.metric] = manifest.early_stop.direction
    return CampaignInitResult(
        campaign_id=request.campaign_id,
        manifest_path=str(path),
        manifest_path_relative=str(path.relative_to(repo.root)),
        created=created,
        strategy=manifest.strategy.name,
        directions=directions,
        seed_from=manifest.seed_from,
        next_command=known.submit if manifest.is_own else known.driver,
        notes=[*_notes(manifest), *notes],
    )


def _notes(manifest: Manifest) -> list[str]:
    """Return a warning about a campaign that nothing ends."""
    limits = [getattr(manifest.budget, name) for name in LIMITS]
    limits += [getattr(manifest.stop_criteria, name) for name in ("max_iters", "plateau_window")]
    is_finite = bool(manifest.space) and points(manifest.space) is not None
    if any(limits) or manifest.strategy.name == "grid" or is_finite:
        return []
    ends = ["its target"] if manifest.stop_criteria.target is not None else []
    ends += ["a tasks.py that asks for the same parameters again"] if manifest.is_own else []
    reason = f"only {' or '.join(ends)} ends it" if ends else "nothing ends it"
    command = f"hpc-agent campaign-budget {manifest.campaign_id} --max-tasks 100 --save"
    return [f"no budget, and {reason}: '{command}' sets one"]


def _manifest(request: CampaignInitRequest, world: World) -> Manifest:
    """Return the manifest of a request. Raises SpecInvalid, NeedsResolution (the strategy's library is missing)."""
    criteria, metrics = request.stop_criteria, request.metrics
    if not metrics and criteria.metric:
        if not (told := told_direction(criteria.metric, criteria.direction)):
            raise no_direction(criteria.metric, "stop_criteria.direction", "--direction maximize")
        metrics = [Metric(name=criteria.metric, direction=told)]
    same = {name: getattr(request, name) for name in Settings.__struct_fields__ if name != "metrics"}
    name: StrategyName = "quasi_random" if request.space else "own"
    strategy = Strategy(name=request.strategy or name, params=request.strategy_params)
    manifest = check_manifest(Manifest(**same, created_at=iso(world.now()), strategy=strategy, metrics=metrics))
    if not manifest.is_own:
        check_strategy(manifest)
        _check_names(manifest)
        if missing := [one for one in ("cluster", "executor") if not manifest.submit.get(one)]:
            message = f"submit has no {missing[0]}: trials could not be submitted"
            raise SpecInvalid(message, field=f"submit.{missing[0]}")
    return manifest


def _check_names(manifest: Manifest) -> None:
    """Raise SpecInvalid for a parameter that tasks could not see as a variable of its own."""
    fixed = manifest.submit.get("fixed_params")
    names = [(f"space.{name}", name) for name in manifest.space]
    names += [("strategy.params", name) for name in [manifest.resource] if name]
    names += [("submit.fixed_params", name) for name in (fixed if isinstance(fixed, dict) else ())]
    seen: dict[str, str] = {}
    for field, name in names:
        if name.upper() in seen:
            first = seen[name.upper()]
            raise SpecInvalid(f"{first!r} and {name!r} would be the same variable of a task", field=field)
        if name.upper().startswith("HPC_"):
            raise SpecInvalid(f"{name!r}: variables that begin with HPC_ are hpc-agent's own", field=field)
        seen[name.upper()] = name


def _differs(known: Manifest, wanted: Manifest) -> list[str]:
    """Return the settings of a campaign that are not the wanted ones; limits that were raised since are none."""
    begun = next(iter(known.earlier_limits), known)
    known = msgspec.structs.replace(known, budget=begun.budget, stop_criteria=begun.stop_criteria)
    other = [
        name for name in (*Settings.__struct_fields__, "strategy") if getattr(known, name) != getattr(wanted, name)
    ]
    mine, yours = ([(one.campaign_id, one.experiment_dir) for one in each.seed_from] for each in (known, wanted))
    return other + (["seed_from"] if mine != yours else [])


def _make_room(world: World, request: CampaignInitRequest, wanted: Manifest, other: list[str]) -> None:
    """Remove the manifest and the journal of a campaign that has asked no trial. Raises PreconditionFailed for another one.

    The driver is locked out meanwhile. The manifest goes first: what a kill leaves is no campaign.
    """
    name, scope = request.campaign_id, CampaignScoped(request.campaign_id, request.experiment_dir)
    repo = experiment_root(world.cwd, request.experiment_dir)
    with locked(campaign_folder(repo, name) / "driver.lock", 0.0, "this campaign"):
        known = known_campaign(world, scope)
        if known.history.own or known.records:
            new = next_free_name(repo, name)
            seeds = request.seed_from if wanted.is_own else [*request.seed_from, name]
            begin = msgspec.structs.replace(request, campaign_id=new, seed_from=seeds)
            ways = [f"begin another one that knows its trials: {command_line('campaign-init', begin)}"]
            if {*other} <= {"budget", "stop_criteria"}:
                ways.insert(0, f"change its limits: {save_command(scope, _other_limits(known.manifest, wanted))}")
            message = f"campaign '{name}' has asked trials, and has other values of {', '.join(other)}"
            remedy = f"To see it: hpc-agent campaign-status {name}; to {', or '.join(ways)}"
            raise PreconditionFailed(message, field="campaign_id", remediation=remedy, details={"differs": other})
        manifest_path(repo, name).unlink()
        CampaignJournal(world, repo, name).path.unlink(missing_ok=True)


def _other_limits(known: Manifest, wanted: Manifest) -> dict[str, Any]:
    """Return the limits that are wanted, where they are others and not none."""
    given: dict[str, Any] = {}
    for part in ("budget", "stop_criteria"):
        mine, yours = (msgspec.to_builtins(getattr(one, part)) for one in (known, wanted))
        given |= {name: value for name, value in yours.items() if value is not None and value != mine[name]}
    return given


def _add_seeds(
    seeds: list[tuple[Ask, Tell]], manifest: Manifest, text: str, world: World, request: CampaignInitRequest
) -> Source:
    """Add the ended trials of an earlier campaign that are not among the seeds. Return that campaign."""
    folder, _, campaign_id = text.rpartition(":")
    where = folder or request.experiment_dir
    if manifest.is_own:
        message = "tasks.py chooses in this campaign, and it alone can begin from earlier trials"
        remedy = f"Leave --seed-from out; 'hpc-agent campaign-replay {campaign_id}' shows points for tasks.py."
        raise SpecInvalid(message, field="seed_from", remediation=remedy)
    known = known_campaign(world, CampaignScoped(campaign_id=campaign_id, experiment_dir=where))
    journal = CampaignJournal(world, known.repo, campaign_id)
    names = {metric.name for metric in manifest.metrics}
    ended = [trial for trial in known.history.trials if not trial.is_open]
    taken = {(ask.origin, tell.run_id, tell.task_id) for ask, tell in seeds}  # given twice, or by a campaign between
    first = len(seeds)
    for trial in ended:
        params = fitting(manifest.space, trial.params)
        if params is None or (trial.state == "complete" and not names <= trial.values.keys()):
            continue
        origin = trial.origin if trial.origin.startswith(SEEDED) else f"{SEEDED}{campaign_id}/{trial.number}"
        if (origin, trial.run_id, trial.task_id) in taken:
            continue
        measured = {**trial.values, **trial.constraints}
        asked = Ask(trial=len(seeds), iteration=-1, params=params, origin=origin)
        same = {name: getattr(trial, name) for name in Tell.__struct_fields__ if hasattr(trial, name)}
        bounds = {one.metric: measured[one.metric] for one in manifest.constraints if one.metric in measured}
        values = {name: value for name, value in trial.values.items() if name in names}
        seeds.append((asked, Tell(**{**same, "trial": asked.trial, "values": values, "constraints": bounds})))
    data = journal.path.read_bytes() if journal.path.exists() else json.dumps(known.history.runs).encode()
    return Source(
        campaign_id=campaign_id,
        experiment_dir=str(known.repo.root),
        trials=len(seeds) - first,
        left_out=len(ended) - (len(seeds) - first),
        journal_sha=hashlib.sha256(data).hexdigest(),
    )
