"""Tasks that are chunks of a series: every point of a sweep, for every chunk."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.axis_values import bad
from hpc_agent.experiment.grid.generators import TaskSource, listed
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.reading.executors import Executor
from hpc_agent.experiment.reading.signature_flags import signature_sha
from hpc_agent.experiment.series.axes_file import AxesFile, DataAxis, path_of, read_axes
from hpc_agent.experiment_kit.axis import SLICE_NAMES, plan_tasks
from hpc_agent.state.repo_files import RepoLayout

REMEDY = "See what a function needs with 'hpc-agent classify-axis-easy', correct data_axis, then call again."


class ChunkedAxis(DataAxis, kw_only=True, forbid_unknown_fields=True):
    """The chunks of a series of ``series_length`` rows, and the rows that a chunk sees besides its own."""

    kind: Annotated[
        Literal["independent", "bounded_halo", "associative", "sequential"] | None,
        Meta(
            description="see check-axis; without it kind, halo, ahead and monoid are those recorded in .hpc/axes.yaml"
        ),
    ] = None  # type: ignore[assignment]
    chunks: Annotated[int, Meta(gt=0, description="tasks for each point of the sweep")]
    series_length: Annotated[int, Meta(gt=0, description="rows of the series")]


def with_recorded(axis: ChunkedAxis, repo: RepoLayout, entries: list[Executor]) -> ChunkedAxis:
    """Return ``axis`` with the kind and halo that classify-axis recorded, where it has no kind of its own.

    Raises SpecInvalid where an executor has no record, the records differ or split nothing, or the signature has changed.
    """
    if axis.kind is not None:
        return axis
    file = read_axes(path_of(repo)) or AxesFile()
    found = []
    for entry in entries:
        record = file.executors.get(entry.name)
        if record is None:
            raise _no_record(f"data_axis has no kind, and {path_of(repo)} has no record of '{entry.name}'")
        if entry.is_function and not signature_sha(entry.flags).startswith(record.run_signature_sha):
            changed = f"the signature of '{entry.name}' has changed since its axis was recorded"
            raise _no_record(f"{changed} in {path_of(repo)}")
        found.append(record.data_axis)
    if any(one != found[0] for one in found):
        raise _no_record("the recorded axes of the executors differ: build the tasks of one executor at a time")
    recorded = {**found[0], "chunks": axis.chunks, "series_length": axis.series_length}
    try:
        return msgspec.convert(recorded, ChunkedAxis)
    except msgspec.ValidationError as error:  # cartesian: there is no series
        raise _no_record(f"the axis in {path_of(repo)} splits no series: {error}") from error


def _no_record(message: str) -> SpecInvalid:
    remedy = "Give data_axis its kind and halo, or record them: 'hpc-agent check-axis', then 'hpc-agent classify-axis'."
    return SpecInvalid(message, field="data_axis.kind", remediation=remedy)


def split_series(source: TaskSource, axis: ChunkedAxis) -> TaskSource:
    """Return ``source`` x chunks: each task gets start, end (one past its last row), halo and ahead. Raises SpecInvalid."""
    points = list(source.make())
    if taken := {name for point in points for name in point}.intersection(SLICE_NAMES):
        raise bad(f"{min(taken)!r} says which rows a task has; call the parameter otherwise", field="axes")
    facts = {name: value for name, value in msgspec.to_builtins(axis).items() if value is not None}
    chunks, length = facts.pop("chunks"), facts.pop("series_length")
    try:
        tasks = plan_tasks(points, facts, chunks, length)
    except ValueError as error:
        raise SpecInvalid(f"data_axis: {error}", field="data_axis", remediation=REMEDY) from error
    slices = [{name: task[name] for name in SLICE_NAMES if name in task} for task in tasks]
    shared = slices[: len(tasks) // source.count]
    about = f"{source.about} x {len(shared)} chunks of {length:,} rows"
    # The slices of the points differ where the halo depends on their parameters.
    if shared * source.count != slices or source.manifest is not None or points == [{}]:
        return listed(tasks, about)
    python = source.python.replace("TASKS = ", "SWEEP = ", 1) + f"CHUNKS = {literal(shared, 0, 9)}\n"
    python += "TASKS = [dict(point, **chunk) for point in SWEEP for chunk in CHUNKS]\n"
    return TaskSource(len(tasks), lambda: iter(tasks), python, about, source.imports)
