"""Every command line in the texts for Claude Code is run, as it stands, by the real command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from claude import KEY, make_claude
from experiment import submit, watch, write

import hpc_agent

PLUGIN = Path(hpc_agent.__file__).parent / "slash_commands"
TEXTS = sorted(PLUGIN.rglob("*.md"))
EXECUTOR = 'python3 executors/ridge.py --alpha "$ALPHA" --output-file "$HPC_RESULT_DIR/metrics.json"'
RIDGE = """import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, required=True)
parser.add_argument("--output-file", required=True)
given = parser.parse_args()
with open(given.output_file, "w") as handle:
    json.dump({"rmse": (given.alpha - 0.3) ** 2}, handle)
"""
REDUCER = """import json
import os

with open(os.environ["HPC_AGGREGATED_OUTPUT"], "w") as handle:
    json.dump({"tasks": len(os.listdir("results"))}, handle)
"""
SERIES = "def smooth(x, window):\n    return [sum(x[max(0, i - window + 1):i + 1]) / window for i in range(len(x))]\n"
NOTEBOOK = {
    "cells": [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": ["X = 1\n"]}],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def commands_of(path: Path) -> list[str]:
    """Lines of bash blocks, and spans of code that are whole commands. Words in capitals stand for any verb."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`(hpc-agent [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for line in (*lines, *spans) if not re.search(r"\b(VERB|WORDS)\b", line)]


EVERY = [(path, command) for path in TEXTS for command in commands_of(path)]


def test_there_are_many_and_none_is_compound():
    """Permission rules refuse compound commands."""
    assert len(EVERY) > 60
    for path, command in EVERY:
        words = shlex.split(re.sub(r"<[a-z-]+>", "x", command))
        assert words[0] == "hpc-agent", (path, command)
        assert not {"|", "&&", "||", ";", "&", ">", "<"} & set(words), (path, command)
        assert "$(" not in command
        assert "--json" not in words


@pytest.fixture
def context(site, clusters_file, run_cli, world_home, tmp_path):
    """A repo with two runs that have ended, a series, a notebook, and what the texts' placeholders stand for."""
    repo = tmp_path / "repo"
    write(repo / "executors/ridge.py", RIDGE)
    write(repo / "signals.py", SERIES)
    write(repo / "scripts/aggregate_errors.py", REDUCER)
    write(repo / "notebooks/executors/steps.ipynb", json.dumps(NOTEBOOK))
    claude = make_claude(tmp_path / "claude-bin")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(shutil.which("python3", path="/usr/bin:/bin") or shutil.which("python3"))
    world_home.env["PATH"] = os.pathsep.join((str(claude.folder), str(tools), world_home.env["PATH"]))
    world_home.env["ANTHROPIC_API_KEY"] = KEY
    run_cli("setup", "--cluster", "testbed")  # without it, check-preflight is an error, as step 6b says
    axes = {"alpha": [0.1, 0.5]}
    run_cli("build-tasks-py", "--executors", "ridge", "--axes", json.dumps(axes), cwd=repo)
    earlier = submit(run_cli, repo, EXECUTOR, "--run-name", "earlier", "--metrics-file", "metrics.json")["run_id"]
    watch(run_cli, repo)
    run = submit(run_cli, repo, EXECUTOR, "--metrics-file", "metrics.json")["run_id"]
    watch(run_cli, repo)
    intent = {"goal": "Which penalty?", "task_count": 2, "executors": ["ridge"], "axes": axes}
    write(repo / "intent.json", json.dumps(intent))
    read = run_cli("classify-axis-easy", "--source-path", "signals.py", "--run-name", "smooth", cwd=repo).data
    places = {
        "cluster": "testbed",
        "executor": EXECUTOR,
        "own-executor": json.dumps(EXECUTOR)[1:-1],
        "executor-name": "ridge",
        "axes": json.dumps(axes),
        "run-id": run,
        "earlier-run-id": earlier,
        "metric": "rmse",
        "goal": "Which penalty?",
        "campaign-id": "penalties",
        "space": json.dumps({"alpha": {"type": "float", "low": 0.01, "high": 1.0}}),
        "source": "signals.py",
        "function": "smooth",
        "params": json.dumps({"window": 5}),
        "halo": "4",
        "signature-sha": read.get("run_signature_sha") or "0" * 64,
        "intent-file": "intent.json",
        "new-name": "train",
        "new-folder": "fresh",
        "flags": "alpha:float=0.1",
        "complete": "1", "running": "1", "pending": "0", "failed": "0", "total": "2",
    }  # fmt: skip
    return repo, places, run_cli


def filled(command: str, places: dict[str, str]) -> list[str]:
    return shlex.split(re.sub(r"<([a-z-]+)>", lambda found: places[found[1]], command))


@pytest.mark.timeout(600)
@pytest.mark.slow(reason="every command of the texts, one after the other, whole runs among them")
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_every_command_line_runs(context):
    repo, places, run_cli = context
    failed = []
    first = {command: path for path, command in reversed(EVERY)}
    for path, command in ((path, command) for command, path in reversed(first.items())):
        words = filled(command, places)
        if "--field" in words:  # prints a bare value, no envelope
            at = words.index("--field")
            words = [*words[:at], *words[at + 2 :]]
        done = run_cli(*words[1:], cwd=repo)
        if done.code:
            failed.append(
                (path.relative_to(PLUGIN).as_posix(), command, done.envelope["error_code"], done.envelope["message"])
            )
    assert not failed, "\n".join(map(str, failed))
