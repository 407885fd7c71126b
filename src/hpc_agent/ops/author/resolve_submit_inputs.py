"""``resolve-submit-inputs``: complete a submit spec, and list the fields without a clear value."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import field

from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import (
    ClusterUnknown,
    ConfigInvalid,
    ExecutorNotFound,
    JournalCorrupt,
    NeedsResolution,
    RunNotFound,
    SchemaIncompat,
    SpecInvalid,
)
from hpc_agent.experiment.grid.tasks_file_facts import read_tasks_file
from hpc_agent.experiment.reading.executors import all_executors, metrics_file_of
from hpc_agent.experiment.writing.tasks_file import CLI, command_of
from hpc_agent.infra.clusters import cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.author.build_tasks_py import BUILD_EXECUTOR, build_tasks_command
from hpc_agent.ops.author.interview import INTERVIEW
from hpc_agent.ops.run.fields import ExperimentDir, PositiveFloat, doc
from hpc_agent.ops.run.freeze import freeze
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.resources import Resources
from hpc_agent.ops.run.run_request import Name, SubmitRequest
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.task_samples import load_samples
from hpc_agent.world import World

BIG_FOLDER_MIB = 200
DATA_NAMES = ("data", "datasets", "dataset", "inputs", "input", "raw")
ANSWER = "Run 'hpc-agent resolve-submit-inputs' again with {}."


class ResolveSubmitInputsRequest(Request):
    """The wanted fields of the submission; the verb looks up the others."""

    experiment_dir: ExperimentDir = "."
    cluster: Annotated[str | None, doc("name in clusters.yaml")] = None
    executor: Annotated[str | None, doc("shell command of a task, instead of .hpc/cli.py")] = None
    run_name: Annotated[Name | None, doc("first part of the run id")] = None
    campaign_id: Annotated[Name | None, doc("tag of a series of runs")] = None
    conda_env: Annotated[str | None, doc("conda environment")] = None
    shared_paths: Annotated[list[str] | None, doc("big folders to link and not freeze; [] freezes all of them")] = None
    partition: Annotated[str | None, doc("partition (SLURM) or queue (Grid Engine)")] = None
    account: Annotated[str | None, doc("account (SLURM) or project (Grid Engine)")] = None
    resources: Resources = field(default_factory=Resources)
    est_task_sec: Annotated[PositiveFloat | None, doc("expected seconds of a task")] = None
    canary: Annotated[bool | None, doc("task 0 first, alone; recommended for an executor that never ran there")] = None
    accept_defaults: Annotated[bool, doc("take the safe default of every unclear field")] = False


class Choice(msgspec.Struct, frozen=True):
    """A field with its value, and the source of the value."""

    field: str
    value: Any
    origin: str


class Ambiguity(msgspec.Struct, frozen=True):
    """A field without a clear value: the candidates, the fields that it depends on, and a safe default."""

    field: str
    candidates: list[Any]
    safe_default: Any
    context: str
    remedy: str
    depends_on: list[str] = []


class SubmitInputs:
    """The fields of a submission that ``look_up`` finds: ``spec``, ``resolved`` with their sources, and ``unresolved``."""

    def __init__(self, world: World, request: ResolveSubmitInputsRequest) -> None:
        self.world, self.request = world, request
        self.repo = experiment_root(world.cwd, request.experiment_dir)
        self.static = read_tasks_file(self.repo.tasks)
        self.interview = _interview(self.repo.root / INTERVIEW)
        self.runs: list[RunRecord] = Journal(world, self.repo).all()[0]
        self.spec: dict[str, Any] = {}
        self.resolved: list[Choice] = []
        self.unresolved: list[Ambiguity] = []

    def look_up(self) -> None:
        """Fill in ``spec``, ``resolved`` and ``unresolved``, one field after the other."""
        self._given()
        self._tasks()
        self._cluster()
        self._executor()
        self._results()
        self._run_name()
        self._conda()
        self._shared()
        self._canary()

    def _resolve(self, name: str, value: Any, origin: str) -> None:
        self.spec[name] = value
        self.resolved.append(Choice(name, value, origin))

    def _leave_open(
        self, name: str, candidates: list[Any], safe: Any, context: str, answer: str, *depends: str
    ) -> None:
        remedy = answer if answer.startswith("Run ") else ANSWER.format(answer)
        self.unresolved.append(Ambiguity(name, candidates, safe, context, remedy, list(depends)))

    def _given(self) -> None:
        """Take the fields of the request as they are."""
        for name in ("cluster", "executor", "run_name", "campaign_id", "conda_env", "shared_paths", "partition", "account",
                     "est_task_sec", "canary"):  # fmt: skip
            value = getattr(self.request, name)
            if value is not None:
                self._resolve(name, value, "request")
        self.spec["experiment_dir"] = str(self.repo.root)
        wanted = {
            name: value for name, value in msgspec.to_builtins(self.request.resources).items() if value is not None
        }
        if wanted != {"cpus": 1, "gpus": 0, "nodes": 1, "exclusive": False}:
            self._resolve("resources", wanted, "request")

    def _tasks(self) -> None:
        if self.repo.tasks.is_file():
            return
        found, _ = all_executors(self.repo.root)
        names = [entry.name for entry in found]
        context = f"there is no {self.repo.tasks}; executors found: {', '.join(names[:10]) or 'none'}"
        command = build_tasks_command("A,B") if names else BUILD_EXECUTOR
        self._leave_open("tasks", names, None, context, f"write it with '{command}'")

    def _cluster(self) -> None:
        if "cluster" in self.spec:
            get_cluster(self.spec["cluster"], self.world.env, self.world.home)
            return None
        target = (self.interview.get("cluster_target") or {}).get("cluster")
        if target:
            return self._resolve("cluster", target, INTERVIEW)
        clusters = load_clusters(self.world.env, self.world.home)
        ready = [name for name in sorted(clusters) if self._ready(name)]
        last = next((run.cluster for run in self.runs if run.cluster in ready), None)
        if last:
            return self._resolve("cluster", last, f"the last run, {self.runs[0].run_id}")
        remote = [name for name in ready if clusters[name].values.get("scheduler") != "local"]
        if len(ready) == 1 or (len(remote) == 1 and len(ready) == 2):
            return self._resolve("cluster", (remote or ready)[0], "the only cluster that is ready in clusters.yaml")
        safe = "local" if "local" in ready else None
        self._leave_open(
            "cluster", ready, safe, f"clusters that are ready: {', '.join(ready) or 'none'}", "--cluster NAME"
        )

    def _ready(self, name: str) -> bool:
        try:
            return not cluster_problems(name, self.world.env, self.world.home)
        except ConfigInvalid:
            return False

    def _executor(self) -> None:
        if "executor" in self.spec or not self.repo.tasks.is_file():
            return None
        if self.static.flags and (self.repo.hpc / CLI).is_file():
            return self._resolve("executor", command_of(self.static.python), "FLAGS of .hpc/tasks.py, for .hpc/cli.py")
        for run in self.runs:
            if run.executor:
                return self._resolve("executor", run.executor, f"the last run, {run.run_id}")
        found, _ = all_executors(self.repo.root)
        commands = [f"python3 {entry.key}" for entry in found if not entry.is_function]
        context = "tasks.py has no FLAGS, and nothing was run from here yet"
        self._leave_open(
            "executor", commands, None, context, "--executor COMMAND, or 'hpc-agent build-tasks-py'", "tasks"
        )

    def _results(self) -> None:
        """Take the metrics file from the executors' flags, or from the last run with the same command."""
        if self.static.flags and self.spec.get("executor") == command_of(self.static.python):
            name = metrics_file_of(self.static.flags)
            if name:
                self._resolve("results", {"metrics_file": name}, "the output flag in FLAGS")
            return None
        for run in self.runs:
            if run.executor == self.spec.get("executor"):
                try:
                    results = read_run_sidecar(self.repo, run.run_id).results
                except (RunNotFound, JournalCorrupt, SchemaIncompat):
                    continue
                return self._resolve("results", results, f"the last run, {run.run_id}")

    def _run_name(self) -> None:
        names = self.static.executors
        if "run_name" not in self.spec and len(names) == 1 and names[0].replace("_", "").replace("-", "").isalnum():
            self._resolve("run_name", names[0][:40], "the executor's name")

    def _conda(self) -> None:
        name = self.spec.get("cluster")
        if "conda_env" in self.spec or not name:
            return
        envs = get_cluster(name, self.world.env, self.world.home).conda_envs
        if len(envs) > 1:
            context = f"'{name}' has several conda environments"
            self._leave_open("conda_env", envs, envs[0], context, "--conda-env NAME", "cluster")

    def _shared(self) -> None:
        """Find large folders of data that every snapshot would hold."""
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
            context = f"{words}: shared data is pushed once and linked, frozen data is part of every changed snapshot"
            self._leave_open(
                "shared_paths", [names, []], names, context, f"--shared-paths {','.join(names)}", "cluster"
            )

    def _canary(self) -> None:
        """Point out an executor that has never run on the cluster."""
        name = self.spec.get("cluster")
        if "canary" in self.spec or not name:
            return
        if get_cluster(name, self.world.env, self.world.home).scheduler == "local":
            return
        rows = load_samples(self.repo, name).rows_of({*self.static.executors, self.spec.get("executor", "")}, None)
        if not rows:
            self.resolved.append(
                Choice("canary", False, f"never run on '{name}' before: 'submit-and-verify' tries one task first")
            )


def _interview(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _mib(folder: Path) -> int:
    """Return the size of the files in a folder, MiB."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    sizes = (
        os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 - a walk over many files
        for path, _, names in os.walk(folder)
        for name in names
    )
    return sum(sizes) >> 20


class ResolveSubmitInputsResult(Result):
    spec: Annotated[dict[str, Any], doc("complete and checked: hpc-agent submit --spec -")]
    resolved: Annotated[list[Choice], doc("field, value, and the source of the value")]
    assumed: Annotated[list[Ambiguity], doc("the unclear fields that got their safe default")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], doc("arrays, waves, resources, and where each number came from")]
    notes: list[str]
    next_step: str


@primitive(stage="author", errors=[SpecInvalid, NeedsResolution, ClusterUnknown, ConfigInvalid, ExecutorNotFound])
def resolve_submit_inputs(request: ResolveSubmitInputsRequest, world: World) -> ResolveSubmitInputsResult:
    """Complete a submit spec from the given fields; an unclear field is ``needs_resolution`` with its candidates.

    Reads tasks.py, interview.json, earlier runs, clusters.yaml and the measured samples; asks no cluster and writes
    nothing. Every ambiguity names its candidates, the fields that it depends on, a safe default and the evidence.
    """
    found = SubmitInputs(world, request)
    found.look_up()
    spec, resolved, open_ = found.spec, found.resolved, found.unresolved
    unsafe = [ambiguity for ambiguity in open_ if ambiguity.safe_default is None]
    if unsafe or (open_ and not request.accept_defaults):
        raise _unresolved(unsafe or open_, open_, resolved)
    assumed = {ambiguity.field: ambiguity.safe_default for ambiguity in open_}
    spec.update(assumed)
    submission = convert(spec, SubmitRequest, "submit")
    with freeze(world, submission) as frozen:
        plan = plan_run(frozen, submission).facts()
        run_id, notes = frozen.run_id(), frozen.notes
    for name in ("walltime_sec", "mem_mb"):
        resolved.append(Choice(f"resources.{name}", plan["resources"][name], plan["origin"][name]))
    return ResolveSubmitInputsResult(
        spec=spec,
        resolved=resolved,
        assumed=open_,
        run_id=run_id,
        total_tasks=plan["total_tasks"],
        plan=plan,
        notes=notes,
        next_step="hpc-agent submit-and-verify --spec -" if spec.get("canary") else "hpc-agent submit --spec -",
    )


def _unresolved(first: list[Ambiguity], open_: list[Ambiguity], resolved: list[Choice]) -> NeedsResolution:
    fields = ", ".join(ambiguity.field for ambiguity in open_)
    remedy = first[0].remedy
    if all(ambiguity.safe_default is not None for ambiguity in open_):
        remedy += " Or take the safe defaults: 'hpc-agent resolve-submit-inputs --accept-defaults'."
    return NeedsResolution(
        f"{fields}: {first[0].context}",
        field=first[0].field,
        remediation=remedy,
        details={"resolved": msgspec.to_builtins(resolved), "ambiguities": msgspec.to_builtins(open_)},
    )
