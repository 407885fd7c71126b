"""``discover-executors``, ``discover-runs``, ``discover-reducers``: find them in the source, without an import."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Any

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.discovery import EXECUTOR_FOLDERS, find_executors, find_reducers, find_runs
from hpc_agent.experiment.reading.executors import executor_at, help_of
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, ReducerFacts, RunFacts
from hpc_agent.experiment.reading.starts import other_scripts
from hpc_agent.infra.transport import quote
from hpc_agent.ops.author.build_tasks import build_tasks_command
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import experiment_root, local_path
from hpc_agent.world import World

MOST_LISTED = 40


class DiscoverExecutorsRequest(Request):
    """The repo to read."""

    experiment_dir: ExperimentDir = "."
    search_dirs: Annotated[
        list[str], doc("folders; by default the whole repo, of which the first 40 scripts are listed")
    ] = []
    name: Annotated[str | None, doc("only the executor of this name or path")] = None
    check_help: Annotated[
        bool, doc("also run each with --help: compare the options, and list those that the source does not show")
    ] = False
    python: Annotated[str | None, doc("interpreter for --help; this one by default")] = None
    help_timeout_sec: Annotated[float, doc("limit of one --help", gt=0, le=600)] = 10.0


class DiscoverExecutorsResult(Result):
    executors: list[ExecutorFacts]
    notes: Annotated[list[str], doc("files that could not be read, with their line")]
    next_step: str
    help: Annotated[dict[str, dict[str, Any]], doc("with check_help: path -> options missing in source or help")] = {}


@primitive(
    stage="author",
    errors=[SpecInvalid],
    aliases=["discover"],
    brief="scripts, parameters",
    example={"experiment_dir": "."},
    next_verbs=["build-tasks-py", "interview"],
    spare=[f"executors[].{name}" for name in ("flags", "subcommands", "environment", "notes", "doc")],
)
def discover_executors(request: DiscoverExecutorsRequest, world: World) -> DiscoverExecutorsResult:
    """List scripts with their parameters: flags, subcommands, keys of hydra, variables of the environment.

    The source is read and never imported. A script is complete when its source proves that it has no other parameters;
    its notes have the reasons when it is not. .gitignore is honoured; virtual environments and vendored trees are left out.
    """
    root = experiment_root(world.cwd, request.experiment_dir).root
    missing = [folder for folder in request.search_dirs if not local_path(root, folder, "search_dirs").is_dir()]
    if missing:
        raise SpecInvalid(f"there is no folder {missing[0]} in {root}", field="search_dirs")
    found, notes = find_executors(root, request.search_dirs or None)
    other = ""
    if request.name:
        found = [facts for facts in found if request.name.removeprefix("./") in (facts.name, facts.path)]
    elif not request.search_dirs:
        notes += _unlisted(found)
        found = found[:MOST_LISTED]
        if others := other_scripts(root, EXECUTOR_FOLDERS):
            other = quote(["hpc-agent", "build-tasks-py", "--executors", others[0]])
            notes.append(
                f"not listed: {len(others)} scripts of other languages, such as {others[0]}; name one: {other}"
            )
    python = request.python or sys.executable
    compared: dict[str, dict[str, Any]] = {}
    for facts in found if request.check_help else []:
        executor = executor_at(root, facts.path)
        if executor is None:
            continue
        helped, problem = help_of(root, executor, python, request.help_timeout_sec, world.env)
        flags = [*facts.flags, *(flag for one in facts.subcommands for flag in one.flags)]
        read = {option for flag in flags if not flag.hidden for option in flag.options}
        only = {"only_in_source": sorted(read - helped), "only_in_help": sorted(helped - read)}
        compared[facts.path] = {"error": problem} if problem else {**only, "same": read == helped}
        if not facts.complete and not facts.subcommands:
            facts.flags += _from_help(only["only_in_help"], {flag.name for flag in facts.flags})
    step = build_tasks_command(found) if found or not other else other
    return DiscoverExecutorsResult(executors=found, help=compared, notes=notes, next_step=step)


def _from_help(options: list[str], known: set[str]) -> list[FlagFacts]:
    """Return flags of which only the options are known, as --help prints them; --a-b and --a_b are one flag."""
    found: dict[str, FlagFacts] = {}
    for option in options:
        name = option.strip("-=").replace("-", "_").replace(".", "__")
        if name not in known and (option.startswith("--") or option.endswith("=")):
            flag = found.setdefault(name, FlagFacts(name=name, dynamic=True, help="from --help"))
            flag.options.insert(0, option)
    return list(found.values())


def _unlisted(found: list[ExecutorFacts]) -> list[str]:
    """Return a note that counts the scripts after the first, by their folders."""
    folders = Counter(str(PurePosixPath(facts.path).parent) for facts in found[MOST_LISTED:])
    if not folders:
        return []
    counts = ", ".join(f"{folder} ({count})" for folder, count in folders.most_common(8))
    more = f" and {len(folders) - 8} more folders" if len(folders) > 8 else ""
    names = ",".join(folder for folder, _ in folders.most_common(8))
    command = f"hpc-agent discover-executors --search-dirs {names}"
    return [f"{folders.total()} more scripts are not listed, in {counts}{more}: {command}"]


class DiscoverRunsRequest(Request):
    """The repo to read."""

    experiment_dir: ExperimentDir = "."


class DiscoverRunsResult(Result):
    runs: list[RunFacts]
    notes: list[str]
    next_step: str


@primitive(
    stage="author",
    errors=[SpecInvalid],
    brief="@register_run functions",
    example={"experiment_dir": "."},
    next_verbs=["build-tasks-py"],
)
def discover_runs(request: DiscoverRunsRequest, world: World) -> DiscoverRunsResult:
    """List functions with @register_run (``from hpc_agent import register_run``) and their parameters; notebooks too.

    The line ``from hpc_agent.experiment_kit import register_run`` does the same. A line that imports the decorator from
    elsewhere is a ``problem`` of the function, and build-tasks-py and submit refuse the function.
    """
    found, notes = find_runs(experiment_root(world.cwd, request.experiment_dir).root)
    step = build_tasks_command(found) if found else "hpc-agent discover-executors"
    return DiscoverRunsResult(runs=found, notes=notes, next_step=step)


class DiscoverReducersRequest(DiscoverRunsRequest):
    """The repo to read."""


class DiscoverReducersResult(Result):
    reducers: list[ReducerFacts]
    notes: list[str]


@primitive(
    stage="author",
    errors=[SpecInvalid],
    brief="scripts that reduce",
    example={"experiment_dir": "."},
    next_verbs=["cluster-reduce"],
)
def discover_reducers(request: DiscoverReducersRequest, world: World) -> DiscoverReducersResult:
    """List scripts that seem to reduce results, the most likely first, with the reasons."""
    found, notes = find_reducers(experiment_root(world.cwd, request.experiment_dir).root)
    return DiscoverReducersResult(reducers=found, notes=notes)
