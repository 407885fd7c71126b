"""``check-axis``: running a function decides how its series may be split."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Annotated, Any, Literal

from msgspec import Meta

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.series.check_rows import check_rows, points_of, proposed_rows
from hpc_agent.experiment.series.function_source import read_source, reads_whole_file
from hpc_agent.experiment.series.proposals import Classification, classify
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World

SPLITTABLE = ("independent", "bounded_halo", "associative")


class CheckAxisRequest(Request):
    """The function, its parameters, and the rows to run it on."""

    source_path: Annotated[str, Meta(description="the .py or .ipynb file with the function")]
    run_name: Annotated[str, Meta(min_length=1, description="the function's name, or Class.method")]
    series: Annotated[
        str | None, Meta(description="a .csv, .parquet, .npy or .jsonl file with your rows; random rows without one")
    ] = None
    column: Annotated[str | None, Meta(description="give the function this column of the file, not the frame")] = None
    params: Annotated[dict[str, Any], Meta(description="values of the function's other parameters")] = {}
    init_params: Annotated[dict[str, Any], Meta(description="values for the class, for a method")] = {}
    python: Annotated[str | None, Meta(description="the experiment's interpreter; this one by default")] = None
    seed: Annotated[int, Meta(description="of the random rows")] = 0
    time_limit_sec: Annotated[float, Meta(gt=0, description="the child is ended after so long")] = 60
    memory_mb: Annotated[int, Meta(ge=256, description="address space of the child")] = 4096
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class CheckAxisResult(Result):
    kind: Annotated[
        Literal["independent", "bounded_halo", "associative", "data_dependent", "length_dependent", "unclassifiable"],
        Meta(description="of the data axis; the last three propose none: one task has to see the whole series"),
    ]
    data_axis: Annotated[dict[str, Any] | None, Meta(description="for classify-axis, build-tasks-py and plan_tasks")]
    reason: Annotated[str, Meta(description="why there is no axis; empty otherwise")]
    proposed_by: Annotated[
        Literal["source", "perturbation", "nothing"],
        Meta(description="where the halo comes from: classify-axis-easy, or rows that were changed one at a time"),
    ]
    evidence: Annotated[
        dict[str, Any],
        Meta(
            description="lengths, kinds and form of rows, parameter values, max_difference (rounding), first differing row"
        ),
    ]
    reads_whole_file: Annotated[list[str], Meta(description="calls that read a file by themselves in every chunk")]
    not_tried: list[str]
    seed: int


@primitive(stage="author", errors=[SpecInvalid], progress=True)
def check_axis(request: CheckAxisRequest, world: World) -> CheckAxisResult:
    """Find out by running how a function's series may be split, or why it may not.

    A child process with a time and a memory limit runs the function whole and in chunks, on your rows and on ones that are
    arranged to show a reach that depends on the data: sorted, constant, with gaps, rare values and spikes, at two lengths and
    for several values of each whole-number parameter. The halo is that of classify-axis-easy, or is found by changing single
    rows. A difference is more than rounding: above 1e-7 of a value and 1e-9 of its column's largest.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    path = repo.root / request.source_path
    source = read_source(path)
    name = request.run_name.removeprefix(f"{path.stem}.")
    function = source.function(name)
    if function is None:
        raise SpecInvalid(
            f"{request.source_path} has no function {request.run_name}",
            field="run_name",
            remediation="Name a function or Class.method of it: 'hpc-agent check-axis --source-path F --run-name NAME'.",
            details={"functions": source.known()},
        )
    reads = [sentence for _, sentence in reads_whole_file(function, source.names)]
    if reads and _takes_no_rows(function.args.args, request.params):
        return _result(request, {"kind": "unclassifiable", "reason": reads[0]}, reads, "nothing")
    found = classify(path, name) if "." not in name else Classification("unclassifiable")
    points = points_of(request.params)
    axes = proposed_rows(found, points)
    series = None if request.series is None else os.path.normpath(repo.root.resolve() / request.series)
    document = {
        "path": request.source_path, "root": str(repo.root.resolve()), "function": function.name if "." not in name else name,
        "series": series, "column": request.column, "params": request.params,
        "init_params": request.init_params, "seed": request.seed, "seconds": request.time_limit_sec,
        "memory_mb": request.memory_mb, "axes": axes, "points": points,
    }  # fmt: skip
    answer = check_rows(document, request.python or sys.executable, dict(world.env))
    if answer["kind"] == "needs_params":
        raise SpecInvalid(
            answer["reason"], field="params", remediation=_with_params(request, answer["evidence"]["missing"])
        )
    if axes and answer["kind"] in SPLITTABLE:
        answer["not_tried"] = [note for note in answer["not_tried"] if not note.startswith("other values")]
        answer.update(halo=found.halo_expr or 0, ahead=found.ahead_expr or 0, kind=found.kind)
    return _result(request, answer, reads, "source" if axes else "perturbation")


def _with_params(request: CheckAxisRequest, missing: list[str]) -> str:
    """Return a whole command with a value for every missing parameter."""
    params = json.dumps({**request.params, **dict.fromkeys(missing, 3)})
    words = ["--source-path", request.source_path, "--run-name", request.run_name, "--params", params]
    return f"Call with values of your own: hpc-agent check-axis {shlex.join(words)}"


def _takes_no_rows(arguments: list[Any], params: dict[str, Any]) -> bool:
    return all(argument.arg in params for argument in arguments if argument.arg not in ("self", "cls"))


def _result(request: CheckAxisRequest, answer: dict[str, Any], reads: list[str], origin: str) -> CheckAxisResult:
    axis = None
    if answer["kind"] in SPLITTABLE:
        rows = {name: answer[name] for name in ("halo", "ahead") if answer[name] not in (0, "0")}
        axis = {"kind": answer["kind"], **{name: {"expr": value} for name, value in rows.items()}}
        if answer.get("monoid"):
            axis["monoid"] = answer["monoid"]
    kept = ("lengths", "rounds", "calls", "form", "max_difference")
    evidence = {**{name: answer[name] for name in kept if name in answer}, **answer.get("evidence", {})}
    return CheckAxisResult(
        kind=answer["kind"],
        data_axis=axis,
        reason=str(answer.get("reason", ""))[:400],
        proposed_by=origin if axis else "nothing",  # type: ignore[arg-type]
        evidence={**evidence, "points": len(points_of(request.params))},
        reads_whole_file=reads[:3],
        not_tried=answer.get("not_tried", []),
        seed=request.seed,
    )
