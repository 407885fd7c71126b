"""Plans, summaries and the live view, through the command line, on the embedded scheduler."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from experiment import WRITE, make_repo, submit, watch

pytestmark = [pytest.mark.usefixtures("clusters_file"), pytest.mark.parametrize("site", ["local"], indirect=True)]


def test_a_plan_and_its_summary_submit_nothing_and_are_stable(site, run_cli, tmp_path):
    plan = run_cli("plan-throughput", "--cluster", "testbed", "--total-tasks", "2500", "--est-task-sec", "120").data
    assert (plan["n_arrays"], plan["n_waves"], plan["elements"]) == (3, 1, 2500)
    repo = make_repo(tmp_path / "repo", [{"x": x, "model": "ridge"} for x in range(3)])
    words = ["summarize-submit-plan", "--cluster", "testbed", "--executor", WRITE, "--est-task-sec", "5"]
    one, other = run_cli(*words, cwd=repo).data, run_cli(*words, cwd=repo).data
    assert one == other
    assert "model=ridge, x=2" in one["body"]
    assert one["confirm_prompt"].startswith(f"Submit {one['run_id']} to testbed")
    assert run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"] == []
    sent = submit(run_cli, repo, WRITE)
    assert (sent["run_id"], run_cli(*words, cwd=repo).data["deduped"]) == (one["run_id"], True)


def test_the_summary_of_a_run_is_stable_and_names_the_next_command(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    sent = submit(run_cli, repo, WRITE)
    watch(run_cli, repo)
    one, other = run_cli("monitor-summary", cwd=repo), run_cli("monitor-summary", cwd=repo)
    assert one.envelope == other.envelope
    assert one.data["headline"] == f"{sent['run_id']} on testbed: complete, 3/3 complete"
    assert one.data["armed_hint"] == f"hpc-agent aggregate --run-id {sent['run_id']}"
    assert run_cli("monitor-summary", "--run-id", "nobody", cwd=repo).data["journal_missing"]


def test_watch_prints_records_where_there_is_no_terminal(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    submit(run_cli, repo, WRITE)
    done = run_cli("watch", cwd=repo)
    assert done.data["runs"][0]["lifecycle_state"] == "complete"
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert records[-1]["complete"] == 3


def test_watch_on_a_terminal_shows_the_run_and_ends_with_it(site, run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(6)])
    submit(run_cli, repo, f"sleep 1; {WRITE}")
    ours, theirs = pty.openpty()
    env = {**world_home.env, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hpc_agent", "watch", "--all-runs"], cwd=repo, env=env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown[-2000:]
    assert json.loads(out)["data"]["runs"][0]["last_status"]["complete"] == 6
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "6/6 complete" in text
    assert "100 %" in text
    assert max(len(line.rstrip("\r")) for line in text.split("\n")) <= 200


def test_logs_can_be_followed(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    submit(run_cli, repo, f"for i in 1 2 3; do echo step $i; sleep 0.7; done; {WRITE}")
    followed = run_cli("logs", "--task-id", "0", "--follow", cwd=repo)
    said = [json.loads(line).get("text") for line in followed.stderr.splitlines()]
    assert [text for text in said if text] == ["step 1", "step 2", "step 3"]
    assert followed.data["logs"][0]["state"] == "complete"
