"""From wishes (executors, axes, a generator) to the files that make them tasks; everything is checked, nothing written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Request
from hpc_agent.errors import ExecutorNotFound, PreconditionFailed, SpecInvalid
from hpc_agent.experiment.grid.generators import TaskGenerator, make_source
from hpc_agent.experiment.grid.task_source import TaskSource
from hpc_agent.experiment.reading.entries import CHOOSER, Entry, choose_entries, flags_of, metrics_file_of
from hpc_agent.experiment.reading.parameter_checks import Problem, check_kwargs
from hpc_agent.experiment.series_tasks import ChunkedAxis, split_series
from hpc_agent.experiment.writing.entry_points import Wrapped
from hpc_agent.experiment.writing.tasks_file import DEFAULT_PYTHON, Flags, command_of, plan_files
from hpc_agent.node.shared import task_environment
from hpc_agent.state.layout import RepoLayout

CHECKED_TASKS = 20_000


class TaskWishes(Request):
    """What to run: which executors, over which parameters."""

    executors: Annotated[
        list[str],
        Meta(
            description="scripts or functions: stem, path, function or path:function; the only one there is by default"
        ),
    ] = []
    axes: Annotated[
        dict[str, list[Any]], Meta(description='values of each parameter; their product: {"horizon": [1, 5, 25]}')
    ] = {}
    task_generator: Annotated[
        TaskGenerator | None, Meta(description="instead of axes: another shape, with its params")
    ] = None
    fixed_params: Annotated[dict[str, Any], Meta(description="parameters that every task has")] = {}
    data_axis: Annotated[
        ChunkedAxis | None,
        Meta(description="split a series of so many rows into chunks: every task gets start, end and halo"),
    ] = None
    python: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_./+-]+$", description="interpreter of the executors")] = (
        DEFAULT_PYTHON
    )


@dataclass(frozen=True)
class TaskPlan:
    """Checked tasks and the files that make them."""

    source: TaskSource
    entries: list[Entry]
    flags: Flags
    files: dict[Path, str]
    notes: list[str]
    python: str

    @property
    def executor(self) -> str:
        return command_of(self.python)

    def facts(self) -> dict[str, Any]:
        return {
            "total_tasks": self.source.count,
            "executor": self.executor,
            "executors": {entry.name: entry.key for entry in self.entries},
            "metrics_file": metrics_file_of(self.flags),
            "preview": preview(self.source),
            "notes": self.notes,
        }


def preview(source: TaskSource) -> dict[str, dict[str, Any]]:
    """First, middle and last task."""
    at = {"first": 0, "middle": source.count // 2, "last": source.count - 1}
    return {name: next(itertools.islice(source.make(), index, None)) for name, index in at.items()}


def plan_tasks_file(
    repo: RepoLayout, wishes: TaskWishes, count: int | None, force: bool, wrapped: Wrapped | None = None
) -> TaskPlan:
    """``wrapped`` is an executor that is not to be looked for.

    Raises SpecInvalid (a name, a value, a count, a flag that does not exist, an edited file), ExecutorNotFound.
    """
    entries = [wrapped.entry] if wrapped else _entries(repo, wishes)
    source = make_source(_generator(wishes, entries), repo.root, wishes.fixed_params)
    if wishes.data_axis is not None:
        source = split_series(source, wishes.data_axis)
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
    flags = {entry.key: flags_of(entry) for entry in entries}
    files = plan_files(repo, source, flags, wishes.python, force)
    notes = [problem.message for problem in problems] + _notes(source, entries)
    return TaskPlan(source, entries, flags, files, notes, wishes.python)


def _entries(repo: RepoLayout, wishes: TaskWishes) -> list[Entry]:
    entries = choose_entries(repo.root, wishes.executors or _named_by_axis(wishes))
    if not entries:
        raise ExecutorNotFound(
            f"there is no executor in {repo.root}",
            field="executors",
            remediation="Write a script, or start with 'hpc-agent build-executor --name NAME'.",
        )
    if len(entries) > 1 and not wishes.executors and not _named_by_axis(wishes):
        raise PreconditionFailed(
            f"there are {len(entries)} executors: {', '.join(entry.name for entry in entries[:10])}",
            field="executors",
            remediation="Say which are meant: --executors "
            + ",".join(entry.name for entry in entries[:3])
            + "; then call again.",
            details={"found": [entry.key for entry in entries[:50]]},
        )
    return entries


def _named_by_axis(wishes: TaskWishes) -> list[str]:
    """Executors that the parameter ``executor`` names."""
    values = list(wishes.axes.get(CHOOSER, []))
    if not values and wishes.task_generator is not None:
        params = wishes.task_generator.params
        values = list((params.get("axes") or {}).get(CHOOSER, [])) if isinstance(params.get("axes"), dict) else []
        items = params.get("items") or []
        values += [item[CHOOSER] for item in items if isinstance(item, dict) and CHOOSER in item]
    if CHOOSER in wishes.fixed_params:
        values.append(wishes.fixed_params[CHOOSER])
    return [str(value) for value in dict.fromkeys(map(str, values))]


def _generator(wishes: TaskWishes, entries: list[Entry]) -> TaskGenerator:
    """The generator; several executors become an axis of their own, before all others."""
    if wishes.axes and wishes.task_generator is not None:
        raise SpecInvalid("give either axes or task_generator", field="task_generator")
    chooses = len(entries) > 1 and not _named_by_axis(wishes)
    names = [entry.name for entry in entries]
    if wishes.task_generator is None:
        axes = {CHOOSER: names, **wishes.axes} if chooses else dict(wishes.axes)
        if not axes:
            return TaskGenerator("enumerated", {"items": [{}]})
        return TaskGenerator("cartesian_product", {"axes": axes})
    if not chooses:
        return wishes.task_generator
    if wishes.task_generator.kind == "cartesian_product" and isinstance(wishes.task_generator.params.get("axes"), dict):
        axes = {CHOOSER: names, **wishes.task_generator.params["axes"]}
        return TaskGenerator("cartesian_product", {**wishes.task_generator.params, "axes": axes})
    raise SpecInvalid(
        f"a {wishes.task_generator.kind} generator for {len(entries)} executors must say which one each task is for",
        field="task_generator",
        remediation="Give every item the parameter 'executor', or name one executor; then call again.",
    )


def _problems(source: TaskSource, entries: list[Entry]) -> list[Problem]:
    """What is wrong with the first tasks; each different problem once."""
    by_name = {name: entry for entry in entries for name in (entry.name, entry.key)}
    found: dict[str, Problem] = {}
    for kwargs in _sampled(source):
        entry = by_name.get(str(kwargs.get(CHOOSER, entries[0].name)), entries[0])
        for problem in check_kwargs(entry, kwargs):
            found.setdefault(problem.message, problem)
    return list(found.values())


def _sampled(source: TaskSource) -> Iterable[dict[str, Any]]:
    step = max(1, source.count // CHECKED_TASKS)
    return itertools.islice(source.make(), 0, None, step)


def _notes(source: TaskSource, entries: list[Entry]) -> list[str]:
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
