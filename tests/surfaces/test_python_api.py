"""hpc_agent.api on the embedded scheduler: from submit to a table, errors, several threads, the notebook of the examples."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from experiment import WRITE, make_repo
from html_texts import texts

from hpc_agent import api, errors

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.usefixtures("here"), pytest.mark.parametrize("site", ["local"], indirect=True)]


@pytest.fixture
def here(world_home, clusters_file, tmp_path, monkeypatch):
    """This process in the test's home, with the test's cluster; ``python3`` is the interpreter of the tests."""
    tools = tmp_path / "tools"
    tools.mkdir()
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for name in set(os.environ) - set(world_home.env):
        monkeypatch.delenv(name)
    for name, value in {**world_home.env, "PATH": f"{tools}{os.pathsep}{world_home.env['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def test_from_submit_to_a_table(tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 3}, {"x": 1}, {"x": 2}])
    seen = api.submit(cluster="testbed", executor=WRITE, experiment_dir=repo, dry_run=True)
    run = api.submit(cluster="testbed", executor=WRITE, experiment_dir="repo", est_task_sec=1)
    assert (run.run_id, run.deduped, run.total_tasks) == (seen.run_id, False, 3)
    assert run.next_step == f"hpc-agent monitor-flow --experiment-dir repo --run-id {run.run_id}"
    ended = api.monitor_flow(run_id=run.run_id, experiment_dir=repo, poll_interval_sec=1, wall_clock_budget_sec=120)
    assert ended.lifecycle_state == "complete"
    status = api.status(experiment_dir=repo)
    assert (status.run_id, status.last_status["complete"]) == (run.run_id, 3)
    assert "complete" in texts(status._repr_html_())
    table = api.aggregate(experiment_dir=repo, sort="y", direction="max", where=["x>1"])
    assert [record["y"] for record in table.records()] == [3, 2]
    assert [text for text in texts(table._repr_html_()) if text in "123"][:4] == ["3", "3", "2", "2"]
    frame = table.to_pandas()
    assert list(frame["y"]) == [3, 2, 1]
    assert api.submit(cluster="testbed", executor=WRITE, experiment_dir=repo, est_task_sec=1).deduped
    [row] = api.list_in_flight(experiment_dir=repo, all_states=True).runs
    assert row.run_id == run.run_id


def test_errors_are_those_of_the_command_line(tmp_path, run_cli):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    told = run_cli("status", "--run-id", "no-such-run", "--experiment-dir", "repo").envelope
    with pytest.raises(errors.RunNotFound) as caught:
        api.status(run_id="no-such-run", experiment_dir="repo")
    error = caught.value
    assert (error.error_code, error.message, error.remediation) == (
        told["error_code"], told["message"], told["remediation"],
    )  # fmt: skip
    assert "--experiment-dir repo" in error.remediation
    if sys.version_info >= (3, 11):
        assert error.__notes__ == [f"run_not_found: {error.remediation}"]
    with pytest.raises(errors.SpecInvalid) as caught:
        api.submit(cluster="testbed", executor=WRITE, experiment_dir=repo, mem_mb=0)
    assert caught.value.field == "resources.mem_mb"
    with pytest.raises(errors.ClusterUnknown):
        api.submit(cluster="testbde", executor=WRITE, experiment_dir=repo)
    (repo / ".hpc/tasks.py").write_text("def total(:\n", encoding="utf-8")
    with pytest.raises(errors.SpecInvalid):
        api.submit(cluster="testbed", executor=WRITE, experiment_dir=repo)


def test_several_threads_each_with_a_repo_of_its_own(tmp_path):
    repos = [make_repo(tmp_path / f"repo{n}", [{"x": n}, {"x": n + 10}]) for n in range(3)]

    def whole(repo):
        run = api.submit(cluster="testbed", executor=WRITE, experiment_dir=repo)
        api.monitor_flow(run_id=run.run_id, experiment_dir=repo, poll_interval_sec=1, wall_clock_budget_sec=120)
        return [record["y"] for record in api.aggregate(experiment_dir=repo).records()]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(whole, repos)) == [[0, 10], [1, 11], [2, 12]]


@pytest.mark.timeout(300)
def test_the_notebook_of_the_examples(tmp_path, monkeypatch):
    """Every cell runs, in a copy, on the local scheduler; each result displays itself."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("HPC_CLUSTERS_CONFIG")  # the packaged cluster local
    copy = tmp_path / "copy/examples"
    shutil.copytree(ROOT / "examples", copy, ignore=shutil.ignore_patterns("results", "runs"))
    [path] = (copy / "notebook").glob("*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "a notebook is kept without outputs"
    # the kernel of the tests: whatever kernels this machine has by name may be others
    kernels = tmp_path / "kernels/kernels/python3"
    kernels.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    facts = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "kernels"))
    NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    shown = [output for cell in code for output in cell.outputs]
    tables = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert len(tables) >= 4
    assert any("ml_ridge" in table and "rmse" in table for table in tables)
    assert "best" in "".join(output.get("text", "") for output in shown)
