"""A submit that is given again: it tells what the jobs have, and goes on where an earlier one stopped."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch

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
    told = [note for note in again["notes"] if "the jobs of the run have" in note]
    assert told == ["the jobs of the run have max_running unset, not 1; mem_mb 100, not 200; cpus 1, not 2"]
    plain = submit(run_cli, repo, WRITE)
    assert not [note for note in plain["notes"] if "the jobs of the run have" in note], "nothing else was asked for"
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
    sent = submit(run_cli, repo, "exit 3")
    assert watch(run_cli, repo)["lifecycle_state"] == "failed"
    assert submit(run_cli, repo, "exit 3")["next_step"] == f"hpc-agent failures --run-id {sent['run_id']}"


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
        assert "is in the queue: the cluster has no folder of it" in none.envelope["message"]
        assert none.envelope["remediation"] == f"Go on with: {hint['next_command']}"
    sent = run_cli(*shlex.split(hint["next_command"])[1:], cwd=tmp_path / "home").data
    assert sent["submitted"]
    assert "command" not in run_cli("load-context", cwd=repo).data["in_flight"][0]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def test_the_printed_command_names_the_repo_and_begins_no_other_run():
    request = SubmitRequest(cluster="c", executor="run", experiment_dir="a b", rerun=True)
    wanted = "hpc-agent submit --cluster c --executor run --experiment-dir '/here/a b'"
    assert submit_command(request, Path("/here")) == wanted


@local
def test_the_run_of_a_campaign_is_no_model_for_the_next_submit(site, run_cli, tmp_path, clusters_file):
    """Its trials had parameters of their own, which tasks.py lacks."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], **{".hpc__campaigns__hunt__manifest.json": "{}"})
    submit(run_cli, repo, WRITE, "--campaign-id", "hunt")
    watch(run_cli, repo)
    assert run_cli("load-context", cwd=repo).data["next_step_hint"] == "aggregate"
    assert run_cli("aggregate", cwd=repo).code == 0
    assert run_cli("load-context", cwd=repo).data["next_command"] == "hpc-agent campaign-status --campaign-id hunt"
