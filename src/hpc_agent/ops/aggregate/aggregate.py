"""``aggregate``: combine every wave on the cluster, merge the partials here, write the table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.campaign.tagged import keep_iteration
from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import CombinerFailed, OutputsMissing, PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.metric_problems import RANGES_SHOWN, SHOWN, MetricProblems
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import count
from hpc_agent.ops.aggregate.table import SPREAD, as_csv, columns_of
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, ask_measured, known_run
from hpc_agent.ops.run.run_status import early_notes, oom_notes
from hpc_agent.state.repo_files import local_path, save
from hpc_agent.world import World

COMBINE_TIMEOUT_SEC = 1800.0
# The answer has the first rows up to so many bytes, with the statistics of table.csv. table.json has all of both.
ROWS_BYTES = 4000
REPEATING = {"seed", "random_seed", "random_state", "fold", "rep", "replicate", "repeat"}


class AggregateRequest(RunScoped):
    """The run, its waves, and the parameters that only repeat."""

    wave: Annotated[list[int], doc("only these waves; all by default")] = []
    replicates: Annotated[list[str], doc("parameters that only repeat (seeds): grouped into one row")] = []
    require_complete: Annotated[bool, doc("fail when a task is not complete")] = False
    output_dir: Annotated[str | None, doc("folder of the table; results/<run_id> in the repo by default")] = None


class AggregateResult(Result):
    run_id: str
    complete: Annotated[bool, doc("every task of these waves is in the table")]
    total_tasks: Annotated[int, doc("tasks of these waves")]
    included_tasks: int
    missing_tasks: Annotated[str, doc("ranges of tasks that have not ended, or whose end is not known yet")]
    failed_tasks: Annotated[str, doc("ranges of failed tasks")]
    without_metrics: Annotated[str, doc("ranges of complete tasks whose metrics file is missing or gave no number")]
    metrics_problems: Annotated[
        list[dict[str, Any]],
        doc(
            "what was not taken as it is, the first 20 kinds: task (the first), field, message, value (a sample), count and "
            "tasks (ranges); no field for a whole file. All are in table.json"
        ),
    ]
    metrics_problem_count: Annotated[int, doc("kinds of problems in table.json")]
    combined_waves: list[int]
    waves_combined_this_call: list[int]
    kwargs: Annotated[list[str], doc("columns that name a grid point")]
    metrics: list[str]
    rows: Annotated[
        list[dict[str, Any]],
        doc("the first rows, at most 4,000 bytes: kwargs, count, and of each metric count, mean, std, min, max"),
    ]
    row_count: int
    overall: Annotated[dict[str, Any], doc("each metric over all tasks: count, sum, mean, min, max, ...")]
    usage: Annotated[dict[str, float], doc("cpu_seconds and task_seconds of the included tasks")]
    table_json: str
    table_csv: str
    notes: Annotated[list[str], doc("what to know of the tasks in the table")] = []
    next_step: Annotated[str, doc("empty: every task is in the table")] = ""


@primitive(
    stage="aggregate",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, CombinerFailed, OutputsMissing, SpecInvalid],
    aliases=["aggregate-flow", "combine-wave"],
    progress=True,
)
def aggregate(request: AggregateRequest, world: World) -> AggregateResult:
    """Fold the records of complete tasks into one table, JSON and CSV: a row for each grid point.

    The cluster folds each wave into one partial; only partials travel. Sums are exact, so order, retries and repeats
    do not change a digit. The answer names the tasks that are not complete; the table leaves them out.
    """
    run = known_run(world, request)
    world.progress.update("combining", run=run.record.run_id)
    question = {"waves": request.wave or None, "replicates": request.replicates}
    answer = ask_measured(run, "combine", question, COMBINE_TIMEOUT_SEC)
    waves = list(answer["waves"].values())
    included, total = sum(count(wave["included"]) for wave in waves), sum(wave["tasks"] for wave in waves)
    left_out = {"failed_tasks": _joined(waves, "failed"), "missing_tasks": _joined(waves, "missing")}
    if included == 0:
        failed = sum(count(wave["failed"]) for wave in waves)
        all_failed = failed == total
        raise PreconditionFailed(
            f"all {total} tasks of {run.record.run_id} have failed"
            if all_failed
            else f"no task of {run.record.run_id} is complete yet",
            remediation=f"Run 'hpc-agent {'failures' if all_failed else 'monitor-flow'} --run-id {run.record.run_id}' first.",
            details=left_out,
        )
    if request.require_complete and included < total:
        raise OutputsMissing(
            f"{total - included} of {total} tasks of {run.record.run_id} are not complete",
            details=left_out,
            remediation=f"See 'hpc-agent logs --run-id {run.record.run_id} --all-failed', or leave out --require-complete.",
        )
    wanted = request.output_dir
    folder = local_path(world.cwd, wanted, "output_dir", True) if wanted else run.repo.aggregate(run.record.run_id)
    keep_iteration(run.repo, run.record, waves)
    counts = {"complete": included == total, "total_tasks": total, "included_tasks": included, **left_out}
    return _write_table(run, folder, waves, request.replicates, counts)


def _write_table(
    run: KnownRun, folder: Path, waves: list[dict[str, Any]], replicates: list[str], counts: dict[str, Any]
) -> AggregateResult:
    """Merge the partials, write the table as JSON and CSV, and journal the aggregation."""
    table, problems = Table(replicates=replicates), MetricProblems()
    for wave in waves:
        table.merge(Table.from_json(wave["table"]))
        problems.merge(wave.get("metrics_problems", []))
    told = problems.to_json()
    rows = table.rows()
    kwargs, metrics = columns_of(rows)
    shown = _shown(rows)
    verb = "failures" if counts["failed_tasks"] else "monitor-flow" if counts["missing_tasks"] else ""
    result = AggregateResult(
        run_id=run.record.run_id,
        **counts,
        without_metrics=_joined(waves, "without_metrics"),
        metrics_problems=[_short(problem) for problem in told[:SHOWN]],
        metrics_problem_count=len(told),
        combined_waves=sorted(wave["wave"] for wave in waves),
        waves_combined_this_call=sorted(wave["wave"] for wave in waves if wave["fresh"]),
        kwargs=kwargs,
        metrics=metrics,
        rows=shown,
        row_count=len(rows),
        overall=table.overall(),
        usage={name: round(sum(wave["usage"][name] for wave in waves), 3) for name in ("cpu_seconds", "task_seconds")},
        notes=[
            *oom_notes(_joined(waves, "oom_killed")),
            *early_notes(sum(wave.get("stopped_early", 0) for wave in waves)),
            *_of_rows(rows, shown, set(kwargs) - set(replicates), folder),
        ],
        next_step=f"hpc-agent {verb} --run-id {run.record.run_id}" if verb else "",
        table_json=str(folder / "table.json"),
        table_csv=str(folder / "table.csv"),
    )
    document = {**msgspec.to_builtins(result), "rows": rows, "metrics_problems": told}
    del document["partial_errors"]
    save(folder / "table.json", document)
    write_bytes(str(folder / "table.csv"), as_csv(rows).encode())
    run.journal.append(run.record.run_id, "aggregated", waves=result.combined_waves, output=str(folder))
    return result


def _of_rows(rows: list[dict[str, Any]], shown: list[dict[str, Any]], names: set[str], folder: Path) -> list[str]:
    """Return notes about rows that the answer does not show, and about parameters that only seem to repeat."""
    notes = []
    if len(shown) < len(rows):
        notes.append(f"rows has the first {len(shown)} of {len(rows)}: {folder / 'table.csv'} has all")
    if len(rows) > 1 and (seeds := sorted(names & REPEATING)):
        notes.append(f"--replicates {','.join(seeds)} makes one row of those that differ in it only")
    return notes


def _short(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the problem without long ranges; ``task`` and ``count`` stay."""
    return {key: value for key, value in problem.items() if key != "tasks" or len(value) <= RANGES_SHOWN}


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first rows for the answer: all, or as many as ROWS_BYTES hold. NaN and infinite values are never left out."""
    shown: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        metrics = {name: _statistics(summary) for name, summary in row["metrics"].items()}
        shown.append({**row, "metrics": metrics})
        size += len(msgspec.json.encode(shown[-1]))
        if size > ROWS_BYTES and len(shown) > 1:
            return shown[:-1]
    return shown


def _statistics(summary: dict[str, Any]) -> dict[str, Any]:
    names = SPREAD if summary["count"] > 1 else ("count", "mean")
    unusual = [name for name in ("nan_count", "inf_count") if summary.get(name)]
    return {name: summary[name] for name in (*names, *unusual) if name in summary}


def _joined(waves: list[dict[str, Any]], name: str) -> str:
    return ",".join(wave[name] for wave in waves if wave.get(name))  # a run of an earlier version knows fewer
