"""``campaign-health``: how the tasks of a campaign fared on the cluster."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any

from hpc_agent.campaign.journal import Trial, counts_of
from hpc_agent.campaign.tagged import seconds_of
from hpc_agent.contract.primitive import Result, primitive
from hpc_agent.errors import HpcError, NeedsResolution, SpecInvalid
from hpc_agent.node.shared.quantiles import exact_quantiles
from hpc_agent.ops.campaign.decisions import decide
from hpc_agent.ops.campaign.known_campaign import CAMPAIGN_ERRORS, CampaignScoped, KnownCampaign, known_campaign
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.task_samples import RunSamples, load_samples
from hpc_agent.world import World

CLIFF = 0.95


class CampaignHealthRequest(CampaignScoped):
    since: Annotated[str | None, doc("only runs submitted since this date: 2026-01-31 or 2026-01-31T12:00:00Z")] = None
    cluster: Annotated[str | None, doc("only runs on this cluster")] = None


class CampaignHealthResult(Result, kw_only=True, omit_defaults=True):
    """What is not measured, and what did not occur, is left out."""

    campaign_id: str
    n_runs: int
    n_complete: Annotated[int, doc("runs; trials are counted beside")]
    n_failed: Annotated[int, doc("runs; trials are counted beside")]
    trials: Annotated[dict[str, int], doc("of these runs, by state")]
    failure_breakdown: Annotated[dict[str, int], doc("failed trials by cause, at most 10 causes")] = {}
    walltime_cliff_rate: Annotated[
        dict[str, float], doc("kind of GPU, or cpu -> share of measured tasks that used 95 % of their walltime or more")
    ] = {}
    queue_wait_quantiles: Annotated[dict[str, float] | None, doc("median, q95, max in seconds")] = None
    memory_used_share: Annotated[dict[str, float] | None, doc("median, q95, max of the memory asked")] = None
    measured_tasks: Annotated[int, doc("the tasks that these numbers are about; status and aggregate measure them")]
    suggested_prompt: Annotated[str, doc("what to do about it, in a sentence")] = ""


@primitive(
    stage="campaign",
    errors=[*CAMPAIGN_ERRORS, NeedsResolution],
    positional="campaign_id",
    brief="failures, waits, use",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-status", "failures"],
)
def campaign_health(request: CampaignHealthRequest, world: World) -> CampaignHealthResult:
    """Show failures by cause, waiting times, and walltime and memory used against asked. Asks no cluster."""
    known = known_campaign(world, request)
    runs = [run for run in known.records if _wanted(run, request)]
    names = {run.run_id for run in runs}
    trials = [trial for trial in known.history.trials if trial.run_id in names]
    samples = [one for run in runs for one in _samples(known, run)]
    rows = [row for one in samples for row in one.rows]
    causes, cliff = _causes(known, names, rows), _cliff(samples)
    found = decide(known)[0]
    way = known.way_on(found.reason) if found.stops else ""
    return CampaignHealthResult(
        campaign_id=request.campaign_id,
        n_runs=len(runs),
        n_complete=sum(run.status == "complete" for run in runs),
        n_failed=sum(run.status == "failed" for run in runs),
        trials=counts_of(trials),
        failure_breakdown=dict(causes.most_common(10)),
        walltime_cliff_rate=cliff,
        queue_wait_quantiles=_quantiles([row["wait_sec"] for row in rows if "wait_sec" in row]),
        memory_used_share=_quantiles(_memory_shares(samples)),
        measured_tasks=len(rows),
        suggested_prompt="; ".join(filter(None, [_advice(known, trials, causes, cliff), way])),
    )


def _wanted(run: RunRecord, request: CampaignHealthRequest) -> bool:
    if request.cluster is not None and run.cluster != request.cluster:
        return False
    try:
        return request.since is None or run.started_at >= seconds_of(request.since)
    except ValueError:
        raise SpecInvalid(f"{request.since!r} is no date such as 2026-01-31", field="since") from None


def _samples(known: KnownCampaign, run: RunRecord) -> list[RunSamples]:
    """Return what was measured of a run; for a run of the driver at least the seconds of its trials."""
    if found := load_samples(known.repo, run.cluster).of_run(run.run_id):
        return [found]
    rows = [{"seconds": t.seconds} for t in known.history.trials if t.run_id == run.run_id and t.seconds]
    try:
        asked = read_run_sidecar(known.repo, run.run_id).resources
    except HpcError:
        return []
    kind = asked.get("gpu_type") if asked.get("gpus") else None
    return [RunSamples(run_id=run.run_id, at="", gpu_type=kind, asked=asked, rows=rows)] if rows else []


def _causes(known: KnownCampaign, names: set[str], rows: list[dict[str, Any]]) -> Counter[str]:
    """Count failed trials by cause, as the journal of the campaign has it, else as the measurements have it."""
    failed = [trial for trial in known.history.trials if trial.state == "failed" and trial.run_id in names]
    told = Counter(trial.why or "not known" for trial in failed)
    measured = Counter(str(row["class"]) for row in rows if "class" in row)
    return measured if measured and told.keys() == {"not known"} else told


def _cliff(samples: list[RunSamples]) -> dict[str, float]:
    close: dict[str, list[bool]] = {}
    for one in samples:
        limit = CLIFF * float(one.asked.get("walltime_sec") or math.inf)
        used = [row.get("seconds", row.get("seconds_at_least")) for row in one.rows if limit < math.inf]
        if found := [seconds >= limit for seconds in used if seconds is not None]:
            close.setdefault(one.gpu_type or "cpu", []).extend(found)
    return {kind: round(sum(found) / len(found), 4) for kind, found in close.items()}


def _memory_shares(samples: list[RunSamples]) -> list[float]:
    rows = [(row, one.asked["mem_mb"]) for one in samples if one.asked.get("mem_mb") for row in one.rows]
    return [row["max_rss_mb"] / float(asked) for row, asked in rows if "max_rss_mb" in row]


def _quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = exact_quantiles([(value, 1.0) for value in sorted(values)])
    return {name: round(found[name], 4) for name in ("median", "q95")} | {"max": round(max(values), 4)}


def _advice(known: KnownCampaign, trials: list[Trial], causes: Counter[str], cliff: dict[str, float]) -> str:
    failed, ended = [t for t in trials if t.state == "failed"], sum(not t.is_open for t in trials)
    if len(failed) * 5 >= max(1, ended):
        most = causes.most_common(1)[0][0] if causes else ""
        shown = next((trial for trial in reversed(failed) if trial.why == most), failed[-1])
        cause = f", most of all: {most}" if most else ""
        return f"{len(failed)} of {ended} ended trials failed{cause}; see {shown.evidence}"
    if useless := known.useless():
        return useless
    if any(rate > 0.1 for rate in cliff.values()):
        return "more than a tenth of the tasks come close to their walltime: ask for more with --walltime-sec"
    return ""
