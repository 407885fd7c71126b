"""``write-run-sidecar``: the record of a submission that another program made, in .hpc/runs/."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent._version import __version__
from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import (
    ClusterUnknown,
    ConfigInvalid,
    JournalCorrupt,
    PreconditionFailed,
    SchemaIncompat,
    SpecInvalid,
)
from hpc_agent.node.shared.ranges import count as range_count
from hpc_agent.node.shared.ranges import decode_ranges, encode_ranges
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import EXAMPLE_EXECUTOR, ClusterName, ExperimentDir, doc
from hpc_agent.ops.run.freeze import MAX_TASKS
from hpc_agent.ops.run.known_run import journal_of, node_of
from hpc_agent.ops.run.resources import Resources
from hpc_agent.ops.run.run_request import Name, Results
from hpc_agent.ops.run.submission import submit_lock
from hpc_agent.state import runs
from hpc_agent.state.journal import RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import Sidecar, read_run_sidecar
from hpc_agent.world import World

TaskCount = Annotated[int, Meta(gt=0, le=MAX_TASKS)]

Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
RemotePath = Annotated[str, Meta(pattern=r"^[/~][^\s;&|<>`$]*\Z")]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT[\d:.]+Z\Z")]
JobId = Annotated[str, Meta(pattern=r"^[0-9]+\Z")]
AS_GIVEN = "run_id cluster executor cmd_sha result_dir_template job_ids campaign_id env conda_env".split()
# Facts of the writing, not of the run.
NOT_COMPARED = ("submitted_at", "hpc_agent_version", "job_ids")


class WriteRunSidecarRequest(Request):
    """The facts of the submission; what is left out follows from the repo and the cluster."""

    run_id: Annotated[str, doc("letters, digits, '.', '_' and '-'", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
    cluster: ClusterName
    executor: Annotated[str, doc("shell command of a task", min_length=1)]
    cmd_sha: Annotated[Sha, doc("SHA-256 of all parameters, as compute-run-id returns it")]
    task_count: Annotated[TaskCount | None, doc("number of tasks; total_tasks is the same")] = None
    total_tasks: Annotated[TaskCount | None, doc("number of tasks, as other verbs call it")] = None
    experiment_dir: ExperimentDir = "."
    run_name: Annotated[Name | None, doc("default: the run id without the eight digits at its end")] = None
    tasks_py_sha: Annotated[Sha | None, doc("default: that of .hpc/tasks.py, where there is one")] = None
    tree_sha: Annotated[Sha | None, doc("SHA-256 of the pushed files, where it is known")] = None
    result_dir_template: Annotated[str, doc("result folder of a task")] = "results/{task_id}"
    wave_map: Annotated[
        dict[str, str | list[int]], doc('wave -> task ids, a list or ranges such as "0-9,12"; default: one wave')
    ] = {}
    remote_path: Annotated[
        RemotePath | None, doc("the run's folder on the cluster; default: where submit would put it")
    ] = None
    submitted_at: Annotated[Time | None, doc("UTC, 2026-01-31T12:00:00Z; default: now")] = None
    job_ids: Annotated[list[JobId], doc("may be added later by the same call")] = []
    campaign_id: Annotated[Name | None, doc("tag of a series of runs")] = None
    resources: Resources = msgspec.field(default_factory=Resources)
    results: Results = msgspec.field(default_factory=Results)
    env: Annotated[dict[str, str], doc("variables of every task")] = {}
    modules: Annotated[list[str] | None, doc("environment modules; the cluster's by default")] = None
    conda_env: Annotated[str | None, doc("conda environment")] = None


class WriteRunSidecarResult(Result):
    run_id: str
    path: str
    deduped: Annotated[bool, doc("true: the same sidecar was there already")]
    next_step: str


@primitive(
    stage="submit",
    effects=[Effect.FILES],
    errors=[SpecInvalid, ClusterUnknown, ConfigInvalid, PreconditionFailed, JournalCorrupt, SchemaIncompat],
    brief="record a run by hand",
    example={
        "run_id": "horizon_sweep-1a2b3c4d",
        "cluster": "local",
        "executor": EXAMPLE_EXECUTOR,
        "cmd_sha": "0" * 64,
        "task_count": 6,
    },
    next_verbs=["submit-spec", "reconcile"],
)
def write_run_sidecar(request: WriteRunSidecarRequest, world: World) -> WriteRunSidecarResult:
    """Write .hpc/runs/<run_id>.json for a submission that another program made. Submits nothing.

    ``find-prior-run`` and the plans of later runs read it. A sidecar of another run under that id is never overwritten;
    the same call again changes nothing, and may add job ids. For a run of hpc-agent itself use ``submit-spec``.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    sidecar = _sidecar(request, repo, world)
    path = repo.sidecar(request.run_id)
    with submit_lock(journal):
        before = read_run_sidecar(repo, request.run_id) if path.exists() else None
        record = journal.find(request.run_id)
        if before:
            _check_same(before, sidecar, Sidecar.__struct_fields__)
            if not set(before.job_ids) <= set(sidecar.job_ids or before.job_ids):
                raise _other(request.run_id, "job_ids", before.job_ids, sidecar.job_ids)
            kept = {name: getattr(before, name) for name in NOT_COMPARED if name != "job_ids"}
            sidecar = msgspec.structs.replace(sidecar, **kept, job_ids=sidecar.job_ids or before.job_ids)
        elif record:  # a run of hpc-agent whose sidecar is gone
            _check_same(record, sidecar, ("cluster", "cmd_sha", "executor"))
        deduped = before == sidecar
        if not deduped:
            runs.write_run_sidecar(repo, sidecar)
    return WriteRunSidecarResult(
        run_id=request.run_id,
        path=str(path),
        deduped=deduped,
        next_step=f"hpc-agent find-prior-run --cmd-sha {request.cmd_sha}",
    )


def _check_same(before: Sidecar | RunRecord, wanted: Sidecar, names: Sequence[str]) -> None:
    """Raise PreconditionFailed where a field differs from that of the run which has the id."""
    for name in names:
        old, new = getattr(before, name), getattr(wanted, name)
        if name not in NOT_COMPARED and old != new:
            raise _other(wanted.run_id, name, old, new)


def _other(run_id: str, name: str, before: Any, wanted: Any) -> PreconditionFailed:
    return PreconditionFailed(
        f"{run_id} is another run: its {name} is {before!r}, not {wanted!r}",
        field="run_id" if name != "job_ids" else name,
        remediation="Name another run id: 'hpc-agent compute-run-id' makes one of the parameters and the code.",
    )


def _sidecar(request: WriteRunSidecarRequest, repo: RepoLayout, world: World) -> Sidecar:
    count = request.task_count or request.total_tasks
    if count is None or request.total_tasks not in (None, count):
        message = "task_count is required" if count is None else "task_count and total_tasks differ"
        raise SpecInvalid(message, field="task_count", remediation="Give --task-count, then call again.")
    node = node_of(world, repo, request.cluster)
    tasks_py_sha = request.tasks_py_sha
    if tasks_py_sha is None:
        with contextlib.suppress(FileNotFoundError):
            tasks_py_sha = hashlib.sha256(repo.tasks.read_bytes()).hexdigest()
    head, _, tail = request.run_id.rpartition("-")
    modules = node.cluster.modules if request.modules is None else request.modules
    return Sidecar(
        **{name: getattr(request, name) for name in AS_GIVEN},
        run_name=request.run_name or (head if len(tail) == 8 else request.run_id),
        tasks_py_sha=tasks_py_sha or "",
        tree_sha=request.tree_sha or "",
        snapshot="",
        hpc_agent_version=__version__,
        submitted_at=request.submitted_at or iso(world.now()),
        task_count=count,
        wave_map=_waves(request.wave_map, count),
        scheduler=node.cluster.scheduler,
        remote_path=request.remote_path or f"{node.root}/runs/{request.run_id}",
        resources=msgspec.to_builtins(request.resources),
        results=msgspec.to_builtins(request.results),
        modules=modules,
    )


def _waves(given: dict[str, str | list[int]], count: int) -> dict[str, str]:
    """Return wave -> ranges. Raises SpecInvalid unless each task is in one wave."""
    if not given:
        return {"0": encode_ranges(range(count))}
    try:
        if any(isinstance(ids, str) and range_count(ids) > MAX_TASKS for ids in given.values()):
            raise ValueError(f"a wave has at most {MAX_TASKS:,} tasks")
        waves = {wave: decode_ranges(ids) if isinstance(ids, str) else ids for wave, ids in given.items()}
    except ValueError as error:
        raise SpecInvalid(f"wave_map: {error}", field="wave_map") from error
    every = sorted(task for ids in waves.values() for task in ids)
    if every != list(range(count)) or not all(wave.isdigit() for wave in waves):
        raise SpecInvalid(f"wave_map does not have each of the tasks 0 to {count - 1} once", field="wave_map")
    return {wave: encode_ranges(ids) for wave, ids in waves.items()}
