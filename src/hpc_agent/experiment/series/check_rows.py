"""Start the child that runs a function of rows, with its limits, and read its answer."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.experiment.series.proposals import Classification
from hpc_agent.experiment_kit.axis import evaluate_rows
from hpc_agent.infra.remote import kit_files

ROOM = Path(__file__).parent
CHILD = ROOM / "check_child.py"
Answer = dict[str, Any]


def check_rows(request: Answer, python: str, env: dict[str, str]) -> Answer:
    """Return the child's answer to ``request``, or a refusal when the child ended without one.

    The child has a time limit, a memory limit and a process group of its own, which is killed as a whole. Raises SpecInvalid
    for an interpreter that cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="hpc-agent-check-") as name:
        folder = Path(name)
        package = "hpc_agent/experiment/"
        own = {
            "hpc_check_child.py": CHILD.read_text(encoding="utf-8"),
            package + "series/sample_rows.py": (ROOM / "sample_rows.py").read_text(encoding="utf-8"),
            package + "__init__.py": "", package + "series/__init__.py": "",
        }  # fmt: skip
        for relative, text in {**kit_files(), **own}.items():
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


def points_of(params: Answer) -> list[Answer]:
    """Return the given values, and for each whole number among them two other ones."""
    found = [params]
    for name, value in params.items():
        if type(value) is int and value >= 1:
            found += [{**params, name: other} for other in (value + 3, max(1, value // 2)) if other != value]
    return found


def proposed_rows(found: Classification, points: list[Answer]) -> list[list[int]] | None:
    """Return (rows before, rows after) of a proposal for each point. None without a proposal that fits all points."""
    if found.kind not in ("independent", "bounded_halo"):
        return None
    texts = (found.halo_expr or 0, found.ahead_expr or 0)
    try:
        return [[evaluate_rows("halo", text, point) for text in texts] for point in points]
    except ValueError:
        return None
