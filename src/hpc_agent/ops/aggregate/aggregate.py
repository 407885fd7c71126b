"""``aggregate``: combine every wave on the cluster, merge the partials here, write the table."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from hpc_agent.campaign.tagged import keep_iteration
from hpc_agent.contract.primitive import Effect, PartialError, primitive
from hpc_agent.errors import CombinerFailed, OutputsMissing, PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.metric_names import REPEATING
from hpc_agent.node.shared.metric_problems import MetricProblems
from hpc_agent.node.shared.metric_table import Table
from hpc_agent.node.shared.ranges import count, decode_ranges, encode_ranges
from hpc_agent.ops.aggregate.intervals import half_width
from hpc_agent.ops.aggregate.output_files import output_folder
from hpc_agent.ops.aggregate.parquet import parquet_library, write_parquet
from hpc_agent.ops.aggregate.reduce import (
    ClusterReduceRequest,
    ReducerChoice,
    incomplete,
    reduce_on_cluster,
    reducer_of,
)
from hpc_agent.ops.aggregate.rows import (
    Direction,
    Shown,
    Sort,
    Top,
    Where,
    bounded,
    fill,
    first_ranges,
    select,
    unknown_name,
)
from hpc_agent.ops.aggregate.table import Rows, as_csv, as_text, columns_of, table_columns
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, ask_measured, known_run
from hpc_agent.ops.run.run_status import early_notes, oom_notes, stale_errors
from hpc_agent.world import World

COMBINE_TIMEOUT_SEC = 1800.0
PROBLEMS_SHOWN, PROBLEM_CHARACTERS = 2, 90
UNUSUAL_BYTES = 100
MANY = 20  # rows
# Fields that only one of the two ways heeds, with their defaults.
OF_THE_TABLE: dict[str, Any] = {"over": [], "sort": None, "top": None, "where": [], "wave": [], "parquet": False}
OF_A_REDUCER: dict[str, Any] = {"aggregate_cmd": None, "reducer": None, "as_job": False}

Over = Annotated[list[str], doc("parameters that only repeat (seed,fold): rows that differ in them only become one")]


class AggregateRequest(ReducerChoice):
    """The run, its waves, the parameters that only repeat, and the rows of the answer."""

    over: Over = []
    sort: Sort = None
    direction: Direction = "auto"
    top: Top = None
    where: Where = []
    wave: Annotated[list[int], doc("only these waves, with a table of their own; all by default")] = []
    mode: Annotated[
        Literal["auto", "combiner-only", "cluster-reduce"],
        doc(
            "combiner-only: the built-in statistics; cluster-reduce: your own reducer; auto: the one that is named here or was "
            "named at submit, if any, unless a flag of the built-in table is given"
        ),
    ] = "auto"
    force: Annotated[bool, doc("fold the records again, also of waves that have not changed")] = False
    require_complete: Annotated[bool, doc("fail when a task is not complete")] = False
    parquet: Annotated[bool, doc("write table.parquet too; needs the extra 'parquet'")] = False
    output_dir: Annotated[str | None, doc("folder of the table; results/<run_id> in the repo by default")] = None


class AggregateResult(Shown, omit_defaults=True, kw_only=True):
    run_id: str
    complete: Annotated[bool, doc("every task of these waves is in the table")]
    total_tasks: Annotated[int, doc("tasks of these waves")]
    included_tasks: Annotated[int, doc("tasks in the table")]
    failed_count: int = 0
    failed_tasks: Annotated[str, doc("ranges of failed tasks, the first 100 characters")] = ""
    missing_count: int = 0
    missing_tasks: Annotated[str, doc("ranges of tasks that have not ended, or whose end is not known yet")] = ""
    without_metrics: Annotated[str, doc("ranges of complete tasks whose metrics file is missing or gave no number")] = (
        ""
    )
    nan: Annotated[dict[str, int], doc("metric: values of all tasks that are NaN; no figure has them")] = {}
    inf: Annotated[dict[str, int], doc("metric: values of all tasks that are infinite; no figure has them")] = {}
    metrics_problems: Annotated[
        list[dict[str, Any]],
        doc(
            "what was not taken as it is, the first 2 kinds: task (the first), field, message, value (a sample), count; no "
            "field for a whole file. table.json has all"
        ),
    ] = []
    metrics_problem_count: Annotated[int, doc("kinds of problems in table.json")] = 0
    combined_waves: Annotated[str, doc("ranges of the waves that were asked for; left out: all")] = ""
    table_csv: Annotated[str, doc("the whole table; table.json beside it has every statistic")] = ""
    reduction: Annotated[dict[str, Any], doc("what your own reducer gave, as cluster-reduce answers")] = {}
    table_parquet: str = ""
    notes: Annotated[list[str], doc("what to know of the table")] = []
    next_step: Annotated[str, doc("left out: every task is in the table")] = ""


class Folded(NamedTuple):
    """The partials of a run, merged."""

    waves: list[dict[str, Any]]
    table: Table
    problems: list[dict[str, Any]]
    errors: list[PartialError]

    def ranges(self, name: str) -> str:
        # a run of an earlier version knows fewer
        joined = ",".join(wave[name] for wave in self.waves if wave.get(name))
        return encode_ranges(decode_ranges(joined))

    def first_of_axes(self) -> dict[str, Any]:
        """Return the first value of each replicate axis, which no row has."""
        each = [wave.get("first") or {} for wave in self.waves]
        return {name: value for first in reversed(each) for name, value in first.items()}

    def counts(self) -> dict[str, Any]:
        """Return the tasks in the table, and the others, as table.json has them."""
        included, total = count(self.ranges("included")), sum(wave["tasks"] for wave in self.waves)
        return {
            "complete": included == total,
            "total_tasks": total,
            "included_tasks": included,
            "failed_tasks": self.ranges("failed"),
            "missing_tasks": self.ranges("missing"),
        }


@primitive(
    stage="aggregate",
    effects=[Effect.SSH, Effect.SUBMIT, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, CombinerFailed, OutputsMissing, SpecInvalid],
    aliases=["aggregate-flow", "combine-wave"],
    progress=True,
    brief="table, best rows first",
    example={"run_id": "latest", "sort": "mae"},
    next_verbs=["report", "compare", "verify-aggregation-complete"],
    larger=["top"],
)
def aggregate(request: AggregateRequest, world: World) -> AggregateResult:
    """Fold the records of complete tasks into one table: a row for each grid point, the best rows in the answer.

    The cluster folds each wave into one partial; only partials travel. Sums are exact, so order, retries and repeats
    do not change a digit. The answer has the rows that were asked for, as many as 2 KB hold; table.csv and table.json
    have all of them with every digit. Tasks that are not complete are named, and left out of the table.
    """
    run = known_run(world, request)
    if _by_reducer(run, request):
        return _reduced(run, request, world)
    result, rows = make_table(run, request, world)
    world.progress.show(as_text(rows))
    return result


def _by_reducer(run: KnownRun, request: AggregateRequest) -> bool:
    """Return True when the user's own reducer is asked for. Raises SpecInvalid for a flag that the chosen way ignores."""
    for_table, for_reducer = (
        next((field for field in fields if getattr(request, field)), "") for fields in (OF_THE_TABLE, OF_A_REDUCER)
    )
    named = request.aggregate_cmd or request.reducer or ((for_reducer or not for_table) and reducer_of(run))
    chosen = request.mode == "cluster-reduce" or (request.mode == "auto" and bool(named))
    if field := for_table if chosen else for_reducer:
        ways = ["your own reducer", "the built-in table"]
        mode, unset = ("combiner-only", OF_A_REDUCER) if chosen else ("cluster-reduce", OF_THE_TABLE)
        other: Any = msgspec.structs.replace(request, mode=mode, **unset)
        raise SpecInvalid(
            f"--{field.replace('_', '-')} is for {ways[chosen]}, and this call asks for {ways[not chosen]}",
            field=field,
            remediation=f"Run: {command_line('aggregate', other)}",
        )
    return chosen


def _reduced(run: KnownRun, request: AggregateRequest, world: World) -> AggregateResult:
    """Return the answer of the user's own reducer: what a table's answer has too stands where it stands there."""
    fields = set(ClusterReduceRequest.__struct_fields__).intersection(AggregateRequest.__struct_fields__)
    asked = ClusterReduceRequest(**{name: getattr(request, name) for name in fields}, local_dir=request.output_dir)
    facts = msgspec.to_builtins(reduce_on_cluster(run, asked, world))
    facts.setdefault("included_tasks", 0)
    same = {name: facts.pop(name) for name in AggregateResult.__struct_fields__ if name in facts}
    complete = same["included_tasks"] == same["total_tasks"]
    return msgspec.convert({**same, "row_count": 0, "complete": complete, "reduction": facts}, AggregateResult)


def make_table(run: KnownRun, request: AggregateRequest, world: World) -> tuple[AggregateResult, Rows]:
    """Fold a run and write its table. Return the answer, and the rows in its order. Raises the errors of ``aggregate``."""
    if request.parquet:
        parquet_library()
    folder = run.repo.aggregate(run.record.run_id)
    if request.wave:  # a part of the table never takes the place of the whole one
        folder /= "wave_" + encode_ranges(request.wave).replace(",", "_")
    folder = output_folder(world, request.output_dir, folder)
    world.progress.update("combining", run=run.record.run_id)
    with _without_collector():
        folded = fold_run(run, request.wave, request.over, request.force)
        check_tasks(run.record.run_id, folded.counts(), request.require_complete)
        keep_iteration(run.repo, run.record, folded.waves)
        return write_table(run, folder, folded, request, world.now())


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the search for cycles of objects, which a table has none of: it takes a third of the time of a large one."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def fold_run(run: KnownRun, waves: list[int], over: list[str], force: bool = False) -> Folded:
    """Combine the waves of a run (all by default) on the cluster, in one command, and merge their partials."""
    question = {"waves": waves or None, "replicates": over, "force": force}
    answer = ask_measured(run, "combine", question, COMBINE_TIMEOUT_SEC)
    found = list(answer["waves"].values())
    known = {name for wave in found for name in wave.get("kwargs", [])}
    unknown = sorted(set(over) - known)
    if known and unknown:  # partials of an earlier version do not name their parameters
        absent = f"no task of {run.record.run_id} has a parameter"
        raise unknown_name("over", unknown[0], sorted(known), absent, "The parameters are")
    table, problems = Table(replicates=over), MetricProblems()
    for wave in found:
        table.merge_json(wave["table"])
        problems.merge(wave.get("metrics_problems", []))
    return Folded(found, table, problems.to_json(), stale_errors(answer.get("stale")))


def check_tasks(run_id: str, counts: dict[str, Any], require_complete: bool) -> None:
    """Raise PreconditionFailed when no task is complete, OutputsMissing when one is not that has to be."""
    total, included = counts["total_tasks"], counts["included_tasks"]
    left_out = {name: counts[name] for name in ("failed_tasks", "missing_tasks")}
    if not included:
        all_failed = count(counts["failed_tasks"]) == total
        raise PreconditionFailed(
            f"all {total} tasks of {run_id} have failed" if all_failed else f"no task of {run_id} is complete yet",
            remediation=f"Run 'hpc-agent {'failures' if all_failed else 'monitor-flow'} --run-id {run_id}' first.",
            details=left_out,
        )
    if require_complete and included < total:
        raise incomplete(run_id, included, total, left_out)


def with_intervals(rows: Rows) -> Rows:
    """Add ``ci95`` to the summaries that have an interval."""
    for row in rows:
        for facts in row["metrics"].values():
            if (half := half_width(facts, row["count"])) is not None:
                facts["ci95"] = half
    return rows


def write_table(
    run: KnownRun, folder: Path, folded: Folded, request: AggregateRequest, now: float
) -> tuple[AggregateResult, Rows]:
    """Write the table as JSON and CSV (and Parquet), and journal the aggregation."""
    rows = with_intervals(folded.table.rows())
    columns = table_columns(rows)
    selection = select(columns, request, "aggregate")
    early = sum(wave.get("stopped_early", 0) for wave in folded.waves)
    notes = [*oom_notes(folded.ranges("oom_killed")), *early_notes(early), *selection.notes, *_notes(rows, request)]
    document = _document(run, folded, request.over, rows, now)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(str(folder / "table.json"), msgspec.json.encode(document, order="sorted"))
    write_bytes(str(folder / "table.csv"), as_csv(columns).encode())
    parquet = folder / "table.parquet"
    if request.parquet or parquet.exists():  # an earlier one must not be of another table
        notes += write_parquet(parquet, columns)
    run.journal.append(run.record.run_id, "aggregated", waves=document["combined_waves"], output=str(folder))
    result = _answer(folder, document, request, notes, folded.errors)
    fill(result, columns, selection)
    return result, [rows[row] for row in selection.order]


def _document(run: KnownRun, folded: Folded, over: list[str], rows: Rows, now: float) -> dict[str, Any]:
    """Return table.json: every row with every statistic, and the facts of the run."""
    kwargs, metrics = columns_of(rows)
    facts = {name: getattr(run.record, name) for name in ("run_id", "cluster", "cmd_sha", "remote_path")}
    return {
        "run_id": run.record.run_id,
        **folded.counts(),
        "included": folded.ranges("included"),
        "without_metrics": folded.ranges("without_metrics"),
        "metrics_problems": folded.problems,
        "metrics_problem_count": len(folded.problems),
        "combined_waves": sorted(wave["wave"] for wave in folded.waves),
        "waves_combined_this_call": sorted(wave["wave"] for wave in folded.waves if wave["fresh"]),
        "over": sorted(set(over)),
        "over_first": folded.first_of_axes(),
        "kwargs": kwargs,
        "metrics": metrics,
        "rows": rows,
        "row_count": len(rows),
        "overall": folded.table.overall(),
        "usage": {
            name: round(sum(wave["usage"][name] for wave in folded.waves), 3)
            for name in ("cpu_seconds", "task_seconds")
        },
        "provenance": {**facts, "combined_at": now},
    }


def _answer(
    folder: Path, document: dict[str, Any], request: AggregateRequest, notes: list[str], errors: list[PartialError]
) -> AggregateResult:
    verb = "failures" if document["failed_tasks"] else "monitor-flow" if document["missing_tasks"] else ""
    whole: dict[str, Any] = {name: document[name] for name in ("failed_tasks", "missing_tasks", "without_metrics")}
    for name in ("nan", "inf"):
        counts = {metric: facts[f"{name}_count"] for metric, facts in document["overall"].items()}
        whole[name] = {metric: times for metric, times in counts.items() if times}
    shown: dict[str, Any] = {
        name: first_ranges(found) if isinstance(found, str) else bounded(found, UNUSUAL_BYTES)
        for name, found in whole.items()
    }
    problems = document["metrics_problems"]
    same = ("run_id", "row_count", "complete", "total_tasks", "included_tasks", "metrics_problem_count")
    return AggregateResult(
        **{name: document[name] for name in same},
        **shown,
        failed_count=count(document["failed_tasks"]),
        missing_count=count(document["missing_tasks"]),
        metrics_problems=[_short(problem) for problem in problems[:PROBLEMS_SHOWN]],
        combined_waves=first_ranges(encode_ranges(document["combined_waves"])) if request.wave else "",
        table_csv=str(folder / "table.csv"),
        table_parquet=str(folder / "table.parquet") if request.parquet else "",
        notes=notes,
        next_step=f"hpc-agent {verb} --run-id {document['run_id']}" if verb else "",
        truncated=shown != whole or len(problems) > PROBLEMS_SHOWN,
        partial_errors=errors,
    )


def _short(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the problem without its ranges of tasks, with the beginning of long text; ``task`` and ``count`` stay."""
    return {
        key: value[:PROBLEM_CHARACTERS] if isinstance(value, str) else value
        for key, value in problem.items()
        if key != "tasks"
    }


def over_notes(over: list[str]) -> list[str]:
    """Return a note where an interval is one of replicates only if the user is right: no name says that they repeat."""
    others = sorted(set(over) - REPEATING)
    return [f"ci95 is right only if the values of {', '.join(others)} are repeats of one measurement"] if others else []


def _notes(rows: Rows, request: AggregateRequest) -> list[str]:
    """Return notes about parameters that only seem to repeat, about the order of many rows, about missing intervals."""
    kwargs, metrics = columns_of(rows)
    with_interval = any("ci95" in facts for row in rows for facts in row["metrics"].values())
    notes = over_notes(request.over) if with_interval else []
    if len(rows) > 1 and (seeds := sorted(REPEATING.intersection(kwargs))):
        notes.append(f"--over {','.join([*request.over, *seeds])} makes one row of those that differ in it only")
    if len(rows) > MANY and not request.sort and metrics:
        notes.append(f"the rows are in the order of the parameters: --sort {metrics[0]} has the best first")
    if any(facts.get("weighted") for row in rows for facts in row["metrics"].values()):
        notes.append("weighted means have no interval")
    return notes
