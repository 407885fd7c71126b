"""Each field of a submission, looked up in the places that may know it, the nearest first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hpc_agent.errors import ConfigInvalid, JournalCorrupt, RunNotFound, SchemaIncompat
from hpc_agent.experiment.grid.tasks_file_facts import read_static
from hpc_agent.experiment.reading.entries import find_entries, metrics_file_of
from hpc_agent.experiment.writing.tasks_file import CLI, command_of
from hpc_agent.infra.clusters import cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.author.interview import INTERVIEW
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.layout import experiment_root
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.samples import load_samples
from hpc_agent.world import World

if TYPE_CHECKING:
    from hpc_agent.ops.author.resolve_submit_inputs import ResolveSubmitInputsRequest

BIG_FOLDER_MIB = 200
DATA_NAMES = ("data", "datasets", "dataset", "inputs", "input", "raw")
ANSWER = "Run 'hpc-agent resolve-submit-inputs' again with {}."


class Choice(msgspec.Struct, frozen=True):
    """A field that could be told."""

    field: str
    value: Any
    origin: str


class Ambiguity(msgspec.Struct, frozen=True):
    """A field that could not: what it may be, what depends on what, and what does no harm."""

    field: str
    candidates: list[Any]
    safe_default: Any
    context: str
    remedy: str
    depends_on: list[str] = []


class Looker:
    """Looks once; ``look`` gives the spec so far, what was told, and what could not be."""

    def __init__(self, world: World, request: ResolveSubmitInputsRequest) -> None:
        self.world, self.request = world, request
        self.repo = experiment_root(world.cwd, request.experiment_dir)
        self.static = read_static(self.repo.tasks)
        self.interview = self._read_interview()
        self.runs: list[RunRecord] = Journal(world, self.repo).all()[0]
        self.spec: dict[str, Any] = {}
        self.told: list[Choice] = []
        self.open: list[Ambiguity] = []

    def look(self) -> tuple[dict[str, Any], list[Choice], list[Ambiguity]]:
        self._given()
        for ask in (
            self._tasks,
            self._cluster,
            self._executor,
            self._results,
            self._run_name,
            self._conda,
            self._shared,
        ):
            ask()
        self._canary()
        return self.spec, self.told, self.open

    def _tell(self, name: str, value: Any, origin: str) -> None:
        self.spec[name] = value
        self.told.append(Choice(name, value, origin))

    def _ask(self, name: str, candidates: list[Any], safe: Any, context: str, answer: str, *depends: str) -> None:
        remedy = answer if answer.startswith("Run ") else ANSWER.format(answer)
        self.open.append(Ambiguity(name, candidates, safe, context, remedy, list(depends)))

    def _given(self) -> None:
        """Wishes go first, as they are."""
        for name in ("cluster", "executor", "run_name", "campaign_id", "conda_env", "shared_paths", "partition", "account",
                     "est_task_sec", "canary"):  # fmt: skip
            value = getattr(self.request, name)
            if value is not None:
                self._tell(name, value, "request")
        self.spec["experiment_dir"] = str(self.repo.root)
        wanted = {
            name: value for name, value in msgspec.to_builtins(self.request.resources).items() if value is not None
        }
        if wanted != {"cpus": 1, "gpus": 0, "nodes": 1, "exclusive": False}:
            self._tell("resources", wanted, "request")

    def _tasks(self) -> None:
        if self.repo.tasks.is_file():
            return
        found, _ = find_entries(self.repo.root)
        names = [entry.name for entry in found]
        context = f"there is no {self.repo.tasks}; executors found: {', '.join(names[:10]) or 'none'}"
        command = (
            "hpc-agent build-tasks-py --executors A,B --axes '{...}'"
            if names
            else "hpc-agent build-executor --name NAME"
        )
        self._ask("tasks", names, None, context, f"write it with '{command}'")

    def _cluster(self) -> None:
        if "cluster" in self.spec:
            get_cluster(self.spec["cluster"], self.world.env, self.world.home)
            return None
        target = (self.interview.get("cluster_target") or {}).get("cluster")
        if target:
            return self._tell("cluster", target, INTERVIEW)
        clusters = load_clusters(self.world.env, self.world.home)
        ready = [name for name in sorted(clusters) if self._ready(name)]
        last = next((run.cluster for run in self.runs if run.cluster in ready), None)
        if last:
            return self._tell("cluster", last, f"the last run, {self.runs[0].run_id}")
        remote = [name for name in ready if clusters[name].values.get("scheduler") != "local"]
        if len(ready) == 1 or (len(remote) == 1 and len(ready) == 2):
            return self._tell("cluster", (remote or ready)[0], "the only cluster that is ready in clusters.yaml")
        safe = "local" if "local" in ready else None
        self._ask("cluster", ready, safe, f"clusters that are ready: {', '.join(ready) or 'none'}", "--cluster NAME")

    def _ready(self, name: str) -> bool:
        try:
            return not cluster_problems(name, self.world.env, self.world.home)
        except ConfigInvalid:
            return False

    def _executor(self) -> None:
        if "executor" in self.spec or not self.repo.tasks.is_file():
            return None
        if self.static.flags and (self.repo.hpc / CLI).is_file():
            return self._tell("executor", command_of(self.static.python), "FLAGS of .hpc/tasks.py, for .hpc/cli.py")
        for run in self.runs:
            if run.executor:
                return self._tell("executor", run.executor, f"the last run, {run.run_id}")
        found, _ = find_entries(self.repo.root)
        commands = [f"python3 {entry.key}" for entry in found if not entry.is_function]
        context = "tasks.py has no FLAGS, and nothing was run from here yet"
        self._ask("executor", commands, None, context, "--executor COMMAND, or 'hpc-agent build-tasks-py'", "tasks")

    def _results(self) -> None:
        """The metrics file: as the executors' flags say, or as the last run had it with the same command."""
        if self.static.flags and self.spec.get("executor") == command_of(self.static.python):
            name = metrics_file_of(self.static.flags)
            if name:
                self._tell("results", {"metrics_file": name}, "the output flag in FLAGS")
            return None
        for run in self.runs:
            if run.executor == self.spec.get("executor"):
                try:
                    results = read_run_sidecar(self.repo, run.run_id).results
                except (RunNotFound, JournalCorrupt, SchemaIncompat):
                    continue
                return self._tell("results", results, f"the last run, {run.run_id}")

    def _run_name(self) -> None:
        names = self.static.executors
        if "run_name" not in self.spec and len(names) == 1 and names[0].replace("_", "").replace("-", "").isalnum():
            self._tell("run_name", names[0][:40], "the executor's name")

    def _conda(self) -> None:
        name = self.spec.get("cluster")
        if "conda_env" in self.spec or not name:
            return
        envs = get_cluster(name, self.world.env, self.world.home).conda_envs
        if len(envs) > 1:
            context = f"'{name}' has several conda environments"
            self._ask("conda_env", envs, envs[0], context, "--conda-env NAME", "cluster")

    def _shared(self) -> None:
        """Folders of data that would be copied into every snapshot."""
        if "shared_paths" in self.spec:
            return
        big = []
        for name in DATA_NAMES:
            size = _mib(self.repo.root / name)
            if size >= BIG_FOLDER_MIB:
                big.append((name, size))
        if big:
            words = ", ".join(f"{name} has {size:,} MiB" for name, size in big)
            names = [name for name, _ in big]
            context = f"{words}: linked as shared data it is pushed once, frozen it is part of every changed snapshot"
            self._ask("shared_paths", [names, []], names, context, f"--shared-paths {','.join(names)}", "cluster")

    def _canary(self) -> None:
        """Says so of an executor that has never run there: trying one task first may spare a queue."""
        name = self.spec.get("cluster")
        if "canary" in self.spec or not name:
            return
        if get_cluster(name, self.world.env, self.world.home).scheduler == "local":
            return
        rows = load_samples(self.repo, name).rows_of({*self.static.executors, self.spec.get("executor", "")}, None)
        if not rows:
            self.told.append(
                Choice("canary", False, f"never run on '{name}' before: 'submit-and-verify' tries one task first")
            )

    def _read_interview(self) -> dict[str, Any]:
        try:
            document = json.loads((self.repo.root / INTERVIEW).read_bytes())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}


def _mib(folder: Path) -> int:
    if folder.is_symlink() or not folder.is_dir():
        return 0
    sizes = (
        os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 - a walk over many files
        for path, _, names in os.walk(folder)
        for name in names
    )
    return sum(sizes) >> 20
