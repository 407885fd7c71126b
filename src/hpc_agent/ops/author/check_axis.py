"""``check-axis``: running a function decides how its series may be split."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.experiment.series.function_source import read_source, reads_whole_file
from hpc_agent.experiment.series.proposals import Classification, classify
from hpc_agent.experiment_kit.axis import evaluate_rows
from hpc_agent.infra.remote import PACKAGE, kit_files
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import experiment_root, local_path
from hpc_agent.world import World

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Answer = dict[str, Any]


class CheckAxisRequest(Request):
    """The function, its parameters, and the rows to run it on."""

    source_path: Annotated[str, doc("the .py or .ipynb file with the function")]
    run_name: Annotated[str, doc("the function's name, or Class.method", min_length=1)]
    series: Annotated[
        str | None, doc("a .csv, .parquet, .npy or .jsonl file with your rows; random rows without one")
    ] = None
    column: Annotated[str | None, doc("give the function this column of the file, not the frame")] = None
    params: Annotated[dict[str, Any], doc("values of the function's other parameters")] = {}
    init_params: Annotated[dict[str, Any], doc("values for the class, for a method")] = {}
    python: Annotated[str | None, doc("the experiment's interpreter; this one by default")] = None
    seed: Annotated[int, doc("of the random rows")] = 0
    time_limit_sec: Annotated[float, doc("the child is ended after so long", gt=0)] = 60
    memory_mb: Annotated[int, doc("address space of the child", ge=256)] = 4096
    experiment_dir: ExperimentDir = "."


class CheckAxisResult(Result):
    kind: Annotated[
        Literal["independent", "bounded_halo", "associative", "data_dependent", "length_dependent", "unclassifiable"],
        doc("of the data axis; the last three propose none: one task has to see the whole series"),
    ]
    data_axis: Annotated[dict[str, Any] | None, doc("for classify-axis, build-tasks-py and plan_tasks")]
    reason: Annotated[str, doc("why there is no axis; empty otherwise")]
    proposed_by: Annotated[
        Literal["source", "perturbation", "nothing"],
        doc("where the halo comes from: classify-axis-easy, or rows that were changed one at a time"),
    ]
    evidence: Annotated[
        dict[str, Any],
        doc("lengths, kinds and form of rows, parameter values, max_difference (rounding), first differing row"),
    ]
    reads_whole_file: Annotated[list[str], doc("calls that read a file by themselves in every chunk")]
    not_tried: list[str]
    seed: int


@primitive(
    stage="author",
    errors=[SpecInvalid],
    progress=True,
    brief="try to split a series",
    example={
        "source_path": "lib/loading.py",
        "run_name": "lagged",
        "series": "data/demand.csv",
        "column": "demand",
        "params": {"horizon": 5},
    },
    next_verbs=["classify-axis", "build-tasks-py"],
)
def check_axis(request: CheckAxisRequest, world: World) -> CheckAxisResult:
    """Find out by running how a function's series may be split, or why it may not.

    A child process with a time and a memory limit runs the function whole and in chunks, on your rows and on ones that are
    arranged to show a reach that depends on the data: sorted, constant, with gaps, rare values and spikes, at two lengths and
    for several values of each whole-number parameter. The halo is that of classify-axis-easy, or is found by changing single
    rows. A difference is more than rounding: above 1e-7 of a value and 1e-9 of its column's largest.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    path = local_path(repo.root, request.source_path, "source_path")
    source = read_source(path)
    name = request.run_name.removeprefix(f"{path.stem}.")
    function = source.function(name)
    if function is None:
        message = f"{request.source_path} has no function {request.run_name}"
        known = source.known()
        example = shlex.join(["--source-path", request.source_path, "--run-name", *known[:1]])
        remedy = f"Name one of details.functions: hpc-agent check-axis {example}" if known else ""
        raise SpecInvalid(message, field="run_name", remediation=remedy, details={"functions": known})
    reads = [sentence for _, sentence in reads_whole_file(function, source.names)]
    points = _points(request.params)
    proposal = None
    if reads and {argument.arg for argument in function.args.args} <= {"self", "cls", *request.params}:
        answer = _refusal(reads[0])
    else:
        proposal = _proposal(classify(path, name), points)
        root = repo.root.resolve()
        document = {
            **msgspec.to_builtins(request), "root": str(root), "function": function.name if "." not in name else name,
            "series": None if request.series is None else os.path.normpath(root / request.series),
            "points": points, "proposal": proposal,
        }  # fmt: skip
        answer = _answer_of_child(document, request.python or sys.executable, world)
    if answer["kind"] == "needs_params":
        params = json.dumps({**request.params, **dict.fromkeys(answer["evidence"]["missing"], 3)})
        words = ["--source-path", request.source_path, "--run-name", request.run_name, "--params", params]
        remedy = f"Call with values of your own: hpc-agent check-axis {shlex.join(words)}"
        raise SpecInvalid(answer["reason"], field="params", remediation=remedy)
    origin: Any = "nothing" if answer["data_axis"] is None else "source" if proposal else "perturbation"
    answer["evidence"]["points"] = len(points)
    return CheckAxisResult(**answer, proposed_by=origin, reads_whole_file=reads[:3], seed=request.seed)


def _refusal(reason: str) -> Answer:
    return {"kind": "unclassifiable", "data_axis": None, "reason": reason[:400], "evidence": {}, "not_tried": []}


def _points(params: Answer) -> list[Answer]:
    """Return the given values, and for each whole number among them two other ones."""
    found = [params]
    for name, value in params.items():
        if type(value) is int and value >= 1:
            found += [{**params, name: other} for other in (value + 3, max(1, value // 2)) if other != value]
    return found


def _proposal(found: Classification, points: list[Answer]) -> Answer | None:
    """Return halo and ahead, and both as ``rows`` for each point. None without a proposal that fits all points."""
    if found.kind not in ("independent", "bounded_halo"):
        return None
    around = {"halo": found.halo_expr or 0, "ahead": found.ahead_expr or 0}
    try:
        rows = [[evaluate_rows(name, text, point) for name, text in around.items()] for point in points]
    except ValueError:
        return None
    return {**around, "rows": rows}


def _answer_of_child(request: Answer, python: str, world: World) -> Answer:
    """Return the child's answer, or a refusal when it ended without one. Raises SpecInvalid for a wrong interpreter."""
    series = PACKAGE / "experiment" / "series"
    package = "hpc_agent/experiment/"
    files = {**kit_files(), package + "__init__.py": "", package + "series/__init__.py": ""}
    files["hpc_check_child.py"] = (series / "check_child.py").read_text(encoding="utf-8")
    files[package + "series/sample_rows.py"] = (series / "sample_rows.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="hpc-agent-check-") as name, Path(name, "log").open("wb") as log:
        folder = Path(name)
        for relative, text in files.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_text(text, encoding="utf-8")
        answer = folder / "answer.json"
        env = {**world.env, **ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1", "HPC_RESULT_DIR": name, "MPLBACKEND": "Agg"}
        env.pop("HPC_KW_JSON", None)
        words = [python, str(folder / "hpc_check_child.py"), str(answer)]
        try:
            child = subprocess.Popen(
                words, cwd=request["root"], env=env, stdin=PIPE, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            remedy = "Add --python with the interpreter of the experiment to the same hpc-agent command."
            raise SpecInvalid(f"{python} cannot be started: {error}", field="python", remediation=remedy) from error
        seconds = request["time_limit_sec"]
        try:
            child.communicate(json.dumps(request).encode(), timeout=seconds)
            tail = Path(name, "log").read_bytes()[-300:].decode(errors="replace").strip()
            reason = f"the process ended with {child.returncode}: {tail}"
        except subprocess.TimeoutExpired:
            reason = f"it took more than {seconds:g} s"
        finally:
            end_group(child)
        return json.loads(answer.read_bytes()) if answer.is_file() else _refusal(reason)
