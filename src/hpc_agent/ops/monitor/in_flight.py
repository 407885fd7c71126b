"""``list-in-flight``: the runs of this repo, from the journal alone."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class ListInFlightRequest(Request):
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."
    campaign_id: Annotated[str | None, Meta(description="only the runs of this campaign")] = None
    all_states: Annotated[bool, Meta(description="also the runs that have ended")] = False


class ListInFlightResult(Result):
    runs: Annotated[list[RunRecord], Meta(description="newest first; last_status is as of the last look")]


@primitive(stage="monitor")
def list_in_flight(request: ListInFlightRequest, world: World) -> ListInFlightResult:
    """The runs that have not ended, as this machine last saw them. Asks no cluster."""
    journal = Journal(world, experiment_root(world.cwd, request.experiment_dir))
    records, problems = journal.all()
    wanted = [
        record
        for record in records
        if (request.all_states or record.status not in TERMINAL)
        and (request.campaign_id is None or record.campaign_id == request.campaign_id)
    ]
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    return ListInFlightResult(runs=wanted, partial_errors=errors)
