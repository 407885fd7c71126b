"""The manifest of a campaign, ``.hpc/campaigns/<id>/manifest.json``: what is searched, how, and when it ends."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.contract.vocabulary import Direction, Positive, PositiveFloat, doc
from hpc_agent.errors import JournalCorrupt, SchemaIncompat, SpecInvalid
from hpc_agent.node.shared.metric_names import LONG_WORDS, best_end, sign_of
from hpc_agent.state.repo_files import RepoLayout, check_identifier, save

MANIFEST_VERSION = 1
LONGEST_NAME = 50  # before the number of a further campaign
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Document(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Base of the manifest's parts: an unknown field is an error, because a misspelt limit limits nothing."""


class Parameter(Document, kw_only=True, frozen=True):
    """A dimension of the search space."""

    type: Annotated[Literal["float", "int", "categorical"], doc("of its values")]
    low: Annotated[float | None, doc("included")] = None
    high: Annotated[float | None, doc("included")] = None
    log: Annotated[bool, doc("equal ratios are equally likely")] = False
    step: Annotated[PositiveFloat | None, doc("values are low, low + step, ...")] = None
    values: Annotated[list[str | int | float | bool | None], doc("of a categorical parameter")] = []

    @property
    def bounds(self) -> tuple[float, float]:
        """Return low and high of a parameter that is not categorical."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


class Metric(Document, kw_only=True, frozen=True):
    name: Annotated[str, doc("as tasks report it", min_length=1)]
    direction: Annotated[Direction, doc("what is better; auto: as the name says (loss, accuracy)")] = "auto"

    @property
    def sign(self) -> int:
        """Return the factor that makes its values ones to minimize."""
        return sign_of(self.direction)


class Constraint(Document, kw_only=True, frozen=True):
    """A bound on a metric; a trial outside of it is never the best."""

    metric: Annotated[str, doc("as tasks report it", min_length=1)]
    at_most: Annotated[float | None, doc("upper bound")] = None
    at_least: Annotated[float | None, doc("lower bound")] = None


class Budget(Document, kw_only=True, frozen=True):
    """Limits of the whole campaign, checked before each ask. Canaries, and trials of earlier campaigns, cost nothing."""

    max_tasks: Annotated[Positive | None, doc("trials asked")] = None
    max_jobs: Annotated[Positive | None, doc("arrays submitted")] = None
    max_core_hours: Annotated[PositiveFloat | None, doc("cores times hours of ended tasks")] = None
    max_walltime_sec: Annotated[PositiveFloat | None, doc("seconds of ended tasks together")] = None
    max_elapsed_sec: Annotated[PositiveFloat | None, doc("seconds by the clock since the first ask")] = None


class StopCriteria(Document, kw_only=True, frozen=True):
    """The campaign has converged when one of these holds. ``metric`` is the first one of the manifest by default."""

    max_iters: Annotated[Positive | None, doc("iterations that ended")] = None
    metric: Annotated[str | None, doc("what target and plateau look at; the first metric by default")] = None
    target: Annotated[float | None, doc("reached by the best trial")] = None
    direction: Annotated[Direction | None, doc("of a metric that is named here only")] = None
    plateau_window: Annotated[Positive | None, doc("iterations without a better value")] = None
    plateau_tolerance: Annotated[float, doc("a smaller improvement is none", ge=0)] = 0.0
    plateau_mode: Annotated[Literal["all_time_best", "prior_window"], doc("what the last window is compared with")] = (
        "all_time_best"
    )


class AbortIf(Document, kw_only=True, frozen=True):
    """A condition that ends the campaign as hopeless."""

    metric: Annotated[str | None, doc("its best value so far is looked at")] = None
    above: Annotated[float | None, doc("worst value of a metric to be minimized")] = None
    below: Annotated[float | None, doc("worst value of a metric to be maximized")] = None
    failed_share: Annotated[Share | None, doc("failed trials of those that ended")] = None
    after_tasks: Annotated[int, doc("not before so many trials have ended", gt=0)] = 1


StrategyName = Literal["quasi_random", "random", "grid", "tpe", "cma_es", "halving", "own"]


class Strategy(Document, kw_only=True, frozen=True):
    """Who chooses the points. ``own``: the tasks.py of the repo, from ``prior`` of the kit."""

    name: Annotated[StrategyName, doc("see docs/workflows/campaign.md")] = "quasi_random"
    params: Annotated[dict[str, Any], doc("of the strategy")] = {}


class EarlyStop(Document, kw_only=True, frozen=True):
    """The rule by which a task ends itself: see ``should_stop`` of the kit."""

    metric: Annotated[str, doc("name of the value that tasks report")]
    direction: Annotated[Direction, doc("of better values; auto: as metrics or the name say")] = "auto"
    min_step: Annotated[int, doc("the first step at which a task may stop", gt=0)] = 1
    reduction: Annotated[int, doc("the best 1/reduction go on, to a step so many times as far", gt=1)] = 3
    max_step: Annotated[Positive | None, doc("the last step of the work: nobody stops there")] = None


class EarlierLimits(Document, kw_only=True, frozen=True):
    """Limits that ``campaign-budget --save`` replaced."""

    until: Annotated[str, doc("UTC")]
    budget: Budget
    stop_criteria: StopCriteria


class Source(Document, kw_only=True, frozen=True):
    """An earlier campaign whose trials the strategy knows from the start."""

    campaign_id: str
    experiment_dir: Annotated[str, doc("its repo")]
    trials: Annotated[int, doc("taken over")]
    left_out: Annotated[
        int, doc("ended trials that do not fit the search space, lack a metric, or were taken over already")
    ] = 0
    journal_sha: Annotated[str, doc("SHA-256 of its journal as it was read")]


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``campaign-init`` is given and the manifest keeps as it stands."""

    campaign_id: str
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
    seed: Annotated[int, doc("the same seed and results give the same trials")] = 0
    start: Annotated[list[dict[str, Any]], doc("points to ask first")] = []
    mode: Annotated[Literal["batch", "async"], doc("async: ask while trials run")] = "batch"
    batch: Annotated[int, doc("trials of an iteration", gt=0)] = 10
    width: Annotated[int, doc("async: trials that run at once", gt=0)] = 16
    ahead: Annotated[int, doc("async: trials that wait in the queue", ge=0)] = 8
    failed_trials: Annotated[
        Literal["drop", "again", "worst"], doc("leave out, ask once more, or count as the worst value so far")
    ] = "drop"
    budget: Budget = msgspec.field(default_factory=Budget)
    stop_criteria: StopCriteria = msgspec.field(default_factory=StopCriteria)
    abort_if: Annotated[list[AbortIf], doc('[{"failed_share": 0.5, "after_tasks": 20}]')] = []
    early_stop: Annotated[EarlyStop | None, doc('{"metric": "loss", "reduction": 3}: tasks end themselves')] = None
    submit: Annotated[
        dict[str, Any], doc('fields of submit: {"cluster": "local", "executor": "python3 train.py"}')
    ] = {}


class Manifest(Settings, kw_only=True):
    """A campaign as ``campaign-init`` wrote it."""

    manifest_schema_version: int = MANIFEST_VERSION
    created_at: Annotated[str, doc("UTC")] = ""
    strategy: Strategy = Strategy()
    earlier_limits: Annotated[list[EarlierLimits], doc("oldest first")] = []
    seed_from: list[Source] = []

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


def next_free_name(repo: RepoLayout, campaign_id: str) -> str:
    """Return the name of a further campaign after this one: ``NAME-2``, ``NAME-3``, ..., the first that has no folder."""
    names = (f"{campaign_id[:LONGEST_NAME]}-{number}" for number in itertools.count(2))
    return next(name for name in names if not campaign_folder(repo, name).exists())


def manifest_path(repo: RepoLayout, campaign_id: str) -> Path:
    return campaign_folder(repo, campaign_id) / "manifest.json"


def write_manifest(repo: RepoLayout, manifest: Manifest) -> Path:
    path = manifest_path(repo, manifest.campaign_id)
    save(path, manifest)
    return path


class _Version(msgspec.Struct):
    manifest_schema_version: int = MANIFEST_VERSION


def read_manifest(repo: RepoLayout, campaign_id: str) -> Manifest:
    """Return the manifest. Raises SpecInvalid (there is none), JournalCorrupt (unreadable), SchemaIncompat (newer)."""
    path = manifest_path(repo, campaign_id)
    try:
        document = path.read_bytes()
        version = msgspec.json.decode(document, type=_Version).manifest_schema_version
        if version > MANIFEST_VERSION:
            raise SchemaIncompat(f"{path} has version {version}; this hpc-agent reads {MANIFEST_VERSION}")
        manifest = msgspec.json.decode(document, type=Manifest)
        if manifest.campaign_id != campaign_id:
            message = (
                f"its campaign_id is {manifest.campaign_id!r}; a copied folder is no campaign, --seed-from begins one"
            )
            raise SpecInvalid(message)
        return check_manifest(manifest)
    except FileNotFoundError:
        message = f"campaign '{campaign_id}' has no manifest in {repo.root}"
        others = [path.parent.name for path in campaign_folder(repo, campaign_id).parent.glob("*/manifest.json")]
        remedy = did_you_mean(campaign_id, others) + (
            "Run 'hpc-agent campaign-list' to see those of this repo, or 'hpc-agent campaign-init --help' to begin one."
        )
        raise SpecInvalid(message, field="campaign_id", remediation=remedy) from None
    except (msgspec.DecodeError, SpecInvalid, RecursionError, IsADirectoryError) as error:
        message = f"the manifest {path} cannot be used: {error}"
        remedy = f"Correct {path}, then run the same 'hpc-agent' command again."
        raise JournalCorrupt(message, remediation=remedy, details={"path": str(path)}) from error


def check_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest, with every direction told, when its parts agree. Raises SpecInvalid, which names the field."""
    manifest = _with_directions(manifest)
    for field, message in _problems(manifest):
        raise SpecInvalid(message, field=field)
    return manifest


def _problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield each field that is wrong, and why."""
    if manifest.space and manifest.is_own:
        yield "space", "the strategy 'own' has no space: tasks.py chooses"
    if not manifest.is_own and not manifest.space:
        yield "space", "the space has no parameter"
    if not manifest.is_own and not manifest.metrics:
        yield "metrics", "no metric is named"
    for name, parameter in manifest.space.items():
        for message in _parameter_problems(name, parameter):
            yield f"space.{name}", f"parameter {name!r} {message}"
    names = [metric.name for metric in manifest.metrics]
    if len(set(names)) < len(names):
        yield "metrics", "a metric is named twice"
    for number, constraint in enumerate(manifest.constraints):
        if constraint.at_most is None and constraint.at_least is None:
            yield f"constraints[{number}]", f"the constraint on {constraint.metric!r} has no bound"
    yield from _criteria_problems(manifest, names)
    yield from _not_finite(msgspec.to_builtins(manifest), "")


def _not_finite(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yield what JSON has no number for: the manifest could not be read again."""
    if isinstance(value, float) and not math.isfinite(value):
        yield field, f"{value} is not a finite number; a limit that is left out limits nothing"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _not_finite(part, f"{field}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _not_finite(part, f"{field}[{number}]")


def _criteria_problems(manifest: Manifest, names: list[str]) -> Iterator[tuple[str, str]]:
    criteria, told = manifest.stop_criteria, manifest.metric()
    for metric in manifest.metrics:
        if criteria.metric in (None, metric.name) and criteria.direction not in (None, metric.direction):
            message = (
                f"the direction of {metric.name!r} is {metric.direction}, and the criteria say {criteria.direction}"
            )
            yield "stop_criteria.direction", message
    if names and told is None:
        yield "stop_criteria.metric", f"{criteria.metric!r} is not among the metrics {', '.join(names)}"
    if len(names) > 1 and criteria.metric is None and (criteria.target is not None or criteria.plateau_window):
        yield "stop_criteria.metric", "with several metrics the target or plateau has to name one of them"
    for number, abort in enumerate(manifest.abort_if):
        if abort.failed_share is None and (abort.metric is None or (abort.above is None) == (abort.below is None)):
            yield f"abort_if[{number}]", "an abort condition needs failed_share, or a metric with either above or below"
        if abort.metric is not None and abort.metric not in names:
            yield f"abort_if[{number}].metric", f"{abort.metric!r} is not among the metrics"


def _parameter_problems(name: str, parameter: Parameter) -> Iterator[str]:
    low, high = parameter.low, parameter.high
    if not name.isidentifier():
        yield "is not an identifier"
    if parameter.type == "categorical":
        if len({(type(value), value) for value in parameter.values}) < max(1, len(parameter.values)):
            yield "needs values, and each of them once"
        if low is not None or high is not None or parameter.log or parameter.step:
            yield "is categorical: it has values, and no low, high, log or step"
    elif parameter.values or low is None or high is None:
        yield "needs low and high, and no values"
    else:
        if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
            yield f"needs finite bounds with low < high, not {low:g} and {high:g}"
        if parameter.log and low <= 0:
            yield "has a logarithmic scale, which needs low > 0"
        if parameter.log and parameter.step:
            yield "has both log and step"
        if parameter.type == "int" and any(value is not None and value % 1 for value in (low, high, parameter.step)):
            yield "is an int: low, high and step have to be whole"


def _with_directions(manifest: Manifest) -> Manifest:
    """Return the manifest with minimize or maximize for each metric: as given, as the criteria say, or as its name says."""
    criteria, rule = manifest.stop_criteria, manifest.early_stop
    known: dict[str, Direction] = {}
    for number, metric in enumerate(manifest.metrics):
        of_criteria = criteria.direction if criteria.metric in (None, metric.name) else None
        if not (told := told_direction(metric.name, metric.direction, of_criteria)):
            example = json.dumps([{"name": one.name, "direction": "maximize"} for one in manifest.metrics])
            raise no_direction(metric.name, f"metrics[{number}].direction", f"--metrics '{example}'")
        known[metric.name] = told
    return msgspec.structs.replace(
        manifest,
        metrics=[msgspec.structs.replace(one, direction=known[one.name]) for one in manifest.metrics],
        early_stop=rule_with_direction(rule, known.get(rule.metric)) if rule else None,
        stop_criteria=msgspec.structs.replace(criteria, direction=told_direction(None, criteria.direction)),
    )


def told_direction(name: str | None, *given: str | None) -> Direction | None:
    """Return minimize or maximize: as the first one given that tells, else as the name of the metric says."""
    end = next(filter(None, map(best_end, given)), None) or best_end(None, name)
    return LONG_WORDS[end] if end else None  # type: ignore[return-value]


def rule_with_direction(rule: EarlyStop, of_metric: str | None = None) -> EarlyStop:
    """Return the rule with minimize or maximize: as given, as ``of_metric``, or as the name says. Raises SpecInvalid."""
    if not (told := told_direction(rule.metric, rule.direction, of_metric)):
        example = json.dumps({"metric": rule.metric, "direction": "maximize"})
        raise no_direction(rule.metric, "early_stop.direction", f"--early-stop '{example}'")
    return msgspec.structs.replace(rule, direction=told)


def no_direction(name: str, field: str, flag: str) -> SpecInvalid:
    """Return the refusal of a metric whose direction nobody told; ``flag`` tells that its values are maximized."""
    message = f"the name {name!r} does not say if its lowest or its highest value is the best"
    return SpecInvalid(message, field=field, remediation=f"Give {flag}, or minimize in the place of maximize.")
