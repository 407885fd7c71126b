"""Find a campaign: with a journal of its own, or the runs that ``submit --campaign-id`` tagged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.campaign.budget import LIMITS, Spent, reached, spent_of
from hpc_agent.campaign.journal import CampaignJournal, History
from hpc_agent.campaign.manifest import (
    Budget,
    Manifest,
    Metric,
    StopCriteria,
    Strategy,
    check_manifest,
    manifest_path,
    no_direction,
    read_manifest,
)  # fmt: skip
from hpc_agent.campaign.stopping import Decision
from hpc_agent.campaign.tagged import history_of, read_prior
from hpc_agent.contract.primitive import Request
from hpc_agent.contract.vocabulary import Direction
from hpc_agent.errors import HpcError, JournalCorrupt, SchemaIncompat, SpecInvalid
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared.metric_names import LONG_WORDS, best_end
from hpc_agent.ops.run.fields import ExperimentDir, Positive, PositiveFloat, doc
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.ops.run.run_request import Name
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

CAMPAIGN_ERRORS = (SpecInvalid, JournalCorrupt, SchemaIncompat)
UNSET = "the manifest's by default"


class CampaignScoped(Request):
    """A campaign of the repo in ``experiment_dir``."""

    campaign_id: Annotated[Name, doc("the campaign; see campaign-list")]
    experiment_dir: ExperimentDir = "."


class Limits(CampaignScoped):
    """Budget and stop criteria; what is given here goes before the manifest."""

    max_iters: Annotated[Positive | None, doc(f"iterations that ended; {UNSET}")] = None
    metric: Annotated[str | None, doc(f"what target and plateau look at; {UNSET}")] = None
    target: Annotated[float | None, doc(f"value that ends the campaign; {UNSET}")] = None
    direction: Annotated[Direction | None, doc(f"of the metric; {UNSET}, else as the name says")] = None
    plateau_window: Annotated[Positive | None, doc(f"iterations without a better value; {UNSET}")] = None
    plateau_tolerance: Annotated[
        Annotated[float, Meta(ge=0)] | None, doc(f"a smaller improvement is none; {UNSET}")
    ] = None
    plateau_mode: Annotated[Literal["all_time_best", "prior_window"] | None, doc(UNSET)] = None
    max_tasks: Annotated[Positive | None, doc(f"trials asked; {UNSET}")] = None
    max_jobs: Annotated[Positive | None, doc(f"arrays submitted; {UNSET}")] = None
    max_core_hours: Annotated[PositiveFloat | None, doc(f"of ended tasks; {UNSET}")] = None
    max_walltime_sec: Annotated[PositiveFloat | None, doc(f"of ended tasks together; {UNSET}")] = None
    max_elapsed_sec: Annotated[PositiveFloat | None, doc(f"by the clock since the first ask; {UNSET}")] = None


@dataclass(frozen=True)
class KnownCampaign:
    """A campaign as the files of this machine have it. ``records``: its runs, oldest first."""

    repo: RepoLayout
    manifest: Manifest
    history: History
    spent: Spent
    records: list[RunRecord]
    notes: list[str]
    submit: str  # command that submits the next iteration where tasks.py asks

    @property
    def driver(self) -> str:
        """Return the command that does the next steps."""
        return driver_command(self.repo, self.manifest.campaign_id)

    @property
    def metric(self) -> str | None:
        """Return the name of the metric that criteria and answers look at; None where it is not known."""
        found = self.manifest.metric()
        return found.name if found else None


def driver_command(repo: RepoLayout, campaign_id: str) -> str:
    """Return the command that goes on with a campaign from any folder."""
    return quote(_command("driver", repo, campaign_id))


def _command(verb: str, repo: RepoLayout, campaign_id: str) -> list[str]:
    return ["hpc-agent", f"campaign-{verb}", "--experiment-dir", str(repo.root), "--campaign-id", campaign_id]


def known_campaign(world: World, request: CampaignScoped, runs: list[RunRecord] | None = None) -> KnownCampaign:
    """Return a campaign with the limits of the request. Raises SpecInvalid (unknown), JournalCorrupt, SchemaIncompat.

    ``runs`` are those of the repo, where the caller has read them.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    runs, notes = (journal.all()) if runs is None else (runs, [])
    mine = sorted((run for run in runs if run.campaign_id == request.campaign_id), key=lambda run: run.started_at)
    tables = read_prior(repo, request.campaign_id)
    if manifest_path(repo, request.campaign_id).exists() or not (mine or tables):
        manifest = read_manifest(repo, request.campaign_id)
    else:
        manifest = Manifest(campaign_id=request.campaign_id, strategy=Strategy(name="own"))
    if manifest.is_own:
        history, told = history_of(mine, tables)
        spent = _spent_of_runs(repo, mine, tables, world.now())
        manifest, missing = _with_metrics(repo, manifest, request, history)
        notes = [*told, *missing, *notes]
    else:
        history = CampaignJournal(world, repo, request.campaign_id).history()
        spent = spent_of(history, world.now())
    again = (journal.submit_command(mine[-1].run_id) if mine else None) or (
        f"hpc-agent resolve-submit-inputs --campaign-id {request.campaign_id}"
    )
    return KnownCampaign(repo, limited(manifest, request), history, spent, mine, notes, again)


def raise_command(repo: RepoLayout, manifest: Manifest, found: Decision, spent: Spent) -> str:
    """Return the command that doubles the limit at which a campaign has stopped; empty where none did."""
    criteria = {"plateau": "plateau_window", "max_iters": "max_iters"}
    name = reached(manifest.budget, spent) if found.reason == "budget" else criteria.get(found.reason)
    if name is None or not manifest_path(repo, manifest.campaign_id).exists():
        return ""
    if found.reason == "budget":
        limit = max(getattr(manifest.budget, name), getattr(spent, LIMITS[name]))
    else:
        limit = getattr(manifest.stop_criteria, name)
    flag = f"--{name.replace('_', '-')}"
    return quote([*_command("budget", repo, manifest.campaign_id), flag, str(2 * limit), "--save"])


def limited(manifest: Manifest, request: CampaignScoped) -> Manifest:
    """Return the manifest with the limits of the request over its own. Raises SpecInvalid where they do not fit."""
    if not (given := limits_of(request)):
        return manifest
    parts: dict[str, Any] = {}
    for name, kind in (("stop_criteria", StopCriteria), ("budget", Budget)):
        mine = {field: value for field, value in given.items() if field in kind.__struct_fields__}
        parts[name] = msgspec.structs.replace(getattr(manifest, name), **mine)
    return check_manifest(msgspec.structs.replace(manifest, **parts))


def limits_of(request: CampaignScoped) -> dict[str, Any]:
    """Return the limits that a request gives."""
    names = set(Limits.__struct_fields__) - set(CampaignScoped.__struct_fields__)
    given = {name: getattr(request, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _with_metrics(
    repo: RepoLayout, manifest: Manifest, request: CampaignScoped, history: History
) -> tuple[Manifest, list[str]]:
    """Return the manifest of a campaign whose tasks.py asks with the metric that is named, or the only one of its tables.

    A note says so where one of several has to be named, or where nothing tells which of its values are better.
    """
    if manifest.metrics:
        return manifest, []
    given, criteria = limits_of(request), manifest.stop_criteria
    named = given.get("metric") or criteria.metric
    found = sorted({name for trial in history.trials for name in trial.values})
    if named and found and named not in found:
        raise SpecInvalid(f"no iteration has a metric {named!r}; there are {', '.join(found)}", field="metric")
    name = named or (found[0] if len(found) == 1 else None)
    end = best_end(given.get("direction") or criteria.direction, name)
    if name and end:
        metric = Metric(name=name, direction=LONG_WORDS[end])  # type: ignore[arg-type]
        return msgspec.structs.replace(manifest, metrics=[metric]), []
    if "metric" in given and name:
        raise no_direction(name, "direction", "--direction maximize")
    if not found:
        return manifest, []
    why = f"{name} may be minimized or maximized" if name else f"there are several metrics ({', '.join(found)})"
    verb, save = (
        ("campaign-budget", " --save") if manifest_path(repo, manifest.campaign_id).exists() else ("campaign-init", "")
    )
    command = f"hpc-agent {verb} {manifest.campaign_id} --metric {quote([name or found[0]])} --direction maximize{save}"
    return manifest, [f"the best is not known, for {why}: run '{command}' (or minimize)"]


def _spent_of_runs(repo: RepoLayout, runs: list[RunRecord], tables: list[dict[str, Any]], now: float) -> Spent:
    """Return the use of tagged runs: jobs from the journal, tasks and time from their tables, also of other machines."""
    known = {table["run_id"] for table in tables}
    tasks = sum(row["count"] for table in tables for row in table["rows"]) + sum(table["failed"] for table in tables)
    waiting = [run for run in runs if run.run_id not in known]
    seconds = [(float(table["task_seconds"]), int(table["cpus"])) for table in tables]
    jobs = sum(len(run.job_ids) - _has_canary(repo, run.run_id) for run in runs)
    return Spent(
        tasks=tasks + sum(run.total_tasks for run in waiting),
        jobs=max(0, jobs),
        core_hours=round(sum(took * cpus for took, cpus in seconds) / 3600, 6),
        walltime_sec=round(sum(took for took, _ in seconds), 3),
        elapsed_sec=round(now - runs[0].started_at, 3) if runs else 0.0,
        open_tasks=sum(run.total_tasks for run in waiting),
    )


def _has_canary(repo: RepoLayout, run_id: str) -> bool:
    try:
        return read_run_sidecar(repo, run_id).canary
    except HpcError:
        return False
