"""The command line as its users meet it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpc_agent

PYTHON = [sys.executable, "-m", "hpc_agent"]


def call(*arguments: str, **options):
    return subprocess.run([*PYTHON, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def test_version():
    assert call("--version").stdout == f"hpc-agent {hpc_agent.__version__}\n"


def test_version_imports_next_to_nothing():
    done = call("--version", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    imported = set(re.findall(r"\|\s+(\S+)$", done.stderr, re.MULTILINE))
    assert not imported & {"argparse", "json", "msgspec", "yaml", "subprocess"}


@pytest.mark.parametrize("verb", ["list-in-flight", "load-context"])
def test_a_local_query_imports_nothing_that_asks_a_cluster(run_cli, tmp_path, verb):
    done = run_cli(verb, cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = set(re.findall(r"\|\s+(\S+)$", done.stderr, re.MULTILINE))
    assert "hpc_agent.state.journal" in imported
    assert not imported & {
        "yaml",
        "rich",
        "pathspec",
        "importlib.metadata",
        "difflib",
        "shutil",
        "socket",
        "subprocess",
    }
    ours = {name for name in imported if name.startswith(("hpc_agent.infra", "hpc_agent.experiment", "hpc_agent.view"))}
    assert not ours
    verbs = {name for name in imported if re.match(r"hpc_agent\.ops\.(?!run\b)\w+\.", name)}
    assert not verbs, "no other verb's module: that of this one is imported by name, which is not listed"
    assert "hpc_agent.cli.help" not in imported


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["clusters", "list"], "clusters-list"),
        (["clusters", "describe", "local"], "clusters-describe"),
        (["describe", "submit-flow"], "submit"),
        (["describe", "status"], "status"),
        (["capabilities"], "capabilities"),
    ],
)
def test_spellings(run_cli, arguments, verb):
    data = run_cli(*arguments).data
    if arguments[0] == "describe":
        assert data["name"] == verb
        assert run_cli(*arguments, "--schema").data["input_schema"]["title"] == f"{verb} input"
    else:
        assert data


def test_every_missing_field_is_named_at_once(run_cli):
    answer = run_cli("submit").envelope
    assert answer["message"] == "'cluster' and 'executor' are required"
    assert answer["remediation"].startswith("Give --cluster and --executor. 'hpc-agent resolve-submit-inputs' finds")
    answer = run_cli("interview", "--goal", "g").envelope
    assert (answer["field"], answer["message"]) == ("task_count", "'task_count' is required")


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["submit", "--spec", "-"], '{"cluster": "\\ud800", "executor": "true"}'),
        (["submit", "--spec", "-"], '{"\\ud800": 1}'),
        (["submit", "--cluster", "\udcff", "--executor", "true"], ""),
        (["status", "--\udcff", "x"], ""),
        (["\udcff"], ""),
    ],
)
def test_bytes_that_are_no_text_are_one_envelope(arguments, stdin):
    done = call(*arguments, input=stdin)
    assert json.loads(done.stdout)["error_code"] == "spec_invalid"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_capabilities_are_the_whole_contract(run_cli):
    data = run_cli("capabilities", "--full").data
    names = {row["name"] for row in data["operations"]}
    assert {"submit", "status", "monitor-flow", "aggregate", "logs", "list-in-flight", "find-prior-run", "compute-run-id",
            "load-context", "capabilities", "describe", "clusters-list", "clusters-describe", "demo"} <= names  # fmt: skip
    assert data["schedulers"][:3] == ["slurm", "sge", "local"]
    assert {key["key"] for key in data["cluster_yaml_keys"]} >= {
        "scheduler",
        "host",
        "scratch",
        "modules",
        "conda_envs",
    }
    assert {row["error_code"] for row in data["error_codes"]} >= {
        "spec_invalid",
        "ssh_unreachable",
        "submission_unknown",
    }
    schemas = Path(data["schemas_dir"])
    assert all((schemas / row["input_schema"]).is_file() for row in data["operations"])


@pytest.mark.local
@pytest.mark.slow(reason="25 tasks that fit a model, on two cores")
def test_the_demo_from_nothing_to_its_table(run_cli, tmp_path):
    first = run_cli("demo", cwd=tmp_path, timeout=180)
    rows = [dict(zip(first.data["columns"], row, strict=True)) for row in first.data["rows"]]
    assert sorted(row["alpha"] for row in rows) == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert [row["rmse_mean"] for row in rows] == sorted(row["rmse_mean"] for row in rows), "the best first"
    assert {row["tasks"] for row in rows} == {5}
    records = [json.loads(line) for line in first.stderr.splitlines()]
    assert any(record["event"] == "say" and "rmse" in record["text"] for record in records)
    csv = Path(first.data["table_csv"]).read_text().splitlines()
    assert len(csv) == 6
    again = run_cli("demo", cwd=tmp_path, timeout=60)
    assert again.data["run_id"] == first.data["run_id"]
    repo = Path(first.data["experiment_dir"])
    steps = first.data["next_steps"]
    for step in steps[steps.index(f"cd {repo}") + 1 :]:
        words = shlex.split(step.partition("   #")[0])
        outcome = run_cli(*words[1:], cwd=repo)
        assert outcome.code == 0, outcome
        assert "deduped" not in outcome.data or outcome.data["deduped"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert run_cli("demo", "mine", cwd=tmp_path).envelope["error_code"] == "spec_invalid"


@pytest.mark.local
@pytest.mark.slow(reason="25 tasks that fit a model, on two cores")
@pytest.mark.timeout(900)  # 35 s on a quiet machine
def test_on_a_terminal_the_demo_shows_a_bar_and_the_table(world_home, tmp_path):
    """A real terminal: readable progress and the table on it; stdout is still one line of JSON."""
    controller, terminal = pty.openpty()
    env = {**world_home.env, "TERM": "xterm-256color", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen([*PYTHON, "demo"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown, deadline = b"", time.monotonic() + 600  # unread, the terminal would stop the command
    while time.monotonic() < deadline:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                shown += os.read(controller, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    stdout = process.stdout.read()
    assert process.wait(10) == 0
    assert stdout.count(b"\n") == 1
    assert json.loads(stdout)["ok"]
    text = shown.decode()
    assert "25/25" in text
    assert "±" in text
    assert '"event"' not in text


def test_control_c_is_one_envelope(world_home, tmp_path):
    from experiment import make_repo

    begun = tmp_path / "begun"
    repo = make_repo(tmp_path / "repo", f"import time; open({str(begun)!r}, 'w').close(); time.sleep(60)")
    process = subprocess.Popen(
        [*PYTHON, "compute-run-id", "--resolve-timeout-sec", "60"],
        cwd=repo, env=world_home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 60
    while not begun.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(2)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert json.loads(out)["error_code"] == "interrupted"
    assert b"Traceback" not in out + err


def test_a_reader_that_goes_away_is_no_crash(world_home, tmp_path):
    line = f"{shlex.quote(sys.executable)} -m hpc_agent capabilities --full | head -c 10"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, env=world_home.env, cwd=tmp_path, timeout=30, check=True
    )
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "meant"),
    [
        (("submit", "--waltime-sec", "60"), "", "--walltime-sec"),
        (("submitt",), "", "hpc-agent submit"),
        (("monitor-flow", "--spec", "-"), '{"poll_intervall_sec": 5}', "poll_interval_sec"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(run_cli, arguments, stdin, meant):
    outcome = run_cli(*arguments, stdin=stdin)
    assert (outcome.code, outcome.envelope["error_code"]) == (1, "spec_invalid")
    assert f"Did you mean {meant}?" in outcome.envelope["remediation"].replace("'", "")


@pytest.mark.parametrize("ending", ["sec", "seconds"])
def test_seconds_may_be_spelled_out(run_cli, ending):
    flag = run_cli("monitor-flow", "--run-id", "none", f"--wall-clock-budget-{ending}", "5")
    spec = run_cli("monitor-flow", "--spec", "-", stdin=json.dumps({"run_id": "none", f"poll_interval_{ending}": 5}))
    assert {flag.envelope["error_code"], spec.envelope["error_code"]} == {"run_not_found"}
