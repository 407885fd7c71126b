"""``discover-executors``, ``discover-runs``, ``discover-reducers``: find them in the source, without an import."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import options_from_help
from hpc_agent.experiment.reading.discovery import find_executors, find_reducers, find_runs
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, ReducerFacts, RunFacts
from hpc_agent.ops.author.build_tasks import build_tasks_command
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import experiment_root, local_path
from hpc_agent.world import World


class DiscoverExecutorsRequest(Request):
    """The repo to read."""

    experiment_dir: ExperimentDir = "."
    search_dirs: Annotated[
        list[str], doc("folders; by default executors/, scripts/, src/, experiments/, bin/, else all")
    ] = []
    name: Annotated[str | None, doc("only the executor of this name or path")] = None
    check_help: Annotated[bool, doc("also run each with --help, with a time limit, and compare the options")] = False
    python: Annotated[str | None, doc("interpreter for --help; this one by default")] = None
    help_timeout_sec: Annotated[float, doc("limit of one --help", gt=0, le=600)] = 10.0


class DiscoverExecutorsResult(Result):
    executors: list[ExecutorFacts]
    notes: Annotated[list[str], doc("files that could not be read, with their line")]
    next_step: str
    help: Annotated[dict[str, dict[str, Any]], doc("with check_help: path -> options missing in source or help")] = {}


@primitive(stage="author", errors=[SpecInvalid], aliases=["discover"])
def discover_executors(request: DiscoverExecutorsRequest, world: World) -> DiscoverExecutorsResult:
    """List scripts with the flags in their source: argparse, optparse, click, typer, fire.

    The source is read and never imported. .gitignore is honoured; virtual environments and vendored trees are left out.
    """
    root = experiment_root(world.cwd, request.experiment_dir).root
    missing = [folder for folder in request.search_dirs if not local_path(root, folder, "search_dirs").is_dir()]
    if missing:
        raise SpecInvalid(f"there is no folder {missing[0]} in {root}", field="search_dirs")
    found, notes = find_executors(root, request.search_dirs or None)
    if request.name:
        found = [facts for facts in found if request.name in (facts.name, facts.path)]
    python = request.python or sys.executable
    compared: dict[str, dict[str, Any]] = {}
    for facts in found if request.check_help else []:
        helped, problem = options_from_help(root, facts.path, python, request.help_timeout_sec, world.env)
        read = {option for flag in facts.flags if not flag.hidden for option in flag.options}
        only = {"only_in_source": sorted(read - helped), "only_in_help": sorted(helped - read)}
        compared[facts.path] = {"error": problem} if problem else {**only, "same": read == helped}
    step = build_tasks_command(found)
    return DiscoverExecutorsResult(executors=found, help=compared, notes=notes, next_step=step)


class DiscoverRunsRequest(Request):
    """The repo to read."""

    experiment_dir: ExperimentDir = "."


class DiscoverRunsResult(Result):
    runs: list[RunFacts]
    notes: list[str]
    next_step: str


@primitive(stage="author", errors=[SpecInvalid])
def discover_runs(request: DiscoverRunsRequest, world: World) -> DiscoverRunsResult:
    """List functions with @register_run in scripts, packages and notebooks, with their signature as flags."""
    found, notes = find_runs(experiment_root(world.cwd, request.experiment_dir).root)
    step = build_tasks_command(found) if found else "hpc-agent discover-executors"
    return DiscoverRunsResult(runs=found, notes=notes, next_step=step)


class DiscoverReducersRequest(DiscoverRunsRequest):
    """The repo to read."""


class DiscoverReducersResult(Result):
    reducers: list[ReducerFacts]
    notes: list[str]


@primitive(stage="author", errors=[SpecInvalid])
def discover_reducers(request: DiscoverReducersRequest, world: World) -> DiscoverReducersResult:
    """List scripts that seem to reduce results, the most likely first, with the reasons."""
    found, notes = find_reducers(experiment_root(world.cwd, request.experiment_dir).root)
    return DiscoverReducersResult(reducers=found, notes=notes)
