"""What the cluster does to tasks, and what is then said of them: walltime, memory, deletion behind our back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
HOG = 'python3 -c "import time; block = bytearray(400 << 20); time.sleep(20)"'


def on(*names):
    return pytest.mark.parametrize("site", names, indirect=True)


@on("sge-ssh", "oar-ssh", "local")
def test_walltime(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 0}, {"x": 60}])
    submit(run_cli, repo, f"sleep $X; {WRITE}", "--walltime-sec", "10")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (1, {"walltime": 1})


@on("slurm-ssh", "local")
def test_memory(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"hog": "true"}, {"hog": HOG}])
    submit(run_cli, repo, 'eval "$HOG"', "--mem-mb", "120")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (1, {"out_of_memory": 1}), seen


@on("slurm-ssh")
def test_a_killed_worker_behind_a_good_end_is_noted(site, run_cli, tmp_path):
    """The kernel kills a child for memory, the executor goes on and ends with 0: complete, with a note."""
    repo = make_repo(tmp_path / "repo", [{"hog": "true"}, {"hog": HOG}, {"hog": "true"}])
    submit(run_cli, repo, f'eval "$HOG"; {WRITE.replace("$X", "1")}', "--mem-mb", "120", "--pack", "3")
    seen = watch(run_cli, repo)
    assert (seen["lifecycle_state"], seen["last_status"]["complete"]) == ("complete", 3), seen
    for answer in (seen, run_cli("status", cwd=repo).data, run_cli("aggregate", cwd=repo).data):
        (note,) = answer["notes"]
        assert "tasks 1 ended well, but the kernel killed" in note


@on("slurm-ssh", "sge-ssh", "oar-ssh")
def test_deleted_while_running(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    gate = site.scratch / "gate"
    sent = submit(run_cli, repo, f"until test -e {gate}; do sleep 0.3; done; test $X != 1 || sleep 60; {WRITE}")
    deadline = time.monotonic() + 60
    while run_cli("status", cwd=repo).data["running_tasks"]["count"] < 3 and time.monotonic() < deadline:
        time.sleep(0.5)
    job = sent["job_ids"][0]
    delete = {
        "slurm": ["scancel", f"{job}_1"],
        "sge": ["qdel", job, "-t", "2"],
        "oar": ["oardel", "--sql", f"array_id = {job} AND array_index = 2"],
    }
    site.run(*delete[site.scheduler])
    gate.touch()
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["last_status"]["failed"]) == (2, 1), seen
    assert seen["samples"][0]["task"] == 1
    assert seen["failures_by_cause"] == {"cancelled": 1}, seen


@on("slurm-ssh")
def test_the_scheduler_cannot_be_asked(site, run_cli, tmp_path, clusters_file):
    """A queue that does not answer is no answer: the last good one is shown, marked stale."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    gate = site.scratch / "gate"
    submit(run_cli, repo, f"until test -e {gate}; do sleep 0.3; done; {WRITE}")
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
    gate.touch()
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


SAVES = """import json, os, signal, time
def save(number, frame):
    name = signal.Signals(number).name
    open(os.environ["HPC_CHECKPOINT_DIR"] + "/last.ckpt", "w").close()
    json.dump({"signal": number}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
    print("got", name, flush=True)
    raise SystemExit
signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, save)
print("ready " + os.environ["OUTER"], flush=True)
time.sleep(60)
"""


@pytest.mark.timeout(200)
@on("slurm-ssh", "sge-ssh", "oar-ssh", "local")
def test_a_signal_that_was_asked_for_reaches_the_executor(site, run_cli, tmp_path):
    """SLURM and OAR send what --signal names before the limit; Grid Engine warns with SIGUSR1 before it suspends (-notify)."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], **{"train.py": SAVES})
    flags = {"slurm": ["--extra-flags=--signal=B:USR1@60"], "sge": ["--extra-flags=-notify"]}
    # Grid Engine of the bed signals every process of a job by itself: a shell around the program would not survive.
    program = "exec python3 train.py" if site.scheduler == "sge" else "python3 train.py; exit $?"
    sent = submit(run_cli, repo, "export OUTER=$PPID; " + program, *flags.get(site.scheduler, []))
    deadline = time.monotonic() + 60
    while len(said := _said(sent)) < 2:
        assert time.monotonic() < deadline, "the task did not start"
        time.sleep(0.2)
    send = {
        "slurm": ["scancel", "-s", "USR1", "-b", f"{sent['job_ids'][0]}_0"],
        "sge": ["qmod", "-sj", sent["job_ids"][0]],
        "oar": ["oardel", "-s", "USR1", sent["job_ids"][0]],
        "local": ["kill", "-USR1", said[1]],
    }
    site.run(*send[site.scheduler])
    seen = watch(run_cli, repo)
    assert _said(sent)[2:] == ["got", "SIGUSR1"]
    assert seen["lifecycle_state"] == "complete", run_cli("logs", "--task-id", "0", cwd=repo).data


def _said(sent):
    """The words in the log of task 0."""
    return [word for log in Path(sent["remote_path"]).glob("logs/*/0.g1.log") for word in log.read_text().split()]
