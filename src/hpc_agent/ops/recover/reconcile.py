"""``reconcile`` and ``submit-spec``: bring the journal of this machine up to date with the cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, PreconditionFailed, RunNotFound, SchemaIncompat, SpecInvalid
from hpc_agent.ops.recover.bookkeeping import runs_on_cluster
from hpc_agent.ops.run.fields import ClusterName, ExperimentDir, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, journal_of, journal_run, known_run, load_record, node_of
from hpc_agent.ops.run.ledger_summary import identity_of, job_ids_of, journal_ledger, keep_document
from hpc_agent.ops.run.run_status import ask_status
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import sidecar_of, write_run_sidecar
from hpc_agent.world import World

EVERY_ERROR = (*RUN_ERRORS, ClusterUnknown, ConfigInvalid, SpecInvalid, SchemaIncompat)


class ReconcileRequest(RunScoped):
    """One run, or with ``remote`` every run of this repo that lies on a cluster."""

    remote: Annotated[bool, doc("find runs of this repo on the cluster that this machine does not have")] = False
    cluster: Annotated[str | None, doc("with remote: where to look")] = None
    dry_run: Annotated[bool, doc("with remote: list only")] = False


class ReconcileResult(Result):
    run_id: Annotated[str | None, doc("null for several runs")]
    lifecycle_state: str | None
    last_status: dict[str, Any]
    changed: Annotated[list[str], doc("corrections of the journal, in sentences")]
    adopted: Annotated[list[dict[str, Any]], doc("runs that are new to this machine: run_id, cluster, tasks")]
    next_step: str


@primitive(
    stage="recover",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=EVERY_ERROR,
    brief="correct the journal",
    example={"run_id": "latest"},
    next_verbs=["status"],
)
def reconcile(request: ReconcileRequest, world: World) -> ReconcileResult:
    """Correct the journal and the sidecar of a run by the cluster's ledger.

    With ``remote`` the verb adopts runs of this repo that another machine submitted (or this one, before its home was
    lost): it writes sidecar and journal from the run's folder, and every verb works as for a run of this machine. The
    name of the repo's folder identifies the repo.
    """
    if request.remote:
        return _from_cluster(request, world)
    repo, journal = journal_of(world, request.experiment_dir)
    old = load_record(journal, repo, request.run_id)
    before = (old.job_ids, old.status, old.waiting)
    run = known_run(world, request)
    answer = runs_on_cluster(run.node, run.repo, run.record.run_id)
    mine = [found for found in answer if found["root"] == run.node.root]
    if not mine:
        raise RunNotFound(f"{run.record.run_id} is not on '{run.record.cluster}' any more", field="run_id")
    run = journal_run(run, mine[0]["arrays"])
    if not run.repo.sidecar(run.record.run_id).exists():
        keep_document(run.repo, mine[0], mine[0]["arrays"])
    status = ask_status(run)
    names = ("job ids", "state", "arrays that wait")
    after = (run.record.job_ids, status.lifecycle_state, status.to_submit)
    return ReconcileResult(
        run_id=run.record.run_id,
        lifecycle_state=status.lifecycle_state,
        last_status=status.last_status,
        changed=[f"{name}: {old} -> {new}" for name, old, new in zip(names, before, after, strict=True) if old != new],
        adopted=[],
        next_step=status.next_step,
    )


def _from_cluster(request: ReconcileRequest, world: World) -> ReconcileResult:
    repo, journal = journal_of(world, request.experiment_dir)
    if request.cluster is None:
        raise SpecInvalid(
            "--remote needs the name of a cluster",
            field="cluster",
            remediation="'hpc-agent clusters-list' names the clusters: add --cluster with one of them.",
        )
    node = node_of(world, repo, request.cluster)
    one = request.run_id if request.run_id != "latest" else None
    fresh = [found for found in runs_on_cluster(node, repo, one) if not _known(journal, found["run_id"])]
    if one and not fresh and not _known(journal, one):
        raise RunNotFound(f"no run {one} of this repo lies on '{node.cluster.name}'", field="run_id")
    adopted = []
    for found in fresh:
        if not request.dry_run:  # the answer about all runs has no ledgers
            whole = [found] if one else runs_on_cluster(node, repo, found["run_id"])
            adopt(journal, repo, node.cluster.name, next(run for run in whole if run["root"] == found["root"]))
        adopted.append({"run_id": found["run_id"], "cluster": node.cluster.name, "total_tasks": found["task_count"],
                        "submitted_at": found["submitted_at"], "remote_path": found["remote_path"]})  # fmt: skip
    return ReconcileResult(
        run_id=one,
        lifecycle_state=None,
        last_status={},
        changed=[],
        adopted=adopted,
        next_step=f"hpc-agent status --run-id {adopted[0]['run_id']}" if adopted else "hpc-agent list-in-flight",
    )


def _known(journal: Journal, run_id: str) -> bool:
    record = journal.find(run_id)
    return record is not None and bool(record.submitted_at)


def adopt(journal: Journal, repo: RepoLayout, cluster: str, document: dict[str, Any]) -> None:
    """Write the sidecar and the journal of a run from its document on the cluster."""
    sidecar = sidecar_of(document, job_ids_of(document.get("arrays") or {}))
    remote_path = f"{document['root']}/runs/{sidecar.run_id}"
    write_run_sidecar(repo, sidecar)
    known = msgspec.structs.replace(sidecar, cluster=cluster, remote_path=remote_path)
    elsewhere = document["root"].rpartition("/")[2] != repo.remote_name
    # The newest run is the one that was submitted last, whenever this machine heard of each.
    began = (
        datetime.fromisoformat(sidecar.submitted_at.replace("Z", "+00:00")).timestamp()
        if sidecar.submitted_at
        else None
    )
    journal.append(sidecar.run_id, "submitting", **identity_of(known), adopted=elsewhere, started_at=began)
    journal_ledger(journal, sidecar.run_id, remote_path, document["arrays"], accepted=True)


class SubmitSpecRequest(Request):
    """A submission of another machine or person."""

    cluster: ClusterName
    run_id: Annotated[str, doc("the run's id")]
    experiment_dir: ExperimentDir = "."
    remote_path: Annotated[str | None, doc("the run's folder on the cluster, where several have its id")] = None
    job_ids: Annotated[list[str], doc("job ids that the run must have; checked against its ledger")] = []


class SubmitSpecResult(Result):
    run_id: str
    deduped: Annotated[bool, doc("true: the journal had the run already")]
    job_ids: list[str]
    total_tasks: int
    remote_path: str
    next_step: str


@primitive(
    stage="submit",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=[*EVERY_ERROR, PreconditionFailed],
    brief="adopt a submission",
    example={"cluster": "local", "run_id": "horizon_sweep-1a2b3c4d"},
    next_verbs=["status"],
)
def submit_spec(request: SubmitSpecRequest, world: World) -> SubmitSpecResult:
    """Record a submission of another machine or person; submits nothing.

    The facts come from the run's folder on the cluster. ``job_ids`` must be in its ledger.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    node = node_of(world, repo, request.cluster)
    deduped = _known(journal, request.run_id)
    found = runs_on_cluster(node, repo, request.run_id)
    if request.remote_path:
        found = [run for run in found if f"{run['root']}/runs/{request.run_id}" == request.remote_path.rstrip("/")]
    if not found:
        raise RunNotFound(
            f"no run {request.run_id} of this repo lies on '{node.cluster.name}'",
            field="run_id",
            remediation=f"'hpc-agent reconcile --remote --cluster {node.cluster.name} --dry-run' lists those that do.",
        )
    ledger = job_ids_of(found[0]["arrays"])
    foreign = sorted(set(request.job_ids) - set(ledger))
    if foreign:
        raise SpecInvalid(f"job {foreign[0]} is not in the run's ledger ({', '.join(ledger[:5])})", field="job_ids")
    if not deduped:
        adopt(journal, repo, node.cluster.name, found[0])
    return SubmitSpecResult(
        run_id=request.run_id,
        deduped=deduped,
        job_ids=ledger,
        total_tasks=int(found[0]["task_count"]),
        remote_path=f"{found[0]['root']}/runs/{request.run_id}",
        next_step=f"hpc-agent status --run-id {request.run_id}",
    )
