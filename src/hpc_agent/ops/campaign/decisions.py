"""``campaign-converged``, ``campaign-budget`` and ``campaign-advance``: does the campaign go on, and what comes next?"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.campaign.journal import counts_of
from hpc_agent.campaign.manifest import EarlierLimits, manifest_path, read_manifest, write_manifest
from hpc_agent.campaign.step import exhaustion, is_exhausted
from hpc_agent.campaign.stopping import (
    Decision,
    Reason,
    Spent,
    Verdict,
    converged,
    decision,
    exhausted,
    remaining,
    series_of,
)
from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import NeedsResolution, PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.campaign.known_campaign import (
    CAMPAIGN_ERRORS,
    CampaignScoped,
    KnownCampaign,
    Limits,
    campaign_command,
    known_campaign,
    limited,
    limits_of,
)  # fmt: skip
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.repo_files import experiment_root, locked
from hpc_agent.world import World


class CampaignConvergedResult(Result):
    campaign_id: str
    converged: bool
    reason: Annotated[Reason, doc("target, plateau or max_iters; empty: not converged")]
    detail: str
    iterations: Annotated[int, doc("that ended")]
    best_metric: Annotated[float | None, doc("null: no iteration has a usable value")]
    metric: str | None


@primitive(
    stage="campaign",
    errors=CAMPAIGN_ERRORS,
    positional="campaign_id",
    brief="target or plateau reached?",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-status", "report"],
)
def campaign_converged(request: Limits, world: World) -> CampaignConvergedResult:
    """Tell if a campaign has reached its target, a plateau, or its number of iterations. Asks no cluster."""
    return _converged(known_campaign(world, request))


def _converged(known: KnownCampaign) -> CampaignConvergedResult:
    criteria, campaign_id = known.manifest.stop_criteria, known.manifest.campaign_id
    if not known.manifest.metrics and (criteria.target is not None or criteria.plateau_window):
        remedy = f"Run 'hpc-agent campaign-replay {campaign_id}' to see the metrics, then give one with --metric."
        raise SpecInvalid("target and plateau need the metric that they look at", field="metric", remediation=remedy)
    series = series_of(known.manifest, known.history)
    reason, detail = converged(known.manifest, series)
    return CampaignConvergedResult(
        campaign_id=campaign_id,
        converged=bool(reason),
        reason=reason,
        detail=detail,
        iterations=len(series),
        best_metric=known.best_value,
        metric=known.metric,
    )


class CampaignBudgetRequest(Limits):
    """Budget and stop criteria; with ``save`` the campaign has them from now on."""

    save: Annotated[bool, doc("keep the limits given here in the manifest, also of a campaign that has stopped")] = (
        False
    )


class CampaignBudgetResult(Result):
    campaign_id: str
    spent: Annotated[Spent, doc("without canaries and trials of earlier campaigns")]
    budget: Annotated[dict[str, float], doc("the limits that are set")]
    remaining: dict[str, float]
    exhausted: bool
    reason: str
    next_command: Annotated[str, doc("with save: goes on with the campaign")] = ""


@primitive(
    stage="campaign",
    effects=[Effect.FILES],
    errors=[*CAMPAIGN_ERRORS, PreconditionFailed],
    positional="campaign_id",
    brief="used and left; set limits",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-driver", "campaign-status"],
)
def campaign_budget(request: CampaignBudgetRequest, world: World) -> CampaignBudgetResult:
    """Show what a campaign has used of its budget, and what is left; with ``save`` change its limits. Asks no cluster.

    The limits that ``save`` replaces stay in the manifest, with the time. A driver that runs heeds the new ones.
    """
    if request.save:
        _save(world, request)
    known = known_campaign(world, request)
    return _budget(known, decide(known)[1] if request.save else "")


def _save(world: World, request: CampaignBudgetRequest) -> None:
    """Write the limits of the request into the manifest. Raises SpecInvalid where it gives none, or they do not fit."""
    if not limits_of(request):
        remedy = "Give one, such as --max-tasks 100."
        raise SpecInvalid("no limit is given that could be saved", field="save", remediation=remedy)
    repo = experiment_root(world.cwd, request.experiment_dir)
    read_manifest(repo, request.campaign_id)
    with locked(manifest_path(repo, request.campaign_id).with_suffix(".lock"), 10.0, "the limits of this campaign"):
        manifest = read_manifest(repo, request.campaign_id)
        changed = limited(manifest, request)
        if changed == manifest:
            return
        before = EarlierLimits(until=iso(world.now()), budget=manifest.budget, stop_criteria=manifest.stop_criteria)
        write_manifest(repo, msgspec.structs.replace(changed, earlier_limits=[*manifest.earlier_limits, before]))


def _budget(known: KnownCampaign, command: str = "") -> CampaignBudgetResult:
    budget = known.manifest.budget
    used = exhausted(budget, known.spent)
    return CampaignBudgetResult(
        campaign_id=known.manifest.campaign_id,
        spent=known.spent,
        budget={name: limit for name, limit in msgspec.structs.asdict(budget).items() if limit is not None},
        remaining=remaining(budget, known.spent),
        exhausted=bool(used),
        reason=used,
        next_command=command,
    )


class CampaignAdvanceResult(Result, kw_only=True, omit_defaults=True):
    campaign_id: str
    decision: Verdict
    reason: Annotated[Reason, doc("of a stop: which of the six")]
    detail: str
    status: Annotated[dict[str, int], doc("iterations, and trials in each state")]
    converged: Annotated[dict[str, Any], doc("as campaign-converged")]
    budget: Annotated[dict[str, Any], doc("as campaign-budget")]
    next_command: Annotated[str, doc("empty after a stop; campaign-health where no trial is usable")]
    raise_command: Annotated[str, doc("raises the limit at which the campaign has stopped")] = ""
    notes: list[str] = []


@primitive(
    stage="campaign",
    errors=[*CAMPAIGN_ERRORS, NeedsResolution],
    positional="campaign_id",
    brief="go on, wait or stop?",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-driver", "campaign-status"],
)
def campaign_advance(request: Limits, world: World) -> CampaignAdvanceResult:
    """Decide if the campaign continues, waits or stops, and name the next command. Changes nothing, asks no cluster.

    The ends of tasks count as soon as they are in the journal: ``hpc-campaign-driver`` fetches them.
    """
    known = known_campaign(world, request)
    found, command = decide(known)
    return CampaignAdvanceResult(
        **known.standing(found),
        status={"iterations": len(known.history.iterations), **counts_of(known.history.own)},
        converged=_part(_converged(known)),
        budget=_part(_budget(known)),
        next_command=command,
        notes=[*known.notes, *_only_here(known, request)],
    )


def _only_here(known: KnownCampaign, request: Limits) -> list[str]:
    """Return how the limits of a request reach the driver, which follows the manifest."""
    given = limits_of(request)
    if known.manifest.is_own or not given:
        return []
    return [f"the limits given here are of this answer only; for the driver: {save_command(request, given)}"]


def save_command(request: CampaignScoped, given: dict[str, Any]) -> str:
    """Return the command that keeps these limits in the manifest."""
    scope: dict[str, Any] = {"campaign_id": request.campaign_id, "experiment_dir": request.experiment_dir}
    return command_line("campaign-budget", CampaignBudgetRequest(**scope, save=True, **given))


def _part(result: Result) -> dict[str, Any]:
    """Return an answer as a part of another one."""
    document: dict[str, Any] = msgspec.to_builtins(result)
    return {name: value for name, value in document.items() if name not in ("campaign_id", "partial_errors")}


def decide(known: KnownCampaign) -> tuple[Decision, str]:
    """Return the decision, and the command that follows from it; empty after a stop."""
    manifest, history = known.manifest, known.history
    found = decision(manifest, history, known.spent)
    if not manifest.is_own and found.decision == "continue" and is_exhausted(manifest, history):
        found = exhaustion(manifest)
    if found.stops:
        return found, campaign_command(known.repo, manifest.campaign_id, "health") if known.useless() else ""
    if not manifest.is_own:
        return found, known.driver
    if found.decision == "continue":
        return found, known.submit
    waiting = next(iter(history.open_runs), "")
    ended = any(run.run_id == waiting and run.status in TERMINAL for run in known.records)
    return found, f"hpc-agent {'aggregate' if ended else 'status'} --run-id {waiting}"
