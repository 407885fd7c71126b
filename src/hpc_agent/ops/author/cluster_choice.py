"""The cluster that a repo's next run is most likely for, and the Python of its tasks."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from hpc_agent.errors import HpcError
from hpc_agent.experiment.grid.tasks_file_facts import DEFAULT_PYTHON
from hpc_agent.infra.clusters import cluster_problems, get_cluster, load_clusters
from hpc_agent.node.shared.files import read_json
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

INTERVIEW = "interview.json"


class LikelyCluster(NamedTuple):
    """``name`` is None where several clusters fit; ``origin`` is the reason; ``ready`` are the clusters that can be used."""

    name: str | None
    origin: str
    ready: list[str]


def likely_cluster(world: World, repo: RepoLayout, runs: list[RunRecord]) -> LikelyCluster:
    """Return the cluster of the interview, of the last run, or the only one that is ready."""
    interview: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        interview = read_json(str(repo.root / INTERVIEW))
    target = interview.get("cluster_target") if isinstance(interview, dict) else None
    if target and target.get("cluster"):
        return LikelyCluster(target["cluster"], INTERVIEW, [])
    clusters = load_clusters(world.env, world.home)
    ready = [name for name in sorted(clusters) if not cluster_problems(name, world.env, world.home, clusters)]
    last = next((run for run in runs if run.cluster in ready), None)
    if last:
        return LikelyCluster(last.cluster, f"the last run, {last.run_id}", ready)
    remote = [name for name in ready if clusters[name].values.get("scheduler") != "local"]
    if len(ready) == 1 or (len(remote) == 1 and len(ready) == 2):
        return LikelyCluster((remote or ready)[0], "the only cluster that is ready in clusters.yaml", ready)
    return LikelyCluster(None, "", ready)


def python_of(world: World, cluster: str | None) -> str:
    """Return the Python of tasks on the cluster: its ``python``, or the ``python3`` of its modules or conda environment."""
    with contextlib.suppress(HpcError):
        found = get_cluster(cluster, world.env, world.home) if cluster else None
        if found and not found.modules and not found.conda_envs:
            return found.python
    return DEFAULT_PYTHON


def python_of_tasks(world: World, repo: RepoLayout, asked: str | None, cluster: str | None) -> tuple[str, list[str]]:
    """Return the interpreter of a repo's tasks: the one ``asked`` for, else that of the cluster; and a note for another one."""
    if asked:
        return asked, []
    name = cluster or likely_cluster(world, repo, journal_of(world, str(repo.root))[1].all()[0]).name
    python = python_of(world, name)
    note = f"tasks start with {python}, the 'python' of {name} in clusters.yaml; --python names another"
    return python, [] if python == DEFAULT_PYTHON else [note]
