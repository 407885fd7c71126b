"""``campaign-status``, ``campaign-list``, ``campaign-replay``: a campaign as the files of this machine have it."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.campaign.journal import SEEDED, CampaignJournal, Trial, counts_of, ranked
from hpc_agent.campaign.stopping import Reason, Spent, Verdict, best_value, decision, remaining
from hpc_agent.campaign.strategies import other_libraries, replay
from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError, NeedsResolution, SpecInvalid
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.campaign.decisions import decide
from hpc_agent.ops.campaign.known_campaign import CAMPAIGN_ERRORS, CampaignScoped, KnownCampaign, known_campaign
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.world import World

SHOWN = 10
REPLAYED = 100  # trials with a row in campaign-replay


class CampaignStatusResult(Result, kw_only=True, omit_defaults=True):
    campaign_id: str
    goal: str = ""
    strategy: str
    decision: Verdict
    reason: Reason = ""
    detail: str = ""
    iterations: int
    trials: Annotated[dict[str, int], doc("of this campaign, number in each state; stopped: ended themselves early")]
    earlier_trials: Annotated[int, doc("of the campaigns that it was begun from; no other number counts them")] = 0
    best: Annotated[dict[str, Any] | None, doc("trial, run_id, task_id, params, values; null: none is usable")]
    pareto_front: Annotated[
        list[dict[str, Any]], doc("of several metrics: trials that no other beats, at most 10")
    ] = []
    pareto_count: Annotated[int, doc("trials of the front")] = 0
    in_flight: Annotated[list[str], doc("runs with trials that have not ended")]
    spent: Spent
    remaining: Annotated[dict[str, float], doc("of each limit of the budget")] = {}
    history: Annotated[list[dict[str, Any]], doc("the last 10 iterations: iteration, states of trials, best so far")]
    run_ids: Annotated[list[str], doc("of the last 10 iterations")]
    truncated: Annotated[bool, doc("history has not all iterations: see campaign-replay")] = False
    next_command: Annotated[str, doc("after a stop only where no trial is usable: campaign-health")] = ""
    raise_command: Annotated[str, doc("raises the limit at which the campaign has stopped")] = ""
    notes: list[str] = []


@primitive(
    stage="campaign",
    errors=[*CAMPAIGN_ERRORS, NeedsResolution],
    positional="campaign_id",
    brief="best, budget, next step",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-driver", "report"],
)
def campaign_status(request: CampaignScoped, world: World) -> CampaignStatusResult:
    """Show a campaign: decision, best, budget, the last iterations, the next command. Asks no cluster."""
    known = known_campaign(world, request)
    manifest, history = known.manifest, known.history
    verdict, command = decide(known)
    front = history.pareto_front(manifest) if len(manifest.metrics) > 1 else []
    rows = _iterations(known)
    recent = [trial for row in rows[-SHOWN:] for trial in history.iterations[row["iteration"]]]
    return CampaignStatusResult(
        **known.standing(verdict),
        **known.trials(),
        goal=manifest.goal,
        strategy=manifest.strategy.name,
        iterations=len(rows),
        pareto_front=[trial.short() for trial in front[:SHOWN]],
        pareto_count=len(front),
        in_flight=list(history.open_runs),
        spent=known.spent,
        remaining=remaining(manifest.budget, known.spent),
        history=rows[-SHOWN:],
        run_ids=list(dict.fromkeys(trial.run_id for trial in recent if trial.run_id)),
        truncated=len(rows) > SHOWN or len(front) > SHOWN,
        next_command=command,
        notes=[*known.notes, *other_libraries(manifest, history), *_earlier_best(known)],
    )


def _earlier_best(known: KnownCampaign) -> list[str]:
    """Return a sentence about a trial of an earlier campaign that is better than any of this one; of one metric alone."""
    best = known.history.ranked(known.manifest)[:1]
    found = ranked(known.manifest, [*best, *known.history.earlier])[:1] if len(known.manifest.metrics) == 1 else best
    told = "a trial of an earlier campaign is better" if best else "no trial is usable yet; the best one before was"
    return [f"{told}: {one.origin.removeprefix(SEEDED)} with {one.values}" for one in found if one not in best]


def _iterations(known: KnownCampaign) -> list[dict[str, Any]]:
    """Return a row for each iteration, in order; ``best`` is the best value so far."""
    usable = {trial.number for trial in known.history.ranked(known.manifest)}
    so_far: list[Trial] = []
    rows = []
    for number, trials in known.history.iterations.items():
        so_far += [trial for trial in trials if trial.number in usable]
        rows.append({"iteration": number, **counts_of(trials), "best": best_value(known.manifest, so_far)})
    return rows


class CampaignListRequest(Request):
    experiment_dir: ExperimentDir = "."


class CampaignListResult(Result):
    campaigns: Annotated[
        list[dict[str, Any]],
        doc("campaign_id, goal, strategy, iterations, states of trials, best value, stop_reason, by name"),
    ]


@primitive(
    stage="campaign",
    errors=[SpecInvalid],
    brief="the campaigns of a repo",
    example={"experiment_dir": "."},
    next_verbs=["campaign-status", "campaign-init"],
)
def campaign_list(request: CampaignListRequest, world: World) -> CampaignListResult:
    """List the campaigns of a repo: those with a manifest, and the tags of runs. Asks no cluster."""
    repo, journal = journal_of(world, request.experiment_dir)
    runs, problems = journal.all()
    tagged = {run.campaign_id for run in runs if run.campaign_id}
    folders = [path.parent.name for path in (repo.hpc / "campaigns").glob("*/*.json")]
    rows, errors = [], [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    for name in sorted({*tagged, *folders}):
        try:
            known = known_campaign(world, CampaignScoped(campaign_id=name, experiment_dir=request.experiment_dir), runs)
        except HpcError as error:
            errors.append(PartialError(code=error.error_code, detail=error.message))
            continue
        manifest, history, best = known.manifest, known.history, known.best_value
        row = {
            "campaign_id": name,
            "goal": manifest.goal,
            "strategy": manifest.strategy.name,
            "iterations": len(history.iterations),
            **counts_of(history.own),
            "best": {known.metric: best} if best is not None else "",
            "stop_reason": decision(manifest, history, known.spent).reason,
        }
        rows.append({key: value for key, value in row.items() if value != ""})
    return CampaignListResult(campaigns=rows, partial_errors=errors)


class CampaignReplayRequest(CampaignScoped):
    last_n: Annotated[int, doc("the last iterations", gt=0)] = 5
    verify: Annotated[bool, doc("ask for their trials again from the journal, and compare")] = False


class CampaignReplayResult(Result, kw_only=True, omit_defaults=True):
    campaign_id: str
    total_iterations: int
    returned: int
    iterations: Annotated[
        list[dict[str, Any]],
        doc("oldest first: iteration, run_id, submitted_at, status, metrics (means), trials (rows)"),
    ]
    columns: Annotated[list[str], doc("of the rows: trial, parameters, metrics, state, and why where a trial failed")]
    truncated: Annotated[bool, doc("only the last 100 trials are shown: the journal has all")] = False
    verified: Annotated[int | None, doc("trials that were asked again")] = None
    different: Annotated[list[dict[str, Any]] | None, doc("those that came out otherwise; at most 10")] = None
    notes: list[str] = []


@primitive(
    stage="campaign",
    errors=[*CAMPAIGN_ERRORS, NeedsResolution],
    positional="campaign_id",
    progress=True,
    brief="trials of iterations",
    example={"campaign_id": "horizons", "last_n": 2},
    next_verbs=["campaign-status", "campaign-driver"],
    larger=["last_n"],
)
def campaign_replay(request: CampaignReplayRequest, world: World) -> CampaignReplayResult:
    """Show the last iterations with their trials; with ``verify`` ask for the trials again and compare. Asks no cluster."""
    known = known_campaign(world, request)
    iterations = known.history.iterations
    numbers = list(iterations)[-request.last_n :]
    trials = [trial for number in numbers for trial in iterations[number]]
    asked: int | None = None
    different: list[dict[str, Any]] = []
    if request.verify and known.manifest.is_own:
        message = "tasks.py chose the trials of this campaign: there is no strategy to ask again"
        raise SpecInvalid(message, field="verify")
    if request.verify and trials:
        events = CampaignJournal(world, known.repo, request.campaign_id).events()
        asked, different = replay(known.manifest, events, trials[0].number)
    params = list(dict.fromkeys(name for trial in trials for name in trial.params))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.values))
    first = trials[-REPLAYED:][0].number if trials else 0
    return CampaignReplayResult(
        campaign_id=request.campaign_id,
        total_iterations=len(iterations),
        returned=len(numbers),
        iterations=[_replayed(number, iterations[number], params, metrics, first) for number in numbers],
        columns=["trial", *params, *metrics, "state"],
        truncated=len(trials) > REPLAYED,
        verified=asked,
        different=None if asked is None else different[:SHOWN],
        notes=[*known.notes, *other_libraries(known.manifest, known.history)],
    )


def _replayed(number: int, trials: list[Trial], params: list[str], metrics: list[str], first: int) -> dict[str, Any]:
    """Return an iteration; rows for its trials from number ``first`` on."""
    complete = [trial for trial in trials if trial.state == "complete"]
    values = {name: [trial.values[name] for trial in complete if name in trial.values] for name in metrics}
    rows = []
    for trial in trials:
        measured = [trial.params.get(name) for name in params] + [trial.values.get(name) for name in metrics]
        rows.append([trial.number, *map(_short, measured), trial.state, *filter(None, [trial.why])])
    return {
        "iteration": number,
        "run_id": trials[0].run_id,
        "submitted_at": iso(trials[0].asked_at),
        "status": "in_flight" if any(trial.is_open for trial in trials) else "complete" if complete else "failed",
        "metrics": {name: _short(sum(found) / len(found)) for name, found in values.items() if found},
        "trials": [row for row in rows if row[0] >= first],
    }


def _short(value: Any) -> Any:
    """Return a number with the digits that tell trials apart; anything else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
