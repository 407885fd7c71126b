"""Start the child that runs a function of rows, with its limits, and read its answer."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.experiment.series.proposals import Classification
from hpc_agent.experiment_kit.axis import evaluate_rows
from hpc_agent.infra.remote import kit_files

CHILD = Path(__file__).with_name("check_child.py")
Answer = dict[str, Any]


def check_rows(request: Answer, python: str, env: dict[str, str]) -> Answer:
    """Return the child's answer to ``request``, or a refusal when the child ended without one.

    The child has a time limit, a memory limit and a process group of its own, which is killed as a whole. Raises SpecInvalid
    for an interpreter that cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="hpc-agent-check-") as name:
        folder = Path(name)
        for relative, text in {**kit_files(), "hpc_check_child.py": CHILD.read_text(encoding="utf-8")}.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        answer, log = folder / "answer.json", folder / "log"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        child_env = {**env, **threads, "PYTHONDONTWRITEBYTECODE": "1", "HPC_RESULT_DIR": name, "MPLBACKEND": "Agg"}
        child_env.pop("HPC_KW_JSON", None)
        words = [python, str(folder / "hpc_check_child.py"), str(answer)]
        with log.open("wb") as errors:
            code = _run(words, json.dumps(request).encode(), request["root"], child_env, errors, request["seconds"])
        if answer.is_file():
            found: Answer = json.loads(answer.read_text(encoding="utf-8"))
            return found
        tail = log.read_bytes()[-300:].decode(errors="replace").strip()
        reason = (
            f"it took more than {request['seconds']:g} s" if code is None else f"the process ended with {code}: {tail}"
        )
        return {"kind": "unclassifiable", "reason": reason}


def _run(words: list[str], stdin: bytes, cwd: str, env: dict[str, str], errors: Any, seconds: float) -> int | None:
    """Return the exit code, None when the time limit came first."""
    try:
        child = subprocess.Popen(
            words, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=errors, stderr=errors, start_new_session=True
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


def proposed_rows(found: Classification, points: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return (rows before, rows after) of a proposal for each point it can be evaluated at, by the point's JSON."""
    rows = {}
    for point in points:
        try:
            counts = [evaluate_rows("halo", text or 0, point) for text in (found.halo_expr, found.ahead_expr)]
        except ValueError:
            continue
        rows[json.dumps(point, sort_keys=True)] = counts
    return rows if found.kind in ("independent", "bounded_halo") else {}


def absolute(root: Path, name: str | None) -> str | None:
    return None if name is None else os.path.normpath(root / name)
