"""What every verb about one run starts with: the run's record and its node side."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Request
from hpc_agent.errors import HpcError, JournalCorrupt, PreconditionFailed
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.remote import Node, root_of
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.layout import RepoLayout, experiment_root
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.samples import has_samples, keep_samples
from hpc_agent.world import World

RunId = Annotated[str, Meta(description="as submit returned it; 'latest' is the newest run of the repo")]


class RunScoped(Request):
    """A request about one run of the repo in ``experiment_dir``."""

    run_id: RunId = "latest"
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


@dataclass(frozen=True)
class KnownRun:
    """A run of this repo, and how to ask about it."""

    repo: RepoLayout
    journal: Journal
    record: RunRecord
    node: Node


def node_of(world: World, repo: RepoLayout, cluster: str, root: str | None = None) -> Node:
    """The node side of this repo on a cluster. Raises ClusterUnknown, ConfigInvalid."""
    return Node(get_cluster(cluster, world.env, world.home), world.env, world.home, repo.remote_name, root)


def known_run(world: World, request: RunScoped) -> KnownRun:
    """Raises RunNotFound, JournalCorrupt, PreconditionFailed (nothing was submitted), ClusterUnknown, ConfigInvalid."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    journal = Journal(world, repo)
    record = latest_run(journal, repo) if request.run_id == "latest" else journal.load(request.run_id)
    if not record.job_ids and not record.submitted_at:
        raise PreconditionFailed(
            f"the submission of {record.run_id} has not reached the scheduler",
            field="run_id",
            remediation="Run the same 'hpc-agent submit' again: it goes on where it stopped.",
        )
    node = node_of(world, repo, record.cluster, root_of(record.remote_path) or None)
    return KnownRun(repo, journal, record, node)


def latest_run(journal: Journal, repo: RepoLayout) -> RunRecord:
    """The newest run of the repo. Raises PreconditionFailed when there is none, JournalCorrupt."""
    records, problems = journal.all()
    if problems and not records:
        raise JournalCorrupt(problems[0], details={"problems": problems})
    if not records:
        raise PreconditionFailed(
            f"no run has been submitted from {repo.root}",
            field="run_id",
            remediation="Submit one: 'hpc-agent submit --cluster local --executor \"python3 train.py\"'.",
        )
    return records[0]


def unmeasured(run: KnownRun) -> bool:
    """Whether what the run's tasks used is still to be asked for, and learned."""
    return not has_samples(run.repo, run.record.cluster, run.record.run_id)


def learn(run: KnownRun, answer: dict[str, Any]) -> None:
    """Keep what the tasks of an ended run used, for the plan of the next one; nothing depends on it."""
    with contextlib.suppress(HpcError, OSError):
        if rows := answer.get("measured"):
            keep_samples(run.repo, read_run_sidecar(run.repo, run.record.run_id), rows)
