"""Canaries, chains of segments, preemption and requeueing, adoption by a second machine, on every scheduler."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter

import pytest
from experiment import WRITE, aggregate, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")

SEGMENTED = """
import json, os, pathlib, signal, sys, time
state = pathlib.Path(os.environ["HPC_CHECKPOINT_DIR"]) / "step"
step = int(state.read_text()) if state.exists() else 0
def stop(*_):
    state.write_text(str(step))
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
while step < int(os.environ["STEPS"]):
    time.sleep(1)
    step += 1
json.dump({"steps": step, "attempt": int(os.environ["HPC_ATTEMPT"])}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""


def witness(site):
    path = site.scratch / "ran"
    path.touch()
    path.chmod(0o666)
    return path


@pytest.mark.timeout(300)
def test_a_good_canary_lets_the_rest_go(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(6)])
    executor = f"echo $X >> {witness(site)}; {WRITE}"
    words = ["submit-and-verify", "--cluster", "testbed", "--executor", executor]
    done = run_cli(*words, cwd=repo, timeout=120).data
    assert (done["verified"], done["canary"]["state"], done["canary"]["metrics"]) == (True, "complete", {"y": 0.0})
    assert done["canary"]["released"] == 1
    assert done["canary"]["measured"]["max_rss_mb"] > 0
    assert watch(run_cli, repo)["last_status"]["complete"] == 6
    again = run_cli(*words, cwd=repo, timeout=120).data
    assert (again["deduped"], again["canary"]["released"], again["run_id"]) == (True, 0, done["run_id"])
    assert Counter(witness(site).read_text().split()) == Counter(str(x) for x in range(6))
    assert run_cli("aggregate", cwd=repo).data["included_tasks"] == 6


@pytest.mark.timeout(300)
def test_a_broken_canary_submits_nothing_more_and_shows_the_cause(site, run_cli, tmp_path):
    repo = make_repo(
        tmp_path / "repo", [{"x": x} for x in range(6)], **{"train.py": "import a_module_that_is_not_there\n"}
    )
    words = ["submit-and-verify", "--cluster", "testbed", "--executor", "/usr/bin/python3 train.py"]
    broken = run_cli(*words, cwd=repo, timeout=120)
    assert (broken.code, broken.envelope["error_code"]) == (1, "canary_failed"), broken.envelope
    assert broken.envelope["details"]["failure_kind"] == "missing_module"
    assert "a_module_that_is_not_there" in broken.envelope["message"]
    status = run_cli("status", cwd=repo).data
    assert (status["held_for_canary"], status["last_status"]["failed"], status["last_status"]["pending"]) == (1, 1, 5)


@pytest.mark.slow(reason="segments with walltimes of a minute, one after the other")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("site", "mode"), [("slurm-ssh", True), ("sge-ssh", "detect"), ("local", True)], indirect=["site"]
)
def test_a_walltime_beyond_the_limit_becomes_a_chain(site, run_cli, tmp_path, clusters_file, mode):
    limits = {"max_array_size": 100, "max_concurrent_jobs": 10, "max_walltime": "60s"}
    clusters_file.write_text(site.clusters_yaml(constraints=limits, auto_daisy_chain=mode))
    repo = make_repo(tmp_path / "repo", [{"steps": 3}, {"steps": 70}], **{"work.py": SEGMENTED})
    sent = submit(run_cli, repo, "/usr/bin/python3 work.py", "--walltime-sec", "80")
    assert sent["plan"]["segments"] == 3
    assert len(sent["job_ids"]) == (3 if mode is True else 1)
    ended = watch(run_cli, repo, budget=300)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 2), ended
    assert run_cli("aggregate", cwd=repo).data["included_tasks"] == 2
    records = sorted(site.scratch.glob("hpc-agent/*/runs/*/tasks/00000/*.json"))
    found = [json.loads(path.read_text()) for path in records]
    assert [record["metrics"] for record in found] == [{"steps": 3.0, "attempt": 1.0}, {"steps": 70.0, "attempt": 2.0}]


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("site", "flags"),
    [("slurm-ssh", ["--partition", "scavenger"]), ("sge-ssh", [])],
    indirect=["site"],
)
def test_a_requeued_element_is_put_back_and_ends_once(site, flags, run_cli, tmp_path):
    """The same job id, another attempt, never reported failed; what the first attempt wrote is not the second's."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    first = f'echo the first prints; {WRITE}; touch "$HPC_CHECKPOINT_DIR/saved"; exec sleep 600'
    executor = f"""echo $HPC_TASK_ID-$HPC_ATTEMPT >> {witness(site)}; if [ "$HPC_ATTEMPT" = 1 ]; then {first}; fi
        test -e "$HPC_CHECKPOINT_DIR/saved" || exit 9; echo the second prints; if [ "$X" = 0 ]; then {WRITE}; fi"""
    sent = submit(run_cli, repo, executor, "--mem-mb", "32", *flags)
    job = sent["job_ids"][0]
    checkpoints = site.scratch.glob
    _wait_for(lambda: len(list(checkpoints("hpc-agent/*/runs/*/checkpoints/*/*/saved"))) == 2)
    if site.scheduler == "slurm":
        site.run("scontrol", "requeue", job)
        _wait_for(lambda: run_cli("status", cwd=repo).data["last_status"]["pending"] == 2)
        assert run_cli("status", cwd=repo).data["last_status"]["failed"] == 0
        # Otherwise SLURM lets a requeued job wait for two minutes.
        for element in range(2):
            update = ("scontrol", "update", f"JobId={job}_{element}", "StartTime=now")
            _wait_for(lambda update=update: site.run(*update).returncode == 0)
    else:
        site.run("qalter", "-r", "y", job)
        site.run("qmod", "-rj", job)
    ended = watch(run_cli, repo, budget=240)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 2), ended
    assert Counter(witness(site).read_text().split()) == Counter(["0-1", "1-1", "0-2", "1-2"])
    table = aggregate(run_cli, repo)
    assert (table["overall"]["y"]["count"], table["without_metrics"]) == (1, "1")
    (told,) = table["metrics_problems"]
    assert (told["task"], "of an earlier attempt" in told["message"]) == (1, True)
    for shown in run_cli("logs", "--full", "--task-id", "0", "--task-id", "1", cwd=repo).data["logs"]:
        assert (shown["content"], "the first" in shown["scheduler_output"]) == ("the second prints", False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_a_second_machine_adopts_a_run(site, run_cli, tmp_path, world_home):
    """The first laptop is lost after submitting; the repo is checked out elsewhere, under another path."""
    repo = make_repo(tmp_path / "first" / "repo", [{"x": x} for x in range(4)])
    executor = f"echo $X >> {witness(site)}; {WRITE}"
    sent = submit(run_cli, repo, executor)
    other = tmp_path / "second" / "repo"
    shutil.copytree(repo, other)
    shutil.rmtree(other / ".hpc" / "runs")
    shutil.rmtree(world_home.path / ".claude")
    listed = run_cli("reconcile", "--remote", "--cluster", "testbed", "--dry-run", cwd=other).data
    assert [run["run_id"] for run in listed["adopted"]] == [sent["run_id"]]
    adopted = run_cli("reconcile", "--remote", "--cluster", "testbed", cwd=other).data
    assert [run["run_id"] for run in adopted["adopted"]] == [sent["run_id"]]
    assert run_cli("reconcile", "--remote", "--cluster", "testbed", cwd=other).data["adopted"] == []
    again = submit(run_cli, other, executor)
    assert (again["run_id"], again["deduped"], again["job_ids"]) == (sent["run_id"], True, sent["job_ids"])
    ended = watch(run_cli, other)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 4)
    assert run_cli("reconcile", cwd=other).data["lifecycle_state"] == "complete"
    assert run_cli("verify-submitted", cwd=other).data["ok"]
    assert Counter(witness(site).read_text().split()) == Counter(str(x) for x in range(4))


@pytest.mark.timeout(300)
def test_many_runs_are_brought_up_to_date_with_one_command(site, run_cli, tmp_path, ssh_counter):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    for number in range(3):
        submit(run_cli, repo, f"true {number}; {WRITE}")
    ssh_counter.reset()
    assert len(run_cli("list-in-flight", "--refresh", "--all-states", cwd=repo).data["runs"]) == 3
    assert ssh_counter.count() == (1 if site.transport == "ssh" else 0)
    _wait_for(lambda: not run_cli("list-in-flight", "--refresh", cwd=repo).data["runs"])


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_what_is_held_says_so_and_the_watch_ends(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    sent = submit(run_cli, repo, WRITE, "--extra-flags=--hold")
    _wait_for(lambda: run_cli("status", cwd=repo).data["stuck"] == 3)
    ended = watch(run_cli, repo)
    assert (ended["lifecycle_state"], ended["waiting"][0]["state"], ended["waiting"][0]["passes"]) == (
        "stuck",
        "held",
        False,
    )
    site.run("scontrol", "release", sent["job_ids"][0])
    assert watch(run_cli, repo)["last_status"]["complete"] == 3


@pytest.mark.slow(reason="an element without a trace counts as never started only after a while")
@pytest.mark.timeout(250)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_what_is_deleted_while_pending_is_found(site, run_cli, tmp_path):
    """An element that is deleted while it waits leaves no trace in either scheduler's accounting."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    gate = site.scratch / "gate"
    sent = submit(run_cli, repo, f"until test -e {gate}; do sleep 0.3; done; {WRITE}", "--max-running", "1")
    job = sent["job_ids"][0]
    site.run(*(["scancel", f"{job}_2"] if site.scheduler == "slurm" else ["qdel", f"{job}.3"]))
    gate.touch()
    ended = watch(run_cli, repo, budget=180)
    assert (ended["lifecycle_state"], ended["failures_by_cause"]) == ("failed", {"never_started": 1}), ended
    assert run_cli("resubmit", cwd=repo).data["groups"][0]["tasks"] == "2"
    assert watch(run_cli, repo)["last_status"]["complete"] == 3


def _wait_for(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.5)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh", "local"], indirect=True)
def test_a_resubmission_that_is_refused_leaves_the_tasks_to_another(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    submit(run_cli, repo, f'[ "$HPC_ATTEMPT" != 1 ] || exit 3; {WRITE}')
    assert watch(run_cli, repo)["last_status"]["failed"] == 2
    refused = run_cli("resubmit", "--classes", "code_error", "--mem-mb", "90000000", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (2, "scheduler_refused"), refused.envelope
    assert run_cli("status", cwd=repo).data["lifecycle_state"] == "failed"
    assert run_cli("resubmit", "--classes", "code_error", cwd=repo).data["resubmitted"] == 2
    assert watch(run_cli, repo)["last_status"]["complete"] == 2
