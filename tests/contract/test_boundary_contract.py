"""docs/reference/boundary-contract.md, enforced: what is written into a repo, and what an executor may import."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest
from experiment import WRITE, make_repo
from pages import ROOT

from hpc_agent.infra.remote import kit_files

PAGE = (ROOT / "docs/reference/boundary-contract.md").read_text(encoding="utf-8")


def written_by_the_page() -> list[str]:
    """The patterns in the first column of the table of files."""
    table = PAGE.partition("## Files")[2].partition("## ")[0]
    names = [
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    ]
    names = [re.sub(r"<\w+>", "*", name) for name in names]
    return [f"{name}*" if name.endswith("/") else name for name in names]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.local
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_only_the_files_of_the_table_are_written_into_a_repo(run_cli, clusters_file, tmp_path, world_home):
    """A run's whole life; what it wrote outside of the repo lies in hpc-agent's own folders of the home."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}], **{"train.sh": WRITE})
    before = files_of(repo)
    for words in (
        ("submit", "--cluster", "testbed", "--executor", "bash train.sh"),
        ("monitor-flow", "--wall-clock-budget-sec", "100"),
        ("status",),
        ("failures",),
        ("aggregate",),
        ("verify-aggregation-complete",),
        ("report",),
        ("load-context",),
    ):
        assert run_cli(*words, cwd=repo, timeout=150).envelope["ok"], words
    new = files_of(repo) - before
    assert {".hpc/.gitignore"} < new
    patterns = written_by_the_page()
    assert [name for name in new if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    homes = {path.relative_to(world_home.path).parts[:2] for path in world_home.path.rglob("*") if path.is_file()}
    assert {parts[:1] for parts in homes} <= {(".claude",), (".hpc-agent",), (".cache",)}
    assert all(parts[1] == "hpc" for parts in homes if parts[0] == ".claude")


def test_what_an_executor_may_import_is_what_travels_with_the_run(tmp_path):
    """Under an interpreter that has nothing of hpc-agent: the names of the page are there, and nothing of the client is."""
    for name, text in kit_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    sentence = PAGE.partition("An executor may import of hpc-agent:")[2].partition("travel with the run")[0]
    names = re.findall(r"`(\w+)`", sentence)
    assert {"register_run", "main", "series"} < set(names)
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from hpc_agent.experiment_kit import {", ".join(name for name in names if name != "series")}
from hpc_agent.experiment_kit import series
import hpc_agent.models.mapreduce.metrics_io
for client in ("ops", "cli", "infra", "state", "view", "api", "errors", "contract.registry"):
    try:
        __import__("hpc_agent." + client)
    except ImportError:
        continue
    raise SystemExit(client)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_tasks_file_never_runs_inside_of_hpc_agent(run_cli, tmp_path):
    """It may print, exit or change its process: the answer is one line, and the caller goes on."""
    source = (
        "import os, sys\nprint('noise')\nos.chdir('/')\nsys.path.clear()\n"
        "def total():\n    return 1\ndef resolve(task_id):\n    print('more')\n    return {'x': 1}\n"
    )
    repo = make_repo(tmp_path / "repo", source, **{"train.sh": WRITE})
    assert run_cli("compute-run-id", "--cluster", "local", "--executor", "bash train.sh", cwd=repo).data["run_id"]
