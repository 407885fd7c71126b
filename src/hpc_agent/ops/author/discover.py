"""``discover-executors``, ``discover-runs``, ``discover-reducers``: what somebody's repo has, read and not imported."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.discovery import find_executors, find_reducers, find_runs
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts
from hpc_agent.experiment.reading.help_text import compare_with_help
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class DiscoverExecutorsRequest(Request):
    """Where to look."""

    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."
    search_dirs: Annotated[
        list[str], Meta(description="folders; executors/, scripts/, src/, experiments/, bin/, else all, by default")
    ] = []
    name: Annotated[str | None, Meta(description="only the executor of this name or path")] = None
    check_help: Annotated[
        bool, Meta(description="also run each with --help, in a child with a time limit, and compare the options")
    ] = False
    python: Annotated[str | None, Meta(description="interpreter for --help; this one by default")] = None
    help_timeout_sec: Annotated[float, Meta(gt=0, le=600, description="limit of one --help")] = 10.0


class DiscoverExecutorsResult(Result):
    executors: list[ExecutorFacts]
    notes: Annotated[list[str], Meta(description="files that could not be read, with their line")]
    next_step: str
    help: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="with check_help: path -> options missing in the source or in the help"),
    ] = {}


@primitive(stage="author", errors=[SpecInvalid], aliases=["discover"])
def discover_executors(request: DiscoverExecutorsRequest, world: World) -> DiscoverExecutorsResult:
    """Scripts that can be run, with the flags that their source tells: argparse, optparse, click, typer, fire.

    The source is read and never imported. .gitignore is honoured; virtual environments and vendored trees are left out.
    """
    root = experiment_root(world.cwd, request.experiment_dir).root
    for folder in request.search_dirs:
        if not (root / folder).is_dir():
            raise SpecInvalid(f"there is no folder {folder} in {root}", field="search_dirs")
    found, notes = find_executors(root, request.search_dirs or None)
    if request.name:
        found = [facts for facts in found if request.name in (facts.name, facts.path)]
    helped = {}
    if request.check_help:
        python = request.python or sys.executable
        for facts in found:
            helped[facts.path] = compare_with_help(root, facts, python, request.help_timeout_sec, world.env)
    names = [facts.name for facts in found]
    step = (
        f"hpc-agent build-tasks-py --executors {names[0]} --axes '{{...}}'"
        if names
        else "hpc-agent build-executor --name NAME"
    )
    return DiscoverExecutorsResult(executors=found, help=helped, notes=notes, next_step=step)


class DiscoverRunsRequest(Request):
    """Where to look."""

    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class DiscoverRunsResult(Result):
    runs: list[RunFacts]
    notes: list[str]
    next_step: str


@primitive(stage="author", errors=[SpecInvalid])
def discover_runs(request: DiscoverRunsRequest, world: World) -> DiscoverRunsResult:
    """Functions decorated with @register_run, in scripts, modules of packages and notebooks, with their signature as flags."""
    found, notes = find_runs(experiment_root(world.cwd, request.experiment_dir).root)
    names = [run.name for run in found]
    step = (
        f"hpc-agent build-tasks-py --executors {names[0]} --axes '{{...}}'" if names else "hpc-agent discover-executors"
    )
    return DiscoverRunsResult(runs=found, notes=notes, next_step=step)


class DiscoverReducersRequest(Request):
    """Where to look."""

    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class DiscoverReducersResult(Result):
    reducers: list[ReducerFacts]
    notes: list[str]


@primitive(stage="author", errors=[SpecInvalid])
def discover_reducers(request: DiscoverReducersRequest, world: World) -> DiscoverReducersResult:
    """Scripts of the repo that look as if they reduced results, the likeliest first, and why."""
    found, notes = find_reducers(experiment_root(world.cwd, request.experiment_dir).root)
    return DiscoverReducersResult(reducers=found, notes=notes)
