"""Find a campaign: with a journal of its own, or the runs that ``submit --campaign-id`` tagged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.campaign.journal import CampaignJournal, History, counts_of, feasible
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
    told_direction,
)  # fmt: skip
from hpc_agent.campaign.stopping import LIMITS, Decision, Spent, best_value, headline, reached, spent_of
from hpc_agent.campaign.strategies import not_tried_again
from hpc_agent.campaign.tagged import history_of, read_prior
from hpc_agent.contract.primitive import Request
from hpc_agent.contract.vocabulary import Direction
from hpc_agent.errors import HpcError, JournalCorrupt, SchemaIncompat, SpecInvalid
from hpc_agent.infra.transport import quote
from hpc_agent.ops.run.fields import ExperimentDir, Positive, PositiveFloat, doc
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.ops.run.run_request import Name
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.task_samples import load_samples
from hpc_agent.world import World

CAMPAIGN_ERRORS = (SpecInvalid, JournalCorrupt, SchemaIncompat)
NotNegative = Annotated[float, Meta(ge=0)]
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
    plateau_tolerance: Annotated[NotNegative | None, doc(f"a smaller improvement is none; {UNSET}")] = None
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
    records: list[RunRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    submit: str = ""  # command that submits the next iteration where tasks.py asks

    @property
    def driver(self) -> str:
        """Return the command that does the next steps: where nothing but failures ended, it asks those again."""
        again = ["--retry-failed"] if self.history.stopped and self.useless() and not_tried_again(self.history) else []
        return campaign_command(self.repo, self.manifest.campaign_id, "driver", *again)

    @property
    def metric(self) -> str | None:
        """Return the name of the metric that criteria and answers look at; None where it is not known."""
        found = self.manifest.metric()
        return found.name if found else None

    @property
    def best_value(self) -> float | None:
        return best_value(self.manifest, self.history.ranked(self.manifest))

    def standing(self, found: Decision) -> dict[str, Any]:
        """Return what every answer tells of a decision."""
        return {
            "campaign_id": self.manifest.campaign_id,
            "decision": found.decision,
            "reason": found.reason,
            "detail": "; ".join(filter(None, [headline(found, self.history), self.useless() if found.stops else ""])),
            "raise_command": self._raise_command(found.reason),
        }

    def trials(self) -> dict[str, Any]:
        """Return what answers tell of the trials."""
        best = self.history.best(self.manifest)
        own, earlier = self.history.own, self.history.earlier
        return {"trials": counts_of(own), "earlier_trials": len(earlier), "best": best.short() if best else None}

    def useless(self) -> str:
        """Return why no trial that has ended is usable, with numbers; empty while one is, or none has ended."""
        ended = [trial for trial in self.history.own if not trial.is_open]
        failed = Counter(trial.why or "the cause was not recorded" for trial in ended if trial.state == "failed")
        outside = sum(trial.state == "complete" and not feasible(self.manifest, trial) for trial in ended)
        if failed.total() + outside < max(1, len(ended)):
            return ""
        told = []
        if failed:
            told.append(f"{failed.total()} of {len(ended)} trials failed, most of all: {failed.most_common(1)[0][0]}")
        if outside:
            told.append(f"{outside} of {len(ended)} trials are outside of the constraints")
        return "; ".join(told)

    def way_on(self, reason: str) -> str:
        """Return how a stopped campaign without a usable trial goes on; empty where no failed one is left to ask again."""
        if not self.useless() or self.manifest.is_own or not not_tried_again(self.history):
            return ""
        again = campaign_command(self.repo, self.manifest.campaign_id, "driver", "--retry-failed")
        return f"correct the cause, then run: {' && '.join(filter(None, [self._raise_command(reason), again]))}"

    def _raise_command(self, reason: str) -> str:
        """Return the command that doubles the limit at which the campaign has stopped; empty where none did."""
        budget, criteria = self.manifest.budget, self.manifest.stop_criteria
        used = reached(budget, self.spent)
        name = {"budget": used, "plateau": "plateau_window", "max_iters": "max_iters"}.get(reason)
        if reason == "abort" and self.useless():  # what failed can be asked again within the budget only
            name = used
        if name is None or not manifest_path(self.repo, self.manifest.campaign_id).exists():
            return ""
        limits = budget if name in LIMITS else criteria
        limit = max(getattr(limits, name), getattr(self.spent, LIMITS.get(name, ""), 0))
        flag = f"--{name.replace('_', '-')}"
        return campaign_command(self.repo, self.manifest.campaign_id, "budget", flag, str(2 * limit), "--save")


def campaign_command(repo: RepoLayout, campaign_id: str, verb: str = "driver", *more: str) -> str:
    """Return a command about a campaign that works in any folder; by default the one that does the next steps."""
    scope = ["--experiment-dir", str(repo.root), "--campaign-id", campaign_id]
    return quote(["hpc-agent", f"campaign-{verb}", *scope, *more])


def known_campaign(world: World, request: CampaignScoped, runs: list[RunRecord] | None = None) -> KnownCampaign:
    """Return a campaign with the limits of the request. Raises SpecInvalid (unknown), JournalCorrupt, SchemaIncompat.

    ``runs`` are those of the repo, where the caller has read them.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    campaign_id = request.campaign_id
    runs, notes = (journal.all()) if runs is None else (runs, [])
    mine = sorted((run for run in runs if run.campaign_id == campaign_id), key=lambda run: run.started_at)
    tables = read_prior(repo, campaign_id)
    own = (mine or tables) and not CampaignJournal(world, repo, campaign_id).path.exists()
    if manifest_path(repo, campaign_id).exists() or not own:
        manifest = read_manifest(repo, campaign_id)
    else:
        manifest = Manifest(campaign_id=campaign_id, strategy=Strategy(name="own"))
    if manifest.is_own:
        history, told = history_of(mine, tables)
        spent = _spent_of_runs(repo, mine, tables, history, world.now())
        manifest, missing = _with_metrics(repo, manifest, request, history)
        notes = [*told, *missing, *notes]
    else:
        history = CampaignJournal(world, repo, campaign_id).history()
        spent = spent_of(history, world.now())
    again = journal.submit_command(mine[-1].run_id) if mine else None
    submit = again or f"hpc-agent resolve-submit-inputs --campaign-id {campaign_id}"
    return KnownCampaign(repo, limited(manifest, request), history, spent, mine, notes, submit)


def limited(manifest: Manifest, request: CampaignScoped) -> Manifest:
    """Return the manifest with the limits of the request over its own. Raises SpecInvalid where they do not fit."""
    given, parts = limits_of(request), {"stop_criteria": manifest.stop_criteria, "budget": manifest.budget}
    for name, mine in parts.items():
        parts[name] = msgspec.structs.replace(mine, **{key: given[key] for key in given if hasattr(mine, key)})
    return check_manifest(msgspec.structs.replace(manifest, **parts)) if given else manifest


def limits_of(request: CampaignScoped) -> dict[str, Any]:
    """Return the limits that a request gives."""
    names = (*StopCriteria.__struct_fields__, *Budget.__struct_fields__)
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
    if name and (told := told_direction(name, given.get("direction") or criteria.direction)):
        return msgspec.structs.replace(manifest, metrics=[Metric(name=name, direction=told)]), []
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


def _spent_of_runs(
    repo: RepoLayout, runs: list[RunRecord], tables: list[dict[str, Any]], history: History, now: float
) -> Spent:
    """Return the use of tagged runs: jobs from the journal, time from their tables, also of other machines, else as measured."""
    ended = sum(table["failed"] + sum(row["count"] for row in table["rows"]) for table in tables)
    known, is_open = {table["run_id"] for table in tables}, history.open_runs
    waiting = sum(run.total_tasks for run in runs if run.run_id in is_open)
    bare = [run for run in runs if run.run_id not in known | is_open.keys()]
    measured = [_measured(repo, run) for run in bare]
    used = [(sum(seconds), cpus) for seconds, cpus in measured]
    used += [(table["task_seconds"], table["cpus"]) for table in tables]
    not_measured = sum(run.total_tasks for run in bare) - sum(len(seconds) for seconds, _ in measured)
    return Spent(
        tasks=ended + waiting + sum(run.total_tasks for run in bare),
        jobs=max(0, sum(len(run.job_ids) - _has_canary(repo, run.run_id) for run in runs)),
        core_hours=round(sum(seconds * cpus for seconds, cpus in used) / 3600, 6),
        walltime_sec=round(sum(seconds for seconds, _ in used), 3),
        elapsed_sec=round(now - runs[0].started_at, 3) if runs else 0.0,
        open_tasks=waiting + not_measured,
    )


def _measured(repo: RepoLayout, run: RunRecord) -> tuple[list[float], int]:
    """Return the seconds of the tasks of a run that status has measured (at most 300), and the cpus of a task."""
    one = load_samples(repo, run.cluster).of_run(run.run_id)
    if one is None:
        return [], 1
    found = [row.get("seconds", row.get("seconds_at_least")) for row in one.rows]
    return [seconds for seconds in found if seconds is not None], int(one.asked.get("cpus") or 1)


def _has_canary(repo: RepoLayout, run_id: str) -> bool:
    try:
        return read_run_sidecar(repo, run_id).canary
    except HpcError:
        return False
