"""A submit that is given again: it tells what the jobs have, and goes on where an earlier one stopped."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.cli.parse import load_catalogue, parse_request
from hpc_agent.contract.envelope import convert
from hpc_agent.ops.run.resources import Resources
from hpc_agent.ops.run.run_request import SubmitRequest, submit_command

SUMMARY = ("summarize-submit-plan", "--cluster", "testbed", "--executor")
local = pytest.mark.parametrize("site", ["local"], indirect=True)


@local
def test_a_run_that_ended_has_the_plan_of_its_jobs(site, run_cli, tmp_path, clusters_file):
    """The tasks are measured now, and the request asks for more: neither changes what the jobs had."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    sent = submit(run_cli, repo, WRITE, "--mem-mb", "100", "--pack", "2")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    again = submit(run_cli, repo, WRITE, "--mem-mb", "200", "--cpus", "2", "--max-running", "1")
    assert (again["deduped"], again["plan"]) == (True, sent["plan"])
    assert (again["plan"]["resources"]["mem_mb"], again["plan"]["total_elements"]) == (100, 2)
    told = [note for note in again["notes"] if "submitted before with" in note]
    assert told == ["the run was submitted before with mem_mb 100, not 200; cpus 1, not 2; max_running None, not 1"]
    plain = submit(run_cli, repo, WRITE)
    assert not [note for note in plain["notes"] if "submitted before with" in note], "nothing else was asked for"
    dry = submit(run_cli, repo, WRITE, "--dry-run")
    assert (dry["deduped"], dry["submitted"], dry["plan"]) == (True, False, sent["plan"])
    summary = run_cli(*SUMMARY, WRITE, cwd=repo).data
    assert (summary["deduped"], summary["plan"]) == (True, sent["plan"])
    assert any(line.endswith("100 MiB (request), 1 CPU") for line in summary["body"].splitlines()), summary["body"]


@local
def test_a_run_of_an_earlier_version_or_without_its_sidecar(site, run_cli, tmp_path, clusters_file):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = submit(run_cli, repo, WRITE, "--mem-mb", "100")
    sidecar = repo / ".hpc" / "runs" / f"{sent['run_id']}.json"
    document = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({name: value for name, value in document.items() if name != "plan"}))
    old = submit(run_cli, repo, WRITE)
    assert (old["plan"]["resources"]["mem_mb"], "pack" in old["plan"]) == (100, False)
    assert "not recorded" in run_cli(*SUMMARY, WRITE, cwd=repo).data["body"]
    sidecar.unlink()
    lost = submit(run_cli, repo, WRITE)
    assert (lost["deduped"], lost["plan"]) == (True, {"canary": False})
    assert any(f"hpc-agent reconcile --run-id {sent['run_id']}" in note for note in lost["notes"])
    run_cli("reconcile", cwd=repo)
    assert submit(run_cli, repo, WRITE)["plan"] == sent["plan"]


@local
def test_a_failed_run_leads_to_its_failures(site, run_cli, tmp_path, clusters_file):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    submit(run_cli, repo, "exit 3")
    assert watch(run_cli, repo)["lifecycle_state"] == "failed"
    assert submit(run_cli, repo, "exit 3")["next_step"] == "failures"


@local
def test_a_submission_that_never_reached_the_cluster(site, run_cli, tmp_path, clusters_file):
    """Known for sure, since the cluster was asked; the remedy is the whole command, and runs as printed."""
    broken = tmp_path / "init.sh"
    broken.write_text("exit 7\n")
    clusters_file.write_text(site.clusters_yaml(shell_init=str(broken)))
    repo = make_repo(tmp_path / "a repo", [{"x": 1}])
    words = (
        "submit",
        "--cluster",
        "testbed",
        "--executor",
        WRITE,
        "--experiment-dir",
        "a repo",
        "--env",
        '{"A": "b c"}',
    )
    assert run_cli(*words).code == 2
    unreachable = run_cli("status", "--experiment-dir", "a repo")
    assert unreachable.code == 2, "the cluster cannot be asked: nothing is told about the run"
    clusters_file.write_text(site.clusters_yaml())
    hint = run_cli("load-context", cwd=repo).data
    assert (hint["next_step_hint"], run_cli("monitor-summary", cwd=repo).data["armed_hint"]) == (
        "submit",
        hint["next_command"],
    )
    for verb in ("status", "monitor-flow", "reconcile"):
        none = run_cli(verb, cwd=repo)
        assert (none.code, none.envelope["error_code"]) == (1, "precondition_failed"), none.envelope
        assert "is in the queue: it was interrupted before a job was accepted" in none.envelope["message"]
        assert none.envelope["remediation"] == f"Go on with: {hint['next_command']}"
    sent = run_cli(*shlex.split(hint["next_command"])[1:], cwd=tmp_path / "home").data
    assert sent["submitted"]
    assert run_cli("load-context", cwd=repo).data["in_flight"][0]["command"] is None
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
REQUESTS = st.builds(
    SubmitRequest,
    cluster=TEXT,
    executor=TEXT,
    env=st.dictionaries(st.just("A"), TEXT),
    outputs=st.lists(TEXT, max_size=2),
    modules=st.none() | st.lists(TEXT, max_size=2),
    extra_flags=st.lists(st.sampled_from(["--nice=5", "--licenses=a:1,b:2", "-w"]), max_size=2),
    pack=st.none() | st.integers(1, 9),
    est_task_sec=st.none() | st.floats(0.5, 9.0),
    canary=st.booleans(),
    resources=st.builds(Resources, mem_mb=st.none() | st.integers(1, 9), exclusive=st.booleans()),
)


@given(REQUESTS)
def test_the_printed_command_is_the_request(request):
    words = shlex.split(submit_command(request, Path("/here")))
    stdin = ""
    if words[0] == "printf":
        assert words[3:] == ["|", "hpc-agent", "submit", "--spec", "-"]
        stdin, words = words[2], words[4:]
    document = parse_request("submit", load_catalogue()["submit"], words[2:], stdin.encode, Path("/here"))
    assert convert(document, SubmitRequest, "submit") == request
