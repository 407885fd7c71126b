"""``campaign-status``, ``campaign-list``, ``campaign-replay``: a campaign as the files of this machine have it."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.campaign.budget import Spent, remaining
from hpc_agent.campaign.journal import CampaignJournal, Trial, counts_of
from hpc_agent.campaign.replay import replay
from hpc_agent.campaign.stopping import Reason, Verdict
from hpc_agent.campaign.strategies import other_libraries
from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError, NeedsResolution, SpecInvalid
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.campaign.decisions import decide
from hpc_agent.ops.campaign.known_campaign import (
    CAMPAIGN_ERRORS,
    CampaignScoped,
    KnownCampaign,
    known_campaign,
)  # fmt: skip
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.world import World

SHOWN = 10


class CampaignStatusResult(Result):
    campaign_id: str
    goal: str
    strategy: str
    decision: Verdict
    reason: Reason
    detail: str
    iterations: int
    trials: Annotated[dict[str, int], doc("number in each state")]
    earlier_trials: Annotated[int, doc("of the campaigns that it was begun from")]
    best: Annotated[dict[str, Any] | None, doc("trial, run_id, task_id, params, values; null: none is usable")]
    pareto_front: Annotated[list[dict[str, Any]], doc("of several metrics: trials that no other beats, at most 10")]
    pareto_count: Annotated[int, doc("trials of the front")]
    in_flight: Annotated[list[str], doc("runs with trials that have not ended")]
    spent: Spent
    remaining: Annotated[dict[str, float], doc("of each limit of the budget")]
    history: Annotated[
        list[dict[str, Any]], doc("the last 10 iterations: iteration, run_ids, states of trials, best so far")
    ]
    run_ids: Annotated[list[str], doc("of the last 10 iterations")]
    truncated: Annotated[bool, doc("history has not all iterations: see campaign-replay")]
    next_command: str
    notes: list[str] = []


@primitive(stage="campaign", errors=[*CAMPAIGN_ERRORS, NeedsResolution], positional="campaign_id")
def campaign_status(request: CampaignScoped, world: World) -> CampaignStatusResult:
    """Show a campaign: decision, best, budget, the last iterations, the next command. Asks no cluster."""
    known = known_campaign(world, request)
    manifest, history = known.manifest, known.history
    verdict, command = decide(known)
    best = history.best(manifest, known.metric) if known.metric else None
    front = history.pareto_front(manifest) if len(manifest.metrics) > 1 else []
    rows = _iterations(known)
    return CampaignStatusResult(
        campaign_id=request.campaign_id,
        goal=manifest.goal,
        strategy=manifest.strategy.name,
        decision=verdict.decision,
        reason=verdict.reason,
        detail=verdict.detail,
        iterations=len(rows),
        trials=counts_of(trial for trial in history.trials if trial.is_own),
        earlier_trials=sum(not trial.is_own for trial in history.trials),
        best=short(best),
        pareto_front=[short(trial) or {} for trial in front[:SHOWN]],
        pareto_count=len(front),
        in_flight=list(history.open_runs),
        spent=known.spent,
        remaining=remaining(manifest.budget, known.spent),
        history=rows[-SHOWN:],
        run_ids=[run_id for row in rows[-SHOWN:] for run_id in row["run_ids"]],
        truncated=len(rows) > SHOWN or len(front) > SHOWN,
        next_command=command,
        notes=[*known.notes, *_libraries(known)],
    )


def _libraries(known: KnownCampaign) -> list[str]:
    """Return what to know of the library that chooses the points: another version, or none here."""
    try:
        return [] if known.manifest.is_own else other_libraries(known.manifest, known.history)
    except NeedsResolution as error:
        return [f"{error.message}. {error.remediation}"]


def short(trial: Trial | None) -> dict[str, Any] | None:
    """Return what an answer has of a trial; None for none."""
    if trial is None:
        return None
    found = {"trial": trial.number, "run_id": trial.run_id, "params": trial.params, "values": trial.values}
    return found | ({"task_id": trial.task_id} if trial.task_id >= 0 else {})


def _iterations(known: KnownCampaign) -> list[dict[str, Any]]:
    """Return a row for each iteration, in order; ``best`` is the best value so far."""
    manifest = known.manifest
    usable = {trial.number for trial in known.history.ranked(manifest, known.metric)} if known.metric else set()
    sign = -1 if known.metric and _direction(known) == "maximize" else 1
    best: float | None = None
    rows = []
    for number, trials in known.history.iterations.items():
        losses = [sign * trial.values[known.metric] for trial in trials if known.metric and trial.number in usable]
        best = min([*losses, *([] if best is None else [best])], default=None)
        runs = list(dict.fromkeys(trial.run_id for trial in trials if trial.run_id))
        rows.append(
            {"iteration": number, "run_ids": runs, **counts_of(trials), "best": None if best is None else sign * best}
        )
    return rows


def _direction(known: KnownCampaign) -> str:
    return next(one.direction for one in known.manifest.metrics if one.name == known.metric)


class CampaignListRequest(Request):
    experiment_dir: ExperimentDir = "."


class CampaignListResult(Result):
    campaigns: Annotated[
        list[dict[str, Any]],
        doc("campaign_id, goal, strategy, iterations, states of trials, best value, stopped (reason), by name"),
    ]


@primitive(stage="campaign", errors=[SpecInvalid])
def campaign_list(request: CampaignListRequest, world: World) -> CampaignListResult:
    """List the campaigns of a repo: those with a manifest, and the tags of runs. Asks no cluster."""
    repo, journal = journal_of(world, request.experiment_dir)
    runs, problems = journal.all()
    tagged = {run.campaign_id for run in runs if run.campaign_id}
    folders = [path.parent.name for path in (repo.hpc / "campaigns").glob("*/*.json")]
    found, errors = [], [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    for name in sorted({*tagged, *folders}):
        try:
            known = known_campaign(world, CampaignScoped(campaign_id=name, experiment_dir=request.experiment_dir), runs)
        except HpcError as error:
            errors.append(PartialError(code=error.error_code, detail=error.message))
            continue
        best = known.history.best(known.manifest, known.metric) if known.metric else None
        row: dict[str, Any] = {
            "campaign_id": name,
            "goal": known.manifest.goal,
            "strategy": known.manifest.strategy.name,
        }
        row |= {"iterations": len(known.history.iterations), **counts_of(t for t in known.history.trials if t.is_own)}
        row |= {"best": {known.metric: best.values[known.metric]}} if best and known.metric else {}
        row |= {"stopped": known.history.stopped.reason} if known.history.stopped else {}
        found.append({key: value for key, value in row.items() if value != ""})
    return CampaignListResult(campaigns=found, partial_errors=errors)


class CampaignReplayRequest(CampaignScoped):
    last_n: Annotated[int, doc("the last iterations", gt=0)] = 5
    verify: Annotated[bool, doc("ask for their trials again from the journal, and compare")] = False


class CampaignReplayResult(Result):
    campaign_id: str
    total_iterations: int
    returned: int
    iterations: Annotated[
        list[dict[str, Any]],
        doc("oldest first: iteration, run_id, submitted_at, status, metrics (means), trials (number, params, values)"),
    ]
    verified: Annotated[int, doc("trials that were asked again")] = 0
    different: Annotated[list[dict[str, Any]], doc("those that came out otherwise; at most 10")] = []
    notes: list[str] = []


@primitive(stage="campaign", errors=[*CAMPAIGN_ERRORS, NeedsResolution], positional="campaign_id", progress=True)
def campaign_replay(request: CampaignReplayRequest, world: World) -> CampaignReplayResult:
    """Show the last iterations with their trials; with ``verify`` ask for the trials again and compare. Asks no cluster."""
    known = known_campaign(world, request)
    numbers = list(known.history.iterations)[-request.last_n :]
    shown = [_replayed(number, known.history.iterations[number]) for number in numbers]
    asked = 0
    different: list[dict[str, Any]] = []
    if request.verify and known.manifest.is_own:
        raise SpecInvalid(
            "tasks.py chose the trials of this campaign: there is no strategy to ask again", field="verify"
        )
    if request.verify and numbers:
        first = known.history.iterations[numbers[0]][0].number
        events = CampaignJournal(world, known.repo, request.campaign_id).events()
        asked, different = replay(known.manifest, events, first)
    return CampaignReplayResult(
        campaign_id=request.campaign_id,
        total_iterations=len(known.history.iterations),
        returned=len(shown),
        iterations=shown,
        verified=asked,
        different=different[:SHOWN],
        notes=[*known.notes, *_libraries(known)],
    )


def _replayed(number: int, trials: list[Trial]) -> dict[str, Any]:
    complete = [trial for trial in trials if trial.state == "complete"]
    names = sorted({name for trial in complete for name in trial.values})
    values = {name: [trial.values[name] for trial in complete if name in trial.values] for name in names}
    rows = [{"trial": t.number, "state": t.state, "params": t.params, "values": t.values, "why": t.why} for t in trials]
    return {
        "iteration": number,
        "run_id": trials[0].run_id,
        "submitted_at": iso(trials[0].asked_at),
        "status": "in_flight" if any(trial.is_open for trial in trials) else "complete" if complete else "failed",
        "metrics": {name: sum(found) / len(found) for name, found in values.items()},
        "trials": [{key: value for key, value in row.items() if value not in ("", {})} for row in rows],
    }
