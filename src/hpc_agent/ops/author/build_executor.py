"""``build-executor``: one starter script or notebook that runs as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

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
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class BuildExecutorRequest(Request):
    """What the starter is called, where it goes, and its flags."""

    name: Annotated[str, Meta(description="of the file and its function: letters, digits and '_'")]
    output_dir: Annotated[str, Meta(description="folder of the file, below experiment_dir")] = "executors"
    shape: Annotated[
        Shape,
        Meta(
            description="argparse: standard library only; register-run: a decorated function; notebook: the same as .ipynb"
        ),
    ] = "register-run"
    flags: Annotated[
        list[str] | None,
        Meta(
            description='name:type=default of int, float, str or bool, required without a default: "horizon:int=5,name:str"'
        ),
    ] = None
    force: Annotated[bool, Meta(description="replace a file that was edited")] = False
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class BuildExecutorResult(Result):
    path: Annotated[str, Meta(description="relative to experiment_dir where it lies inside")]
    shape: str
    state: Annotated[str, Meta(description="written, or kept: it was there already, byte for byte")]
    flags: Annotated[list[str], Meta(description="the options of its command line")]
    command: Annotated[str | None, Meta(description="value for submit's executor; none for a notebook")]
    entry: Annotated[str | None, Meta(description="file:function of the registered function; none for argparse")]
    source: Annotated[str, Meta(description="the text of the file")]
    deduped: Annotated[bool, Meta(description="true: nothing was written now")]


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid], positional="name")
def build_executor(request: BuildExecutorRequest, world: World) -> BuildExecutorResult:
    """Write one starter executor with the flags you name; it runs as it is.

    It fits a small forecast on made-up data: replace the computation with your own. A file with other content is never
    overwritten without --force.
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
