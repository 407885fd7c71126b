"""``build-tasks-py`` and ``interview``: write the tasks of named executors, and the intent of a campaign with its tasks."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import ExecutorNotFound, PreconditionFailed, SpecInvalid
from hpc_agent.experiment.grid.axis_values import Axes
from hpc_agent.experiment.grid.generators import TaskGenerator, TaskSource, make_source
from hpc_agent.experiment.reading.executors import CHOOSER, FILE_NAMES, FOLDER_NAMES, Executor, named_executors
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, RunFacts
from hpc_agent.experiment.reading.parameters import (
    Problem,
    check_kwargs,
    flag_rows,
    metrics_file_of,
)
from hpc_agent.experiment.reading.returns import RIGHT
from hpc_agent.experiment.series.chunked_tasks import ChunkedAxis, split_series, with_recorded
from hpc_agent.experiment.writing.claude_settings import SETTINGS, merged_settings
from hpc_agent.experiment.writing.entry_points import EntryPoint, executor_of
from hpc_agent.experiment.writing.generated_file import compare_generated, write_generated
from hpc_agent.experiment.writing.tasks_file import command_of, plan_files, refuse_edited, write_files
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared import task_environment
from hpc_agent.node.shared.files import read_json
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.author.cluster_choice import INTERVIEW, python_of_tasks
from hpc_agent.ops.author.parameter_ways import with_ways
from hpc_agent.ops.run.fields import ClusterName, ExperimentDir, Positive, doc
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.state.run_sha import compute_cmd_sha
from hpc_agent.state.runs import find_existing_runs
from hpc_agent.world import World

CHECKED_TASKS = 20_000
BUILD_EXECUTOR = "hpc-agent build-executor --name train"


# Example values of an axis.
EXAMPLES: dict[str, list[Any]] = {"int": [1, 2], "float": [0.1, 1.0], "bool": [True, False], "json": [[1], [2]]}


def build_tasks_command(found: Sequence[Executor | ExecutorFacts | RunFacts]) -> str:
    """Return the command that writes tasks for the first executor, or the one that writes an executor for none.

    The axes are examples: the parameters that the executor requires, else the first one, with values of their types.
    """
    if not found:
        return BUILD_EXECUTOR
    flags = [f for f in found[0].flags if f.name not in (*FILE_NAMES, *FOLDER_NAMES) and not f.hidden]
    axes = {}
    for flag in [f for f in flags if f.required] or flags[:1]:
        known = flag.choices[:2] if flag.choices else None if flag.default is None else [flag.default]
        axes[flag.name] = known or EXAMPLES.get(flag.type, ["a", "b"])
    name = found[0].name
    if [one.name for one in found].count(name) > 1:
        path = found[0].key if isinstance(found[0], Executor) else found[0].path
        name = f"{path}:{name}" if isinstance(found[0], RunFacts) else path
    words = ["hpc-agent", "build-tasks-py", "--executors", name]
    return quote([*words, *(["--axes", json.dumps(axes, ensure_ascii=False)] if axes else [])])


Interpreter = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_./+-]+\Z")]


class TaskRequest(Request):
    """The executors to run, and their parameters."""

    executors: Annotated[
        list[str], doc("scripts or functions: stem, path, function or path:function; default: the only one")
    ] = []
    axes: Annotated[
        Axes, doc('values of each parameter; their product: {"seed": [0, 1, 2], "alpha": {"logspace": [1e-4, 10, 20]}}')
    ] = {}
    task_generator: Annotated[
        TaskGenerator | None, doc("tasks of another shape; with axes: each of them with every value of the axes")
    ] = None
    fixed_params: Annotated[dict[str, Any], doc("parameters that every task has")] = {}
    data_axis: Annotated[
        ChunkedAxis | None, doc("split a series of rows into chunks: tasks get start, end and halo")
    ] = None
    python: Annotated[Interpreter | None, doc("interpreter of Python executors; default: the cluster's")] = None
    pass_as: Annotated[
        dict[str, str],
        doc('how a parameter that the source does not show is passed: {"lr": "--lr"}, "lr=", "$LR", "positional"'),
    ] = {}
    check_help: Annotated[bool, doc("run executors with --help, and pass on parameters whose option it prints")] = False


def plan_tasks_file(
    world: World, repo: RepoLayout, wanted: TaskRequest, count: int | None, force: bool, known: Executor | None = None
) -> tuple[TaskSource, dict[Path, str], dict[str, Any]]:
    """Return checked tasks, their files, and the facts of a TasksResult. ``known`` is the executor of an entry point.

    Raises SpecInvalid (a name, a value, a count, a flag that does not exist, an edited file), ExecutorNotFound.
    """
    by_axis = _named_by_axis(wanted)
    entries = [known] if known else _entries(repo, wanted.executors or by_axis)
    source = _source(wanted, entries, by_axis, repo.root)
    unsure: list[str] = []
    if wanted.data_axis is not None:
        axis = with_recorded(wanted.data_axis, repo, entries)
        source = split_series(source, axis)
        if axis.kind in ("independent", "bounded_halo"):
            named = [entry.name for entry in entries if entry.is_function and entry.returns_metrics is None]
            unsure = [
                f"the source of {name}() does not show what it returns: {RIGHT} (docs/series.md)" for name in named
            ]
    if count is not None and source.count != count:
        message = f"{source.about} makes {source.count:,} tasks, not {count:,}"
        remedy = "Correct the axes or task_count, then call again; nothing was written."
        details = {"task_count": count, "made": source.count}
        raise SpecInvalid(message, field="task_count", remediation=remedy, details=details)
    notes: list[str] = []
    if wanted.pass_as or wanted.check_help:
        names = {name for kwargs in _sample(source) for name in kwargs} if wanted.check_help else set()
        entries, notes = with_ways(world, repo.root, entries, names, wanted.pass_as, wanted.python)
    notes += [*_checked(source, entries), *unsure]
    target = getattr(wanted, "cluster_target", None)
    python, note = python_of_tasks(world, repo, wanted.python, target.cluster if target else None)
    notes += note
    flags = {entry.key: flag_rows(entry) for entry in entries}
    at = {"first": 0, "middle": source.count // 2, "last": source.count - 1}
    facts = {
        "total_tasks": source.count,
        "executor": command_of(python),
        "executors": {entry.name: entry.key for entry in entries},
        "metrics_file": metrics_file_of(flags),
        "preview": {name: next(itertools.islice(source.make(), index, None)) for name, index in at.items()},
        "notes": notes,
        "next_step": "hpc-agent resolve-submit-inputs",
    }
    starts = {entry.key: row for entry in entries if entry.start and (row := entry.start.row())}
    files = plan_files(repo, source, flags, starts, wanted.python, force)
    notes += _replaced(repo, files[repo.tasks])
    return source, files, facts


def _replaced(repo: RepoLayout, text: str) -> list[str]:
    """Return a note when ``text`` replaces the tasks.py of a run."""
    before = repo.tasks.read_bytes() if repo.tasks.is_file() else b""
    if before == text.encode():
        return []
    sha = hashlib.sha256(before).hexdigest()
    used = [run for run in find_existing_runs(repo)[0] if run.tasks_py_sha == sha]
    return [
        f"this replaces the {run.task_count:,} tasks of the run {run.run_id}, which keeps a frozen copy"
        for run in used[:1]
    ]


def _named_by_axis(wanted: TaskRequest) -> list[str]:
    """Return the executors that the parameter ``executor`` names."""
    params = wanted.task_generator.params if wanted.task_generator else {}
    axes = [axes for axes in (wanted.axes, params.get("axes")) if isinstance(axes, dict)]
    items = [item for item in params.get("items") or [] if isinstance(item, dict)]
    chosen = [each.get(CHOOSER, []) for each in axes]
    values = [value for each in chosen if isinstance(each, list) for value in each]
    values += [each[CHOOSER] for each in (*items, wanted.fixed_params) if CHOOSER in each]
    return list(dict.fromkeys(map(str, values)))


def _entries(repo: RepoLayout, named: list[str]) -> list[Executor]:
    entries = named_executors(repo.root, named)
    if not entries:
        remedy = f"Write a script, or start with '{BUILD_EXECUTOR}'."
        raise ExecutorNotFound(f"there is no executor in {repo.root}", field="executors", remediation=remedy)
    if len(entries) > 1 and not named:
        names, found = [entry.name for entry in entries], [entry.key for entry in entries[:50]]
        message = f"there are {len(entries)} executors: {', '.join(names[:10])}"
        remedy = f"Say which are meant: --executors {','.join(names[:3])}; then call again."
        raise PreconditionFailed(message, field="executors", remediation=remedy, details={"found": found})
    return entries


def _source(wanted: TaskRequest, entries: list[Executor], by_axis: list[str], root: Path) -> TaskSource:
    """Return the tasks of the generator, times the axes. Several executors that no parameter names are the first axis."""
    axes = wanted.axes
    if len(entries) > 1 and not by_axis:
        axes = {CHOOSER: [entry.name for entry in entries], **axes}
    return make_source(wanted.task_generator, root, wanted.fixed_params, axes)


def _sample(source: TaskSource) -> Iterator[dict[str, Any]]:
    return itertools.islice(source.make(), 0, None, max(1, source.count // CHECKED_TASKS))


def _checked(source: TaskSource, entries: list[Executor]) -> list[str]:
    """Check a sample of the tasks, and return notes. Raises SpecInvalid for a parameter that its executor refuses."""
    by_name = {name: entry for entry in entries for name in (entry.name, entry.key)}
    found: dict[str, Problem] = {}
    for kwargs in _sample(source):
        entry = by_name.get(str(kwargs.get(CHOOSER, entries[0].name)), entries[0])
        for problem in check_kwargs(entry, kwargs):
            found.setdefault(problem.message, problem)
    problems = list(found.values())
    worst = next((problem for problem in problems if problem.severity == "error"), None)
    if worst:
        details = {"problems": msgspec.to_builtins(problems[:20])}
        raise SpecInvalid(worst.message, field=worst.field, remediation=worst.fix, details=details)
    reserved = [
        f"parameter '{name}' reaches the task's environment as HPC_KW_{name.upper()} only: {name.upper()} is reserved"
        for name in sorted(next(source.make()))
        if task_environment.is_reserved(name)
    ]
    silent = [
        f"{entry.key} has no flag for an output file: it has to write metrics.json into $HPC_RESULT_DIR"
        for entry in entries
        if not (entry.is_function or entry.metrics_file or entry.names_result_dir) and entry.framework != "plain"
    ]
    return [*found, *reserved, *silent]


class BuildTasksPyRequest(TaskRequest):
    """The executors, their parameters, and the expected number of tasks."""

    task_count: Annotated[Positive | None, doc("expected number of tasks; another number is an error")] = None
    experiment_dir: ExperimentDir = "."
    force: Annotated[bool, doc("overwrite files that were edited")] = False


class TasksResult(Result):
    """The facts of planned tasks, in the results of both verbs."""

    total_tasks: int
    executor: Annotated[str, doc("the command of a task, for submit")]
    executors: Annotated[dict[str, str], doc("value of the parameter 'executor' -> script or function")]
    metrics_file: Annotated[str | None, doc("for submit's results.metrics_file; null: metrics.json, if written")]
    preview: Annotated[dict[str, dict[str, Any]], doc("parameters of the first, middle and last task")]
    notes: list[str]
    next_step: str


class BuildTasksPyResult(TasksResult):
    files: Annotated[dict[str, str], doc("path -> written, or kept for equal content")]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid, ExecutorNotFound, PreconditionFailed],
    brief="write the grid: tasks.py",
    example={"executors": ["ml_ridge"], "axes": {"horizon": [1, 5, 25]}, "task_count": 3},
    next_verbs=["dry-run-local", "submit"],
)
def build_tasks_py(request: BuildTasksPyRequest, world: World) -> BuildTasksPyResult:
    """Write .hpc/tasks.py (the grid) and .hpc/cli.py (how a task starts its executor) for the executors found.

    Axes make their product; task_generator has the other shapes. The verb checks parameters against the flags of the
    executors, and the number of tasks, before a file is written. The same request gives the same bytes. Only force
    overwrites a file that was edited.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    _, files, facts = plan_tasks_file(world, repo, request, request.task_count, request.force)
    return BuildTasksPyResult(files=write_files(repo, files), **facts)


class ProducedBy(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The author of the intent: a person or an agent."""

    kind: Annotated[Literal["human", "agent"], doc("who")] = "human"
    operator: Annotated[str | None, doc("the person")] = None
    session_sha: Annotated[str | None, doc("the agent's session")] = None
    at: Annotated[str | None, doc("when")] = None


class ClusterTarget(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The cluster of the campaign, for resolve-submit-inputs."""

    cluster: ClusterName
    constraint: Annotated[str | None, doc("node feature")] = None


class Said(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One turn of the conversation."""

    role: Annotated[Literal["agent", "operator", "system"], doc("who spoke")]
    text: Annotated[str, doc("the words")]
    at: Annotated[str | None, doc("when")] = None


class InterviewRequest(TaskRequest, kw_only=True):
    """The intent of a campaign, and its tasks."""

    goal: Annotated[str, doc("the question of the campaign, in a sentence", min_length=1)]
    task_count: Annotated[int, doc("expected number of tasks; another number is an error", gt=0)]
    entry_point: Annotated[
        EntryPoint | None, doc("instead of executors: register_run, python_module or shell_command")
    ] = None
    task_kind: Annotated[str | None, doc("a word for this kind of work, for recall")] = None
    produced_by: Annotated[ProducedBy | None, doc("who wants it: a human or an agent")] = None
    budget: Annotated[dict[str, Any], doc("limits such as wall_clock_max_h")] = {}
    abort_if: Annotated[dict[str, Any], doc("when to give up: metric, after_tasks, ...")] = {}
    cluster_target: Annotated[ClusterTarget | None, doc("where it is to run")] = None
    transcript: Annotated[list[Said], doc("the conversation")] = []
    notes: Annotated[str, doc("anything else")] = ""
    campaign_dir: Annotated[str, doc("the experiment repo; interview.json lies there")] = "."
    allow_cli: Annotated[
        bool | None,
        doc("rules for Claude Code in .claude/settings.json: hpc-agent yes, scancel and qdel no; default: yes"),
    ] = None
    force: Annotated[bool, doc("overwrite files that were edited")] = False


class InterviewResult(TasksResult):
    campaign_dir: str
    artifacts: Annotated[dict[str, str], doc("path -> written, or kept for equal content")]
    cmd_sha: Annotated[str, doc("SHA-256 of all parameters, as submit will have it")]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid, ExecutorNotFound, PreconditionFailed],
    brief="write tasks.py from an intent",
    example={
        "goal": "Which horizon can be forecast?",
        "executors": ["ml_ridge"],
        "axes": {"horizon": [1, 5, 25]},
        "task_count": 3,
    },
    next_verbs=["dry-run-local", "submit"],
)
def interview(request: InterviewRequest, world: World) -> InterviewResult:
    """Write interview.json, .hpc/tasks.py and .hpc/cli.py (and a wrapper for a shell command) from one intent.

    Names, values and the count are checked before anything is written. The same request changes nothing.
    """
    repo = experiment_root(world.cwd, request.campaign_dir, "campaign_dir")
    executor, wrapper = executor_of(repo, request.entry_point) if request.entry_point else (None, {})
    source, files, facts = plan_tasks_file(world, repo, request, request.task_count, request.force, executor)
    settings = _settings(repo, request.allow_cli, facts["notes"])
    for path, text in wrapper.items():
        refuse_edited(repo, path, text, request.force)
    written = write_files(repo, {**wrapper, **files})
    made = {name: facts[name] for name in ("total_tasks", "executor")}
    made["cmd_sha"] = compute_cmd_sha(source.make())
    written[INTERVIEW] = _remember(repo, request, made, iso(world.now()))
    if settings:
        written[SETTINGS] = write_generated(repo.root / SETTINGS, settings, True, repo.root)
    if request.budget or request.abort_if:
        facts["notes"].append("budget and abort_if are kept for recall; a run does not enforce them")
    return InterviewResult(campaign_dir=str(repo.root), artifacts=written, cmd_sha=made["cmd_sha"], **facts)


def _remember(repo: RepoLayout, request: InterviewRequest, made: dict[str, Any], now: str) -> str:
    """Write interview.json: the intent and the facts of its tasks. An equal intent keeps its time."""
    path = repo.root / INTERVIEW
    document = {**msgspec.to_builtins(request), "_materialized": made}
    for name in ("campaign_dir", "allow_cli", "force"):
        del document[name]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        before = read_json(str(path))
        at = before["_materialized"].pop("at")
        now = at if at and before == document else now
    document["_materialized"] = {**made, "at": now}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return write_generated(path, text, True, repo.root)


def _settings(repo: RepoLayout, wanted: bool | None, notes: list[str]) -> str | None:
    """Return the project's settings with the rules; None without them.

    Settings that cannot be read are an error where the rules were asked for, and a note otherwise.
    """
    path = repo.root / SETTINGS
    if wanted is False:
        return None
    try:
        text = merged_settings(path)
        compare_generated(path, text, repo.root)
    except SpecInvalid as error:
        if wanted:
            raise
        notes.append(error.message)
        return None
    return text
