"""How an executor is started and how its parameters reach it: every kind is really run with what the source of it reads."""

from __future__ import annotations

import json
import shutil

import pytest
from experiment import write

from hpc_agent.ops.author.parameter_ways import WAY

WRITE = 'json.dump({"used": used}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))\n'
ARGS = f"""import argparse, json, os
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=9.0)
    used = parser.parse_args().lr
    {WRITE}if __name__ == "__main__":
    main()
"""
OF_PACKAGE = "from .base import ONE\n" + ARGS.replace(").lr", ").lr * ONE")
SUBCOMMANDS = f"""import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
inner = parser.add_subparsers(dest="what", required=True)
train = inner.add_parser("train")
train.add_argument("--lr", type=float, required=True)
inner.add_parser("evaluate").add_argument("--split", required=True)
if __name__ == "__main__":
    options = parser.parse_args()
    used = options.lr * options.seed
    {WRITE}"""
ENVIRONMENT = f"""import json, os
used = float(os.environ["lr"]) + float(os.getenv("HPC_KW_LR", 9)) - float(os.environ.get("LR", 9))
{WRITE}"""
ALL = f"""import json, os
used = json.loads(os.environ["HPC_KW_JSON"])["lr"]
{WRITE}"""
SHELL = """#!/bin/bash -e
while [ $# -gt 0 ]; do
  case "$1" in
    --lr) used=$2; shift 2 ;;
    --other=*) shift ;;
  esac
done
echo "{\\"used\\": $used}" > "$HPC_RESULT_DIR/metrics.json"
"""
SHELL_VARIABLE = 'if [ -z "${LR:-}" ]; then exit 3; fi\necho "{\\"used\\": $LR}" > "$HPC_RESULT_DIR/metrics.json"\n'
R_OUT = 'cat(sprintf(\'{"used": %f}\', used), file = file.path(Sys.getenv("HPC_RESULT_DIR"), "metrics.json"))\n'
R_FLAG = 'given <- commandArgs(trailingOnly = TRUE)\nused <- as.numeric(given[which(given == "--lr") + 1])\n' + R_OUT
R_VARIABLE = 'used <- as.numeric(Sys.getenv("LR"))\n' + R_OUT
NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "lr = 9.0\nsteps = 3"},
            {
                "cell_type": "code",
                "metadata": {},
                "source": "get_ipython().system('ls')\nimport json, os\nused = lr\n" + WRITE,
            },
        ]
    }
)

KINDS = {
    "a script at the root beside scripts/": ("train.py", {"train.py": ARGS, "scripts/other.py": ARGS}, ["--lr=0.5"]),
    "a module of a package": ("pkg/sub/train.py", {"pkg/__init__.py": "", "pkg/sub/__init__.py": "",
        "pkg/sub/base.py": "ONE = 1", "pkg/sub/train.py": OF_PACKAGE}, ["python", "-m", "pkg.sub.train"]),
    "a package under src": ("src/pkg/train.py", {"src/pkg/__init__.py": "", "src/pkg/base.py": "ONE = 1",
        "src/pkg/train.py": OF_PACKAGE}, ["python", "-m", "pkg.train"]),
    "its own package by name": ("src/pkg/train.py", {"src/pkg/__init__.py": "", "src/pkg/base.py": "ONE = 1",
        "src/pkg/train.py": OF_PACKAGE.replace(".base", "pkg.base")}, ["python", "-m", "pkg.train"]),
    "a folder without __init__": ("steps/train.py", {"steps/base.py": "ONE = 1", "steps/train.py": OF_PACKAGE},
        ["python", "-m", "steps.train"]),
    "__main__ of a package": ("pkg/__main__.py", {"pkg/__init__.py": "", "pkg/base.py": "ONE = 1",
        "pkg/__main__.py": OF_PACKAGE}, ["python", "-m", "pkg"]),
    "a script that imports from src": ("scripts/train.py", {"src/lib_of_mine/__init__.py": "ONE = 1",
        "scripts/train.py": OF_PACKAGE.replace(".base", "lib_of_mine")}, ["python", "scripts/train.py"]),
    "no suffix": ("bin/train", {"bin/train": "#!/usr/bin/env python3\n" + ARGS}, ["--lr=0.5"]),
    "variables": ("train.py", {"train.py": ENVIRONMENT}, []),
    "all parameters as JSON": ("train.py", {"train.py": ALL}, []),
    "a shell": ("fit.sh", {"fit.sh": SHELL}, ["bash", "-e", "fit.sh", "--lr", "0.5"]),
    "a shell with a default": ("fit.sh", {"fit.sh": "lr=${lr:-9}\n" + SHELL_VARIABLE.replace("LR", "lr")}, ["bash", "fit.sh"]),
    "the name of a module": ("pkg.train", {"pkg/base.py": "ONE = 1", "pkg/train.py": OF_PACKAGE}, []),
    "a shell that reads a variable": ("fit.sh", {"fit.sh": SHELL_VARIABLE}, ["bash", "fit.sh"]),
    "a notebook": ("study.ipynb", {"study.ipynb": NOTEBOOK}, []),
    "R with a flag": ("fit.R", {"fit.R": R_FLAG}, ["Rscript", "fit.R", "--lr", "0.5"]),
    "R with a variable": ("fit.R", {"fit.R": R_VARIABLE}, ["Rscript", "fit.R"]),
}  # fmt: skip


@pytest.fixture
def call(run_cli, tmp_path):
    return lambda *words, **options: run_cli(*words, cwd=tmp_path, **options)


def build(call, name, *words, **parameters):
    axes = json.dumps({key: [value] for key, value in parameters.items()})
    return call("build-tasks-py", "--executors", name, "--axes", axes, *words)


def used(call, **parameters):
    found = call("dry-run-local", "--executor", "python3 .hpc/cli.py").data["findings"]
    return [row["evidence"].get("metrics", row) for row in found]


@pytest.mark.parametrize("kind", KINDS)
def test_an_executor_is_started_by_what_it_is_and_uses_its_parameter(call, tmp_path, kind):
    name, files, _ = KINDS[kind]
    if name.endswith(".R") and not shutil.which("Rscript"):
        pytest.skip("Rscript is not installed")
    for path, text in files.items():
        write(tmp_path / path, text)
    build(call, name, lr=0.5).data  # noqa: B018 - raises for a refusal
    assert used(call) == [{"used": 0.5}]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][2]])
def test_the_words_of_a_start(call, tmp_path, kind, monkeypatch):
    import importlib.util
    import os
    import sys

    name, files, words = KINDS[kind]
    for path, text in files.items():
        write(tmp_path / path, text)
    build(call, name, lr=0.5).data  # noqa: B018
    spec = importlib.util.spec_from_file_location("cli_of_a_task", tmp_path / ".hpc/cli.py")
    cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli)
    started = []
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    monkeypatch.setattr(sys, "path", list(sys.path))
    cli.main([name, '{"lr": 0.5}'])
    plain = [word.replace(str(tmp_path) + "/", "").replace(sys.executable, "python") for word in started[0]]
    assert [plain[i : i + len(words)] for i in range(len(plain))].count(words) == 1, plain


REFUSED = {
    "a relative import at the root": (
        "train.py",
        "from . import base\nif __name__ == '__main__': pass\n",
        "lies in no package",
    ),
    "no suffix and no first line": ("train", "echo hello\n", "neither a known suffix nor a first line"),
    "a document": ("train.docx", "x", "neither a known suffix nor a first line"),
    "a program that may not be executed": ("train", "\x7fELF\x02\x01", "may not be executed"),
    "a notebook without parameters": ("n.ipynb", '{"cells": []}', "without a cell tagged 'parameters'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_started_is_refused_with_the_reason(call, tmp_path, kind):
    name, text, reason = REFUSED[kind]
    write(tmp_path / name, text)
    refused = build(call, name, lr=0.5)
    assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid")
    assert reason in refused.envelope["message"]
    assert not (tmp_path / ".hpc/tasks.py").exists()


DYNAMIC = """import argparse, json, os
parser = argparse.ArgumentParser()
for line in open(os.path.join(os.path.dirname(__file__), "options.txt")):
    parser.add_argument("--" + line.strip(), type=float)
if __name__ == "__main__":
    used = vars(parser.parse_args())["learn-rate".replace("-", "_")]
    {}"""
SILENT = {
    "options that a file names": ("train.py", DYNAMIC.format(WRITE)),
    "words by their place": ("fit.R", "used <- as.numeric(commandArgs(TRUE)[1])\n" + R_OUT),
    "a shell's first word": ("fit.sh", 'echo "{\\"used\\": $1}" > "$HPC_RESULT_DIR/metrics.json"\n'),
    "sys.argv": ("train.py", "import json, os, sys\nused = float(sys.argv[1])\n" + WRITE),
    "a variable of another name": ("fit.jl", 'used = parse(Float64, ENV["RATE"])\n'),
    "a comment": ("fit.sh", "# --learn_rate) LEARN_RATE\necho\n"),
    "the option of another program": ("fit.sh", "python x.py --learn-rate 3\n"),
    "a variable that the shell sets": ("fit.sh", "LEARN_RATE=0.1\necho $LEARN_RATE\n"),
    "a loop over a variable": ("fit.sh", "for learn_rate in 1 2; do echo $learn_rate; done\n"),
    "nothing": ("train.py", "print(1)\n"),
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_parameter_that_may_not_arrive_is_refused_by_its_flag(call, tmp_path, kind):
    name, text = SILENT[kind]
    write(tmp_path / name, text)
    write(tmp_path / "options.txt", "learn-rate\n")
    refused = build(call, name, learn_rate=0.5)
    assert refused.code == 1
    assert "'learn_rate'" in refused.envelope["message"] or "no parameter 'learn_rate'" in refused.envelope["message"]
    assert not (tmp_path / ".hpc/tasks.py").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("options that a file names", ["--check-help"]),
        ("options that a file names", ["--pass-as", '{"learn_rate": "--learn-rate"}']),
        ("words by their place", ["--pass-as", '{"learn_rate": "positional"}']),
        ("a shell's first word", ["--pass-as", '{"learn_rate": "positional"}']),
        ("sys.argv", ["--pass-as", '{"learn_rate": "positional"}']),
    ],
)
def test_a_way_that_somebody_names_or_help_prints_is_taken(call, tmp_path, kind, words):
    name, text = SILENT[kind]
    if name.endswith(".R") and not shutil.which("Rscript"):
        pytest.skip("Rscript is not installed")
    write(tmp_path / name, text)
    write(tmp_path / "options.txt", "learn-rate\n")
    build(call, name, *words, learn_rate=0.5).data  # noqa: B018
    assert used(call) == [{"used": 0.5}]
    assert call("submit", "--cluster", "local", "--executor", "python3 .hpc/cli.py", "--dry-run").data["notes"] == []


def test_what_pass_as_and_help_cannot_do_is_told(call, tmp_path):
    write(tmp_path / "train.py", DYNAMIC.format(WRITE))
    write(tmp_path / "options.txt", "other\n")
    assert build(call, "train.py", "--check-help", learn_rate=1).code == 1
    assert all(WAY.fullmatch(way) for way in ("-l", "--opt.lr", "++opt.lr=", "lr=", "$LR", "positional"))
    for way in ("lr", "++lr", "$PATH", "$SLURM_JOB_ID", "--a b", ""):
        refused = build(call, "train.py", "--pass-as", json.dumps({"learn_rate": way}), learn_rate=1)
        assert (refused.code, refused.envelope["field"]) == (1, "pass_as")


def test_a_subcommand_is_asked_for_and_stands_in_its_place(call, tmp_path):
    write(tmp_path / "tool.py", SUBCOMMANDS)
    asked = build(call, "tool", lr=0.5, seed=2)
    assert (asked.code, "train, evaluate" in asked.envelope["message"]) == (1, True)
    assert """--fixed-params '{"what": "train"}'""" in asked.envelope["remediation"]
    assert build(call, "tool", lr=0.5, what="test").envelope["message"].startswith("tool.py has no subcommand 'test'")
    assert "needs the parameter 'lr'" in build(call, "tool", what="train").envelope["message"]
    foreign = build(call, "tool", what="evaluate", split="a", lr=0.5)
    assert "belongs to the subcommand train" in foreign.envelope["message"]
    build(call, "tool", "--fixed-params", '{"what": "train"}', lr=0.5, seed=2).data  # noqa: B018
    assert used(call) == [{"used": 1.0}]
    build(call, "tool.py train", lr=0.5, seed=4).data  # noqa: B018
    assert used(call) == [{"used": 2.0}]
    assert build(call, "tool.py test", lr=0.5).envelope["error_code"] == "executor_not_found"


def test_submit_refuses_what_tasks_py_or_the_command_leaves_out(call, tmp_path):
    write(tmp_path / "train.py", ARGS)
    build(call, "train.py", lr=0.5).data  # noqa: B018

    def submit(executor):
        return call("submit", "--cluster", "local", "--executor", executor, "--dry-run")

    assert submit("python3 .hpc/cli.py").code == 0
    # The command starts the script by itself, and leaves the parameter out.
    for command in ("python3 train.py", "python3 -m train", "X=1 python3 ./train.py"):
        refused = submit(command)
        assert (refused.code, refused.envelope["message"].startswith("'lr' does not reach train.py")) == (1, True)
        assert '--lr "$LR"' in refused.envelope["remediation"]
    for command in ('python3 train.py --lr "$LR"', 'python3 train.py --lr "${HPC_KW_LR}"', "true"):
        assert submit(command).code == 0
    write(tmp_path / "run.sh", "sleep 1\n")
    assert submit("bash run.sh").data["notes"][0].startswith("'lr' does not reach run.sh")
    write(tmp_path / "fit.sh", SHELL)
    assert submit("bash fit.sh").code == 1
    write(tmp_path / "config.py", "import os\nLR = os.environ['LR']\n")
    assert submit("python3 train.py").code == 0
    # The script has a new flag that tasks.py gives a value, and FLAGS does not have.
    tasks = (tmp_path / ".hpc/tasks.py").read_text()
    (tmp_path / ".hpc/tasks.py").write_text(
        tasks.replace("return TASKS[task_id]", "return dict(TASKS[task_id], depth=3)")
    )
    assert "no parameter 'depth'" in submit("python3 .hpc/cli.py").envelope["message"]
    write(tmp_path / "train.py", ARGS.replace("used =", 'parser.add_argument("--depth")\n    used ='))
    assert "FLAGS of tasks.py has no 'depth'" in submit("python3 .hpc/cli.py").envelope["message"]
    write(tmp_path / ".hpcignore", "train.py\n")
    assert "not among the files that would be pushed" in submit("python3 .hpc/cli.py").envelope["message"]


def test_a_function_that_returns_rows_is_refused_before_it_is_a_task(call, tmp_path):
    source = (
        "from hpc_agent.experiment_kit import register_run\n\n\n@register_run\ndef f(window: int):\n    return {}\n"
    )
    write(tmp_path / "f.py", source.format("[window]"))
    found = call("discover-runs").data["runs"][0]
    assert found["problem"].startswith(
        "f.py, line 5: f() returns rows or text; a task's function returns a dict of numbers"
    )
    axis = '{"kind": "independent", "chunks": 2, "series_length": 10}'
    refused = build(call, "f", "--data-axis", axis, window=2)
    assert (refused.code, refused.envelope["message"]) == (1, found["problem"])
    write(tmp_path / "f.py", source.format("g(window)"))
    assert "does not show what it returns" in build(call, "f", "--data-axis", axis, window=2).data["notes"][0]
    write(tmp_path / "f.py", source.format("{'a': window}"))
    assert build(call, "f", "--data-axis", axis, window=2).data["notes"] == []


def test_a_script_that_does_not_read_its_part_of_a_series_is_refused(call, tmp_path):
    axis = '{"kind": "independent", "chunks": 2, "series_length": 10}'
    write(tmp_path / "train.py", ARGS)
    assert "no parameter 'end'" in build(call, "train.py", "--data-axis", axis, lr=1.0).envelope["message"]
    kit = "from hpc_agent.experiment_kit.series import load_series\n"
    flags = "parser.add_argument('--start')\n    parser.add_argument('--end')\n    used ="
    for text in (kit + ARGS, ARGS.replace("used =", flags)):
        write(tmp_path / "train.py", text)
        build(call, "train.py", "--data-axis", axis, lr=1.0).data  # noqa: B018


def test_tasks_start_with_the_python_of_the_cluster(call, tmp_path, world_home):
    """Of a cluster whose modules bring a Python, it is python3; --python is taken before both."""
    write(tmp_path / "train.py", ARGS)
    lines = "c: {scheduler: slurm, host: h, scratch: /s, python: /opt/py/bin/python3.9EXTRA}\n"
    (tmp_path / "clusters.yaml").write_text(lines.replace("EXTRA", ""))
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(tmp_path / "clusters.yaml")
    made = build(call, "train.py", lr=1.0).data
    assert made["executor"] == "/opt/py/bin/python3.9 .hpc/cli.py"
    assert made["notes"][0].startswith("tasks start with /opt/py/bin/python3.9, the 'python' of c")
    spec = call("resolve-submit-inputs", "--cluster", "c").data["spec"]
    assert spec["executor"] == "/opt/py/bin/python3.9 .hpc/cli.py"
    assert call("resolve-submit-inputs", "--cluster", "local").data["spec"]["executor"] == "python3 .hpc/cli.py"
    assert build(call, "train.py", "--python", "/my/python", lr=1.0).data["executor"] == "/my/python .hpc/cli.py"
    assert call("resolve-submit-inputs", "--cluster", "c").data["spec"]["executor"] == "/my/python .hpc/cli.py"
    (tmp_path / "clusters.yaml").write_text(lines.replace("EXTRA", ", modules: [python/3.11]"))
    assert build(call, "train.py", lr=1.0).data["executor"] == "python3 .hpc/cli.py"
    local = json.dumps({"goal": "g", "task_count": 1, "executors": ["train.py"], "axes": {"lr": [1.0]},
                        "cluster_target": {"cluster": "local"}})  # fmt: skip
    assert call("interview", "--spec", "-", stdin=local).data["executor"] == "python3 .hpc/cli.py"


def test_a_command_that_the_repo_would_install_is_started_by_its_function(call, tmp_path):
    write(tmp_path / "pyproject.toml", '[project]\nname = "x"\n[project.scripts]\nmy-tool = "pkg.cli:main"\n')
    write(tmp_path / "src/pkg/__init__.py", "")
    write(tmp_path / "src/pkg/base.py", "ONE = 1\n")
    write(tmp_path / "src/pkg/cli.py", OF_PACKAGE.partition("if __name__")[0])
    build(call, "my-tool", lr=0.5).data  # noqa: B018
    assert used(call) == [{"used": 0.5}]


def test_a_package_with_its_parser_in_another_module(call, tmp_path):
    write(tmp_path / "pkg/__init__.py", "")
    write(tmp_path / "pkg/base.py", "ONE = 1\n")
    write(tmp_path / "pkg/cli.py", OF_PACKAGE.partition("if __name__")[0])
    write(tmp_path / "pkg/__main__.py", "from .cli import main\n\nmain()\n")
    write(tmp_path / "other/__main__.py", ARGS)
    build(call, "pkg,other", lr=0.5).data  # noqa: B018
    assert used(call) == [{"used": 0.5}, {"used": 0.5}]


def test_scripts_of_other_languages_are_named_by_discovery(call, tmp_path):
    write(tmp_path / "scripts/fit.R", R_VARIABLE)
    found = call("discover-executors").data
    command = "hpc-agent build-tasks-py --executors scripts/fit.R"
    told = f"not listed: 1 scripts of other languages, such as scripts/fit.R; name one: {command}"
    assert (found["executors"], found["notes"], found["next_step"]) == ([], [told], command)
