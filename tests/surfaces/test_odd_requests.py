"""What the odd calls (test_fuzz.py) found: each stays mended."""

from __future__ import annotations

import json
import os
import threading

import pytest

from hpc_agent.errors import JournalCorrupt
from hpc_agent.state import user_files
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar


def refused(outcome, error_code="spec_invalid"):
    assert (outcome.code, outcome.envelope["error_code"]) == (1, error_code), outcome
    assert "Traceback" not in outcome.stderr
    return outcome.envelope["message"]


@pytest.mark.parametrize(
    "text",
    [
        '{"ok": false, "error_code": "x", "remediation": 1, "details": 7, "field": []}',
        '{"ok": false, "error_code": "x", "message": [1], "remediation": null}',
        "[" * 30000,
        '{"a":' * 30000,
        "1" * 9000,
    ],
)
def test_a_request_that_is_no_request(run_cli, text):
    refused(run_cli("status", "--spec", "-", stdin=text))


def test_json_in_a_flag_that_is_too_deep(run_cli):
    refused(run_cli("submit", "--cluster", "local", "--executor", "true", "--tasks", "[" * 30000))


def test_a_request_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(user_files, "MOST_BYTES", 1000)
    with pytest.raises(OSError, match="larger than"):
        user_files.read_user_file(user_files.Path("/dev/zero"))


def test_a_pipe_is_read_from_its_writer_and_refused_without_one(monkeypatch, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(user_files, "PIPE_WAIT_SEC", 0.05)
    with pytest.raises(OSError, match="nobody writes"):
        user_files.read_user_file(pipe)
    monkeypatch.setattr(user_files, "PIPE_WAIT_SEC", 60)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"{}" * 100_000))
    writer.start()
    assert user_files.read_user_file(pipe) == b"{}" * 100_000
    writer.join(60)


def test_two_dashes_are_a_value(run_cli):
    assert "'--' is not an identifier" in refused(run_cli("status", "--run-id=--"))
    assert "'--' is none of the axes" in refused(run_cli("axes-init", "--axes=x:3", "--homogeneous-axes=--"))


@pytest.mark.parametrize("path", ["/proc/nothing/x", "x" * 5000, "/dev/null/x"])
def test_a_path_that_cannot_exist(run_cli, path):
    refused(run_cli("build-executor", "--name", "x", "--output-dir", path))


def test_an_interpreter_that_is_not_there(run_cli, tmp_path):
    source = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--x')\nprint(parser.parse_args().x)\n"
    (tmp_path / "train.py").write_text(source)
    data = run_cli("discover-executors", "--check-help", "--python", "/nothing/python", cwd=tmp_path).data
    assert "cannot be started" in json.dumps(data)


def test_more_tasks_than_a_run_may_have(run_cli):
    facts = {"run_id": "r-00000001", "run_name": "r", "cluster": "local", "executor": "true", "cmd_sha": "0" * 64}
    for extra in ({"task_count": 2**63}, {"task_count": 3, "wave_map": {"0": "0-99999999999999"}}):
        refused(run_cli("write-run-sidecar", "--spec", "-", stdin=json.dumps({**facts, **extra})))


@pytest.mark.parametrize("text", [None, "[" * 20000, "null"])
def test_a_sidecar_that_cannot_be_read(tmp_path, text):
    sidecar = tmp_path / ".hpc" / "runs" / "r-00000001.json"
    sidecar.parent.mkdir(parents=True)
    if text is None:
        sidecar.mkdir()
    else:
        sidecar.write_text(text)
    with pytest.raises(JournalCorrupt, match="r-00000001"):
        read_run_sidecar(RepoLayout(tmp_path), "r-00000001")
