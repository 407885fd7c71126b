"""``verify-aggregation-complete``: every wave combined, every task once, no task of another run, every declared metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import OutputsMissing, SpecInvalid
from hpc_agent.node.shared.ranges import count, decode_ranges, encode_ranges
from hpc_agent.ops.aggregate.aggregate import COMBINE_TIMEOUT_SEC
from hpc_agent.ops.aggregate.output_files import output_folder
from hpc_agent.ops.aggregate.rows import first_ranges, named_ranges
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.run_status import stale_errors
from hpc_agent.world import World

NOTES_SHOWN = 5
NOTHING_DECLARED = "no metric is declared: --expected-columns names those that each task must have"
WAVES = {
    "missing": "not combined",
    "stale": "combined before tasks ended",
    "damaged": "not as its tasks' records are",
    "foreign": "of another run",
}


class VerifyAggregationRequest(RunScoped):
    """The run, the metrics that each task must have, and the folder of its table."""

    expected_columns: Annotated[
        list[str], doc("metrics that each task must have written; what submit's --expected-columns named by default")
    ] = []
    results_dir: Annotated[str | None, doc("folder of table.json; results/<run_id> in the repo by default")] = None


class VerifyAggregationResult(Result, omit_defaults=True, kw_only=True):
    """Fields that are empty are left out. Ranges are cut after 100 characters."""

    run_id: str
    ok: Annotated[
        bool, doc("always true: a table with a defect is the error outputs_missing, with these fields as details")
    ]
    all_waves_combined: bool
    expected_waves: int
    combined_waves: int
    missing_waves: Annotated[str, doc("ranges of waves that were not combined")] = ""
    stale_waves: Annotated[str, doc("ranges of waves that were combined before tasks ended")] = ""
    damaged_waves: Annotated[str, doc("ranges of waves whose partial is not what the records of the tasks give")] = ""
    foreign_waves: Annotated[
        str, doc("ranges of waves whose partial another run wrote, or that the run does not have")
    ] = ""
    all_tasks_present: bool
    expected_tasks: int
    combined_tasks: int
    missing_tasks: Annotated[str, doc("ranges of tasks that no partial has")] = ""
    failed_tasks: Annotated[str, doc("ranges of those of them that have failed")] = ""
    repeated_tasks: Annotated[str, doc("ranges of tasks that several partials have")] = ""
    unexpected_tasks: Annotated[
        str, doc("ranges of tasks that are not of their wave, or whose parameters are not those that were submitted")
    ] = ""
    unreadable_tasks: Annotated[str, doc("ranges of complete tasks whose record is gone or cannot be read")] = ""
    unexpected_aggregated_keys: Annotated[list[str], doc("grid points that no task of the run has, the first 20")] = []
    provenance_present: Annotated[bool, doc("table.json names this run and the tasks of these partials, each row once")]
    table_json: Annotated[str, doc("the table that was compared")]
    columns_checked: Annotated[list[str], doc("declared metrics; left out: none is declared")] = []
    column_violations: Annotated[dict[str, str], doc("metric: ranges of tasks that did not write it")] = {}
    notes: list[str] = []
    truncated: bool = False


@primitive(
    stage="aggregate",
    effects=[Effect.SSH],
    errors=[*RUN_ERRORS, OutputsMissing, SpecInvalid],
    brief="is the table whole?",
    example={"run_id": "latest"},
    next_verbs=["report", "aggregate"],
)
def verify_aggregation_complete(request: VerifyAggregationRequest, world: World) -> VerifyAggregationResult:
    """Check that the table of a run is whole: each wave and task once, no other run's, every declared metric.

    The cluster compares the partials of the waves with the ledger and with the record of every task, in one command; this
    machine compares table.json with the partials. Nothing is changed. A defect is an error that names all of them.
    """
    run = known_run(world, request)
    folder = output_folder(world, request.results_dir, run.repo.aggregate(run.record.run_id), "results_dir")
    found = _ask(run, request.expected_columns)
    problem = _table_problem(folder / "table.json", run, found)
    result = _verdict(run.record.run_id, found, folder, not problem)
    problems = [*_problems(found), *([problem] if problem else [])]
    if problems:
        result.ok = False
        raise OutputsMissing(
            f"the table of {run.record.run_id} is not complete: {'; '.join(problems)}",
            details=msgspec.to_builtins(result),
            remediation=_remedy(run.record.run_id, found),
        )
    return result


def _ask(run: KnownRun, columns: list[str]) -> dict[str, Any]:
    try:
        return run.node.ask("verify_aggregation", run.record.run_id, {"columns": columns}, COMBINE_TIMEOUT_SEC)
    except SpecInvalid as error:
        if "has no verb" not in error.message:
            raise
    return run.ask_this_version("verify_aggregation", COMBINE_TIMEOUT_SEC, columns=columns)


def _verdict(run_id: str, found: dict[str, Any], folder: Path, provenance: bool) -> VerifyAggregationResult:
    waves, notes = found["waves"], _uneven(found)
    bad = {name: set(decode_ranges(waves[name])) for name in ("missing", "damaged", "foreign")}
    combined = set(range(found["expected_waves"])) - bad["missing"] - bad["damaged"] - bad["foreign"]
    ranges = {
        **{f"{name}_waves": waves[name] for name in WAVES},
        **{f"{name}_tasks": found[name] for name in ("missing", "repeated", "unexpected", "unreadable")},
        "failed_tasks": _failed(found),
    }
    shown: dict[str, Any] = {name: first_ranges(text) for name, text in ranges.items()}
    violations = {name: first_ranges(text) for name, text in found["violations"].items()}
    return VerifyAggregationResult(
        run_id=run_id,
        ok=True,
        all_waves_combined=not any(waves.values()),
        expected_waves=found["expected_waves"],
        combined_waves=len(combined),
        all_tasks_present=not found["missing"],
        expected_tasks=found["expected_tasks"],
        combined_tasks=count(found["included"]),
        unexpected_aggregated_keys=found["unexpected_keys"],
        provenance_present=provenance,
        table_json=str(folder / "table.json"),
        columns_checked=found["columns"],
        column_violations=violations,
        notes=[*([] if found["columns"] else [NOTHING_DECLARED]), *notes[:NOTES_SHOWN]],
        truncated=shown != ranges
        or violations != found["violations"]
        or len(notes) > NOTES_SHOWN
        or found["unexpected_key_count"] > len(found["unexpected_keys"]),
        partial_errors=stale_errors(found["stale"]),
        **shown,
    )


def _uneven(found: dict[str, Any]) -> list[str]:
    return [f"tasks {named_ranges(tasks)} wrote no {name}, which others did" for name, tasks in found["uneven"].items()]


def _failed(found: dict[str, Any]) -> str:
    """Return the ranges of the missing tasks that have failed."""
    return encode_ranges(set(decode_ranges(found["failed"])).intersection(decode_ranges(found["missing"])))


def _problems(found: dict[str, Any]) -> list[str]:
    """Return what is wrong, in words, with the names."""
    problems = [
        f"{'waves' if count(waves) > 1 else 'wave'} {named_ranges(waves)} {'are' if count(waves) > 1 else 'is'} {WAVES[name]}"
        for name, waves in found["waves"].items()
        if waves
    ]
    failed = count(_failed(found))
    sentences = {
        "missing": "tasks {} are missing" + (f" ({failed} failed)" if failed else ""),
        "repeated": "tasks {} are counted more than once",
        "unexpected": "tasks {} are not of this run or not of their wave",
        "unreadable": "the records of tasks {} cannot be read",
    }
    problems += [text.format(named_ranges(found[name])) for name, text in sentences.items() if found[name]]
    if found["unexpected_keys"]:
        problems.append(f"{found['unexpected_key_count']} grid points are of no task: {found['unexpected_keys'][0]}")
    return problems + [f"tasks {named_ranges(tasks)} wrote no {name}" for name, tasks in found["violations"].items()]


def _table_problem(path: Path, run: KnownRun, found: dict[str, Any]) -> str:
    """Return what is wrong with table.json; "" where it is the table of these partials."""
    try:
        document = msgspec.json.decode(path.read_bytes())
        provenance, rows = document["provenance"], document["rows"]
        if provenance["run_id"] != run.record.run_id or provenance["cmd_sha"] != run.record.cmd_sha:
            return f"{path} is of the run {provenance['run_id']}"
        if document["included"] != found["included"] or sum(row["count"] for row in rows) != count(found["included"]):
            return f"{path} has {document['included_tasks']} tasks, the partials have {count(found['included'])}"
    except FileNotFoundError:
        return f"there is no {path}"
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{path} cannot be read as a table of this version"
    return ""


def _remedy(run_id: str, found: dict[str, Any]) -> str:
    """Return the command that mends the first thing that has to be mended."""
    if found["not_ended"] or found["unplanned"]:
        return f"Run 'hpc-agent monitor-flow --run-id {run_id}', then 'hpc-agent aggregate --run-id {run_id}'."
    if found["failed"]:
        return f"Run 'hpc-agent failures --run-id {run_id}', then mend and resubmit what it names."
    if tasks := next(filter(None, [*found["violations"].values(), found["unexpected"], found["unreadable"]]), ""):
        return f"See 'hpc-agent logs --run-id {run_id} --task-id {decode_ranges(tasks)[0]}'."
    again = " --force" if found["waves"]["damaged"] else ""
    return f"Run 'hpc-agent aggregate --run-id {run_id}{again}'."
