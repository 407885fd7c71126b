"""The spec of a submission: the first step in a repo, a spec from given values, and a spec whose other fields are looked up."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent import errors
from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.experiment.grid.tasks_file_facts import DEFAULT_PYTHON, read_tasks_file
from hpc_agent.experiment.reading.executors import all_executors
from hpc_agent.experiment.reading.parameters import metrics_file_of
from hpc_agent.experiment.reading.starts import PYTHON
from hpc_agent.experiment.writing.tasks_file import CLI, command_of
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.transport import quote
from hpc_agent.ops.author.build_tasks import BUILD_EXECUTOR, build_tasks_command
from hpc_agent.ops.author.cluster_choice import likely_cluster, python_of
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import EXAMPLE_RUN, ExperimentDir, PositiveFloat, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.resources import Resources
from hpc_agent.ops.run.run_request import Name, SubmitRequest
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.task_samples import load_samples
from hpc_agent.world import World

Action = Literal["monitor", "reuse", "interview", "fresh"]
BIG_FOLDER_MIB = 200
DATA_NAMES = ("data", "datasets", "dataset", "inputs", "input", "raw")
# Fields of the request that the spec does not take as they are.
NOT_TAKEN = ("experiment_dir", "resources", "accept_defaults")


class BuildSubmitSpecRequest(SubmitRequest):
    """The fields of submit."""


class BuildSubmitSpecResult(Result):
    spec: Annotated[dict[str, Any], doc("every field that differs from its default; valid for submit")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], doc("arrays, waves, resources, and where each number came from")]
    notes: list[str]


@primitive(
    stage="author",
    errors=FREEZE_ERRORS,
    brief="check values, give a spec",
    example=EXAMPLE_RUN,
    next_verbs=["submit", "summarize-submit-plan"],
)
def build_submit_spec(request: BuildSubmitSpecRequest, world: World) -> BuildSubmitSpecResult:
    """Write given values as a spec for submit, after a check of tasks, files, limits and command.

    Writes nothing and asks no cluster.
    """
    facts = _planned(world, request)
    default = msgspec.to_builtins(SubmitRequest(cluster="", executor=""))
    spec = {name: value for name, value in msgspec.to_builtins(request).items() if value != default[name]}
    spec["experiment_dir"] = str(experiment_root(world.cwd, request.experiment_dir).root)
    return BuildSubmitSpecResult(spec=spec, **facts)


def _planned(world: World, request: SubmitRequest) -> dict[str, Any]:
    """Freeze and plan the run. Return the facts that both results have beside the spec."""
    with freeze(world, request) as frozen:
        plan = plan_run(frozen, request).facts()
        return {"run_id": frozen.run_id(), "total_tasks": frozen.tasks.total, "plan": plan, "notes": frozen.notes}


class SuggestSetupActionRequest(Request):
    experiment_dir: ExperimentDir = "."


class SuggestSetupActionResult(Result):
    priority: Annotated[int, doc("0: a run is in flight ... 3: the repo has no executor")]
    action: Annotated[Action, doc("interview: write tasks, by next_command or by interview; fresh: write an executor")]
    recommended_run_id: str | None
    candidates: Annotated[list[str], doc("runs in flight, runs to reuse, or executors")]
    reason: str
    next_command: str


@primitive(
    stage="author",
    errors=[errors.SpecInvalid],
    brief="first step in this repo",
    example={"experiment_dir": "."},
    next_verbs=["load-context", "discover-executors"],
)
def suggest_setup_action(request: SuggestSetupActionRequest, world: World) -> SuggestSetupActionResult:
    """Suggest the first step in this repo: watch runs in flight, use the tasks, write tasks, or write an executor."""
    repo, journal = journal_of(world, request.experiment_dir)
    records, problems = journal.all()
    action: Action
    if live := [record.run_id for record in records if record.status not in TERMINAL]:
        priority, action, candidates = 0, "monitor", live
        reason = f"{len(live)} run{'s are' if len(live) > 1 else ' is'} in flight"
        command = f"hpc-agent monitor-flow --run-id {live[0]}"
    elif repo.tasks.is_file():
        priority, action, candidates = 1, "reuse", [record.run_id for record in records[:10]]
        last = f"its last run is {candidates[0]}" if candidates else "it was never run from here"
        reason, command = f".hpc/tasks.py is there; {last}", "hpc-agent resolve-submit-inputs"
    elif found := all_executors(repo.root)[0]:
        names = [entry.name for entry in found]
        priority, action, candidates = 2, "interview", names[:50]
        reason = f"there are executors ({', '.join(names[:5])}), but no tasks yet; interview keeps a goal with them"
        command = build_tasks_command(found)
    else:
        priority, action, candidates = 3, "fresh", []
        reason, command = "there is neither a task nor an executor", BUILD_EXECUTOR
    return SuggestSetupActionResult(
        priority=priority,
        action=action,
        recommended_run_id=candidates[0] if action in ("monitor", "reuse") and candidates else None,
        candidates=candidates,
        reason=reason,
        next_command=command,
        partial_errors=[PartialError(code="journal_corrupt", detail=problem) for problem in problems],
    )


class ResolveSubmitInputsRequest(Request):
    """The wanted fields of the submission; the verb looks up the others."""

    experiment_dir: ExperimentDir = "."
    cluster: Annotated[str | None, doc("name in clusters.yaml")] = None
    executor: Annotated[str | None, doc("shell command of a task, instead of .hpc/cli.py")] = None
    run_name: Annotated[Name | None, doc("first part of the run id; the repo's name by default")] = None
    campaign_id: Annotated[Name | None, doc("tag of a series of runs")] = None
    conda_env: Annotated[str | None, doc("conda environment")] = None
    shared_paths: Annotated[list[str] | None, doc("big folders to link and not freeze; [] freezes all of them")] = None
    partition: Annotated[str | None, doc("partition (SLURM) or queue (Grid Engine)")] = None
    account: Annotated[str | None, doc("account (SLURM) or project (Grid Engine)")] = None
    resources: Resources = msgspec.field(default_factory=Resources)
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
        self.repo, journal = journal_of(world, request.experiment_dir)
        self.static = read_tasks_file(self.repo.tasks)
        self.runs = journal.all()[0]
        self.spec: dict[str, Any] = {"experiment_dir": str(self.repo.root)}
        self.resolved: list[Choice] = []
        self.unresolved: list[Ambiguity] = []
        self.canary_advised = False

    def look_up(self) -> None:
        """Fill in ``spec``, ``resolved`` and ``unresolved``, one field after the other."""
        for name, value in msgspec.structs.asdict(self.request).items():
            if value is not None and name not in NOT_TAKEN:
                self._resolve(name, value, "request")
        if self.request.resources != Resources():
            wanted = msgspec.to_builtins(self.request.resources).items()
            self._resolve("resources", {name: value for name, value in wanted if value is not None}, "request")
        has_tasks = self.repo.tasks.is_file()
        if not has_tasks:
            entries = all_executors(self.repo.root)[0]
            names = [entry.name for entry in entries]
            context = f"there is no {self.repo.tasks}; executors found: {', '.join(names[:10]) or 'none'}"
            command = build_tasks_command(entries)
            remedy = f"First run this, then 'hpc-agent resolve-submit-inputs' again: {command}"
            self.unresolved.append(Ambiguity("tasks", names, None, context, remedy))
        if "cluster" not in self.spec:
            self._find_cluster()
        if "executor" not in self.spec and has_tasks:
            self._find_executor()
        self._find_results()
        if "cluster" in self.spec:
            self._look_at_cluster(self.spec["cluster"])
        if "shared_paths" not in self.spec:
            self._find_big_folders()

    def _resolve(self, name: str, value: Any, origin: str) -> None:
        self.spec[name] = value
        self.resolved.append(Choice(name, value, origin))

    def _leave_open(
        self, name: str, candidates: list[Any], safe: Any, context: str, otherwise: str, *depends: str
    ) -> None:
        """Leave a field open. Its remedy takes the safe default or the first candidate; ``otherwise``: there is none."""
        value = safe if safe is not None else next(iter(candidates), None)
        again = command_line("resolve-submit-inputs", msgspec.structs.replace(self.request, **{name: value}))
        remedy = f"Run this{', or name another candidate' * (len(candidates) > 1)}: {again}" if value else otherwise
        self.unresolved.append(Ambiguity(name, candidates, safe, context, remedy, list(depends)))

    def _find_cluster(self) -> None:
        """Take the most likely cluster, or ask."""
        name, origin, ready = likely_cluster(self.world, self.repo, self.runs)
        if name:
            return self._resolve("cluster", name, origin)
        context = f"clusters that are ready: {', '.join(ready) or 'none'}"
        return self._leave_open(
            "cluster",
            ready,
            "local" if "local" in ready else None,
            context,
            "Describe one in ~/.hpc-agent/clusters.yaml; 'hpc-agent clusters-list' shows them.",
        )

    def _command(self) -> str:
        """Return the command of .hpc/cli.py, with the interpreter that tasks.py names, else that of the cluster."""
        return command_of(self.static.python or python_of(self.world, self.spec.get("cluster")))

    def _find_executor(self) -> None:
        if self.static.flags and (self.repo.hpc / CLI).is_file():
            return self._resolve("executor", self._command(), "FLAGS of .hpc/tasks.py, for .hpc/cli.py")
        last = next((run for run in self.runs if run.executor), None)
        if last:
            return self._resolve("executor", last.executor, f"the last run, {last.run_id}")
        entries = all_executors(self.repo.root)[0]
        starts = [entry.start.words for entry in entries if entry.start]
        found = [quote([DEFAULT_PYTHON if word == PYTHON else word for word in words]) for words in starts]
        context = "tasks.py has no FLAGS, and nothing was run from here yet"
        write_them = f"Write tasks with FLAGS: {build_tasks_command(entries)}"
        return self._leave_open("executor", found, None, context, write_them, "tasks")

    def _find_results(self) -> None:
        """Take the metrics file from the executors' flags, or from the last run with the same command."""
        executor = self.spec.get("executor")
        if self.static.flags and executor == self._command():
            if name := metrics_file_of(self.static.flags):
                self._resolve("results", {"metrics_file": name}, "the output flag in FLAGS")
            return None
        for run in self.runs:
            if run.executor == executor:
                with contextlib.suppress(errors.RunNotFound, errors.JournalCorrupt, errors.SchemaIncompat):
                    results = read_run_sidecar(self.repo, run.run_id).results
                    return self._resolve("results", results, f"the last run, {run.run_id}")

    def _look_at_cluster(self, name: str) -> None:
        """Check the cluster, choose among its environments, and point out an executor that has never run there."""
        cluster = get_cluster(name, self.world.env, self.world.home)
        if "conda_env" not in self.spec and len(cluster.conda_envs) > 1:
            context = f"'{name}' has several conda environments"
            envs = cluster.conda_envs
            self._leave_open("conda_env", envs, envs[0], context, "", "cluster")
        if "canary" in self.spec or cluster.scheduler == "local":
            return
        if not load_samples(self.repo, name).rows_of({*self.static.executors, self.spec.get("executor", "")}, None):
            origin = f"never run on '{name}' before: 'submit-and-verify' tries one task first"
            self.resolved.append(Choice("canary", False, origin))
            self.canary_advised = True

    def _find_big_folders(self) -> None:
        """Find large folders of data that every snapshot would hold."""
        sizes = {name: self._size_mib(name) for name in DATA_NAMES}
        if big := [name for name in DATA_NAMES if sizes[name] >= BIG_FOLDER_MIB]:
            words = ", ".join(f"{name} has {sizes[name]:,} MiB" for name in big)
            context = f"{words}: shared data is pushed once and linked, frozen data is part of every changed snapshot"
            self._leave_open("shared_paths", [big, []], big, context, "", "cluster")

    def _size_mib(self, name: str) -> int:
        folder = self.repo.root / name
        if folder.is_symlink():
            return 0
        files = (os.path.join(path, file) for path, _, names in os.walk(folder) for file in names)  # noqa: PTH118
        return sum(os.lstat(file).st_size for file in files) >> 20


class ResolveSubmitInputsResult(BuildSubmitSpecResult):
    spec: Annotated[
        dict[str, Any], doc("complete and checked; this whole answer may be piped into 'hpc-agent submit --spec -'")
    ]
    resolved: Annotated[list[Choice], doc("field, value, and the source of the value")]
    assumed: Annotated[list[Ambiguity], doc("the unclear fields that got their safe default")]
    next_step: str


@primitive(
    stage="author",
    errors=[*FREEZE_ERRORS, errors.NeedsResolution],
    brief="find what submit needs",
    example=EXAMPLE_RUN,
    next_verbs=["submit", "build-submit-spec"],
)
def resolve_submit_inputs(request: ResolveSubmitInputsRequest, world: World) -> ResolveSubmitInputsResult:
    """Complete a submit spec from the given fields; an unclear field is ``needs_resolution`` with its candidates.

    Reads tasks.py, interview.json, earlier runs, clusters.yaml and the measured samples; asks no cluster and writes
    nothing. Every ambiguity names its candidates, the fields that it depends on, a safe default and the evidence.
    """
    found = SubmitInputs(world, request)
    found.look_up()
    spec, resolved, unclear = found.spec, found.resolved, found.unresolved
    unsafe = [ambiguity for ambiguity in unclear if ambiguity.safe_default is None]
    if unsafe or (unclear and not request.accept_defaults):
        first = (unsafe or unclear)[0]
        message = f"{', '.join(ambiguity.field for ambiguity in unclear)}: {first.context}"
        accepting = command_line("resolve-submit-inputs", msgspec.structs.replace(request, accept_defaults=True))
        defaults = f" Or take the safe defaults: '{accepting}'."
        remedy = first.remedy + ("" if unsafe else defaults)
        details = msgspec.to_builtins({"resolved": resolved, "ambiguities": unclear})
        raise errors.NeedsResolution(message, field=first.field, remediation=remedy, details=details)
    spec.update({ambiguity.field: ambiguity.safe_default for ambiguity in unclear})
    submission = convert(spec, SubmitRequest, "submit")
    facts = _planned(world, submission)
    resources, origin = facts["plan"]["resources"], facts["plan"]["origin"]
    resolved += [Choice(f"resources.{name}", resources[name], origin[name]) for name in ("walltime_sec", "mem_mb")]
    step = command_line("submit-and-verify" if spec.get("canary") or found.canary_advised else "submit", submission)
    return ResolveSubmitInputsResult(spec=spec, resolved=resolved, assumed=unclear, next_step=step, **facts)
