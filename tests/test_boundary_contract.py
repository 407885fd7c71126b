"""The boundary between hpc-agent and an experiment repo, as docs/reference/boundary-contract.md and CONTRACT.md draw it."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import testbed
from experiment import make_repo, submit, watch

import hpc_agent
from hpc_agent.experiment.reading.kit_imports import ALLOWED, NAMES, carried, not_carried
from hpc_agent.infra.remote import kit_files

ROOT = Path(__file__).resolve().parents[1]
SRC = Path(hpc_agent.__file__).parent
BOUNDARY = (ROOT / "docs/reference/boundary-contract.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs/integrations/CONTRACT.md").read_text(encoding="utf-8")


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    part = text.partition(f"\n{heading}\n")[2]
    lines = part[part.index("\n|") :].lstrip("\n").partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def kit(tmp_path) -> Path:
    """The folder of modules that a task has on its path."""
    for name, text in kit_files().items():
        path = tmp_path / "kit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "kit"


def run_python(kit: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of a node: its standard library, and the kit."""
    return subprocess.run(
        [testbed.NODE_PYTHON, "-S", "-c", program], env={"PYTHONPATH": str(kit), "PATH": os.defpath},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_what_an_executor_may_import_is_there_without_an_installation(kit):
    rows = {words(module)[0]: words(names) for module, names in rows_of(CONTRACT, "### What an executor may import")}
    assert set(rows) == {*ALLOWED, "hpc_agent"}
    assert set(rows["hpc_agent"]) == set(NAMES)
    program = "\n".join(f"from {module} import {', '.join(names)}" for module, names in rows.items())
    done = run_python(kit, program)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_boundary_page_names_the_same_imports(kit):
    sentence = re.search(r"An executor may import of hpc-agent: (.*?)They travel with the run", BOUNDARY, re.DOTALL)
    assert sentence
    said = words(sentence[1])
    assert {word for word in said if word.startswith("hpc_agent")} == set(ALLOWED)
    names = ", ".join(word for word in said if not word.startswith("hpc_agent"))
    assert run_python(kit, f"from hpc_agent.experiment_kit import {names}").stderr == ""


def test_nothing_else_of_the_client_is_on_the_path_of_a_task(kit):
    """Every other module is refused there, and known as one that does not travel."""
    modules = [".".join(path.relative_to(SRC.parent).with_suffix("").parts) for path in sorted(SRC.rglob("*.py"))]
    modules = [name for name in modules if "templates" not in name and not name.startswith("hpc_agent.node.")]
    clients = [name for name in modules if not name.endswith("__init__") and name not in carried()]
    assert len(clients) > 150
    program = (
        "import importlib.util, sys\n"
        "def there(name):\n"
        "    try: return importlib.util.find_spec(name) is not None\n"
        "    except ImportError: return False\n"
        f"print([name for name in {clients!r} if there(name)])"
    )
    assert run_python(kit, program).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from hpc_agent.view import live\nfrom hpc_agent import api", {"hpc_agent.view.live": 1, "hpc_agent.api": 2}),
        ("import os\nimport hpc_agent.infra.clusters as c", {"hpc_agent.infra.clusters": 2}),
        ("from hpc_agent import load_clusters_config", {"hpc_agent.load_clusters_config": 1}),
        ("def main():\n    from hpc_agent.state.runs import read_run_sidecar", {"hpc_agent.state.runs.read_run_sidecar": 2}),
        ("from hpc_agent import register_run, main\nimport hpc_agent", {}),
        ("from hpc_agent.experiment_kit import series\nfrom hpc_agent.experiment_kit.series import trim_emission", {}),
        ("from hpc_agent.models.mapreduce.metrics_io import write_metrics", {}),
        ("import hpc_agent.experiment_kit as kit", {}),
        ("try:\n    from hpc_agent.api import submit\nexcept ImportError:\n    submit = None", {}),
        ("import hpc_agents.ops\nfrom . import hpc_agent", {}),
        ("def broken(:", {}),
    ],
)  # fmt: skip
def test_an_import_that_does_not_travel_is_found_in_the_source(source, found, tmp_path):
    (tmp_path / "train.py").write_text(source, encoding="utf-8")
    assert not_carried(tmp_path / "train.py") == found


def test_hpc_agent_knows_no_command_that_cancels_a_job():
    """They stand in the hook that denies them, in the rules of a repo, and in sentences for a person."""
    starts = re.compile(r"""\[\s*["'](scancel|qdel)["']|(shutil\.which|which)\(["'](scancel|qdel)""")
    named = [str(path) for path in SRC.rglob("*.py") if starts.search(path.read_text(encoding="utf-8"))]
    assert [name for name in named if "slash_commands" not in name] == []


TASKS = """
import os
from pathlib import Path

Path(os.environ["SEEN"], str(os.getpid())).touch()

def total():
    return 2

def resolve(task_id):
    return {"x": task_id, "path": "mine"}
"""
# A plain program: it knows no hpc-agent, and its parameters are variables.
PLAIN = """
import json, os, pathlib, sys
names = ["X", "HPC_KW_X", "HPC_KW_PATH", "HPC_KW_JSON", "HPC_TASK_ID", "HPC_TASK_COUNT", "HPC_RUN_ID", "REPO_DIR"]
seen = {name: os.environ[name] for name in names}
seen["cwd"], seen["path"] = os.getcwd(), os.environ["PATH"]
pathlib.Path(os.environ["HPC_RESULT_DIR"], "seen.json").write_text(json.dumps(seen))
pathlib.Path("results/mine.txt").write_text("x")
pathlib.Path(os.environ["HPC_RESULT_DIR"], "metrics.json").write_text(json.dumps({"y": int(os.environ["X"]) * 2}))
"""


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_whole_run_keeps_to_its_side(site, run_cli, tmp_path, clusters_file, world_home):
    """tasks.py stays out of hpc-agent's process, the program sees its variables, and the repo gets the listed files only."""
    seen = tmp_path / "seen"
    seen.mkdir()
    world_home.env["SEEN"] = str(seen)
    repo = make_repo(tmp_path / "repo", TASKS, **{"train.py": PLAIN})
    before = {path.relative_to(repo): path.read_bytes() for path in repo.rglob("*") if path.is_file()}

    sent = submit(run_cli, repo, f"{sys.executable} train.py", "--env", json.dumps({"SEEN": str(seen)}))
    assert any("PATH" in note for note in sent["notes"]), sent["notes"]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    table = run_cli("aggregate", cwd=repo).data
    assert [row[table["columns"].index("y")] for row in table["rows"]] == [0, 2]
    run_cli("axes-init", "--axes", "x:2", cwd=repo)

    work = Path(sent["remote_path"])
    [one] = work.glob("results/1/seen.json")
    told = json.loads(one.read_text())
    assert (told["X"], told["HPC_KW_X"], told["HPC_KW_PATH"], told["HPC_TASK_ID"]) == ("1", "1", "mine", "1")
    assert (told["HPC_TASK_COUNT"], told["HPC_RUN_ID"]) == ("2", sent["run_id"])
    assert json.loads(told["HPC_KW_JSON"]) == {"x": 1, "path": "mine"}
    assert told["path"] != "mine"
    assert told["cwd"] == told["REPO_DIR"]
    assert not Path(told["cwd"]).is_relative_to(repo)

    patterns = [
        re.sub(r"<\w+>", "*", name) + ("*" if name.endswith("/") else "")
        for cells in rows_of(BOUNDARY, "## Files")
        for name in words(cells[0])
    ]
    patterns += ["results/*/table.json"]
    after = {path.relative_to(repo): path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    added = [str(name) for name in after.keys() - before.keys()]
    assert {name: after[name] for name in before} == before
    assert sorted(added)[:1] == [".hpc/.gitignore"]
    assert [name for name in added if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


def test_tasks_py_never_runs_in_the_process_of_the_command(tmp_path, monkeypatch):
    from hpc_agent import api

    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("SEEN", str(seen))
    monkeypatch.setenv("HOME", str(tmp_path))
    repo = make_repo(tmp_path / "repo", TASKS)
    answer = api.compute_run_id(cluster="local", executor="true", experiment_dir=repo)
    assert answer.total_tasks == 2
    processes = {path.name for path in seen.iterdir()}
    assert len(processes) >= 2  # two child processes must agree
    assert str(os.getpid()) not in processes
    assert not any(str(getattr(module, "__file__", "")).startswith(str(repo)) for module in sys.modules.values())
