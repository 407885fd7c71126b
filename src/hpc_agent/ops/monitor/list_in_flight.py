"""``list-in-flight``: the runs of this repo as of the last look. What reaches clusters is imported only to refresh them."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.run_row import RunRow, run_row
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.world import World


class ListInFlightRequest(Request):
    experiment_dir: ExperimentDir = "."
    campaign_id: Annotated[str | None, doc("only the runs of this campaign")] = None
    all_states: Annotated[bool, doc("also the runs that have ended")] = False
    limit: Annotated[int, doc("runs to show", ge=0)] = 50
    refresh: Annotated[bool, doc("ask the clusters first: one SSH command and one queue query for each")] = False


class ListInFlightResult(Result):
    runs: Annotated[list[RunRow], doc("newest first")]
    total_matching: int


@primitive(
    stage="monitor",
    effects=[Effect.SSH, Effect.JOURNAL],
    brief="runs that have not ended",
    example={"all_states": True},
    next_verbs=["status", "monitor-flow"],
    larger=["limit"],
)
def list_in_flight(request: ListInFlightRequest, world: World) -> ListInFlightResult:
    """List the runs that have not ended as of the last look; ``refresh`` asks the clusters first."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    journal = Journal(world, repo)
    records, problems = journal.all()
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    if request.refresh:
        errors += _refresh(world, repo, journal, [r for r in records if r.status not in TERMINAL and r.submitted_at])
    wanted = [
        record
        for record in records
        if (request.all_states or record.status not in TERMINAL)
        and (request.campaign_id is None or record.campaign_id == request.campaign_id)
    ]
    runs = [run_row(record) for record in wanted[: request.limit]]
    return ListInFlightResult(runs=runs, total_matching=len(wanted), partial_errors=errors)


def _refresh(world: World, repo: RepoLayout, journal: Journal, records: list[RunRecord]) -> list[PartialError]:
    """Update the records from one question to each cluster. Return the errors of clusters that did not answer."""
    from hpc_agent.infra.remote import root_of
    from hpc_agent.ops.run.known_run import node_of
    from hpc_agent.ops.run.run_status import journal_status

    errors = []
    for name in sorted({record.cluster for record in records}):
        mine = [record for record in records if record.cluster == name]
        try:
            node = node_of(world, repo, name)
            asked = [{"root": root_of(record.remote_path), "run_id": record.run_id} for record in mine]
            answers = node.bootstrap("overview", {"runs": asked, "site": node.site})["runs"]
        except HpcError as error:
            errors.append(PartialError(code=error.error_code, detail=error.message))
            continue
        for record in mine:
            answer = answers[record.run_id]
            if "error" in answer:
                errors.append(PartialError(code=answer["code"], detail=answer["error"]))
            else:
                journal_status(journal, record, answer)
    return errors
