"""``axes-init``, ``classify-axis``, ``classify-axis-easy``: the axes of the task grid, and the parts of a series."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import PreconditionFailed, SchemaIncompat, SpecInvalid
from hpc_agent.experiment.series import axes_file
from hpc_agent.experiment.series.axes_file import AxesFile, Axis, DataAxis, ExecutorAxis
from hpc_agent.experiment.series.proposals import classify
from hpc_agent.experiment_kit import axis as kit
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import IDENTIFIER, RepoLayout, experiment_root, local_path, locked
from hpc_agent.world import World

LOCK_WAIT_SEC = 10.0
DEDUPED = doc("true: the file said this already")


class AxesInitRequest(Request):
    """The axes of the grid."""

    axes: Annotated[list[str], doc("NAME:SIZE for each axis of the grid; the last varies fastest")]
    homogeneous_axes: Annotated[list[str], doc("axes along which all tasks take about the same time")] = []
    force: Annotated[bool, doc("replace the axes of a file that says something else")] = False
    experiment_dir: ExperimentDir = "."


class AxesInitResult(Result):
    axes: Annotated[list[dict[str, Any]], doc("name and size; the last varies fastest")]
    homogeneous_axes: list[str]
    axes_path: str
    wrote: bool
    reason: Annotated[str, doc("new, unchanged, or replaced")]
    deduped: Annotated[bool, DEDUPED]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid, PreconditionFailed, SchemaIncompat],
    brief="record the grid's axes",
    example={"axes": ["executor:2", "horizon:3"]},
    next_verbs=["classify-axis", "submit"],
)
def axes_init(request: AxesInitRequest, world: World) -> AxesInitResult:
    """Write the axes of the task grid into .hpc/axes.yaml.

    A file that says something else is left alone without force. What classify-axis wrote about the runs is kept.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    axes = [_axis(text) for text in request.axes]
    for key, complaint in axes_file.grid_problems(axes, request.homogeneous_axes):
        raise SpecInvalid(complaint, field=key)
    path = axes_file.path_of(repo)
    with _locked(repo):
        try:
            before = axes_file.read_axes(path)
        except SpecInvalid:
            if not request.force:
                raise
            before = None  # a broken file counts as none where it may be replaced
        known = before or AxesFile()
        wanted = msgspec.structs.replace(known, axes=axes, homogeneous_axes=request.homogeneous_axes)
        wrote = before != wanted
        if wrote and not request.force and (known.axes or known.homogeneous_axes):
            names = ", ".join(f"{axis.name}:{axis.size}" for axis in known.axes) or "none"
            remedy = "Keep them, or replace them: run the same 'hpc-agent axes-init' with --force."
            message = f"{path} has other axes: {names}"
            raise PreconditionFailed(message, field="force", remediation=remedy, details=_grid(known))
        if wrote:
            axes_file.write_axes(path, wanted)
    reason = "unchanged" if not wrote else "replaced" if known.axes else "new"
    return AxesInitResult(**_grid(wanted), axes_path=str(path), wrote=wrote, reason=reason, deduped=not wrote)


def _grid(file: AxesFile) -> dict[str, Any]:
    return {"axes": msgspec.to_builtins(file.axes), "homogeneous_axes": file.homogeneous_axes}


def _axis(text: str) -> Axis:
    name, _, size = text.partition(":")
    if not size.strip().isdecimal():
        remedy = "Give each axis with its size: 'hpc-agent axes-init --axes model:3,seed:10'."
        raise SpecInvalid(f"{text!r} is not NAME:SIZE", field="axes", remediation=remedy)
    return Axis(name.strip(), int(size))


def _locked(repo: RepoLayout) -> Any:
    return locked(repo.runs / "axes.lock", LOCK_WAIT_SEC, f"{axes_file.path_of(repo)}")


class ClassifyAxisRequest(Request):
    """The axis of one run's series."""

    run_name: Annotated[str, doc("the run, as discover-runs names it", pattern=IDENTIFIER.pattern)]
    run_signature_sha: Annotated[
        str, doc("of the run's signature: another one makes the entry out of date", pattern=r"^[0-9a-f]{6,64}\Z")
    ]
    data_axis: DataAxis
    classified_by: Annotated[
        str, doc("who or what decided: classify-axis-easy, a person, an agent", min_length=1, max_length=200)
    ]
    experiment_dir: ExperimentDir = "."


class ClassifyAxisResult(Result):
    path: str
    entry: Annotated[dict[str, Any], doc("run_signature_sha, data_axis, classified_by as written")]
    deduped: Annotated[bool, DEDUPED]


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid, PreconditionFailed, SchemaIncompat],
    brief="record how it splits",
    example={
        "run_name": "lagged",
        "run_signature_sha": "0" * 64,
        "data_axis": {"kind": "bounded_halo", "halo": 13},
        "classified_by": "a person",
    },
    next_verbs=["build-tasks-py"],
)
def classify_axis(request: ClassifyAxisRequest, world: World) -> ClassifyAxisResult:
    """Record in .hpc/axes.yaml how one run's series may be split.

    The entry of that run is written or replaced; everything else in the file stays.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    axis = {name: value for name, value in msgspec.to_builtins(request.data_axis).items() if value is not None}
    try:
        kit.data_axis(axis)
    except ValueError as error:
        raise SpecInvalid(str(error), field="data_axis") from error
    entry = ExecutorAxis(request.run_signature_sha, axis, request.classified_by)
    path = axes_file.path_of(repo)
    with _locked(repo):
        file = axes_file.read_axes(path) or AxesFile()
        deduped = file.executors.get(request.run_name) == entry
        if not deduped:
            file.executors = {**file.executors, request.run_name: entry}
            axes_file.write_axes(path, file)
    return ClassifyAxisResult(path=str(path), entry=msgspec.to_builtins(entry), deduped=deduped)


class ClassifyAxisEasyRequest(Request):
    """The function to read."""

    source_path: Annotated[str, doc("the .py or .ipynb file with the function")]
    run_name: Annotated[str, doc("the function's name", min_length=1)]


class ClassifyAxisEasyResult(Result):
    kind: Annotated[Literal[
        "independent", "bounded_halo", "associative", "sequential", "no_loop_detected", "unclassifiable",
        "function_not_found",
    ], doc("of the data axis; the last three propose none")]  # fmt: skip
    halo_expr: Annotated[str | None, doc("rows before a task's own, over the function's parameters")]
    ahead_expr: Annotated[str | None, doc("rows after them")]
    monoid: str | None
    data_axis: Annotated[dict[str, Any] | None, doc("the same for classify-axis, build-tasks-py and plan_tasks")]
    evidence: Annotated[
        list[dict[str, Any]], doc("line (and cell of a notebook), its text, what it shows; the doubt last")
    ]
    caveats: Annotated[list[str], doc("what to verify with check_elision, or the check-axis command that decides")]
    tried: Annotated[list[str], doc("functions that were found, cells that could not be read")]


@primitive(
    stage="author",
    errors=[SpecInvalid],
    brief="how a series splits",
    example={"source_path": "lib/loading.py", "run_name": "lagged"},
    next_verbs=["check-axis", "classify-axis"],
)
def classify_axis_easy(request: ClassifyAxisEasyRequest, world: World) -> ClassifyAxisEasyResult:
    """Read off a function's source how its series may be split.

    Nothing is run. Known are rolling windows, shifts and differences of pandas, stencils over indices and slices, deques
    of a fixed length, exponential averages, running and whole totals, and functions of each row alone. A halo is never
    smaller than the truth: in doubt the kind is unclassifiable, the evidence names the line, and check-axis decides.
    """
    found = classify(local_path(world.cwd, request.source_path, "source_path"), request.run_name)
    return ClassifyAxisEasyResult(data_axis=found.data_axis, **vars(found))
