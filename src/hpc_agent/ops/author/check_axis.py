"""``check-axis``: running a function decides how its series may be split."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.experiment.series.function_source import read_source, reads_whole_file
from hpc_agent.experiment.series.proposals import SPLITTABLE, Classification, classify
from hpc_agent.experiment_kit.axis import evaluate_rows
from hpc_agent.infra.remote import kit_files
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Answer = dict[str, Any]


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
    if reads and {argument.arg for argument in function.args.args} <= {"self", "cls", *request.params}:
        return _result(request, {"kind": "unclassifiable", "reason": reads[0]}, reads, "nothing")
    points = _points(request.params)
    found = classify(path, name) if "." not in name else Classification("unclassifiable")
    proposed = _proposed_rows(found, points)
    root = repo.root.resolve()
    document = {
        "path": request.source_path, "root": str(root), "function": function.name if "." not in name else name,
        "series": None if request.series is None else os.path.normpath(root / request.series), "column": request.column,
        "params": request.params, "init_params": request.init_params, "seed": request.seed,
        "seconds": request.time_limit_sec, "memory_mb": request.memory_mb, "axes": proposed, "points": points,
    }  # fmt: skip
    answer = _answer_of_child(document, request.python or sys.executable, world)
    if answer["kind"] == "needs_params":
        params = json.dumps({**request.params, **dict.fromkeys(answer["evidence"]["missing"], 3)})
        words = ["--source-path", request.source_path, "--run-name", request.run_name, "--params", params]
        remedy = f"Call with values of your own: hpc-agent check-axis {shlex.join(words)}"
        raise SpecInvalid(answer["reason"], field="params", remediation=remedy)
    if proposed and answer["kind"] in SPLITTABLE:
        notes = [note for note in answer["not_tried"] if not note.startswith("other values")]
        answer.update(halo=found.halo_expr or 0, ahead=found.ahead_expr or 0, kind=found.kind, not_tried=notes)
    return _result(request, answer, reads, "source" if proposed else "perturbation")


def _result(request: CheckAxisRequest, answer: Answer, reads: list[str], origin: str) -> CheckAxisResult:
    axis = None
    if answer["kind"] in SPLITTABLE:
        rows = {name: {"expr": answer[name]} for name in ("halo", "ahead") if answer[name] not in (0, "0")}
        axis = {"kind": answer["kind"], **rows, **({"monoid": answer["monoid"]} if answer.get("monoid") else {})}
    kept = ("lengths", "rounds", "calls", "form", "max_difference")
    evidence = {**{name: answer[name] for name in kept if name in answer}, **answer.get("evidence", {})}
    return CheckAxisResult(
        kind=answer["kind"],
        data_axis=axis,
        reason=str(answer.get("reason", ""))[:400],
        proposed_by=origin if axis else "nothing",  # type: ignore[arg-type]
        evidence={**evidence, "points": len(_points(request.params))},
        reads_whole_file=reads[:3],
        not_tried=answer.get("not_tried", []),
        seed=request.seed,
    )


def _points(params: Answer) -> list[Answer]:
    """Return the given values, and for each whole number among them two other ones."""
    found = [params]
    for name, value in params.items():
        if type(value) is int and value >= 1:
            found += [{**params, name: other} for other in (value + 3, max(1, value // 2)) if other != value]
    return found


def _proposed_rows(found: Classification, points: list[Answer]) -> list[list[int]] | None:
    """Return (rows before, rows after) of a proposal for each point. None without a proposal that fits all points."""
    if found.kind not in ("independent", "bounded_halo"):
        return None
    texts = (found.halo_expr or 0, found.ahead_expr or 0)
    try:
        return [[evaluate_rows("halo", text, point) for text in texts] for point in points]
    except ValueError:
        return None


def _answer_of_child(request: Answer, python: str, world: World) -> Answer:
    """Return the child's answer to ``request``, or a refusal when the child ended without one.

    The child has a time limit, a memory limit and a process group of its own, which is killed as a whole. Raises SpecInvalid
    for an interpreter that cannot be started.
    """
    series = resources.files("hpc_agent.experiment.series")
    package = "hpc_agent/experiment/"
    files = {**kit_files(), package + "__init__.py": "", package + "series/__init__.py": ""}
    files["hpc_check_child.py"] = (series / "check_child.py").read_text(encoding="utf-8")
    files[package + "series/sample_rows.py"] = (series / "sample_rows.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="hpc-agent-check-") as name:
        folder = Path(name)
        for relative, text in files.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_text(text, encoding="utf-8")
        answer, log = folder / "answer.json", folder / "log"
        env = {**world.env, **ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1", "HPC_RESULT_DIR": name, "MPLBACKEND": "Agg"}
        env.pop("HPC_KW_JSON", None)
        words = [python, str(folder / "hpc_check_child.py"), str(answer)]
        with log.open("wb") as output:
            code = _run(words, json.dumps(request).encode(), request["root"], env, output, request["seconds"])
        if answer.is_file():
            found: Answer = json.loads(answer.read_text(encoding="utf-8"))
            return found
        tail = log.read_bytes()[-300:].decode(errors="replace").strip()
        ended = f"the process ended with {code}: {tail}"
        return {
            "kind": "unclassifiable",
            "reason": f"it took more than {request['seconds']:g} s" if code is None else ended,
        }


def _run(words: list[str], stdin: bytes, cwd: str, env: dict[str, str], output: Any, seconds: float) -> int | None:
    """Return the exit code, None when the time limit came first."""
    try:
        child = subprocess.Popen(
            words, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
    except OSError as error:
        remedy = "Name the interpreter of the experiment: 'hpc-agent check-axis --python /path/to/python'."
        raise SpecInvalid(f"{words[0]} cannot be started: {error}", field="python", remediation=remedy) from error
    try:
        child.communicate(stdin, timeout=seconds)
        return child.returncode
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(child)
