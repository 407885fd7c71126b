"""``compute-run-id`` and ``find-prior-run``: the id of a run, and earlier runs with the same parameters."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import EXAMPLE_RUN, ExperimentDir, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.run_request import RunRequest
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.state.runs import find_existing_runs
from hpc_agent.world import World


class ComputeRunIdRequest(RunRequest):
    """The fields of submit that identify a run."""

    cluster: Annotated[str, doc("name in clusters.yaml; see clusters-list")] = "local"
    executor: Annotated[str, doc("shell command of a task", min_length=1)] = "true"


class ComputeRunIdResult(Result):
    run_id: str
    cmd_sha: str
    tasks_py_sha: str
    tree_sha: str
    total_tasks: int
    preview: Annotated[list[dict[str, Any]], doc("the kwargs of the first tasks")]
    files: Annotated[int, doc("files that would be pushed to an empty cluster")]
    notes: list[str]


@primitive(
    stage="submit",
    errors=FREEZE_ERRORS,
    brief="id a submit would give",
    example=EXAMPLE_RUN,
    next_verbs=["submit", "find-prior-run"],
)
def compute_run_id(request: ComputeRunIdRequest, world: World) -> ComputeRunIdResult:
    """Resolve and hash every task and the code, and return the run id. Submits nothing."""
    with freeze(world, request) as frozen:
        return ComputeRunIdResult(
            run_id=frozen.run_id(),
            cmd_sha=frozen.tasks.cmd_sha,
            tasks_py_sha=frozen.tasks.tasks_py_sha,
            tree_sha=frozen.tree.sha,
            total_tasks=frozen.tasks.total,
            preview=frozen.tasks.preview(),
            files=len(frozen.tree.entries),
            notes=frozen.notes,
        )


class FindPriorRunRequest(Request):
    cmd_sha: Annotated[
        str, Meta(pattern=r"^[0-9a-f]{8,64}\Z", description="as compute-run-id returns it, or its first digits")
    ]
    experiment_dir: ExperimentDir = "."


class FindPriorRunResult(Result):
    found: bool
    prior_run_id: str | None = None
    status: Annotated[str | None, doc("as of the last look")] = None
    is_orphan: Annotated[bool, doc("a sidecar without accepted arrays")] = False
    cluster: str | None = None
    job_ids: list[str] = []
    campaign_id: str | None = None
    submitted_at: str | None = None
    age_sec: float | None = None
    others: Annotated[list[str], doc("older runs with the same parameters")] = []


@primitive(
    stage="submit",
    errors=[SpecInvalid],
    brief="run of these parameters",
    example={"cmd_sha": "0" * 64},
    next_verbs=["status", "aggregate"],
)
def find_prior_run(request: FindPriorRunRequest, world: World) -> FindPriorRunResult:
    """Find the newest run with these parameters in the sidecars of .hpc/runs/ and the journal."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    sidecars, problems = find_existing_runs(repo)
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    matching = [s for s in sidecars if s.cmd_sha.startswith(request.cmd_sha)]
    if not matching:
        return FindPriorRunResult(found=False, partial_errors=errors)
    newest = matching[0]
    record = Journal(world, repo).find(newest.run_id)
    return FindPriorRunResult(
        found=True,
        prior_run_id=newest.run_id,
        status=record.status if record else None,
        is_orphan=not newest.job_ids and not (record and record.job_ids),
        cluster=newest.cluster,
        job_ids=record.job_ids if record else newest.job_ids,
        campaign_id=newest.campaign_id,
        submitted_at=iso(record.submitted_at) if record and record.submitted_at else newest.submitted_at,
        age_sec=round(world.now() - record.started_at, 1) if record else None,
        others=[s.run_id for s in matching[1:20]],
        partial_errors=errors,
    )
