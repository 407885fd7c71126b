"""``report``: one HTML page about a run or a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, JournalCorrupt, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.ops.report.run_data import ask_survey, run_data
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.run_status import journal_status, stale_errors
from hpc_agent.state.repo_files import local_path
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.page import render
from hpc_agent.view.report.sections import headline
from hpc_agent.world import World


class ReportRequest(RunScoped):
    """The run or the campaign, the metric that comes first, and the file."""

    metric: Annotated[str | None, doc("the metric that comes first; by default the one whose name says so")] = None
    direction: Annotated[
        Literal["min", "max"] | None, doc("which values of the metric are better; by default from its name")
    ] = None
    replicates: Annotated[
        list[str] | None, doc("parameters that only repeat; by default seed, fold and others of such a name")
    ] = None
    output: Annotated[str | None, doc("the file; results/<run_id>/report.html in the repo by default")] = None


class ReportResult(Result):
    run_id: str
    report: Annotated[str, doc("path of the page: one file, which needs no network")]
    bytes: int
    headline: Annotated[str, doc("how much is done, and the best row")]
    complete: Annotated[bool, doc("every task is complete")]
    left_out: Annotated[list[str], doc("what the page does not show; it says so itself")]
    next_step: Annotated[str, doc("empty: every task is in the page")] = ""


@primitive(
    stage="report",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, ClusterUnknown, ConfigInvalid, JournalCorrupt, SpecInvalid],
    progress=True,
)
def report(request: ReportRequest, world: World) -> ReportResult:
    """Write one HTML page about a run: results, charts, what is missing, usage, failures, provenance.

    The cluster reads the records and bins them in one SSH command; the page stays small for every number of tasks, and
    says what it leaves out. It works from a file, without a network, and may be printed or sent to others.
    """
    run = known_run(world, request)
    world.progress.update("reading the records", run=run.record.run_id)
    found = ask_survey(run, request.metric, request.replicates)
    journal_status(run.journal, run.record, found["state"])
    data = run_data(run, found, world, request.direction)
    path, left_out = _write(data, request.output, run.repo.aggregate(run.record.run_id), world)
    return ReportResult(
        run_id=run.record.run_id,
        report=str(path),
        bytes=path.stat().st_size,
        headline=headline(data),
        complete=data.counts["complete"] == data.total,
        left_out=left_out,
        next_step=data.gaps[0].command if data.gaps else "",
        partial_errors=stale_errors(found["state"]["stale"]),
    )


def _write(data: ReportData, output: str | None, folder: Path, world: World) -> tuple[Path, list[str]]:
    path = local_path(world.cwd, output, "output") if output else folder / "report.html"
    if path.is_dir():
        path = path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    text, left_out = render(data)
    write_bytes(str(path), text.encode())
    return path, left_out
