"""The checks of a submission as verbs of their own, and ``validate-campaign``: all of them in one call."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from hpc_agent.campaign.journal import CampaignJournal, History
from hpc_agent.campaign.space import key_of
from hpc_agent.contract.primitive import Effect, Request, primitive
from hpc_agent.errors import ClusterTimeout, JournalCorrupt, RemoteCommandFailed, SpecInvalid, SshUnreachable
from hpc_agent.infra.partitions import SiteFacts, ask_site
from hpc_agent.infra.remote import Node
from hpc_agent.ops.run import checks
from hpc_agent.ops.run.checks import DATASET, HISTORY, STOCHASTIC, Finding, ValidationResult, result_of
from hpc_agent.ops.run.evidence import from_rows
from hpc_agent.ops.run.fields import EXAMPLE_EXECUTOR, EXAMPLE_RUN, ClusterName, ExperimentDir, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.known_run import SITE_ERRORS, journal_of, node_of
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.run_request import Name, RunRequest, SiteWord, SubmitRequest
from hpc_agent.ops.validate import dry_run_local
from hpc_agent.state.repo_files import RepoLayout, experiment_root, local_path
from hpc_agent.state.task_samples import load_samples
from hpc_agent.world import World

QOS = "validate-self-qos-limit"
LIMITED = {"running": "run at once", "submitted": "be submitted", "array_size": "be in one array",
           "jobs": "be submitted, where an array is one job"}  # fmt: skip


class ValidateSelfQosLimitRequest(Request):
    """The number of elements to submit."""

    cluster: Annotated[str, doc("name in clusters.yaml; its limits and your jobs are read live")]
    new_array_size: Annotated[int, doc("elements that are to be submitted", gt=0)]
    warn_at_pct: Annotated[float, doc("share of a limit from which on to warn", gt=0, le=1)] = 0.7
    account: Annotated[SiteWord | None, doc("the account of the jobs; else the cluster's, or your default")] = None
    qos: Annotated[SiteWord | None, doc("the QOS of the jobs; else the default of the account")] = None
    partition: Annotated[SiteWord | None, doc("the partition of the jobs, which may have a QOS of its own")] = None
    experiment_dir: ExperimentDir = "."


@primitive(
    stage="validate",
    effects=[Effect.SSH],
    errors=SITE_ERRORS,
    brief="room under limits?",
    example={"cluster": "local", "new_array_size": 100},
    next_verbs=["submit", "plan-throughput"],
)
def validate_self_qos_limit(request: ValidateSelfQosLimitRequest, world: World) -> ValidationResult:
    """Check that the scheduler's own limits leave room for more elements, with all of your jobs counted."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    node = node_of(world, repo, request.cluster)
    return result_of(room_for(ask_site(node, _placement(request)), request.new_array_size, request.warn_at_pct))


def _placement(request: ValidateSelfQosLimitRequest | SubmitRequest) -> dict[str, str | None]:
    return {"account": request.account, "qos": request.qos, "partition": request.partition}


def room_for(facts: SiteFacts, elements: int, warn_at: float, arrays: int = 1) -> list[Finding]:
    """Return findings from the live limits. A limit on submitted jobs is no error: the other arrays go later.

    Nothing is to be done about a limit on running jobs: the rest waits in the queue.
    """
    found = []
    for row in headroom(facts, elements, warn_at, arrays):
        harmless = row["state"] == "ok" or row["kind"] == "running"
        severity: Literal["warning", "info"] = "info" if harmless else "warning"
        fix = "Set max_submitted of the cluster's constraints: the other arrays then go when there is room."
        fix = fix if severity == "warning" else ""
        found.append(Finding(QOS, severity, f"limit_{row['state']}", row["sentence"], fix, row))
    return found or [Finding(QOS, "info", "no_limit", "the scheduler names no limit for you")]


def headroom(facts: SiteFacts, elements: int, warn_at: float = 0.7, arrays: int = 1) -> list[dict[str, Any]]:
    """Compare each limit with the present and the new elements: state ok, warn, over or unknown, and a sentence."""
    queue_is_known = not any(row["code"] in ("squeue_failed", "queue_failed") for row in facts.errors)
    rows = []
    for limit in facts.limits:
        used = limit.used if limit.used is not None else facts.submitted
        used = 0 if limit.kind == "array_size" else used if queue_is_known else None
        asked = arrays if limit.kind == "jobs" else elements
        after = (used or 0) + asked
        state = "over" if after > limit.limit else "warn" if after > limit.limit * warn_at else "ok"
        state = "unknown" if state == "ok" and used is None else state
        there = "how many are there is not known, and " if used is None else f"{used} are there and "
        there = "" if limit.kind == "array_size" else there
        verb = LIMITED.get(limit.kind, limit.kind)
        sentence = f"{limit.name} ({limit.scope}): at most {limit.limit} may {verb}; {there}{asked} would come"
        rows.append({"limit": limit.name, "scope": limit.scope, "kind": limit.kind, "used": used, "asked": asked,
                     "most": limit.limit, "state": state, "sentence": sentence})  # fmt: skip
    return rows


class ValidateExecutorSignaturesRequest(RunRequest):
    """The fields of submit that identify a run."""

    cluster: ClusterName = "local"
    executor: Annotated[str, doc("shell command of a task", min_length=1)] = "python3 .hpc/cli.py"


@primitive(
    stage="validate",
    errors=FREEZE_ERRORS,
    brief="do parameters fit?",
    example={"executor": EXAMPLE_EXECUTOR},
    next_verbs=["submit"],
)
def validate_executor_signatures(request: ValidateExecutorSignaturesRequest, world: World) -> ValidationResult:
    """Compare every task's parameters with the flags or the signature in the source of its executor."""
    with freeze(world, request) as frozen:
        return result_of(checks.check_signatures(frozen))


class ValidateInputDatasetRequest(Request):
    """A table that tasks read."""

    dataset_path: Annotated[str, doc("CSV, JSONL or Parquet; relative to the repo, or on the cluster")]
    loader: Annotated[Literal["csv", "jsonl", "parquet"] | None, doc("by the file's name by default")] = None
    row_indices: Annotated[list[int], doc("rows that must exist, counted from 0")] = []
    required_non_null_cols: Annotated[list[str], doc("columns that must have a value in those rows")] = []
    cluster: Annotated[str | None, doc("also check that the file is on this cluster")] = None
    experiment_dir: ExperimentDir = "."


@primitive(
    stage="validate",
    effects=[Effect.SSH],
    errors=SITE_ERRORS,
    brief="is a data table whole?",
    example={"dataset_path": "data/demand.csv", "required_non_null_cols": ["demand"]},
    next_verbs=["submit"],
)
def validate_input_dataset(request: ValidateInputDatasetRequest, world: World) -> ValidationResult:
    """Check that a table exists, has the rows of the tasks, and has values in the required columns."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    path = local_path(repo.root, request.dataset_path, "dataset_path")
    findings = _on_cluster(request.dataset_path, repo, node_of(world, repo, request.cluster)) if request.cluster else []
    if path.is_file():
        findings += _rows(path, request)
    elif not request.cluster:
        fix, evidence = "Correct --dataset-path.", {"field": "dataset_path"}
        findings.append(Finding(DATASET, "error", "input_missing", f"there is no {path}", fix, evidence))
    return result_of(findings)


def _on_cluster(name: str, repo: RepoLayout, node: Node) -> list[Finding]:
    absolute = name.startswith(("/", "~"))
    path = name if absolute else f"{node.root}/shared/{name}"
    there = node.bootstrap("paths", {"paths": [path]})["paths"][path]
    if there.get("readable"):
        return [Finding(DATASET, "info", "input_on_cluster", f"{path} is on '{node.cluster.name}'", "", there)]
    if not absolute and (repo.root / name).exists():
        return []  # the file is pushed with the run
    message = f"{path} is not readable on '{node.cluster.name}'"
    fix = "Copy it there, or submit with --shared-paths."
    return [Finding(DATASET, "error", "input_missing", message, fix, {**there, "field": "dataset_path"})]


def _rows(path: Path, request: ValidateInputDatasetRequest) -> list[Finding]:
    kind = request.loader or {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}.get(path.suffix.lower(), "csv")
    wanted = set(request.row_indices) or {0}
    try:
        rows = enumerate(itertools.islice(_read(path, kind), max(wanted) + 1))
        found = {number: row for number, row in rows if number in wanted}
    except (OSError, ValueError, csv.Error) as error:
        message = f"{path} cannot be read as {kind}: {error}"
        return [Finding(DATASET, "error", "unreadable", message, "Name its --loader.")]
    findings = []
    if missing := sorted(wanted - set(found)):
        message = f"{path} has no row {missing[0]}" + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
        fix, evidence = "Correct the rows of the tasks.", {"rows": missing[:100]}
        findings.append(Finding(DATASET, "error", "row_missing", message, fix, evidence))
    for column in request.required_non_null_cols:
        if bad := [number for number, row in sorted(found.items()) if row.get(column) in (None, "", "nan", "NaN")]:
            message = f"column {column!r} has no value in row {bad[0]}"
            fix, facts = "Repair the data, or leave the rows out.", {"rows": bad[:100], "column": column}
            findings.append(Finding(DATASET, "error", "value_missing", message, fix, facts))
    return findings or [Finding(DATASET, "info", "input_present", f"{path}: all {len(wanted)} rows are there")]


def _read(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    if kind == "parquet":
        try:
            import pyarrow.parquet as parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            raise ValueError("pyarrow is not installed here ('pip install pyarrow')") from None
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle) if kind == "csv" else (json.loads(line) for line in handle if line.strip())
        yield from rows


class ValidateWalltimeAgainstHistoryRequest(Request):
    """A walltime, and the executors that need it."""

    cluster: ClusterName
    requested_walltime_sec: Annotated[int, doc("walltime of one element", gt=0)]
    executors: Annotated[list[str], doc("as tasks.py names them; default: all with measurements")] = []
    kwargs: Annotated[dict[str, Any], doc("parameters of the task, where they predict its time")] = {}
    gpu_type: Annotated[str | None, doc("kind of GPU")] = None
    experiment_dir: ExperimentDir = "."


@primitive(
    stage="validate",
    errors=[SpecInvalid],
    brief="walltime and the past",
    example={"cluster": "local", "requested_walltime_sec": 3600},
    next_verbs=["submit"],
)
def validate_walltime_against_history(request: ValidateWalltimeAgainstHistoryRequest, world: World) -> ValidationResult:
    """Compare a walltime with the measured time of tasks of these executors on this cluster."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    samples = load_samples(repo, request.cluster)
    names = set(request.executors) or {str(row.get("executor")) for run in samples.runs for row in run.rows}
    evidence = from_rows(samples.rows_of(names, request.gpu_type), [request.kwargs])
    findings = checks.check_history(request.requested_walltime_sec, evidence)
    return result_of(findings or [Finding(HISTORY, "info", "fits", "the walltime fits what was measured")])


class ValidateStochasticMarkerRequest(Request):
    """An iteration of a campaign."""

    campaign_id: Annotated[Name, doc("tag of the series of runs")]
    expected_cmd_sha: Annotated[str, Meta(pattern=r"^[0-9a-f]{8,64}\Z", description="as compute-run-id returns it")]
    experiment_dir: ExperimentDir = "."


@primitive(
    stage="validate",
    errors=[SpecInvalid, JournalCorrupt],
    brief="point asked twice?",
    example={"campaign_id": "horizons", "expected_cmd_sha": "0" * 64},
    next_verbs=["submit"],
)
def validate_stochastic_marker(request: ValidateStochasticMarkerRequest, world: World) -> ValidationResult:
    """Find an earlier iteration of the campaign with the same parameters: an optimiser picked a point twice."""
    repo, journal = journal_of(world, request.experiment_dir)
    runs = journal.all()[0]
    shas = [run.cmd_sha for run in runs if run.cmd_sha.startswith(request.expected_cmd_sha)]
    findings = checks.check_stochastic(request.campaign_id, (shas or [request.expected_cmd_sha])[0], runs, None)
    findings += _repeated_trials(CampaignJournal(world, repo, request.campaign_id).history())
    new = Finding(STOCHASTIC, "info", "new_parameters", "no earlier iteration had these parameters")
    return result_of(findings or [new])


def _repeated_trials(history: History) -> list[Finding]:
    """Find trials of a campaign's journal whose point was asked before; a failed trial that is tried again is none."""
    first: dict[str, int] = {}
    for trial in history.trials:
        before = first.setdefault(key_of(trial.params), trial.number)
        if before != trial.number and not trial.origin.startswith("again:"):
            message = f"trial {trial.number} has the parameters of trial {before}"
            fix = "The strategy has come to its end, or the space is too small for it."
            return [
                Finding(STOCHASTIC, "warning", "parameters_repeated", message, fix, {"trials": [before, trial.number]})
            ]
    return []


class ValidateCampaignRequest(SubmitRequest):
    """The fields of submit, and the checks to run."""

    remote: Annotated[bool, doc("ask the cluster for limits, your jobs and inputs (one or two SSH)")] = False
    smoke: Annotated[bool, doc("run the first, middle and last task here")] = False
    smoke_timeout_sec: Annotated[float, doc("limit for those tasks together", gt=0, le=86400)] = 120.0


class ValidateCampaignResult(ValidationResult):
    run_id: str
    validators_run: list[str]


@primitive(
    stage="validate",
    effects=[Effect.SSH, Effect.FILES],
    errors=FREEZE_ERRORS,
    progress=True,
    brief="findings before a submit",
    example=EXAMPLE_RUN,
    next_verbs=["submit"],
)
def validate_campaign(request: ValidateCampaignRequest, world: World) -> ValidateCampaignResult:
    """Return all findings about a submission before it is made. An error among them is the error of the call.

    Without ``remote`` and ``smoke`` the checks are those of submit. A check that cannot run is a finding.
    """
    with freeze(world, request) as frozen:
        planned = plan_run(frozen, request)
        findings, names = checks.local_findings(world, planned), list(checks.LOCAL_VALIDATORS)
        if request.remote:
            names += [QOS]
            try:
                findings += checks.check_remote_inputs(frozen)
                facts = ask_site(frozen.node, _placement(request))
                findings += room_for(facts, planned.arrays.total_elements, 0.7, len(planned.arrays.arrays))
            except (SshUnreachable, ClusterTimeout, RemoteCommandFailed) as error:
                message = f"the cluster could not be asked: {error.message}"
                findings.append(Finding(QOS, "warning", "not_asked", message, error.remediation))
        if request.smoke:
            findings += dry_run_local.try_tasks(frozen, [], request.smoke_timeout_sec, world)
            names += [dry_run_local.VALIDATOR]
        checks.refuse(findings)
        overall, run_id = checks.verdict(findings), frozen.run_id()
        return ValidateCampaignResult(overall=overall, findings=findings, run_id=run_id, validators_run=names)
