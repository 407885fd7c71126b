"""Several tasks in one element, each a call of a registered function: the libraries are imported once an element."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment import aggregate, write

pytestmark = pytest.mark.usefixtures("clusters_file")

FUNCTION = """
import subprocess, sys
SHARED = "xml.dom.minidom" in sys.modules
import xml.dom.minidom
from hpc_agent.experiment_kit import register_run


@register_run
def train(x: int) -> dict:
    print("task", x)
    child = subprocess.Popen("while :; do echo more; sleep 0.05; done", shell=True)
    return {"double": 2 * x, "shared": int(SHARED), "child": child.pid}
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
@pytest.mark.parametrize("env", [{}, {"HPC_NO_FORK": "1"}])
def test_a_library_is_imported_once_an_element(site, run_cli, tmp_path, env):
    repo = tmp_path / "repo"
    write(repo / "train.py", FUNCTION)
    run_cli("build-tasks-py", "--spec", "-", cwd=repo, stdin=json.dumps({"axes": {"x": list(range(6))}}))
    spec = run_cli("resolve-submit-inputs", "--cluster", "testbed", cwd=repo).data["spec"]
    spec.update(pack=3, env=env)
    assert run_cli("submit", "--spec", "-", cwd=repo, stdin=json.dumps(spec)).data["plan"]["pack"] == 3
    ended = run_cli("monitor-flow", "--wall-clock-budget-seconds", "120", cwd=repo, timeout=180).data
    assert ended["lifecycle_state"] == "complete", ended["samples"]
    metrics = {row["kwargs"]["x"]: row["metrics"] for row in aggregate(run_cli, repo)["rows"]}
    assert {x: row["double"]["mean"] for x, row in metrics.items()} == {x: 2 * x for x in range(6)}
    assert {row["shared"]["mean"] for row in metrics.values()} == {0 if env else 1}
    left = [row["child"]["mean"] for row in metrics.values()]  # the bed's nodes share this machine's processes
    assert not [pid for pid in left if b"echo more" in _command(int(pid))]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
