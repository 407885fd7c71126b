"""What OAR alone does: it runs jobs whose submission seemed to fail, and starts elements again under other job ids."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import testbed
from experiment import WRITE, make_repo, submit, watch

BED = testbed.BED / "oar"
UP = Path(__file__).parents[2] / "testbed/oar-up"
pytestmark = [
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["oar-ssh"], indirect=True),
    pytest.mark.skipif(os.getuid() != 0, reason="stops daemons of the test bed, which are root's to stop"),
]


@pytest.fixture
def bed():
    """Whatever a test does to the server and the nodes is made good after it."""
    yield
    for mark in (BED / "run/bad").iterdir():
        mark.unlink()
    subprocess.run([UP], capture_output=True, check=True, timeout=120)


def stop_server():
    pid = (BED / "run/almighty.pid").read_text().strip()
    subprocess.run(["kill", pid], check=True)
    deadline = time.monotonic() + 30
    while (
        subprocess.run(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6666"], capture_output=True, check=False).returncode
        == 0
    ):
        assert time.monotonic() < deadline, "Almighty goes on"
        time.sleep(0.2)


def witnessed(site, tasks):
    """A file that anybody may write to, and an executor that says in it which task ran."""
    witness = site.scratch / "ran"
    witness.touch()
    witness.chmod(0o666)
    return witness, f"echo $X >> {witness}; {tasks}{WRITE}"


def test_a_job_whose_server_was_away_is_adopted_and_runs_once(site, run_cli, tmp_path, bed):
    """oarsub says "Job is killed", with an id and exit code 9; the job waits, and runs once the server is back."""
    witness, work = witnessed(site, "")
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)], work_sh=work)
    stop_server()
    sent = submit(run_cli, repo, "bash work_sh")
    assert any("was in the queue as job" in note for note in sent["notes"]), sent["notes"]
    assert run_cli("status", cwd=repo).data["lifecycle_state"] == "in_flight"
    subprocess.run([UP], capture_output=True, check=True, timeout=120)
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert submit(run_cli, repo, "bash work_sh")["job_ids"] == sent["job_ids"]
    assert Counter(witness.read_text().split()) == Counter("01")


def test_an_element_whose_node_fails_its_check_starts_elsewhere(site, run_cli, tmp_path, bed):
    (BED / "run/bad/n1").touch()
    witness, work = witnessed(site, "")
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)], work_sh=work)
    sent = submit(run_cli, repo, "bash work_sh")
    seen = watch(run_cli, repo)
    assert (seen["lifecycle_state"], seen["last_status"]["complete"]) == ("complete", 2), seen
    assert Counter(witness.read_text().split()) == Counter("01")
    again = site.run(
        "oarstat", "--array", "--format", "2", "--sql", f"array_id = {sent['job_ids'][0]} AND resubmit_job_id > 0"
    )
    assert again.stdout, "OAR started no element again"


def test_the_death_of_a_node_is_no_fault_of_the_task(site, run_cli, tmp_path, bed):
    _, work = witnessed(site, "sleep 60; ")
    repo = make_repo(tmp_path / "repo", [{"x": 0}], work_sh=work)
    submit(run_cli, repo, "bash work_sh")
    deadline = time.monotonic() + 60
    while run_cli("status", cwd=repo).data["running_tasks"]["count"] < 1:
        assert time.monotonic() < deadline, "the task did not start"
        time.sleep(0.5)
    for node in ("n1", "n2"):
        subprocess.run(["oarnodesetting", "-s", "Dead", "-h", node], capture_output=True, check=True, timeout=60)
    seen = watch(run_cli, repo)
    assert seen["failures_by_cause"] == {"node_failure": 1}, seen


def test_a_dry_run_refuses_what_oar_has_no_means_for(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 0}])
    request = ["submit", "--dry-run", "--cluster", "testbed", "--executor", WRITE]
    for words, field in (["--max-running", "1"], "max_running"), (["--gpus", "1"], "resources.gpus"):
        refused = run_cli(*request, *words, cwd=repo)
        assert (refused.code, refused.envelope["error_code"], refused.envelope["field"]) == (1, "spec_invalid", field)
        assert f"Leave {words[0]} out." in refused.envelope["remediation"]
    planned = run_cli(*request, "--mem-mb", "64", cwd=repo).data
    assert any("OAR takes no request for memory" in note for note in planned["notes"]), planned["notes"]
