"""``join-series``: join the rows that the tasks of a split series wrote into one file for each series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import CombinerFailed, OutputsMissing, SpecInvalid
from hpc_agent.node.shared.ranges import count
from hpc_agent.ops.aggregate.output_files import check_inside, output_folder, pull_within
from hpc_agent.ops.aggregate.rows import first_ranges
from hpc_agent.ops.run.fields import Positive, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.run_status import stale_errors
from hpc_agent.state.repo_files import save
from hpc_agent.world import World

JOIN_TIMEOUT_SEC = 1800.0
SHOWN, GAPS_SHOWN = 5, 3


class JoinSeriesRequest(RunScoped, kw_only=True):
    """The run, and the file of rows."""

    file: Annotated[str, doc("the file of rows in each task's result folder: .csv, .tsv, .jsonl, .txt, .json or .npy")]
    output_dir: Annotated[str | None, doc("folder of the files; results/<run_id>/series in the repo by default")] = None
    max_mb: Annotated[Positive, doc("files that are larger together stay on the cluster")] = 1000
    require_complete: Annotated[bool, doc("fail where rows are missing")] = False


class JoinSeriesResult(Result, omit_defaults=True, kw_only=True):
    """Fields that are empty are left out."""

    run_id: str
    complete: Annotated[bool, doc("every row of every series is there")]
    series: Annotated[
        list[dict[str, Any]],
        doc(
            "the first 5, those with gaps first: parameters, file, rows, length (of the whole series), bytes, gaps (why, rows, "
            "tasks: ranges). A file with gaps has .partial in its name; series.json has every series, gap and segment"
        ),
    ]
    series_count: int
    with_gaps: Annotated[int, doc("series with a gap")] = 0
    rows: int
    total_bytes: int
    unknown_tasks: Annotated[str, doc("ranges of tasks that left no record, and whose rows cannot be worked out")] = ""
    joined_now: Annotated[int, doc("series that this call joined; the others had the same parts before")] = 0
    path_remote: str
    path_local: str = ""
    series_json: str
    notes: list[str] = []
    truncated: bool = False
    next_step: str = ""


@primitive(
    stage="aggregate",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, CombinerFailed, OutputsMissing, SpecInvalid],
    progress=True,
    brief="one file a split series",
    example={"file": "forecast.csv"},
    next_verbs=["aggregate", "report"],
)
def join_series(request: JoinSeriesRequest, world: World) -> JoinSeriesResult:
    """Join the rows that tasks of a split series wrote into one file for each series, in order, on the cluster.

    A series is the tasks that differ in start, end, halo and ahead only. A task's file has its own rows, or also those of its
    halo, which are left out. Rows that no task gave are named, with the reason, and never closed: such a file is called
    .partial, and series.json has its segments.
    """
    name = request.file
    check_inside("file", name, "a task's result folder")
    run = known_run(world, request)
    world.progress.update("joining", run=run.record.run_id)
    answer = run.ask_this_version("join_series", JOIN_TIMEOUT_SEC, file=name)
    folder = output_folder(world, request.output_dir, run.repo.aggregate(run.record.run_id) / "series")
    save(folder / "series.json", {"run_id": run.record.run_id, "file": name, **answer})
    result = _result(run, answer, folder)
    if request.require_complete and not result.complete:
        raise OutputsMissing(
            f"rows are missing in {result.with_gaps} of {result.series_count} series of {run.record.run_id}",
            details={"series": result.series, "unknown_tasks": result.unknown_tasks},
            remediation=f"See 'hpc-agent failures --run-id {run.record.run_id}', or leave out --require-complete.",
        )
    files = {series["file"]: series["bytes"] for series in answer["series"] if series["file"]}
    if stayed := pull_within(run, answer["path"], files, folder, request.max_mb):
        result.notes.append(stayed)
    elif files:
        result.path_local = str(folder)
        for written in files:  # not beside it: the partial file of a series that is whole now, or the other way round
            stem, ending = Path(written).stem, Path(written).suffix
            other = stem.removesuffix(".partial") if stem.endswith(".partial") else f"{stem}.partial"
            (folder / f"{other}{ending}").unlink(missing_ok=True)
    return result


def _result(run: KnownRun, answer: dict[str, Any], folder: Path) -> JoinSeriesResult:
    found, unknown = answer["series"], count(answer["unknown"])
    broken = [series for series in found if series["gaps"]]
    failed = any(gap["why"] == "failed" for series in broken for gap in series["gaps"])
    names = ("parameters", "file", "rows", "length", "bytes", "gaps")
    whole = [  # gaps only where there are any
        {name: series[name] for name in names if name != "gaps" or series["gaps"]}
        for series in sorted(found, key=lambda series: not series["gaps"])
    ]
    shown = [_first_gaps(series) for series in whole[:SHOWN]]
    complete = not broken and not unknown
    note = f"{unknown} tasks left no record: a series may be longer than its length here"
    return JoinSeriesResult(
        run_id=run.record.run_id,
        complete=complete,
        series=shown,
        series_count=len(found),
        with_gaps=len(broken),
        rows=sum(series["rows"] for series in found),
        total_bytes=sum(series["bytes"] for series in found),
        unknown_tasks=first_ranges(answer["unknown"]),
        joined_now=sum(series["fresh"] for series in found),
        path_remote=answer["path"],
        series_json=str(folder / "series.json"),
        notes=[note] if unknown else [],
        truncated=shown != whole,
        next_step="" if complete else f"hpc-agent {'failures' if failed else 'status'} --run-id {run.record.run_id}",
        partial_errors=stale_errors(answer["stale"]),
    )


def _first_gaps(series: dict[str, Any]) -> dict[str, Any]:
    gaps = [{name: first_ranges(text) for name, text in gap.items()} for gap in series.get("gaps", [])[:GAPS_SHOWN]]
    return {**series, "gaps": gaps} if gaps else series
