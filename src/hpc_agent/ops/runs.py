"""What every verb about one run starts with: the run's record and its node side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from hpc_agent.contract.primitive import Request
from hpc_agent.errors import JournalCorrupt, PreconditionFailed
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.remote import Node, root_of
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.layout import RepoLayout, experiment_root
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
    cluster = get_cluster(record.cluster, world.env, world.home)
    root = root_of(record.remote_path) or None
    return KnownRun(repo, journal, record, Node(cluster, world.env, world.home, repo.remote_name, root))


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
