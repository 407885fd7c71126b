"""An agent that knows only the verbs gets from somebody's repo to a table in six calls, and writes no file itself."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from experiment import write

pytestmark = pytest.mark.usefixtures("clusters_file")
CALLS = 6

SCRIPT = '''
"""{doc}"""
import argparse
import json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--horizon", type=int, required=True, help="steps ahead")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--no-trend", action="store_true")
    parser.add_argument("--output-file", required=True)
    options = parser.parse_args()
    with open(options.output_file, "w") as handle:
        json.dump({{"score": {factor} * options.horizon + options.alpha}}, handle)


if __name__ == "__main__":
    main()
'''
FUNCTION = """
from hpc_agent.experiment_kit import register_run
from .helpers import scaled


@register_run
def train(horizon: int, alpha: float = 0.5) -> dict:
    return {"score": scaled(horizon) + alpha}
"""
STUDY = """@register_run
def train(horizon: int, alpha: float = 0.5) -> dict:
    return {"score": FACTOR * math.floor(horizon) + alpha}"""
NOTEBOOK_CELLS = [
    ("markdown", "# A study"),
    ("code", "%matplotlib inline\n!echo this is no Python\nimport math\nfrom hpc_agent.experiment_kit import register_run"),
    ("code", "%%bash\nls"),
    ("code", "FACTOR = 3\nfiles = !ls"),
    ("code", STUDY),
    ("code", "raise SystemExit('what stands below the function is not run')"),
]  # fmt: skip


def notebook(cells):
    def made(kind, text):
        extra = {"outputs": [], "execution_count": None} if kind == "code" else {}
        return {"cell_type": kind, "metadata": {}, "source": text, **extra}

    document = {"cells": [made(*cell) for cell in cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document)


def scripts(repo):
    for name, factor in (("ridge", 1), ("boost", 2)):
        write(repo / f"executors/{name}.py", textwrap.dedent(SCRIPT.format(doc=name, factor=factor)).lstrip())
    return ["ridge", "boost"], {("ridge", 1): 1.5, ("ridge", 5): 5.5, ("boost", 1): 2.5, ("boost", 5): 10.5}


def package(repo):
    write(repo / "src/study/__init__.py", "")
    write(repo / "src/study/helpers.py", "def scaled(x):\n    return 4 * x\n")
    write(repo / "src/study/models.py", FUNCTION)
    return ["train"], {(None, 1): 4.5, (None, 5): 20.5}


def study(repo):
    write(repo / "study.ipynb", notebook(NOTEBOOK_CELLS))
    return ["train"], {(None, 1): 3.5, (None, 5): 15.5}


@pytest.mark.timeout(280)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
@pytest.mark.parametrize("make", [scripts, package, study])
def test_six_calls_from_a_repo_to_its_table(site, run_cli, tmp_path, make):
    repo = tmp_path / "somebodys"
    names, expected = make(repo)
    before = {path for path in repo.rglob("*") if path.is_file()}
    calls = []

    def call(*words, **options):
        calls.append(words[0])
        return run_cli(*words, cwd=repo, timeout=200, **options).data

    found = call("discover-executors" if make is scripts else "discover-runs")
    assert {row["name"] for row in found.get("executors", found.get("runs"))} == set(names)
    wishes = {"executors": names, "axes": {"horizon": [1, 5]}, "task_count": len(expected)}
    call("build-tasks-py", "--spec", "-", stdin=json.dumps(wishes))
    # On a machine with two local clusters somebody has to say which; the only remote one is found.
    said = ["--cluster", "testbed"] if site.scheduler == "local" else []
    spec = call("resolve-submit-inputs", *said)["spec"]
    assert spec["cluster"] == "testbed"
    call("submit", "--spec", "-", stdin=json.dumps(spec))
    ended = call("monitor-flow", "--wall-clock-budget-seconds", "150")
    assert ended["lifecycle_state"] == "complete", ended["samples"]
    table = call("aggregate")
    assert len(calls) <= CALLS
    rows = json.loads(Path(table["table_csv"]).with_name("table.json").read_text())["rows"]
    scores = {
        (row["kwargs"].get("executor"), row["kwargs"]["horizon"]): row["metrics"]["score"]["mean"] for row in rows
    }
    assert scores == expected
    assert before <= {path for path in repo.rglob("*") if path.is_file()}

    # The next submission asks for what was measured, and says so.
    wishes = {"executors": names, "axes": {"horizon": [1, 5, 25]}}
    run_cli("build-tasks-py", "--spec", "-", cwd=repo, stdin=json.dumps(wishes))
    plan = run_cli("resolve-submit-inputs", *said, cwd=repo).data["plan"]
    assert plan["resources"]["walltime_sec"] < 600, plan
    assert plan["resources"]["mem_mb"] is not None
    for name in ("walltime_sec", "mem_mb"):
        assert plan["origin"][name].startswith("measured: "), plan["origin"]
        assert f"by {len(expected)} tasks of " in plan["origin"][name]
    again = run_cli("submit", "--spec", "-", cwd=repo, stdin=json.dumps(spec)).data
    assert again["plan"]["resources"] == plan["resources"]
    assert (
        run_cli("monitor-flow", "--wall-clock-budget-seconds", "150", cwd=repo, timeout=200).data["lifecycle_state"]
        == "complete"
    )
