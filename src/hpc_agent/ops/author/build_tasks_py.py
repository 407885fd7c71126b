"""``build-tasks-py``: write .hpc/tasks.py and .hpc/cli.py from axes or a generator, for named executors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import ExecutorNotFound, PreconditionFailed, SpecInvalid
from hpc_agent.experiment.grid.generators import TaskGenerator, make_source
from hpc_agent.experiment.grid.task_source import TaskSource
from hpc_agent.experiment.grid.tasks_file_facts import DEFAULT_PYTHON
from hpc_agent.experiment.reading.executors import CHOOSER, Executor, flag_rows, metrics_file_of, named_executors
from hpc_agent.experiment.reading.parameter_checks import Problem, check_kwargs
from hpc_agent.experiment.series.chunked_tasks import ChunkedAxis, split_series, with_recorded
from hpc_agent.experiment.writing.entry_points import EntryPointExecutor
from hpc_agent.experiment.writing.tasks_file import Flags, command_of, plan_files, write_files
from hpc_agent.node.shared import task_environment
from hpc_agent.ops.run.fields import ExperimentDir, Positive, doc
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.world import World

CHECKED_TASKS = 20_000
BUILD_EXECUTOR = "hpc-agent build-executor --name NAME"


def build_tasks_command(executors: str) -> str:
    """Return the command that writes tasks for executors, for a next step."""
    return f"hpc-agent build-tasks-py --executors {executors} --axes '{{...}}'"


class TaskRequest(Request):
    """The executors to run, and their parameters."""

    executors: Annotated[
        list[str], doc("scripts or functions: stem, path, function or path:function; default: the only one")
    ] = []
    axes: Annotated[dict[str, list[Any]], doc('values of each parameter; their product: {"horizon": [1, 5, 25]}')] = {}
    task_generator: Annotated[TaskGenerator | None, doc("instead of axes: another shape, with its params")] = None
    fixed_params: Annotated[dict[str, Any], doc("parameters that every task has")] = {}
    data_axis: Annotated[
        ChunkedAxis | None, doc("split a series of rows into chunks: tasks get start, end and halo")
    ] = None
    python: Annotated[str, doc("interpreter of the executors", pattern=r"^[A-Za-z0-9_./+-]+$")] = DEFAULT_PYTHON


@dataclass(frozen=True)
class TaskPlan:
    """Checked tasks and the files that make them."""

    source: TaskSource
    entries: list[Executor]
    flags: Flags
    files: dict[Path, str]
    notes: list[str]
    python: str

    @property
    def executor(self) -> str:
        return command_of(self.python)

    def facts(self) -> dict[str, Any]:
        """Return the fields that the results of build-tasks-py and interview share."""
        return {
            "total_tasks": self.source.count,
            "executor": self.executor,
            "executors": {entry.name: entry.key for entry in self.entries},
            "metrics_file": metrics_file_of(self.flags),
            "preview": preview(self.source),
            "notes": self.notes,
        }


def preview(source: TaskSource) -> dict[str, dict[str, Any]]:
    """Return the parameters of the first, the middle and the last task."""
    at = {"first": 0, "middle": source.count // 2, "last": source.count - 1}
    return {name: next(itertools.islice(source.make(), index, None)) for name, index in at.items()}


def plan_tasks_file(
    repo: RepoLayout, wanted: TaskRequest, count: int | None, force: bool, wrapped: EntryPointExecutor | None = None
) -> TaskPlan:
    """Plan the tasks and the files. ``wrapped`` is an executor that is known already.

    Raises SpecInvalid (a name, a value, a count, a flag that does not exist, an edited file), ExecutorNotFound.
    """
    entries = [wrapped.executor] if wrapped else _entries(repo, wanted)
    source = make_source(_generator(wanted, entries), repo.root, wanted.fixed_params)
    if wanted.data_axis is not None:
        source = split_series(source, with_recorded(wanted.data_axis, repo, entries))
    if count is not None and source.count != count:
        raise SpecInvalid(
            f"{source.about} makes {source.count:,} tasks, not {count:,}",
            field="task_count",
            remediation="Correct the axes or task_count, then call again; nothing was written.",
            details={"task_count": count, "made": source.count},
        )
    problems = _problems(source, entries)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise SpecInvalid(
            errors[0].message,
            field=errors[0].field,
            remediation=errors[0].fix,
            details={"problems": [msgspec.to_builtins(problem) for problem in problems[:20]]},
        )
    flags = {entry.key: flag_rows(entry) for entry in entries}
    files = plan_files(repo, source, flags, wanted.python, force)
    notes = [problem.message for problem in problems] + _notes(source, entries)
    return TaskPlan(source, entries, flags, files, notes, wanted.python)


def _entries(repo: RepoLayout, wanted: TaskRequest) -> list[Executor]:
    entries = named_executors(repo.root, wanted.executors or _named_by_axis(wanted))
    if not entries:
        raise ExecutorNotFound(
            f"there is no executor in {repo.root}",
            field="executors",
            remediation="Write a script, or start with 'hpc-agent build-executor --name NAME'.",
        )
    if len(entries) > 1 and not wanted.executors and not _named_by_axis(wanted):
        raise PreconditionFailed(
            f"there are {len(entries)} executors: {', '.join(entry.name for entry in entries[:10])}",
            field="executors",
            remediation="Say which are meant: --executors "
            + ",".join(entry.name for entry in entries[:3])
            + "; then call again.",
            details={"found": [entry.key for entry in entries[:50]]},
        )
    return entries


def _named_by_axis(wanted: TaskRequest) -> list[str]:
    """Return the executors that the parameter ``executor`` names."""
    values = list(wanted.axes.get(CHOOSER, []))
    if not values and wanted.task_generator is not None:
        params = wanted.task_generator.params
        values = list((params.get("axes") or {}).get(CHOOSER, [])) if isinstance(params.get("axes"), dict) else []
        items = params.get("items") or []
        values += [item[CHOOSER] for item in items if isinstance(item, dict) and CHOOSER in item]
    if CHOOSER in wanted.fixed_params:
        values.append(wanted.fixed_params[CHOOSER])
    return [str(value) for value in dict.fromkeys(map(str, values))]


def _generator(wanted: TaskRequest, entries: list[Executor]) -> TaskGenerator:
    """Return the generator of the tasks. Several executors become the first axis."""
    if wanted.axes and wanted.task_generator is not None:
        raise SpecInvalid("give either axes or task_generator", field="task_generator")
    chooses = len(entries) > 1 and not _named_by_axis(wanted)
    names = [entry.name for entry in entries]
    if wanted.task_generator is None:
        axes = {CHOOSER: names, **wanted.axes} if chooses else dict(wanted.axes)
        if not axes:
            return TaskGenerator("enumerated", {"items": [{}]})
        return TaskGenerator("cartesian_product", {"axes": axes})
    if not chooses:
        return wanted.task_generator
    if wanted.task_generator.kind == "cartesian_product" and isinstance(wanted.task_generator.params.get("axes"), dict):
        axes = {CHOOSER: names, **wanted.task_generator.params["axes"]}
        return TaskGenerator("cartesian_product", {**wanted.task_generator.params, "axes": axes})
    raise SpecInvalid(
        f"a {wanted.task_generator.kind} generator for {len(entries)} executors must name the executor of each task",
        field="task_generator",
        remediation="Give every item the parameter 'executor', or name one executor; then call again.",
    )


def _problems(source: TaskSource, entries: list[Executor]) -> list[Problem]:
    """Return the problems of a sample of tasks, each different problem once."""
    by_name = {name: entry for entry in entries for name in (entry.name, entry.key)}
    found: dict[str, Problem] = {}
    step = max(1, source.count // CHECKED_TASKS)
    for kwargs in itertools.islice(source.make(), 0, None, step):
        entry = by_name.get(str(kwargs.get(CHOOSER, entries[0].name)), entries[0])
        for problem in check_kwargs(entry, kwargs):
            found.setdefault(problem.message, problem)
    return list(found.values())


def _notes(source: TaskSource, entries: list[Executor]) -> list[str]:
    first = next(source.make())
    notes = [
        f"parameter '{name}' reaches the task's environment as HPC_KW_{name.upper()} only: {name.upper()} is reserved"
        for name in sorted(first)
        if task_environment.is_reserved(name)
    ]
    silent = [e for e in entries if not e.is_function and e.metrics_file is None and e.framework != "plain"]
    return notes + [
        f"{entry.key} has no flag for an output file: it has to write metrics.json into $HPC_RESULT_DIR"
        for entry in silent
    ]


class BuildTasksPyRequest(TaskRequest):
    """The executors, their parameters, and the expected number of tasks."""

    task_count: Annotated[Positive | None, doc("expected number of tasks; another number is an error")] = None
    experiment_dir: ExperimentDir = "."
    force: Annotated[bool, doc("overwrite files that were edited")] = False


class BuildTasksPyResult(Result):
    files: Annotated[dict[str, str], doc("path -> written, or kept for equal content")]
    total_tasks: int
    executor: Annotated[str, doc("the command of a task, for submit")]
    executors: Annotated[dict[str, str], doc("value of the parameter 'executor' -> script or function")]
    metrics_file: Annotated[str | None, doc("for submit's results.metrics_file; null: metrics.json, if written")]
    preview: Annotated[dict[str, dict[str, Any]], doc("parameters of the first, middle and last task")]
    notes: list[str]
    next_step: str


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid, ExecutorNotFound, PreconditionFailed])
def build_tasks_py(request: BuildTasksPyRequest, world: World) -> BuildTasksPyResult:
    """Write .hpc/tasks.py (the grid) and .hpc/cli.py (how a task starts its executor) for the executors found.

    Axes make their product; task_generator has the other shapes. The verb checks parameters against the flags of the
    executors, and the number of tasks, before a file is written. The same request gives the same bytes. Only force
    overwrites a file that was edited.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    plan = plan_tasks_file(repo, request, request.task_count, request.force)
    written = write_files(repo, plan.files)
    return BuildTasksPyResult(next_step="hpc-agent resolve-submit-inputs", files=written, **plan.facts())
