"""``.hpc/axes.yaml``: the axes of the task grid, and how each run's series may be split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.errors import ConfigInvalid, SchemaIncompat, SpecInvalid
from hpc_agent.experiment_kit.axis import data_axis
from hpc_agent.infra.yaml_file import read_mapping
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.state.repo_files import RepoLayout

VERSION = 2
FILENAME = "axes.yaml"
HEADER = "# The axes of the task grid (the last varies fastest), and how each run's series may be split.\n"


class Axis(msgspec.Struct, forbid_unknown_fields=True):
    """One axis of the task grid: a name of the kwargs, and how many values it has."""

    name: str
    size: int


class Halo(msgspec.Struct, forbid_unknown_fields=True):
    """A number of rows."""

    expr: Annotated[
        int | str, Meta(description="a number, or an expression over the run's parameters: + - * // min max")
    ]


class DataAxis(msgspec.Struct, forbid_unknown_fields=True):
    """The split that a run's series allows."""

    kind: Annotated[
        Literal["independent", "bounded_halo", "associative", "sequential", "cartesian"],
        Meta(description="what a row of the output depends on; see docs/series.md"),
    ]
    halo: Annotated[
        Halo | int | str | None,
        Meta(description='rows before a task\'s own that it must see: 19, "window - 1" or {"expr": "window - 1"}'),
    ] = None
    ahead: Annotated[Halo | int | str | None, Meta(description="rows after them, in the same way")] = None
    monoid: Annotated[
        Literal["sum", "moments", "min", "max"] | None,
        Meta(description="how the partials of an associative axis merge"),
    ] = None


class ExecutorAxis(msgspec.Struct, forbid_unknown_fields=True):
    """The split that one run's series allows, and the origin of that statement."""

    run_signature_sha: str
    data_axis: dict[str, Any]
    classified_by: str


class AxesFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file. ``homogeneous_axes``: those along which tasks take the same time."""

    axes_schema_version: int = VERSION
    axes: list[Axis] = []
    homogeneous_axes: list[str] = []
    executors: dict[str, ExecutorAxis] = {}


def path_of(repo: RepoLayout) -> Path:
    return repo.hpc / FILENAME


def read_axes(path: Path) -> AxesFile | None:
    """Return the checked file, or None. Raises SpecInvalid naming file and key, SchemaIncompat for a newer version."""
    if not path.is_file():
        return None
    try:
        document = read_mapping(path)
    except ConfigInvalid as error:
        raise SpecInvalid(error.message, field=FILENAME, remediation=_remedy(path), details=error.details) from error
    version = document.get("axes_schema_version")
    if type(version) is not int or version < 1:
        raise _invalid(path, "axes_schema_version", f"must be {VERSION}, not {version!r}")
    if version > VERSION:
        message = f"{path} has version {version}; this hpc-agent knows versions up to {VERSION}"
        raise SchemaIncompat(message, details={"file": str(path)})
    try:
        found = msgspec.convert({**document, "axes_schema_version": VERSION}, AxesFile)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        raise _invalid(path, place.rstrip("`") or "axes_schema_version", what.replace("`", "'")) from error
    for key, complaint in grid_problems(found.axes, found.homogeneous_axes):
        raise _invalid(path, key, complaint)
    for run, entry in found.executors.items():
        try:
            data_axis(entry.data_axis)
        except ValueError as error:
            raise _invalid(path, f"executors.{run}.data_axis", str(error)) from error
    return found


def grid_problems(axes: list[Axis], homogeneous: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (key, complaint) for each error in the axes."""
    names = [axis.name for axis in axes]
    for number, axis in enumerate(axes):
        if not axis.name.isidentifier():
            yield f"axes[{number}].name", f"'{axis.name}' is no name of a kwarg"
        if axis.name in names[:number]:
            yield f"axes[{number}].name", f"the axis '{axis.name}' is there twice"
        if axis.size < 1:
            yield f"axes[{number}].size", f"{axis.size} is no number of values"
    for number, name in enumerate(homogeneous):
        if name not in names:
            yield f"homogeneous_axes[{number}]", f"'{name}' is none of the axes: {', '.join(names) or 'none'}"


def write_axes(path: Path, axes: AxesFile) -> None:
    """Write the file, the same bytes for the same content; readers see the old file or the new one."""
    import yaml

    document = msgspec.to_builtins(axes)
    document["executors"] = dict(sorted(document["executors"].items()))
    text = HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(str(path), text.encode(), mode=0o666)


def _invalid(path: Path, key: str, complaint: str) -> SpecInvalid:
    details = {"file": str(path), "key": key}
    return SpecInvalid(f"{path}: {key}: {complaint}", field=key, remediation=_remedy(path), details=details)


def _remedy(path: Path) -> str:
    return f"Correct {path}, or write it anew with 'hpc-agent axes-init --axes NAME:SIZE,... --force'."
