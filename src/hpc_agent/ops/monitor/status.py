"""``status``: one look at a run. When the scheduler cannot be asked, the last answer is marked as stale."""

from __future__ import annotations

from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.run_status import StatusResult, ask_status
from hpc_agent.world import World


class StatusRequest(RunScoped):
    """The run to ask about."""


@primitive(stage="monitor", effects=[Effect.SSH, Effect.JOURNAL], errors=RUN_ERRORS, aliases=["poll-run-status"])
def status(request: StatusRequest, world: World) -> StatusResult:
    """Show the state of a run: counts, waves, failed tasks with causes, reasons of waiting.

    One SSH command, whatever the number of tasks. A task is complete only by its own record.
    """
    return ask_status(known_run(world, request))
