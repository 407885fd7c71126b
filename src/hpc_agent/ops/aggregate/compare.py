"""``compare``: the rows of two or more runs beside each other, with the differences of their metrics."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from hpc_agent.contract.primitive import Effect, Request, primitive
from hpc_agent.errors import CombinerFailed, OutputsMissing, SpecInvalid
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.metric_names import REPEATING
from hpc_agent.node.shared.ranges import count
from hpc_agent.ops.aggregate.aggregate import Over, check_tasks, fold_run, over_notes
from hpc_agent.ops.aggregate.match import Compared, Matched, match
from hpc_agent.ops.aggregate.output_files import output_folder
from hpc_agent.ops.aggregate.rows import (
    Direction,
    Shown,
    Sort,
    Top,
    Where,
    bounded,
    fill,
    named_ranges,
    select,
    shortened,
    unknown_name,
)
from hpc_agent.ops.aggregate.table import Column, aligned, as_csv, free_names
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.state.repo_files import save
from hpc_agent.world import World

UNMATCHED_SHOWN, GROUPS_SHOWN, SUMMARIES_SHOWN, ONE_SIDED_SHOWN = 2, 3, 4, 3
# Columns, each with the part of a metric that its values are.
PARTS = {
    "metric": "", "run": "", "first": "mean", "other": "mean", "difference": "mean", "ci95": "ci95", "test": "",
    "n_first": "", "n_other": "",
}  # fmt: skip
POINT_BYTES, DIFFERS_BYTES, INCOMPLETE_BYTES = 80, 200, 250


class CompareRequest(Request):
    """The runs, the parameters that only repeat, and the rows of the answer."""

    run_ids: Annotated[
        list[str], doc("two or more runs of the repo; each is compared with the first", min_length=2, max_length=8)
    ]
    experiment_dir: ExperimentDir = "."
    over: Over = []
    metrics: Annotated[list[str], doc("only these metrics; by default all that both runs have")] = []
    sort: Sort = None
    direction: Direction = "auto"
    top: Top = None
    where: Where = []
    output_dir: Annotated[str | None, doc("folder of compare.csv; a folder below results/ in the repo by default")] = (
        None
    )


class CompareResult(Shown, omit_defaults=True, kw_only=True):
    """Columns: parameters, metric, run, first and other (the means), difference (other - first), ci95, test, n_first, n_other."""

    whole_table: ClassVar[str] = "compare_csv"
    runs: Annotated[list[str], doc("the first is the one that the others are compared with")]
    differs: Annotated[
        dict[str, list[Any]],
        doc("parameters that have one value in each run, another in each: rows match without them"),
    ] = {}
    summary: Annotated[
        list[dict[str, Any]],
        doc(
            "of each metric and run, over the rows that fulfil --where: rows where the difference is higher or lower than 0 by "
            "more than ci95, unclear (within ci95), equal (no difference at all), single (no replicates, so no interval). "
            "Every interval stands for itself: of 20 equal rows one is outside"
        ),
    ] = []
    unmatched: Annotated[
        list[dict[str, Any]], doc("rows that only one run has: run, count, and the parameters of the first 2 (rows)")
    ] = []
    incomplete: Annotated[dict[str, str], doc("run: tasks that are not in its rows")] = {}
    compare_csv: Annotated[str, doc("all rows; compare.json beside it has the unmatched ones too")]
    notes: list[str] = []


@primitive(
    stage="aggregate",
    effects=[Effect.SSH, Effect.FILES],
    errors=[*RUN_ERRORS, CombinerFailed, OutputsMissing, SpecInvalid],
    progress=True,
    brief="differences between runs",
    example={"run_ids": ["horizon_sweep-1a2b3c4d", "horizon_sweep-5e6f7a8b"]},
    next_verbs=["report"],
    larger=["top"],
)
def compare(request: CompareRequest, world: World) -> CompareResult:
    """Compare runs with the first of them: rows matched by their parameters, differences with 95 % intervals.

    Where both runs have the same replicates (--over seed) the interval is that of the paired differences, else Welch's.
    A task that wrote several values of a metric counts with their mean. Rows without a partner are
    named. Each run costs one command on its cluster.
    """
    runs = _runs(request, world)
    ids = [run.record.run_id for run in runs]
    folder = _folder(request, runs[0], ids, world)
    folded, counts = [], {}
    for run, name in zip(runs, ids, strict=True):
        world.progress.update("combining", run=name)
        folded.append(fold_run(run, [], []))
        counts[name] = folded[-1].counts()
        check_tasks(name, counts[name], require_complete=False)
    parameters = {name for one in folded for point, _ in one.table.points() for name in point}
    overall = [one.table.overall() for one in folded]
    for field, known in (("over", parameters), ("metrics", {name for found in overall for name in found})):
        if unknown := sorted(set(getattr(request, field)) - known):
            raise unknown_name(field, unknown[0], sorted(known), "no run has", "The runs have")
    matched = match([one.table for one in folded], request.over, request.metrics)
    if not matched.rows:
        raise SpecInvalid(
            f"no row of {ids[0]} has the parameters and a metric of a row of the other runs",
            field="run_ids",
            details={"rows": [{"run": ids[has], "row": point} for has, _, point in matched.unmatched[:6]]},
            remediation="Compare runs over the same parameters; see 'hpc-agent list-in-flight --all-states'.",
        )
    request, metric = _by_difference(request, matched.rows)
    columns = _columns(matched.rows, ids, metric)
    selection = select(columns, request, "compare")
    one_sided = _one_sided(matched, ids)
    document: dict[str, Any] = {
        "runs": ids,
        "over": request.over,
        "differs": matched.differs,
        "summary": _summary(matched.rows, ids),
        "unmatched": _unmatched(matched, ids),
        "notes": one_sided,
        "counts": counts,
    }
    save(folder / "compare.json", {**document, "rows": [_as_json(row, ids) for row in matched.rows]})
    write_bytes(str(folder / "compare.csv"), as_csv(columns).encode())
    matching = matched.rows if selection.matching is None else [matched.rows[row] for row in selection.matching]
    summary = _summary(matching, ids)
    shown, cut = _cut(matched.differs, document["unmatched"], _incomplete(counts))
    result = CompareResult(
        **shown,
        runs=ids,
        row_count=len(matched.rows),
        summary=summary[:SUMMARIES_SHOWN],
        compare_csv=str(folder / "compare.csv"),
        notes=[*selection.notes, *one_sided[:ONE_SIDED_SHOWN], *_notes(request, parameters, overall)],
        truncated=cut or len(summary) > SUMMARIES_SHOWN or len(one_sided) > ONE_SIDED_SHOWN,
        partial_errors=[error for one in folded for error in one.errors],
    )
    fill(result, columns, selection)
    world.progress.show(aligned(columns, selection.order))
    return result


def _by_difference(request: CompareRequest, rows: list[Compared]) -> tuple[CompareRequest, str]:
    """Return the request, and the metric whose name tells which differences are the best.

    ``--sort rmse`` means the rows of that metric by their difference.
    """
    metrics, names = {row.metric for row in rows}, {name for row in rows for name in row.point}
    if request.sort not in metrics or request.sort in names:
        return request, next(iter(metrics)) if len(metrics) == 1 else "difference"
    where = request.where if len(metrics) == 1 else [*request.where, f"{_free('metric', names)}={request.sort}"]
    return msgspec.structs.replace(request, where=where, sort=_free("difference", names)), request.sort


def _free(name: str, names: set[str]) -> str:
    return free_names([name], names, "row.")[0]


def _cut(
    differs: dict[str, list[Any]], unmatched: list[dict[str, Any]], incomplete: dict[str, str]
) -> tuple[dict[str, Any], bool]:
    """Return what an answer holds of these facts, which compare.json has whole, and True where that is less."""
    shown: dict[str, Any] = {
        "differs": bounded({name: list(map(shortened, found)) for name, found in differs.items()}, DIFFERS_BYTES),
        "unmatched": [
            {**entry, "rows": [bounded(point, POINT_BYTES) for point in entry["rows"][:UNMATCHED_SHOWN]]}
            for entry in unmatched[:GROUPS_SHOWN]
        ],
        "incomplete": bounded(incomplete, INCOMPLETE_BYTES),
    }
    return shown, shown != {"differs": differs, "unmatched": unmatched, "incomplete": incomplete}


def _runs(request: CompareRequest, world: World) -> list[KnownRun]:
    runs = [known_run(world, RunScoped(run_id=name, experiment_dir=request.experiment_dir)) for name in request.run_ids]
    twice = [name for name, times in Counter(run.record.run_id for run in runs).items() if times > 1]
    if twice:
        raise SpecInvalid(f"{twice[0]} is named twice", field="run_ids", remediation="Name different runs.")
    return runs


def _columns(rows: list[Compared], ids: list[str], metric: str) -> list[Column]:
    kwargs = dict.fromkeys(name for row in rows for name in row.point)
    columns = [Column(name, [row.point.get(name) for row in rows]) for name in kwargs]
    facts = [_as_json(row, ids) for row in rows]
    for name, part in PARTS.items():
        values = [fact[name] for fact in facts]
        if name == "test":
            values = [value or None for value in values]
        if name != "test" or any(values):
            columns.append(Column(_free(name, set(kwargs)), values, metric if part else "", part))
    return columns


def _as_json(row: Compared, ids: list[str]) -> dict[str, Any]:
    found = row.found._asdict() if row.found else {"difference": None, "ci95": None, "test": ""}
    figures = {name: getattr(row, name) for name in ("metric", "first", "other", "n_first", "n_other")}
    return {"kwargs": row.point, "run": ids[row.run], **figures, **found}


def _summary(rows: list[Compared], ids: list[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[int, str], Counter[str]] = {}
    for row in rows:
        groups.setdefault((row.run, row.metric), Counter())[_verdict(row)] += 1
    return [{"metric": metric, "run": ids[run], **verdicts} for (run, metric), verdicts in groups.items()]


def _verdict(row: Compared) -> str:
    if row.found is None:
        return "no_value"
    if not row.found.difference and not row.found.ci95:
        return "equal"
    if row.found.ci95 is None:
        return "single"
    if abs(row.found.difference) <= row.found.ci95:
        return "unclear"
    return "higher" if row.found.difference > 0 else "lower"


def _unmatched(matched: Matched, ids: list[str]) -> list[dict[str, Any]]:
    """Return the rows that one run has and the other not, by those two runs."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for has, lacks, point in matched.unmatched:
        groups.setdefault((has, lacks), []).append(point)
    return [
        {"run": ids[has], "not_in": ids[lacks], "count": len(points), "rows": points}
        for (has, lacks), points in groups.items()
    ]


def _one_sided(matched: Matched, ids: list[str]) -> list[str]:
    """Return notes about metrics that one run of a matched row lacks."""
    return [
        f"{metric} is not compared in {rows} matched {'rows' if rows > 1 else 'row'}: {ids[lacks]} has none there"
        for (metric, _, lacks), rows in sorted(matched.one_sided.items())
    ]


def _incomplete(counts: dict[str, dict[str, Any]]) -> dict[str, str]:
    words = {"failed_tasks": "failed", "missing_tasks": "not ended"}
    told = {
        name: [
            f"{count(tasks[field])} {words[field]} ({named_ranges(tasks[field])})" for field in words if tasks[field]
        ]
        for name, tasks in counts.items()
    }
    return {name: f"of {counts[name]['total_tasks']} tasks {', '.join(parts)}" for name, parts in told.items() if parts}


def _notes(request: CompareRequest, parameters: set[str], overall: list[dict[str, dict[str, Any]]]) -> list[str]:
    notes = over_notes(request.over)
    if seeds := sorted((REPEATING & parameters) - set(request.over)):
        notes.append(f"--over {','.join([*request.over, *seeds])} compares means over them, with intervals")
    unusual: Counter[str] = Counter()
    for found in overall:
        unusual.update({metric: facts["nan_count"] + facts["inf_count"] for metric, facts in found.items()})
    told = [f"{metric} {times}" for metric, times in sorted(unusual.items()) if times]
    if told:
        more = f" and {len(told) - 5} more metrics" if len(told) > 5 else ""
        notes.append(f"values that are NaN or infinite are left out: {', '.join(told[:5])}{more}")
    return notes


def _folder(request: CompareRequest, first: KnownRun, ids: list[str], world: World) -> Path:
    key = hashlib.sha256(msgspec.json.encode([ids, sorted(request.over), sorted(request.metrics)])).hexdigest()[:8]
    return output_folder(world, request.output_dir, first.repo.root / "results" / f"compare-{key}")
