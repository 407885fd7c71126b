"""``verify-reproduction``: compare two runs row by row, and name the first difference in what made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import PreconditionFailed, ReproductionDiffers, SpecInvalid
from hpc_agent.ops.provenance.row_differences import RowComparison, compare_rows
from hpc_agent.ops.run.declared_inputs import changes
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

ROWS_TIMEOUT_SEC = 900.0
SHOWN = 5
# Fields of run.json that are code, in the order in which they are named; beside them `env`, of which no value is shown.
CODE = ("tree_sha", "cmd_sha", "tasks_py_sha", "executor", "snapshot", "modules", "conda_env", "result_dir_template",
        "resources", "early_stop")  # fmt: skip
SHAS = ("tree_sha", "cmd_sha", "tasks_py_sha", "snapshot")
ENVIRONMENT = ("modules", "gpus", "cpu_model", "os", "kernel", "cpus", "node")


class VerifyReproductionRequest(RunScoped):
    """The repeat, the run that it repeats, and the tolerances."""

    of: Annotated[str | None, doc("the run to compare with; the one that run_id reproduces by default")] = None
    rtol: Annotated[float, doc("relative tolerance: |now - before| <= atol + rtol * |before|", ge=0)] = 0.0
    atol: Annotated[float, doc("absolute tolerance", ge=0)] = 0.0


class VerifyReproductionResult(Result, omit_defaults=True, kw_only=True):
    """Empty fields are left out. NaN equals NaN."""

    run_id: str
    of: str
    reproduced: Annotated[
        bool, doc("always true: other results are the error reproduction_differs, with these fields as details")
    ]
    rows_compared: int
    rows_equal: Annotated[int, doc("rows without any difference in a digit")]
    rtol: float
    atol: float
    max_difference: Annotated[float, doc("largest |now - before|")] = 0.0
    max_relative_difference: float = 0.0
    rows_different: Annotated[int, doc("rows beyond the tolerances")] = 0
    rows_in_one: Annotated[int, doc("rows that only one of the runs has, or that failed in one only")] = 0
    failed_in_both: int = 0
    differences: Annotated[
        list[dict[str, Any]],
        doc(
            "the first five of inputs, code, environment, and results, in this order. in: which of them; what, before, now; "
            "of results task, and task_before where the number in the other run differs; 12 digits of a SHA-256"
        ),
    ] = []
    difference_counts: dict[str, int] = {}
    notes: list[str] = []


@primitive(
    stage="provenance",
    effects=[Effect.SSH],
    errors=[*RUN_ERRORS, ReproductionDiffers, SpecInvalid],
    brief="same results?",
    example={"run_id": "latest"},
    next_verbs=["compare", "run-story"],
)
def verify_reproduction(request: VerifyReproductionRequest, world: World) -> VerifyReproductionResult:
    """Compare the results of two runs row by row, and what made them: inputs, code, environment.

    Tasks are matched by their number where both runs have the same parameters, else by their parameters. Results beyond
    the tolerances are an error. Another environment with the same results is told, and is no error.
    """
    run = known_run(world, request)
    of = request.of or read_run_sidecar(run.repo, run.record.run_id).reproduces
    if not of:
        message = f"{run.record.run_id} is no repeat of another run"
        remedy = f"Name the run to compare with; hpc-agent reproduce-run --run-id {run.record.run_id} makes a repeat."
        raise SpecInvalid(message, field="of", remediation=remedy)
    if of == run.record.run_id:
        raise SpecInvalid(f"{of} cannot be compared with itself", field="of")
    other = known_run(world, RunScoped(run_id=of, experiment_dir=request.experiment_dir))
    by_number = run.record.cmd_sha == other.record.cmd_sha
    now, before = (_ask(one, not by_number) for one in (run, other))
    missing = int(now["run"]["task_count"]) - len(now["rows"])
    if missing and run.record.status not in TERMINAL:
        message = f"{missing} of {now['run']['task_count']} tasks of {run.record.run_id} have not ended"
        remedy = f"Run 'hpc-agent monitor-flow --run-id {run.record.run_id}' first."
        raise PreconditionFailed(message, field="run_id", remediation=remedy)
    rows = compare_rows(before["rows"], now["rows"], by_number, request.rtol, request.atol)
    found = {
        "inputs": _inputs(before["run"], now["run"]),
        "code": _changed_snapshot(before, now)
        + _changed_files(run, other, before, now)
        + _code(before["run"], now["run"]),
        "environment": _environment(before["environment"], now["environment"]),
        "results": rows.differences,
    }
    return _verdict(request, run.record.run_id, of, rows, found)


def _ask(run: KnownRun, parameters: bool) -> dict[str, Any]:
    """Return document, environment and rows of a run: one question for each 200,000 values."""
    found = answer = run.ask_this_version("rows", ROWS_TIMEOUT_SEC, parameters=parameters)
    while answer["next"]:
        answer = run.ask_this_version("rows", ROWS_TIMEOUT_SEC, parameters=parameters, first=answer["next"])
        found["rows"].update(answer["rows"])
    return found


def _verdict(
    request: VerifyReproductionRequest, run_id: str, of: str, rows: RowComparison, found: dict[str, list[Any]]
) -> VerifyReproductionResult:
    """Return the result. Raises ReproductionDiffers for other results, and where no row could be compared."""
    shown = [{"in": place, **one} for place, several in found.items() for one in several[:SHOWN]]
    counts = {place: len(several) for place, several in found.items()} | {"results": rows.difference_count}
    counts, failed = {place: count for place, count in counts.items() if count}, rows.failed_in_both
    result = VerifyReproductionResult(
        run_id=run_id,
        of=of,
        reproduced=rows.rows_compared > 0 and not rows.difference_count,
        rtol=request.rtol,
        atol=request.atol,
        **{**msgspec.structs.asdict(rows), "differences": shown},
        difference_counts=counts,
        notes=[f"{failed} tasks failed in both runs: nothing was compared of them"] if failed else [],
    )
    if result.reproduced:
        return result
    first = shown[0] if shown else {}
    if rows.difference_count:
        message = f"{run_id} differs from {of} in {rows.difference_count} rows; first difference in {first['in']}: "
        message += f"{first['what']}: {first.get('before')} before, {first.get('now')} now"
    else:
        message = f"{run_id} and {of} have no row in common that could be compared"
    details = msgspec.to_builtins(result)
    raise ReproductionDiffers(message, details=details, remediation=_remedy(run_id, of, first, rows))


def _remedy(run_id: str, of: str, first: dict[str, Any], rows: RowComparison) -> str:
    if first.get("in") == "code":
        return f"Repeat {of} with its own code, as it was frozen: hpc-agent reproduce-run --run-id {of}"
    if first.get("in") in ("inputs", "environment"):
        return f"Make the {first['in']} the same, then repeat it: hpc-agent reproduce-run --run-id {of}"
    if rows.rows_different and not rows.rows_in_one and rows.max_relative_difference < 1e-6:
        bound = f"{rows.max_relative_difference * 2:.0e}"
        return f"Where rounding explains it: hpc-agent verify-reproduction --run-id {run_id} --of {of} --rtol {bound}"
    for name, field in ((run_id, "task"), (of, "task_before")):
        if first.get(field) is not None:
            return f"hpc-agent logs --run-id {name} --task-id {first[field]}"
    return f"hpc-agent failures --run-id {run_id}"


def _inputs(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    first, second = ({one["path"]: one for one in run.get("inputs") or []} for run in (before, now))
    found = []
    for path in dict.fromkeys([*first, *second]):
        old, new = ([run[path]] if path in run else [] for run in (first, second))
        shas = {name: one[0]["sha256"][:12] if one else None for name, one in (("before", old), ("now", new))}
        found += [{"what": told, **shas} for told in changes(old, new)]
    return found


def _changed_snapshot(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """Return that files of a snapshot are not those of its name: nobody knows what the tasks of its runs have read."""
    if before["as_frozen"] is not False and now["as_frozen"] is not False:
        return []
    words = {True: "as frozen", False: "changed on the cluster", None: "not known"}
    return [{"what": "files of the snapshot", "before": words[before["as_frozen"]], "now": words[now["as_frozen"]]}]


def _changed_files(run: KnownRun, other: KnownRun, before: Any, now: Any) -> list[dict[str, Any]]:
    """Return the files that differ, where both snapshots lie beside each other on one cluster."""
    apart = (run.record.cluster, run.node.root) != (other.record.cluster, other.node.root)
    if apart or before["run"].get("tree_sha") == now["run"].get("tree_sha"):
        return []
    files = run.ask_this_version("changed_files", ROWS_TIMEOUT_SEC, of=other.record.run_id)["files"] or []
    return [{"what": path, "before": old, "now": new} for path, old, new in files]


def _code(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    found = _differing("", CODE, before, now)
    first, second = before.get("env") or {}, now.get("env") or {}
    names = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    return found + [{"what": f"env {name}", "before": "another value", "now": "not shown"} for name in names]


def _environment(before: dict[str, Any] | None, now: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the differences: interpreter and packages first, the node last. Not recorded is a difference that is told."""
    if before is None or now is None:
        return _known("environment.json", "recorded", before, now)
    first, second = before.get("python") or {}, now.get("python") or {}
    found = _differing("python ", ("implementation", "version", "executable"), first, second)
    old, new = before.get("packages"), now.get("packages")
    if old is None or new is None:
        found += _known("packages", "known", old, new)
    else:
        found += _differing("package ", sorted(old.keys() | new.keys()), old, new)
    return found + _differing("", ENVIRONMENT, before, now)


def _known(what: str, word: str, before: Any, now: Any) -> list[dict[str, Any]]:
    """Return the difference where only one of the runs has it."""
    told = {name: f"not {word}" if one is None else word for name, one in (("before", before), ("now", now))}
    return [] if before is now else [{"what": what, **told}]


def _differing(prefix: str, names: Iterable[str], before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = [(name, before.get(name), now.get(name)) for name in names]
    return [
        {"what": prefix + name, "before": _short(name, old), "now": _short(name, new)}
        for name, old, new in pairs
        if old != new
    ]


def _short(name: str, value: Any) -> Any:
    """Return the value of a field; 12 digits of a SHA-256."""
    return value[:12] if isinstance(value, str) and name in SHAS else value
