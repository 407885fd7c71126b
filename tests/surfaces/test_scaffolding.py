"""build-executor, build-template and export-package as their users meet them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from experiment import aggregate


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def python(repo: Path, home, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=repo, env=home.env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(skeleton: Path, home) -> None:
    """Run the skeleton's tests as its author would, with a temporary folder of their own.

    In the shared one a pytest that ends removes the folders of former sessions first: minutes for those of this suite.
    """
    python(skeleton, home, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={skeleton.parent / 'inner'}")


def refusal(outcome, field: str) -> dict:
    assert (outcome.code, outcome.envelope["error_code"], outcome.envelope["field"]) == (1, "spec_invalid", field)
    assert "hpc-agent" in outcome.envelope["remediation"]
    return outcome.envelope


def test_an_argparse_executor_runs_as_it_is(run_cli, world_home, tmp_path):
    words = ("build-executor", "--name", "ridge", "--shape", "argparse", "--flags", "horizon:int=5,name:str")
    made = run_cli(*words).data
    assert (made["path"], made["state"], made["flags"]) == ("executors/ridge.py", "written", ["--name", "--horizon"])
    assert (tmp_path / made["path"]).read_text() == made["source"]
    assert "--horizon" in python(tmp_path, world_home, made["path"], "--help")
    world_home.env.update(HORIZON="3", NAME="x", HPC_RESULT_DIR=str(tmp_path))
    done = subprocess.run(made["command"], shell=True, cwd=tmp_path, env=world_home.env, timeout=60, check=False)
    assert done.returncode == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["score"] > 0


def test_a_registered_executor_runs_as_it_is(run_cli, world_home, tmp_path):
    made = run_cli("build-executor", "ridge").data
    assert made["entry"] == "executors/ridge.py:ridge"
    scores = [
        json.loads(python(tmp_path, world_home, made["path"], "--horizon", horizon))["score"] for horizon in ("1", "25")
    ]
    assert 0 < scores[0] < scores[1]


def test_an_executor_is_written_once_and_never_overwritten_unasked(run_cli, tmp_path):
    path = tmp_path / "executors" / "ridge.py"
    assert not run_cli("build-executor", "ridge").envelope["idempotent"]
    before = files_of(tmp_path)
    again = run_cli("build-executor", "ridge")
    assert (again.data["state"], again.envelope["idempotent"], files_of(tmp_path)) == ("kept", True, before)
    path.write_text("mine")
    refused = refusal(run_cli("build-executor", "ridge"), "force")
    assert str(path) in refused["message"]
    assert "--force" in refused["message"]
    assert path.read_text() == "mine"
    assert run_cli("build-executor", "ridge", "--force").data["state"] == "written"
    assert path.read_bytes() == before["executors/ridge.py"][0]


@pytest.mark.parametrize("name", ["../x", "a b", "class", "json", "hpc_agent"])
def test_a_hostile_name_writes_nothing(run_cli, tmp_path, name):
    before = files_of(tmp_path)
    refusal(run_cli("build-executor", "--name", name), "name")
    refusal(run_cli("build-executor", "--name", "fine", "--flags", "x:complex"), "flags")
    assert files_of(tmp_path) == before


@pytest.fixture(params=["script", "notebook"])
def skeleton(request, run_cli, tmp_path) -> Path:
    made = run_cli("build-template", "--repo-dir", "study", "--shape", request.param).data
    assert {file["state"] for file in made["files"]} == {"written"}
    assert sorted(files_of(tmp_path / "study")) == [file["path"] for file in made["files"]]
    return tmp_path / "study"


def test_the_tests_and_the_lint_of_a_skeleton_pass(skeleton, world_home):
    run_tests(skeleton, world_home)
    for words in (["check"], ["format", "--check"]):
        python(skeleton, world_home, "-m", "ruff", *words, "--no-cache")


def test_the_tests_of_a_skeleton_notice_a_broken_grid(skeleton, world_home):
    tasks = skeleton / ".hpc" / "tasks.py"
    tasks.write_text(tasks.read_text().replace('"horizon":', '"no_such_flag":'))
    with pytest.raises(AssertionError, match="no_such_flag"):
        run_tests(skeleton, world_home)


def test_a_skeleton_is_a_run_of_six_tasks(skeleton, run_cli):
    data = run_cli("compute-run-id", cwd=skeleton).data
    assert data["run_id"].startswith("study-")
    assert data["total_tasks"] == 6
    (skeleton / "README.md").write_text("other words")
    assert run_cli("compute-run-id", cwd=skeleton).data["run_id"] == data["run_id"]
    (skeleton / "lib" / "loading.py").write_text("other = 'code'\n")
    assert run_cli("compute-run-id", cwd=skeleton).data["cmd_sha"] == data["cmd_sha"]


def test_a_skeleton_is_written_once_and_never_overwritten_unasked(skeleton, run_cli):
    shape = "notebook" if (skeleton / "notebooks").exists() else "script"
    words = ("build-template", str(skeleton), "--shape", shape)
    before = files_of(skeleton)
    again = run_cli(*words)
    assert {file["state"] for file in again.data["files"]} == {"kept"}
    assert (again.envelope["idempotent"], files_of(skeleton)) == (True, before)
    (skeleton / "executors" / "train.py").write_text("mine")
    (skeleton / "Makefile").unlink()
    data = run_cli(*words).data
    states = {file["path"]: file["state"] for file in data["files"]}
    assert (states.pop("executors/train.py"), states.pop("Makefile"), data["differing"]) == ("differs", "written", 1)
    assert set(states.values()) == {"kept"}
    assert (skeleton / "executors" / "train.py").read_text() == "mine"
    assert run_cli(*words, "--force").data["differing"] == 0
    assert {name: text for name, (text, _) in files_of(skeleton).items()} == {
        name: text for name, (text, _) in before.items()
    }


def test_a_skeleton_that_cannot_be_written_whole_is_not_written(run_cli, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "study" / "tests").symlink_to(tmp_path / "elsewhere")
    refusal(run_cli("build-template", "study"), "path")
    assert files_of(tmp_path / "study") == files_of(tmp_path / "elsewhere") == {}


def executor_of(skeleton: Path) -> str:
    """What ``make submit`` would give, with this interpreter."""
    found = re.search("^EXECUTOR = (.*)$", (skeleton / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1].replace("$(PYTHON)", shlex.quote(sys.executable)).replace("$$", "$")


def test_the_job_of_a_skeleton_gives_a_table_of_six_rows(skeleton, run_cli):
    words = ("--cluster", "local", "--executor", executor_of(skeleton))
    assert run_cli("summarize-submit-plan", *words, cwd=skeleton).data["total_tasks"] == 6
    sent = run_cli("submit", *words, cwd=skeleton).data
    watched = run_cli("monitor-flow", "--wall-clock-budget-seconds", "120", cwd=skeleton, timeout=180).data
    assert watched["lifecycle_state"] == "complete"
    table = aggregate(run_cli, skeleton)
    assert len(table["rows"]) == 6
    assert {row["kwargs"]["horizon"] for row in table["rows"]} == {1, 5, 25}
    assert all(row["metrics"]["rmse"]["mean"] > 0 for row in table["rows"])
    assert run_cli("submit", *words, cwd=skeleton).data["run_id"] == sent["run_id"]


def notebook(path: Path, *sources: str) -> Path:
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def repo(tmp_path):
    """A repo with two notebooks that are exported, and two that are not."""
    root = tmp_path / "01-my study"
    notebook(root / "notebooks/pipeline/load data.ipynb", "import os\nimport json", "%time\nx = 1")
    notebook(root / "notebooks/executors/ridge.ipynb", "y = 2")
    notebook(root / "notebooks/pipeline/.ipynb_checkpoints/load-checkpoint.ipynb", "(")
    notebook(root / "notebooks/drafts/idea.ipynb", "(")
    return root


def states(data: dict) -> list[str]:
    return [entry["state"] for entry in data["notebooks"]]


MODULES = ["src/n01_my_study/executors/ridge.py", "src/n01_my_study/pipeline/load_data.py"]


def test_notebooks_become_modules_that_can_be_imported(repo, run_cli, world_home):
    data = run_cli("export-package", cwd=repo).data
    assert (data["package"], states(data), data["orphaned"]) == ("n01_my_study", ["written", "written"], [])
    assert [entry["module"] for entry in data["notebooks"]] == MODULES
    assert len(data["inits"]) == 3
    code = "import n01_my_study.pipeline.load_data as m; print(m.x, m.os.name, m.json.dumps(1))"
    world_home.env["PYTHONPATH"] = str(repo / "src")
    assert python(repo, world_home, "-c", code) == "1 posix 1\n"


def test_an_unchanged_notebook_is_not_written_again(repo, run_cli):
    run_cli("export-package", cwd=repo)
    before = files_of(repo)
    again = run_cli("export-package", cwd=repo)
    assert (states(again.data), again.envelope["idempotent"], files_of(repo)) == (["cached", "cached"], True, before)
    notebook(repo / "notebooks/executors/ridge.ipynb", "y = 3")
    assert states(run_cli("export-package", cwd=repo).data) == ["written", "cached"]
    assert files_of(repo)[MODULES[1]] == before[MODULES[1]]
    assert "y = 3" in (repo / MODULES[0]).read_text()
    (repo / MODULES[0]).unlink()
    (repo / ".hpc" / ".build-cache.json").write_text("{torn")
    assert states(run_cli("export-package", cwd=repo).data) == ["written", "cached"]


def test_what_was_edited_by_hand_is_replaced_only_when_asked(repo, run_cli):
    run_cli("export-package", cwd=repo)
    init, module = repo / "src/n01_my_study/__init__.py", repo / MODULES[0]
    for path in (init, module):
        path.write_text("mine = 1\n")
    assert states(run_cli("export-package", cwd=repo).data) == ["edited", "cached"]
    notebook(repo / "notebooks/executors/ridge.ipynb", "y = 3")
    notebook(repo / "notebooks/pipeline/load data.ipynb", "y = 4")
    before = files_of(repo)
    assert str(module) in refusal(run_cli("export-package", cwd=repo), "force")["message"]
    assert files_of(repo) == before
    assert states(run_cli("export-package", "--force", cwd=repo).data) == ["written", "written"]
    assert (init.read_text(), "y = 3" in module.read_text()) == ("mine = 1\n", True)


def test_a_module_without_a_memory_of_it_counts_as_edited(repo, run_cli):
    (repo / MODULES[0]).parent.mkdir(parents=True)
    (repo / MODULES[0]).write_text("mine = 1\n")
    refusal(run_cli("export-package", cwd=repo), "force")
    assert not (repo / MODULES[1]).exists()


def test_the_module_of_a_deleted_notebook_is_named_and_kept(repo, run_cli):
    run_cli("export-package", cwd=repo)
    (repo / "notebooks/executors/ridge.ipynb").unlink()
    for _ in range(2):
        data = run_cli("export-package", cwd=repo).data
        assert (data["orphaned"], states(data)) == ([MODULES[0]], ["cached"])
    (repo / MODULES[0]).unlink()
    assert run_cli("export-package", cwd=repo).data["orphaned"] == []
    run_cli("export-package", "--package", "other", cwd=repo)
    assert run_cli("export-package", "--package", "other", cwd=repo).data["orphaned"] == [MODULES[1]]


def test_one_bad_notebook_and_nothing_is_written(repo, run_cli):
    notebook(repo / "notebooks/scripts/zz.ipynb", "x = 1", "y = (")
    before = files_of(repo)
    refused = refusal(run_cli("export-package", cwd=repo), "experiment_dir")
    assert refused["message"].startswith("notebooks/scripts/zz.ipynb, cell 1, line 1: ")
    assert files_of(repo) == before


def test_export_refuses_what_has_no_meaning(repo, run_cli, tmp_path):
    refusal(run_cli("export-package", cwd=tmp_path), "experiment_dir")
    for package in ("../x", "a b", "json", "hpc_agent", ""):
        refusal(run_cli("export-package", "--package", package, cwd=repo), "package")
    notebook(repo / "notebooks/pipeline/load-data.ipynb", "x = 1")
    assert "load data.ipynb" in refusal(run_cli("export-package", cwd=repo), "experiment_dir")["message"]
    assert not (repo / "src").exists()
