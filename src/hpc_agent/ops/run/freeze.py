"""Freeze a run: resolve its tasks, hash its files, and check both on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from hpc_agent.campaign.manifest import rule_with_direction
from hpc_agent.errors import (
    ClusterUnknown,
    ConfigInvalid,
    ExecutorNotFound,
    RemoteCommandFailed,
    SpecInvalid,
    SshUnreachable,
)
from hpc_agent.experiment.grid.resolved_tasks import ResolvedTasks, given_tasks, resolve_tasks
from hpc_agent.experiment.grid.tasks_file_facts import read_tasks_file
from hpc_agent.experiment.reading.executors import check_command, check_program
from hpc_agent.experiment.reading.pushed_tree import Tree, scan_tree
from hpc_agent.infra.clusters import Cluster, get_cluster
from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints
from hpc_agent.infra.remote import Node, runtime_sha
from hpc_agent.node.shared import task_environment
from hpc_agent.ops.run.declared_inputs import hash_declared, notes_of
from hpc_agent.ops.run.run_request import RunRequest, Trials
from hpc_agent.state.repo_files import RepoLayout, check_identifier, experiment_root, local_path
from hpc_agent.state.run_sha import compute_content_sha, compute_run_id
from hpc_agent.world import World

MAX_TASKS = 1_000_000
# Fields of the request that make another run where they differ, beside the tasks, the files and the shared paths.
IDENTIFYING = ("cluster", "executor", "result_dir_template", "env", "outputs", "modules", "conda_env", "campaign_id")
# Those of the connection: inputs that lie on the cluster are hashed there.
FREEZE_ERRORS = (SpecInvalid, ExecutorNotFound, ClusterUnknown, ConfigInvalid, SshUnreachable, RemoteCommandFailed)


@dataclass(frozen=True)
class FrozenRun:
    """A run with its cluster, its tasks, its files and its identity."""

    request: RunRequest
    repo: RepoLayout
    cluster: Cluster
    constraints: ClusterConstraints
    node: Node
    tasks: ResolvedTasks
    tree: Tree
    identity: dict[str, Any]
    run_name: str
    shared: dict[str, str | None]
    notes: list[str]
    executors: list[str]
    trials: Trials | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def snapshot(self) -> str:
        """Return the snapshot's name on the cluster.

        The snapshot holds the runtime too. The run's identity leaves the runtime out: an update of hpc-agent makes no
        new run.
        """
        return hashlib.sha256(f"{self.tree.sha}:{runtime_sha(self.node.backend)}".encode()).hexdigest()

    @property
    def output_folders(self) -> list[str]:
        return output_folders(self.request)

    @property
    def content_sha(self) -> str:
        return compute_content_sha(self.identity)

    def run_id(self, rerun: int = 0) -> str:
        return compute_run_id(self.run_name, self.identity, rerun)


@contextlib.contextmanager
def freeze(world: World, request: RunRequest, trials: Trials | None = None) -> Iterator[FrozenRun]:
    """Resolve the tasks, hash the files and check the request. A campaign's run has ``trials``.

    No network is used, unless a declared input lies on the cluster.

    Raises the FREEZE_ERRORS.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    if request.early_stop:
        request = msgspec.structs.replace(request, early_stop=rule_with_direction(request.early_stop))
    cluster = get_cluster(request.cluster, world.env, world.home)
    constraints = parse_constraints(cluster.constraints)
    node = Node(cluster, world, repo.remote_name)
    check_command(request.executor)
    check_env(request.env)
    _check_outputs(repo, request)
    for text in request.inputs:
        if not text.startswith("/"):
            _in_repo(repo, text, "inputs")
    shared = _shared(repo, request, cluster)
    limit = min(constraints.max_tasks, MAX_TASKS)
    given = request.tasks
    resolving = resolve_tasks(world, repo, limit, request.resolve_timeout_sec)
    with resolving if given is None else given_tasks(given, limit) as tasks:
        cache = world.journal_root / repo.repo_hash / "files.json"
        # Tasks find an empty folder of the run's own in place of an output folder: its files here are no part of the run.
        tree = scan_tree(repo.root, [*shared, *output_folders(request)], cache, world.output_files())
        check_program(request.executor, tasks.kwargs(), tree.files())
        notes = _check_tasks(request, tasks)
        inputs = hash_declared(node, repo.root, request.inputs, shared, cache.with_name("inputs.json"))
        notes += [f"{name} is not pushed: it holds the output of hpc-agent" for name in tree.left_out]
        notes += notes_of(inputs, shared, tree.files())
        name = request.run_name
        name = check_identifier(name, "run_name") if name else repo.remote_name.rpartition("-")[0]
        yield FrozenRun(
            request=request,
            repo=repo,
            cluster=cluster,
            constraints=constraints,
            node=node,
            tasks=tasks,
            tree=tree,
            identity=_identity(request, repo, tasks, tree, shared, inputs, trials),
            run_name=name,
            shared=shared,
            notes=notes,
            executors=read_tasks_file(repo.tasks).executors,
            trials=trials,
            inputs=inputs,
        )


def _identity(
    request: RunRequest,
    repo: RepoLayout,
    tasks: ResolvedTasks,
    tree: Tree,
    shared: dict[str, str | None],
    inputs: list[dict[str, Any]],
    trials: Trials | None,
) -> dict[str, Any]:
    """Return everything that makes another run when it changes."""
    return {
        "repo": repo.repo_hash,
        "cmd_sha": tasks.cmd_sha,
        "tasks_py_sha": tasks.tasks_py_sha,
        "tree_sha": tree.sha,
        "results": [request.results.metrics_file, request.results.weight],
        "shared": shared,
        **{name: getattr(request, name) for name in IDENTIFYING},
        **({"inputs": {one["path"]: one["sha256"] for one in inputs}} if inputs else {}),
        **({"early_stop": msgspec.to_builtins(request.early_stop)} if request.early_stop else {}),
        **({"trials": [trials.iteration, trials.numbers, trials.early_stop]} if trials else {}),
    }


def check_env(env: dict[str, str], field: str = "env") -> None:
    """Raise SpecInvalid for variables that cannot be set, or that look like a secret."""
    for name, value in env.items():
        if not task_environment.ENV_NAME.match(name) or "\0" in value:
            raise SpecInvalid(f"{field}: {name!r} is not a valid variable name or its value holds NUL", field=field)
        if task_environment.is_reserved(name) and name not in task_environment.SETTABLE:
            raise SpecInvalid(f"{field}: {name} belongs to the system, the scheduler or hpc-agent", field=field)
        if name == "HPC_PREEMPT_GRACE_SEC" and not re.fullmatch(r"\d{1,5}", value):
            raise SpecInvalid(f"{field}: {name} is a whole number of seconds, not {value!r}", field=field)
        if task_environment.looks_secret(name, value):
            message = f"{field}: {name} looks like a secret, and these variables are recorded with the run"
            remedy = "Put it into a file on the cluster that only you can read, and let the executor read that file."
            raise SpecInvalid(message, field=field, remediation=remedy)


def output_folders(request: RunRequest) -> list[str]:
    return [name.strip("/") for name in request.outputs]


def _in_repo(repo: RepoLayout, name: str, field: str) -> Path:
    """Return the path of a file or folder of the repo. Raises SpecInvalid."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", ".hpc")) or ".." in parts:
        raise SpecInvalid(f"{name!r} is not a path inside the repo", field=field)
    return local_path(repo.root, f"./{name}", field)


def _shared(repo: RepoLayout, request: RunRequest, cluster: Cluster) -> dict[str, str | None]:
    """Return shared name -> absolute path on the cluster. A path is None when this machine pushes the folder."""
    found: dict[str, str | None] = {}
    for text in request.shared_paths:
        name, _, target = text.partition("=")
        path = _in_repo(repo, name, "shared_paths")
        if not target and not path.exists():
            raise SpecInvalid(f"the shared path {name.strip('/')} is not in {repo.root}", field="shared_paths")
        found[name.strip("/")] = target or (None if cluster.ssh_target else str(path))
    return found


def _check_outputs(repo: RepoLayout, request: RunRequest) -> None:
    for name in request.outputs:
        if (path := _in_repo(repo, name, "outputs")).exists() and not path.is_dir():
            raise SpecInvalid(f"the output folder {name} is a file in {repo.root}", field="outputs")


def _check_tasks(request: RunRequest, tasks: ResolvedTasks) -> list[str]:
    """Return notes about parameters that reach the task under their HPC_KW_ name only.

    Raises SpecInvalid when two tasks have one result folder.
    """
    folders: dict[bytes, int] = {}
    namespaced: set[str] = set()
    default = request.result_dir_template == "results/{task_id}"
    for task, kwargs in enumerate(tasks.kwargs()):
        namespaced.update(name for name in kwargs if task_environment.is_reserved(name))
        if default:
            continue
        try:
            folder = task_environment.result_folder(request.result_dir_template, "run", task, kwargs).encode()
        except (KeyError, IndexError, ValueError) as error:
            message = f"result_dir_template {request.result_dir_template!r} does not fit task {task}: {error}"
            remedy = f"Use task_id, run_id or a kwarg of the task ({', '.join(kwargs)})."
            raise SpecInvalid(message, field="result_dir_template", remediation=remedy) from error
        other = folders.setdefault(folder, task)
        if other != task:
            message = f"tasks {other} and {task} would share the result folder {folder.decode()}"
            remedy = "Add {task_id} or another kwarg to the template."
            raise SpecInvalid(message, field="result_dir_template", remediation=remedy)
    return [
        f"kwarg '{name}' reaches tasks as HPC_KW_{name.upper()} only: {name.upper()} is reserved"
        for name in sorted(namespaced)
    ]
