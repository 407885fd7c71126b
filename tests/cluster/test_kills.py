"""What the cluster does to tasks, and what is then said of them: walltime, memory, deletion behind our back."""

from __future__ import annotations

import time

import pytest
from experiment import WRITE, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
HOG = 'python3 -c "import time; block = bytearray(400 << 20); time.sleep(20)"'


def on(*names):
    return pytest.mark.parametrize("site", names, indirect=True)


@on("sge-ssh", "local")
def test_walltime(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 0}, {"x": 60}])
    submit(run_cli, repo, f"sleep $X; {WRITE}", "--walltime-sec", "4")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (1, {"walltime": 1})


@on("slurm-ssh", "local")
def test_memory(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"hog": "true"}, {"hog": HOG}])
    submit(run_cli, repo, 'eval "$HOG"', "--mem-mb", "120")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (1, {"out_of_memory": 1}), seen


@on("slurm-ssh", "sge-ssh")
def test_deleted_while_running(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    sent = submit(run_cli, repo, f"sleep 3; test $X != 1 || sleep 60; {WRITE}")
    deadline = time.monotonic() + 60
    while run_cli("status", cwd=repo).data["running_tasks"]["count"] < 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    if site.scheduler == "slurm":
        site.run("scancel", f"{sent['job_ids'][0]}_1")
    else:
        site.run("qdel", sent["job_ids"][0], "-t", "2")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["last_status"]["failed"]) == (2, 1), seen
    assert seen["samples"][0]["task"] == 1
    assert seen["failures_by_cause"] == {"cancelled": 1}, seen


@on("slurm-ssh")
def test_the_scheduler_cannot_be_asked(site, run_cli, tmp_path, clusters_file):
    """A queue that does not answer is no answer: the last good one is shown, marked stale."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    submit(run_cli, repo, f"sleep 5; {WRITE}")
    first = run_cli("status", cwd=repo).data
    assert first["stale"] is None
    shim = site.scratch / "bin" / "squeue"
    shim.parent.mkdir()
    said = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    shim.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    shim.chmod(0o755)
    broken = site.scratch / "init.sh"
    broken.write_text(f"PATH={shim.parent}:$PATH\nexport PATH\n")
    broken.chmod(0o644)
    clusters_file.write_text(site.clusters_yaml(shell_init=str(broken)))
    outcome = run_cli("status", cwd=repo)
    assert outcome.data["stale"]["source"] == "queue"
    assert outcome.data["lifecycle_state"] == "in_flight"
    counts = {name: outcome.data["last_status"][name] for name in ("running", "pending", "unknown")}
    assert counts == {name: first["last_status"][name] for name in counts}
    assert outcome.envelope["partial_errors"]
    clusters_file.write_text(site.clusters_yaml())
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
