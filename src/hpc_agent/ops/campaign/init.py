"""``campaign-init``: write the manifest of a campaign, and the trials of earlier campaigns into its journal."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from hpc_agent.campaign.budget import LIMITS
from hpc_agent.campaign.journal import SEEDED, Ask, CampaignJournal, Line, Tell, event_of
from hpc_agent.campaign.manifest import (
    AbortIf,
    Budget,
    Constraint,
    EarlyStop,
    Manifest,
    Metric,
    Parameter,
    Source,
    StopCriteria,
    Strategy,
    StrategyName,
    check_manifest,
    manifest_path,
    no_direction,
    read_manifest,
    write_manifest,
)  # fmt: skip
from hpc_agent.campaign.space import fitting, points
from hpc_agent.campaign.strategies import check_strategy
from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import NeedsResolution, PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.metric_names import LONG_WORDS, best_end
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.campaign.decisions import CampaignBudgetRequest
from hpc_agent.ops.campaign.known_campaign import CAMPAIGN_ERRORS, CampaignScoped, known_campaign
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World


class CampaignInitRequest(CampaignScoped):
    """What is searched, how, and when it ends. Without a space, tasks.py chooses (strategy ``own``)."""

    goal: Annotated[str, doc("the question, in a sentence")] = ""
    space: Annotated[
        dict[str, Parameter],
        doc(
            'parameters: {"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": true}}; types float, int, categorical'
        ),
    ] = {}
    metrics: Annotated[
        list[Metric], doc('what tasks measure: [{"name": "loss", "direction": "minimize"}]; default: the stop metric')
    ] = []
    constraints: Annotated[list[Constraint], doc('bounds on metrics: [{"metric": "mb", "at_most": 500}]')] = []
    strategy: Annotated[StrategyName | None, doc("who chooses the points; quasi_random, or own without a space")] = None
    strategy_params: Annotated[dict[str, Any], doc("params of the strategy: see docs/workflows/campaign.md")] = {}
    seed: Annotated[int, doc("the same seed and results give the same trials")] = 0
    start: Annotated[list[dict[str, Any]], doc("points to ask first")] = []
    seed_from: Annotated[list[str], doc("earlier campaigns, ID or REPO:ID, whose trials the strategy knows")] = []
    mode: Annotated[Literal["batch", "async"], doc("async: ask while trials run")] = "batch"
    batch: Annotated[int, doc("trials of an iteration", gt=0)] = 10
    width: Annotated[int, doc("async: trials that run at once", gt=0)] = 16
    ahead: Annotated[int, doc("async: trials that wait in the queue", ge=0)] = 8
    failed_trials: Annotated[
        Literal["drop", "again", "worst"], doc("leave out, ask once more, or count as the worst value so far")
    ] = "drop"
    budget: Budget = field(default_factory=Budget)
    stop_criteria: StopCriteria = field(default_factory=StopCriteria)
    abort_if: Annotated[list[AbortIf], doc('[{"failed_share": 0.5, "after_tasks": 20}]')] = []
    early_stop: Annotated[EarlyStop | None, doc('{"metric": "loss", "reduction": 3}: tasks end themselves')] = None
    submit: Annotated[
        dict[str, Any], doc('fields of submit: {"cluster": "local", "executor": "python3 train.py"}')
    ] = {}


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
    errors=[*CAMPAIGN_ERRORS, NeedsResolution, PreconditionFailed],
    positional="campaign_id",
)
def campaign_init(request: CampaignInitRequest, world: World) -> CampaignInitResult:
    """Begin a campaign: write its manifest, and the trials of earlier campaigns as a start. Submits nothing.

    The same request again changes nothing; another request for the same id is an error.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    path = manifest_path(repo, request.campaign_id)
    manifest = _manifest(request, iso(world.now()))
    lines: list[Line] = []
    sources: list[Source] = []
    for text in request.seed_from:
        source, more = _seeds(manifest, text, world, request, len(lines) // 2)
        sources.append(source)
        lines += more
    manifest = msgspec.structs.replace(manifest, seed_from=sources)
    created = not path.exists()
    if created:
        if lines or not manifest.is_own:
            path.parent.mkdir(parents=True, exist_ok=True)
            events = [json.dumps(event_of(line, world.now()), sort_keys=True) + "\n" for line in lines]
            journal = CampaignJournal(world, repo, request.campaign_id).path
            write_bytes(str(journal), "".join(events).encode())  # before the manifest, which makes the campaign
        write_manifest(repo, manifest)
    else:
        manifest = read_manifest(repo, request.campaign_id)
        _same(manifest, _manifest(request, manifest.created_at), sources, request.experiment_dir)
    known = known_campaign(world, request)
    return CampaignInitResult(
        campaign_id=request.campaign_id,
        manifest_path=str(path),
        manifest_path_relative=str(path.relative_to(repo.root)),
        created=created,
        strategy=manifest.strategy.name,
        directions=_directions(manifest),
        seed_from=manifest.seed_from,
        next_command=known.submit if manifest.is_own else known.driver,
        notes=_notes(manifest),
    )


def _directions(manifest: Manifest) -> dict[str, str]:
    rule = manifest.early_stop
    rules = [(rule.metric, rule.direction)] if rule else []
    return dict([*((one.name, one.direction) for one in manifest.metrics), *rules])


def _notes(manifest: Manifest) -> list[str]:
    """Return a warning about a campaign that nothing ends."""
    limits = [getattr(manifest.budget, name) for name in LIMITS]
    limits += [getattr(manifest.stop_criteria, name) for name in ("max_iters", "plateau_window")]
    if manifest.is_own or any(limits) or manifest.strategy.name == "grid" or points(manifest.space) is not None:
        return []
    reason = "only its target ends it" if manifest.stop_criteria.target is not None else "nothing ends it"
    return [
        f"no budget, and {reason}: 'hpc-agent campaign-budget {manifest.campaign_id} --max-tasks 100 --save' sets one"
    ]


def _manifest(request: CampaignInitRequest, created_at: str) -> Manifest:
    """Return the manifest of a request. Raises SpecInvalid, NeedsResolution (the strategy's library is missing)."""
    criteria, same = request.stop_criteria, {}
    for field_name in Manifest.__struct_fields__:
        if field_name not in ("strategy", "metrics", "seed_from") and hasattr(request, field_name):
            same[field_name] = getattr(request, field_name)
    metrics = request.metrics
    if not metrics and criteria.metric:
        if not (end := best_end(criteria.direction, criteria.metric)):
            raise no_direction(criteria.metric, "stop_criteria.direction", "--direction maximize")
        metrics = [Metric(name=criteria.metric, direction=LONG_WORDS[end])]  # type: ignore[arg-type]
    name: StrategyName = "quasi_random" if request.space else "own"
    strategy = Strategy(name=request.strategy or name, params=request.strategy_params)
    manifest = check_manifest(Manifest(**same, created_at=created_at, strategy=strategy, metrics=metrics))
    if not manifest.is_own:
        check_strategy(manifest)
        if missing := [one for one in ("cluster", "executor") if not manifest.submit.get(one)]:
            raise SpecInvalid(
                f"submit has no {missing[0]}: trials could not be submitted", field=f"submit.{missing[0]}"
            )
    return manifest


def _same(known: Manifest, wanted: Manifest, sources: list[Source], experiment_dir: str) -> None:
    """Raise PreconditionFailed when a campaign of this id has other settings; limits that were raised since are none."""
    if known.earlier_limits:
        begun = known.earlier_limits[0]
        known = msgspec.structs.replace(
            known, budget=begun.budget, stop_criteria=begun.stop_criteria, earlier_limits=[]
        )
    pairs = [(name, getattr(known, name), getattr(wanted, name)) for name in Manifest.__struct_fields__]
    other = [name for name, mine, yours in pairs if name != "seed_from" and mine != yours]
    if [(s.campaign_id, s.experiment_dir) for s in known.seed_from] != [
        (s.campaign_id, s.experiment_dir) for s in sources
    ]:
        other.append("seed_from")
    if other:
        see = f"Run 'hpc-agent campaign-status {known.campaign_id}' to see it, or begin a campaign with another id"
        if {*other} <= {"budget", "stop_criteria"}:
            see += f"; {_budget_command(known, wanted, experiment_dir)} changes its limits"
        raise PreconditionFailed(
            f"campaign '{known.campaign_id}' exists with other values of {', '.join(other)}",
            field="campaign_id",
            remediation=f"{see}.",
            details={"differs": other},
        )


def _budget_command(known: Manifest, wanted: Manifest, experiment_dir: str) -> str:
    """Return the command that gives a campaign the limits that are wanted, where they are others and not none."""
    given: dict[str, Any] = {}
    for part in ("budget", "stop_criteria"):
        mine, yours = (msgspec.to_builtins(getattr(one, part)) for one in (known, wanted))
        given |= {name: value for name, value in yours.items() if value is not None and value != mine[name]}
    request = CampaignBudgetRequest(campaign_id=known.campaign_id, experiment_dir=experiment_dir, save=True, **given)
    return command_line("campaign-budget", request)


def _seeds(
    manifest: Manifest, text: str, world: World, request: CampaignInitRequest, first: int
) -> tuple[Source, list[Line]]:
    """Return an earlier campaign, and its ended trials as asks and tells that begin with the number ``first``."""
    folder, _, campaign_id = text.rpartition(":")
    where = folder or request.experiment_dir
    if manifest.is_own:
        raise SpecInvalid(
            "tasks.py chooses in this campaign: let it read 'prior' of the earlier one", field="seed_from"
        )
    known = known_campaign(world, CampaignScoped(campaign_id=campaign_id, experiment_dir=where))
    journal = CampaignJournal(world, known.repo, campaign_id)
    names = [metric.name for metric in manifest.metrics]
    ended = [trial for trial in known.history.trials if not trial.is_open]
    lines: list[Line] = []
    for trial in ended:
        params = fitting(manifest.space, trial.params)
        values = {name: trial.values[name] for name in names if name in trial.values}
        if params is None or (trial.state == "complete" and len(values) < len(names)):
            continue
        measured = {**trial.values, **trial.constraints}
        bounds = {one.metric: measured[one.metric] for one in manifest.constraints if one.metric in measured}
        number = first + len(lines) // 2
        origin = trial.origin if trial.origin.startswith(SEEDED) else f"{SEEDED}{campaign_id}/{trial.number}"
        lines.append(Ask(trial=number, iteration=-1, params=params, origin=origin))
        lines.append(
            Tell(
                trial=number, state=trial.state, values=values, constraints=bounds, run_id=trial.run_id,  # type: ignore[arg-type]
                task_id=trial.task_id, seconds=trial.seconds, cpus=trial.cpus, stopped_at=trial.stopped_at, why=trial.why,
            )
        )  # fmt: skip
    data = journal.path.read_bytes() if journal.path.exists() else json.dumps(known.history.runs).encode()
    source = Source(
        campaign_id=campaign_id,
        experiment_dir=str(known.repo.root),
        trials=len(lines) // 2,
        left_out=len(ended) - len(lines) // 2,
        journal_sha=hashlib.sha256(data).hexdigest(),
    )
    return source, lines
