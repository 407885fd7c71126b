"""``build-tasks-py``: .hpc/tasks.py and .hpc/cli.py from axes or a generator, for the executors that are named."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ExecutorNotFound, PreconditionFailed, SpecInvalid
from hpc_agent.experiment.writing.tasks_file import write_files
from hpc_agent.ops.author.task_plan import TaskWishes, plan_tasks_file
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class BuildTasksPyRequest(TaskWishes):
    """What to run, with what."""

    task_count: Annotated[
        Annotated[int, Meta(gt=0)] | None, Meta(description="how many tasks it must be; nothing is written otherwise")
    ] = None
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."
    force: Annotated[bool, Meta(description="overwrite files that somebody edited")] = False


class BuildTasksPyResult(Result):
    files: Annotated[dict[str, str], Meta(description="path -> written, or kept because it was so already")]
    total_tasks: int
    executor: Annotated[str, Meta(description="the command of a task, for submit")]
    executors: Annotated[dict[str, str], Meta(description="value of the parameter 'executor' -> script or function")]
    metrics_file: Annotated[
        str | None, Meta(description="for submit's results.metrics_file; null: metrics.json, if written")
    ]
    preview: Annotated[dict[str, dict[str, Any]], Meta(description="parameters of the first, middle and last task")]
    notes: list[str]
    next_step: str


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid, ExecutorNotFound, PreconditionFailed],
)
def build_tasks_py(request: BuildTasksPyRequest, world: World) -> BuildTasksPyResult:
    """Write .hpc/tasks.py (the grid) and .hpc/cli.py (how a task starts its executor) for the executors found.

    Axes make their product; task_generator has the other shapes. Parameters are held against the flags of the executors, and
    counts are checked, before anything is written. The same request gives the same bytes; a file that somebody edited is
    never overwritten without force.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    plan = plan_tasks_file(repo, request, request.task_count, request.force)
    written = write_files(repo, plan.files)
    return BuildTasksPyResult(next_step="hpc-agent resolve-submit-inputs", files=written, **plan.facts())
