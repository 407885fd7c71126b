"""``report``: one HTML page about a run or a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from hpc_agent.contract.primitive import Effect, PartialError, Result, primitive
from hpc_agent.contract.vocabulary import Direction
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, SchemaIncompat, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.ops.campaign.decisions import decide
from hpc_agent.ops.campaign.known_campaign import CampaignScoped, known_campaign
from hpc_agent.ops.report.campaign_data import campaign_data
from hpc_agent.ops.report.run_data import ask_survey, run_data
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.run_request import Name
from hpc_agent.ops.run.run_status import journal_status, stale_errors
from hpc_agent.state.repo_files import local_path
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.page import render
from hpc_agent.view.report.sections import headline
from hpc_agent.world import World


class ReportRequest(RunScoped):
    """The run or the campaign, the metric that comes first, and the file."""

    campaign: Annotated[Name | None, doc("a campaign instead of a run; see campaign-list")] = None
    metric: Annotated[str | None, doc("the metric that comes first; by default the one whose name says so")] = None
    direction: Annotated[Direction, doc("which values of the metric are better; auto: by manifest or name")] = "auto"
    replicates: Annotated[
        list[str] | None, doc("parameters that only repeat; by default seed, fold and others of such a name")
    ] = None
    output: Annotated[str | None, doc("the file; results/<run or campaign>/report.html in the repo by default")] = None


class ReportResult(Result):
    run_id: Annotated[str | None, doc("null for a campaign")]
    campaign: str | None
    report: Annotated[str, doc("path of the page: one file, which needs no network")]
    bytes: int
    headline: Annotated[str, doc("how much is done, and the best row")]
    complete: Annotated[bool, doc("every task or trial is complete")]
    left_out: Annotated[list[str], doc("what the page does not show; it says so itself")]
    next_step: Annotated[str, doc("empty: nothing is missing")] = ""


@primitive(
    stage="report",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, ClusterUnknown, ConfigInvalid, SchemaIncompat, SpecInvalid],
    progress=True,
    brief="one HTML page",
    example={"run_id": "latest"},
    next_verbs=["export-crate"],
)
def report(request: ReportRequest, world: World) -> ReportResult:
    """Write one HTML page: results, charts, what is missing, usage, failures, provenance; of a campaign its history.

    The cluster reads the records of a run and bins them in one SSH command, and the page stays small for every number of
    tasks; it says what it leaves out. For a campaign no cluster is asked. The page needs no network.
    """
    problems: list[PartialError] = []
    if request.campaign is not None:
        if request.run_id != "latest":
            raise SpecInvalid("give a run or a campaign, not both", field="campaign")
        if request.replicates is not None:
            raise SpecInvalid("a campaign has no replicates: each trial is a row", field="replicates")
        scope = CampaignScoped(campaign_id=request.campaign, experiment_dir=request.experiment_dir)
        known = known_campaign(world, scope)
        asked = request.metric, request.direction, decide(known)[1]
        data = campaign_data(known.manifest, known.history, known.spent, world.now(), *asked)
        data.left_out += known.notes
        run_id, folder = None, known.repo.aggregate(request.campaign)
    else:
        run = known_run(world, request)
        run_id, folder = run.record.run_id, run.repo.aggregate(run.record.run_id)
        world.progress.update("reading the records", run=run_id)
        found = ask_survey(run, request.metric, request.replicates)
        journal_status(run.journal, run.record, found["state"])
        data, problems = run_data(run, found, world.now(), request.direction), stale_errors(found["state"]["stale"])
    path, left_out = _write(data, request.output, folder, world)
    return ReportResult(
        run_id=run_id,
        campaign=request.campaign,
        report=str(path),
        bytes=path.stat().st_size,
        headline=headline(data),
        complete=data.counts.get("complete", 0) == data.total,
        left_out=left_out,
        next_step=next((gap.command for gap in data.gaps if gap.command), ""),
        partial_errors=problems,
    )


def _write(data: ReportData, output: str | None, folder: Path, world: World) -> tuple[Path, list[str]]:
    path = local_path(world.cwd, output, "output") if output else folder / "report.html"
    if path.is_dir():
        path = path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    text, left_out = render(data)
    write_bytes(str(path), text.encode())
    return path, left_out
