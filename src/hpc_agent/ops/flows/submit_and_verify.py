"""``submit-and-verify``: submit task 0 first, check its result, then submit the other tasks."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import (
    CanaryFailed,
    ClusterUnknown,
    ConfigInvalid,
    ExecutorNotFound,
    SchedulerRefused,
    SpecInvalid,
    StorageFull,
    SubmissionUnknown,
)
from hpc_agent.ops.run.fields import PositiveFloat, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.submit.submit import submit
from hpc_agent.ops.submit.verify_canary import VerifyCanaryRequest, verify_canary
from hpc_agent.world import World


class SubmitAndVerifyRequest(SubmitRequest):
    """A submission, and what its canary must show before the rest goes."""

    expect_output: Annotated[str | None, doc("a file that the canary must write into its result folder")] = None
    poll_interval_sec: Annotated[PositiveFloat | None, doc("pause between looks; min_poll_sec is the least")] = None
    wait_budget_sec: Annotated[float, doc("wait so long for the canary to end", gt=0)] = 1800.0


class SubmitAndVerifyResult(Result):
    run_id: str
    deduped: Annotated[bool, doc("true: this run was there already")]
    verified: bool
    canary: Annotated[dict[str, Any] | None, doc("what verify-canary found; null with dry_run")]
    plan: dict[str, Any]
    total_tasks: int
    cluster: str
    notes: list[str]
    next_step: str


@primitive(
    stage="submit",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=[*RUN_ERRORS, CanaryFailed, SpecInvalid, ExecutorNotFound, ClusterUnknown, ConfigInvalid, SchedulerRefused,
            SubmissionUnknown, StorageFull],
    progress=True,
)  # fmt: skip
def submit_and_verify(request: SubmitAndVerifyRequest, world: World) -> SubmitAndVerifyResult:
    """Submit with a canary: task 0 runs first, alone; when it is in order the rest follows, without a second push.

    The same command again goes on where it stopped; a broken canary submits nothing more.
    """
    given = {name: getattr(request, name) for name in SubmitRequest.__struct_fields__}
    sent = submit(SubmitRequest(**{**given, "canary": True}), world)
    verified = None
    if not request.dry_run:
        verified = verify_canary(
            VerifyCanaryRequest(
                run_id=sent.run_id,
                experiment_dir=request.experiment_dir,
                expect_output=request.expect_output,
                poll_interval_sec=request.poll_interval_sec,
                wait_budget_sec=request.wait_budget_sec,
            ),
            world,
        )
    return SubmitAndVerifyResult(
        run_id=sent.run_id,
        deduped=sent.deduped,
        verified=verified is not None,
        canary=msgspec.to_builtins(verified) if verified else None,
        plan=sent.plan,
        total_tasks=sent.total_tasks,
        cluster=sent.cluster,
        notes=sent.notes,
        next_step=verified.next_step if verified else "hpc-agent submit-and-verify",
    )
