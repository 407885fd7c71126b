import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def grid():
    """The parameters of every task."""
    tasks = runpy.run_path(str(ROOT / ".hpc" / "tasks.py"))
    return [tasks["resolve"](task) for task in range(tasks["total"]())]


@pytest.fixture
def run_task(tmp_path):
    """``run_task(horizon=5, alpha=0.1)``: the metrics of one task, started in the root of the repo as on a cluster."""

    def run(**parameters):
        output = tmp_path / "metrics.json"
        flags = [f"--{name}={value}" for name, value in parameters.items()]
        command = [sys.executable, "executors/train.py", *flags, f"--output-file={output}"]
        subprocess.run(command, cwd=ROOT, check=True)
        return json.loads(output.read_text())

    return run
