"""The manifest of a campaign, ``.hpc/campaigns/<id>/manifest.json``: what is searched, how, and when it ends."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.vocabulary import Direction
from hpc_agent.errors import JournalCorrupt, SchemaIncompat, SpecInvalid
from hpc_agent.node.shared.metric_names import LONG_WORDS, best_end, sign_of
from hpc_agent.state.repo_files import RepoLayout, check_identifier, save

MANIFEST_VERSION = 1
Count = Annotated[int, Meta(gt=0)]
Amount = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, le=1)]


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Document(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Base of the manifest's parts: an unknown field is an error, because a misspelt limit limits nothing."""


class Parameter(Document, kw_only=True, frozen=True):
    """A dimension of the search space."""

    type: Annotated[Literal["float", "int", "categorical"], _doc("of its values")]
    low: Annotated[float | None, _doc("included")] = None
    high: Annotated[float | None, _doc("included")] = None
    log: Annotated[bool, _doc("equal ratios are equally likely")] = False
    step: Annotated[Amount | None, _doc("values are low, low + step, ...")] = None
    values: Annotated[list[str | int | float | bool | None], _doc("of a categorical parameter")] = []


class Metric(Document, kw_only=True, frozen=True):
    name: Annotated[str, Meta(min_length=1, description="as tasks report it")]
    direction: Annotated[Direction, _doc("what is better; auto: as the name says (loss, accuracy)")] = "auto"

    @property
    def sign(self) -> int:
        """Return the factor that makes its values ones to minimize."""
        return sign_of(self.direction)


class Constraint(Document, kw_only=True, frozen=True):
    """A bound on a metric; a trial outside of it is never the best."""

    metric: Annotated[str, Meta(min_length=1, description="as tasks report it")]
    at_most: Annotated[float | None, _doc("upper bound")] = None
    at_least: Annotated[float | None, _doc("lower bound")] = None


class Budget(Document, kw_only=True, frozen=True):
    """Limits of the whole campaign, checked before each ask. Canaries, and trials of earlier campaigns, cost nothing."""

    max_tasks: Annotated[Count | None, _doc("trials asked")] = None
    max_jobs: Annotated[Count | None, _doc("arrays submitted")] = None
    max_core_hours: Annotated[Amount | None, _doc("cores times hours of ended tasks")] = None
    max_walltime_sec: Annotated[Amount | None, _doc("seconds of ended tasks together")] = None
    max_elapsed_sec: Annotated[Amount | None, _doc("seconds by the clock since the first ask")] = None


class StopCriteria(Document, kw_only=True, frozen=True):
    """The campaign has converged when one of these holds. ``metric`` is the first one of the manifest by default."""

    max_iters: Annotated[Count | None, _doc("iterations that ended")] = None
    metric: Annotated[str | None, _doc("what target and plateau look at; the first metric by default")] = None
    target: Annotated[float | None, _doc("reached by the best trial")] = None
    direction: Annotated[Direction | None, _doc("of a metric that is named here only")] = None
    plateau_window: Annotated[Count | None, _doc("iterations without a better value")] = None
    plateau_tolerance: Annotated[float, Meta(ge=0, description="a smaller improvement is none")] = 0.0
    plateau_mode: Annotated[Literal["all_time_best", "prior_window"], _doc("what the last window is compared with")] = (
        "all_time_best"
    )


class AbortIf(Document, kw_only=True, frozen=True):
    """A condition that ends the campaign as hopeless."""

    metric: Annotated[str | None, _doc("its best value so far is looked at")] = None
    above: Annotated[float | None, _doc("worst value of a metric to be minimized")] = None
    below: Annotated[float | None, _doc("worst value of a metric to be maximized")] = None
    failed_share: Annotated[Share | None, _doc("failed trials of those that ended")] = None
    after_tasks: Annotated[Count, _doc("not before so many trials have ended")] = 1


StrategyName = Literal["quasi_random", "random", "grid", "tpe", "cma_es", "halving", "own"]


class Strategy(Document, kw_only=True, frozen=True):
    """Who chooses the points. ``own``: the tasks.py of the repo, from ``prior`` of the kit."""

    name: Annotated[StrategyName, _doc("see docs/workflows/campaign.md")] = "quasi_random"
    params: Annotated[dict[str, Any], _doc("of the strategy")] = {}


class EarlyStop(Document, kw_only=True, frozen=True):
    """The rule by which a task ends itself: see ``should_stop`` of the kit."""

    metric: Annotated[str, _doc("name of the value that tasks report")]
    direction: Annotated[Direction, _doc("of better values; auto: as metrics or the name say")] = "auto"
    min_step: Annotated[int, Meta(gt=0, description="the first step at which a task may stop")] = 1
    reduction: Annotated[int, Meta(gt=1, description="the best 1/reduction go on, to a step so many times as far")] = 3
    max_step: Annotated[Count | None, _doc("the last step of the work: nobody stops there")] = None


class EarlierLimits(Document, kw_only=True, frozen=True):
    """Limits that ``campaign-budget --save`` replaced."""

    until: Annotated[str, _doc("UTC")]
    budget: Budget
    stop_criteria: StopCriteria


class Source(Document, kw_only=True, frozen=True):
    """An earlier campaign whose trials the strategy knows from the start."""

    campaign_id: str
    experiment_dir: Annotated[str, _doc("its repo")]
    trials: Annotated[int, _doc("taken over")]
    left_out: Annotated[int, _doc("ended trials that do not fit the search space or lack a metric")] = 0
    journal_sha: Annotated[str, _doc("SHA-256 of its journal as it was read")]


class Manifest(Document, kw_only=True, frozen=True):
    """A campaign as ``campaign-init`` wrote it."""

    manifest_schema_version: int = MANIFEST_VERSION
    campaign_id: str
    created_at: Annotated[str, _doc("UTC")] = ""
    goal: str = ""
    space: dict[str, Parameter] = {}
    metrics: list[Metric] = []
    constraints: list[Constraint] = []
    strategy: Strategy = Strategy()
    seed: int = 0
    start: Annotated[list[dict[str, Any]], _doc("points to ask first, such as the best of an earlier campaign")] = []
    mode: Annotated[Literal["batch", "async"], _doc("async: ask while trials run")] = "batch"
    batch: Annotated[Count, _doc("trials an iteration")] = 10
    width: Annotated[Count, _doc("async: trials that run at once")] = 16
    ahead: Annotated[int, Meta(ge=0, description="async: trials that wait in the queue")] = 8
    failed_trials: Annotated[
        Literal["drop", "again", "worst"],
        _doc("a failed trial is left out, asked once more, or counts as the worst value so far"),
    ] = "drop"
    budget: Budget = Budget()
    stop_criteria: StopCriteria = StopCriteria()
    earlier_limits: Annotated[list[EarlierLimits], _doc("oldest first")] = []
    abort_if: list[AbortIf] = []
    early_stop: EarlyStop | None = None
    seed_from: list[Source] = []
    submit: Annotated[dict[str, Any], _doc("fields of the submit requests: cluster, executor, resources, ...")] = {}

    def metric(self, name: str | None = None) -> Metric | None:
        """Return the metric of this name; by default the one that criteria and answers look at: theirs, else the first.

        None where it is not known: the tables of a campaign whose tasks.py asks may have several, or none yet.
        """
        wanted = name or self.stop_criteria.metric
        return next((one for one in self.metrics if wanted in (None, one.name)), None)

    @property
    def is_own(self) -> bool:
        """Return True when tasks.py asks, and the user submits."""
        return self.strategy.name == "own"

    @property
    def resource(self) -> str | None:
        """Return the parameter that a higher rung of successive halving has more of; None for other strategies."""
        return str(self.strategy.params["resource"]) if self.strategy.name == "halving" else None


def campaign_folder(repo: RepoLayout, campaign_id: str) -> Path:
    return repo.hpc / "campaigns" / check_identifier(campaign_id, "campaign_id")


def manifest_path(repo: RepoLayout, campaign_id: str) -> Path:
    return campaign_folder(repo, campaign_id) / "manifest.json"


def write_manifest(repo: RepoLayout, manifest: Manifest) -> Path:
    path = manifest_path(repo, manifest.campaign_id)
    save(path, manifest)
    return path


def read_manifest(repo: RepoLayout, campaign_id: str) -> Manifest:
    """Return the manifest. Raises SpecInvalid (there is none), JournalCorrupt (unreadable), SchemaIncompat (newer)."""
    path = manifest_path(repo, campaign_id)
    try:
        document = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise SpecInvalid(
            f"campaign '{campaign_id}' has no manifest in {repo.root}",
            field="campaign_id",
            remediation="Run 'hpc-agent campaign-list' to see the campaigns of this repo, or 'hpc-agent campaign-init "
            "--help' to begin one.",
        ) from None
    except msgspec.DecodeError as error:
        raise _unreadable(path, error) from error
    version = document.get("manifest_schema_version", MANIFEST_VERSION) if isinstance(document, dict) else None
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise SchemaIncompat(f"{path} has version {version}; this hpc-agent reads {MANIFEST_VERSION}")
    try:
        return check_manifest(msgspec.convert(document, Manifest))
    except (msgspec.ValidationError, SpecInvalid) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> JournalCorrupt:
    return JournalCorrupt(
        f"the manifest {path} cannot be used: {error}",
        remediation=f"Correct {path}, then run the same 'hpc-agent' command again.",
        details={"path": str(path)},
    )


def check_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest, with every direction told, when its parts agree. Raises SpecInvalid, which names the field."""
    manifest = _with_directions(manifest)
    if bool(manifest.space) == manifest.is_own:
        message = (
            "the strategy 'own' has no space: tasks.py chooses" if manifest.space else "the space has no parameter"
        )
        raise SpecInvalid(message, field="space")
    if not manifest.metrics and not manifest.is_own:
        raise SpecInvalid("no metric is named", field="metrics")
    for name, parameter in manifest.space.items():
        _check_parameter(name, parameter)
    names = [metric.name for metric in manifest.metrics]
    if len(set(names)) < len(names):
        raise SpecInvalid("a metric is named twice", field="metrics")
    for number, constraint in enumerate(manifest.constraints):
        if constraint.at_most is None and constraint.at_least is None:
            raise SpecInvalid(f"the constraint on {constraint.metric!r} has no bound", field=f"constraints[{number}]")
    _check_criteria(manifest, names)
    for number, abort in enumerate(manifest.abort_if):
        if abort.failed_share is None and (abort.metric is None or (abort.above is None) == (abort.below is None)):
            message = "an abort condition needs failed_share, or a metric with either above or below"
            raise SpecInvalid(message, field=f"abort_if[{number}]")
        if abort.metric is not None and abort.metric not in names:
            raise SpecInvalid(f"{abort.metric!r} is not among the metrics", field=f"abort_if[{number}].metric")
    return manifest


def _with_directions(manifest: Manifest) -> Manifest:
    """Return the manifest with minimize or maximize for each metric: as given, as the criteria say, or as its name says."""
    criteria, rule = manifest.stop_criteria, manifest.early_stop
    known: dict[str, Direction] = {}
    for number, metric in enumerate(manifest.metrics):
        given = best_end(metric.direction) or (criteria.metric in (None, metric.name) and best_end(criteria.direction))
        if not (told := given or best_end(None, metric.name)):
            example = json.dumps([{"name": one.name, "direction": "maximize"} for one in manifest.metrics])
            raise no_direction(metric.name, f"metrics[{number}].direction", f"--metrics '{example}'")
        known[metric.name] = LONG_WORDS[told]  # type: ignore[assignment]
    if rule:
        told = best_end(rule.direction) or best_end(known.get(rule.metric), rule.metric)
        if not told:
            example = json.dumps({"metric": rule.metric, "direction": "maximize"})
            raise no_direction(rule.metric, "early_stop.direction", f"--early-stop '{example}'")
        rule = msgspec.structs.replace(rule, direction=LONG_WORDS[told])
    if criteria.direction:
        end = best_end(criteria.direction)
        criteria = msgspec.structs.replace(criteria, direction=LONG_WORDS[end] if end else None)
    metrics = [msgspec.structs.replace(one, direction=known[one.name]) for one in manifest.metrics]
    return msgspec.structs.replace(manifest, metrics=metrics, early_stop=rule, stop_criteria=criteria)


def no_direction(name: str, field: str, flag: str) -> SpecInvalid:
    """Return the refusal of a metric whose direction nobody told; ``flag`` tells that its values are maximized."""
    message = f"the name {name!r} does not say if its lowest or its highest value is the best"
    return SpecInvalid(message, field=field, remediation=f"Give {flag}, or minimize in the place of maximize.")


def _check_criteria(manifest: Manifest, names: list[str]) -> None:
    criteria = manifest.stop_criteria
    for metric in manifest.metrics:
        if criteria.metric in (None, metric.name) and criteria.direction not in (None, metric.direction):
            message = (
                f"the direction of {metric.name!r} is {metric.direction}, and the criteria say {criteria.direction}"
            )
            raise SpecInvalid(message, field="stop_criteria.direction")
    if names and criteria.metric is not None and criteria.metric not in names:
        raise SpecInvalid(
            f"{criteria.metric!r} is not among the metrics {', '.join(names)}", field="stop_criteria.metric"
        )
    if len(names) > 1 and criteria.metric is None and (criteria.target is not None or criteria.plateau_window):
        raise SpecInvalid(
            "with several metrics the target or plateau has to name one of them", field="stop_criteria.metric"
        )


def _check_parameter(name: str, parameter: Parameter) -> None:
    def refuse(message: str) -> None:
        raise SpecInvalid(f"parameter {name!r} {message}", field=f"space.{name}")

    if not name.isidentifier():
        refuse("is not an identifier")
    if parameter.type == "categorical":
        if len({(type(value), value) for value in parameter.values}) < max(1, len(parameter.values)):
            refuse("needs values, and each of them once")
        if parameter.low is not None or parameter.high is not None or parameter.log or parameter.step:
            refuse("is categorical: it has values, and no low, high, log or step")
        return None
    low, high = parameter.low, parameter.high
    if parameter.values or low is None or high is None:
        return refuse("needs low and high, and no values")
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        refuse(f"needs finite bounds with low < high, not {low} and {high}")
    if parameter.log and low <= 0:
        refuse("has a logarithmic scale, which needs low > 0")
    if parameter.log and parameter.step:
        refuse("has both log and step")
    if parameter.type == "int" and any(value is not None and value % 1 for value in (low, high, parameter.step)):
        refuse("is an int: low, high and step have to be whole")
    return None
