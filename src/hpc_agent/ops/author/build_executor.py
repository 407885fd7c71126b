"""``build-executor``: write a script or notebook to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.generated_file import write_generated
from hpc_agent.experiment.writing.scaffolds import (
    DEFAULT_FLAGS,
    TAKEN,
    Shape,
    check_module_name,
    command_of,
    executor_source,
    parse_flags,
)
from hpc_agent.infra.transport import quote
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World


class BuildExecutorRequest(Request):
    """The name, the folder and the flags of the starter."""

    name: Annotated[str, doc("of the file and its function: letters, digits and '_'")]
    output_dir: Annotated[str, doc("folder of the file, below experiment_dir")] = "executors"
    shape: Annotated[Shape, doc("argparse: standard library; register-run: a decorated function; notebook: .ipynb")] = (
        "register-run"
    )
    flags: Annotated[
        list[str] | None,
        doc('name:type=default (int, float, str, bool); no default: required: "horizon:int=5,name:str"'),
    ] = None
    force: Annotated[bool, doc("replace a file that was edited")] = False
    experiment_dir: ExperimentDir = "."


class BuildExecutorResult(Result):
    path: Annotated[str, doc("relative to experiment_dir where it lies inside")]
    shape: str
    state: Annotated[str, doc("written, or kept: it was there already, byte for byte")]
    flags: Annotated[list[str], doc("the options of its command line")]
    command: Annotated[str | None, doc("value for submit's executor; none for a notebook")]
    entry: Annotated[str | None, doc("file:function of the registered function; none for argparse")]
    source: Annotated[str, doc("the text of the file")]
    deduped: Annotated[bool, doc("true: nothing was written now")]


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid], positional="name")
def build_executor(request: BuildExecutorRequest, world: World) -> BuildExecutorResult:
    """Write one starter executor with the flags you name. The starter runs without changes.

    The starter fits a small forecast on made-up data: replace the computation with your own. A file with other content
    is overwritten only with --force.
    """
    name = check_module_name(request.name, "name", TAKEN)
    flags = parse_flags(DEFAULT_FLAGS if request.flags is None else request.flags)
    root = experiment_root(world.cwd, request.experiment_dir).root
    is_notebook = request.shape == "notebook"
    path = root / Path(request.output_dir).expanduser() / (name + (".ipynb" if is_notebook else ".py"))
    source = executor_source(name, request.shape, flags)
    state = write_generated(path, source, request.force)
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return BuildExecutorResult(
        path=shown,
        shape=request.shape,
        state=state,
        flags=[flag.option for flag in flags],
        command=None if is_notebook else command_of(quote([shown]), flags),
        entry=None if request.shape == "argparse" else f"{shown}:{name}",
        source=source,
        deduped=state == "kept",
    )
