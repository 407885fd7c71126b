"""``update-run-constraints``: what the waiting jobs of a run ask for, changed in the queue."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import SchedulerRefused, SpecInvalid
from hpc_agent.ops.run.fields import Positive, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.ledger_summary import keep_document, owner
from hpc_agent.ops.run.run_request import SiteWord
from hpc_agent.world import World

Feature = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:=@/+-]*\Z")]
TIMEOUT_SEC = 300.0


class UpdateRunConstraintsRequest(RunScoped):
    """The run, and what its waiting jobs are to ask for."""

    add_features: Annotated[
        list[Feature] | None, doc("node features (SLURM) or resources (Grid Engine), beside those that are asked for")
    ] = None
    set_features: Annotated[
        list[Feature] | None, doc("the same, in place of those that are asked for; [] for none")
    ] = None
    partition: Annotated[SiteWord | None, doc("partition (SLURM) or queue (Grid Engine)")] = None
    walltime_sec: Annotated[Positive | None, doc("limit of one element, seconds; not above the present one")] = None


class UpdateRunConstraintsResult(Result):
    run_id: str
    job_ids_updated: list[str]
    job_ids_failed: Annotated[dict[str, str], doc("job -> the scheduler's words; nothing of it was changed")]
    job_ids_left: Annotated[dict[str, str], doc("job -> why it was left alone: it runs, or has ended")]
    planned_updated: Annotated[list[str], doc("arrays that are not submitted yet, and will ask for this")]
    new_features: Annotated[dict[str, str], doc('constraint -> the arrays that have it; "" for those without one')]
    next_step: str


@primitive(
    stage="recover",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*RUN_ERRORS, SpecInvalid, SchedulerRefused],
    brief="change waiting jobs",
    example={"run_id": "latest", "walltime_sec": 1800},
    next_verbs=["status"],
)
def update_run_constraints(request: UpdateRunConstraintsRequest, world: World) -> UpdateRunConstraintsResult:
    """Change the constraint, the partition or the walltime of the jobs of a run that wait. Running work is not touched.

    No job is cancelled or submitted. On Grid Engine, which changes whole jobs only, a job with running tasks is left alone.
    If the scheduler refuses every job, its words are the error.
    """
    asked = {name: getattr(request, name) for name in ("add_features", "set_features", "partition", "walltime_sec")}
    if all(value is None for value in asked.values()) or request.add_features == []:
        remedy = "Give at least one of --add-features, --set-features, --partition and --walltime-sec."
        raise SpecInvalid("the request names nothing to change", field="add_features", remediation=remedy)
    if request.add_features is not None and request.set_features is not None:
        remedy = "Give one of --add-features and --set-features."
        raise SpecInvalid("features are either added or set", field="set_features", remediation=remedy)
    run = known_run(world, request)
    run_id = run.record.run_id
    answer = run.ask_this_version("constrain", TIMEOUT_SEC, **asked, owner=owner())
    keep_document(run.repo, answer["run"], answer["arrays"])
    if answer["failed"] and not answer["updated"] and not answer["planned"]:
        job, words = next(iter(answer["failed"].items()))
        raise SchedulerRefused(
            f"job {job} was not changed: {words}",
            remediation="Correct what the scheduler's message names, then run the same hpc-agent command again.",
            details={"job_ids_failed": answer["failed"], "job_ids_left": answer["left"]},
        )
    return UpdateRunConstraintsResult(
        run_id=run_id,
        job_ids_updated=answer["updated"],
        job_ids_failed=answer["failed"],
        job_ids_left=answer["left"],
        planned_updated=answer["planned"],
        new_features=_by_constraint(answer["constraints"]),
        next_step=f"hpc-agent status --run-id {run_id}",
    )


def _by_constraint(constraints: dict[str, str | None]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for array, constraint in constraints.items():
        found.setdefault(constraint or "", []).append(array)
    return {constraint: ",".join(arrays) for constraint, arrays in found.items()}
