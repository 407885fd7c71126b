"""``submit-and-verify``: submit task 0 first, check its result, then submit the other tasks."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import CanaryFailed, SchedulerRefused, StorageFull
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import EXAMPLE_RUN, PositiveFloat, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS
from hpc_agent.ops.run.known_run import RUN_ERRORS
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.submit.submit import submit
from hpc_agent.ops.submit.verify_canary import VerifyCanaryRequest, verify_canary
from hpc_agent.world import World


class SubmitAndVerifyRequest(SubmitRequest):
    """A submission, and the output that its canary must write."""

    expect_output: Annotated[str | None, doc("a file that the canary must write into its result folder")] = None
    poll_interval_sec: Annotated[PositiveFloat | None, doc("pause between looks; min_poll_sec is the least")] = None
    wait_budget_sec: Annotated[float, doc("limit of the wait for the canary", gt=0)] = 1800.0


class SubmitAndVerifyResult(Result):
    run_id: str
    deduped: Annotated[bool, doc("true: this run was there already")]
    verified: bool
    canary: Annotated[dict[str, Any] | None, doc("the result of verify-canary; null with dry_run")]
    plan: dict[str, Any]
    total_tasks: int
    cluster: str
    notes: list[str]
    next_step: str


@primitive(
    stage="submit",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=[*RUN_ERRORS, CanaryFailed, *FREEZE_ERRORS, SchedulerRefused, StorageFull],
    progress=True,
    brief="submit, task 0 first",
    example=EXAMPLE_RUN,
    next_verbs=["monitor-flow", "status"],
)
def submit_and_verify(request: SubmitAndVerifyRequest, world: World) -> SubmitAndVerifyResult:
    """Submit task 0 first, alone, and the other tasks when its result is in order, without a second push.

    The same command again goes on where it stopped. After a broken canary no other task is submitted.
    """
    given = {name: getattr(request, name) for name in SubmitRequest.__struct_fields__} | {"canary": True}
    sent = submit(SubmitRequest(**given), world)
    canary = {name: getattr(request, name) for name in ("experiment_dir", *SubmitAndVerifyRequest.__annotations__)}
    verified = None if request.dry_run else verify_canary(VerifyCanaryRequest(run_id=sent.run_id, **canary), world)
    same = ("run_id", "deduped", "plan", "total_tasks", "cluster", "notes")
    again = command_line("submit-and-verify", msgspec.structs.replace(request, dry_run=False))
    return SubmitAndVerifyResult(
        **{name: getattr(sent, name) for name in same},
        verified=verified is not None,
        canary=msgspec.to_builtins(verified) if verified else None,
        next_step=verified.next_step if verified else again,
    )
