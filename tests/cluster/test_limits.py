"""The cluster's limits: array sizes and waves with dependencies, submitted jobs, scattered ids, reused names."""

from __future__ import annotations

from collections import Counter

import pytest
import testbed
from experiment import WRITE, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")


@pytest.mark.slow(reason="1,050 elements in six waves, 64 at once")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_1050_tasks_in_waves_of_two_arrays_of_100(site, run_cli, tmp_path, clusters_file):
    """The scheduler itself shows the dependencies. Grid Engine has 64 slots here, which the plan has to be told."""
    limits = {"max_array_size": 100, "max_concurrent_jobs": 2, "est_spin_up": "8s"}
    clusters_file.write_text(site.clusters_yaml(constraints=limits))
    repo = make_repo(tmp_path / "repo", "def total(): return 1050\ndef resolve(i): return {'x': i}\n")
    gate = site.scratch / "gate"  # no wave may end before the dependencies were looked at
    sent = submit(
        run_cli,
        repo,
        f"until test -e {gate}; do sleep 0.5; done; sleep 0.5; {WRITE}",
        "--est-task-sec",
        "5",
        "--pack",
        "1",
        "--max-running",
        "64",
    )
    plan = sent["plan"]
    assert (plan["arrays"], plan["n_waves"], plan["elements_per_array"]) == (11, 6, 96), plan
    jobs = sent["job_ids"]
    # The last array is alone in its wave, and has the throttle of both before it.
    assert _dependencies(site, jobs) == [set(), set(), *({job} for job in jobs[:8]), set(jobs[8:10])]
    gate.touch()
    ended = watch(run_cli, repo, budget=700)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 1050)


def _dependencies(site, jobs):
    """What each job waits for, as the scheduler tells it."""
    if site.scheduler == "slurm":
        rows = site.run("squeue", "-h", "-o", "%F|%E", "-j", ",".join(jobs)).stdout.splitlines()
        found = {job: set() for job in jobs}
        for row in rows:
            job, _, words = row.partition("|")
            found[job] |= {word.split(":")[1].split("_")[0].split("(")[0] for word in words.split(",") if ":" in word}
        return [found[job] for job in jobs]
    found = []
    for job in jobs:
        lines = site.run("qstat", "-j", job).stdout.splitlines()
        words = next((line.partition(":")[2] for line in lines if line.startswith("jid_predecessor_list")), "")
        found.append({word.strip() for word in words.split(",") if word.strip()})
    return found


@pytest.mark.timeout(300)
def test_scattered_tasks_are_submitted_again_as_one_array(site, run_cli, tmp_path):
    """Grid Engine's -t takes one range only: the ids are looked up by the runtime."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(16)])
    bad = "3|7|12|13|14"
    submit(
        run_cli,
        repo,
        f'case "$X-$HPC_ATTEMPT" in ({"|".join(f"{x}-1" for x in bad.split("|"))}) exit 3;; esac; {WRITE}',
    )
    assert watch(run_cli, repo)["last_status"]["failed"] == 5
    refused = run_cli("resubmit", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (1, "needs_resolution"), refused.envelope
    again = run_cli("resubmit", "--classes", "code_error", "--force", cwd=repo).data
    assert (again["resubmitted"], len(again["job_ids"]), again["groups"][0]["tasks"]) == (5, 1, "3,7,12-14")
    ended = watch(run_cli, repo)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 16)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_a_limit_on_submitted_jobs_is_waited_for(site, run_cli, tmp_path, clusters_file):
    """qos tiny: at most ten elements submitted, those of other jobs counted too."""
    site.wait_until_alone()
    clusters_file.write_text(site.clusters_yaml(constraints={"max_array_size": 4, "max_concurrent_jobs": 10}))
    gate = site.scratch / "gate"
    waits = f"until test -e {gate}; do sleep 0.5; done"
    filler = site.run(
        "sbatch", "--parsable", "--qos=tiny", "--array=0-4", "--mem=16", "-o", "/dev/null", "--wrap", waits
    )
    assert filler.returncode == 0, filler.stderr
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(16)])
    sent = submit(run_cli, repo, f"echo $X >> {_witness(site)}; {WRITE}", "--qos", "tiny")
    assert (len(sent["job_ids"]), sent["waiting"]) == (1, 3), sent
    seen = run_cli("status", cwd=repo).data
    assert (seen["to_submit"], seen["last_status"]["pending"] >= 12) == (3, True)
    assert any("MaxSubmit" in row["sentence"] for row in seen["waiting"]), seen["waiting"]
    gate.touch()
    ended = watch(run_cli, repo, budget=200)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 16)
    assert Counter(_witness(site).read_text().split()) == Counter(str(x) for x in range(16))


@pytest.mark.timeout(300)
def test_a_stated_limit_counts_all_jobs_of_the_user(site, run_cli, tmp_path, clusters_file):
    limits = {"max_array_size": 5, "max_concurrent_jobs": 10, "max_submitted": 10}
    site.wait_until_alone()
    clusters_file.write_text(site.clusters_yaml(constraints=limits))
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(20)])
    sent = submit(run_cli, repo, f"sleep 2; echo $X >> {_witness(site)}; {WRITE}")
    assert (len(sent["job_ids"]), sent["waiting"]) == (2, 2), sent["notes"]
    again = submit(run_cli, repo, f"sleep 2; echo $X >> {_witness(site)}; {WRITE}")
    assert (again["run_id"], again["deduped"]) == (sent["run_id"], True)
    ended = watch(run_cli, repo, budget=200)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 20)
    assert Counter(_witness(site).read_text().split()) == Counter(str(x) for x in range(20))


def test_an_array_above_the_limit_is_refused_with_its_remedy(run_cli, tmp_path, site):
    if site.name != "slurm-ssh":
        pytest.skip("the bed has such a limit on SLURM only")
    site.wait_until_alone()
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(16)])
    refused = run_cli("submit", "--cluster", testbed.CLUSTER, "--executor", WRITE, "--qos", "tiny", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (2, "scheduler_refused"), refused.envelope
    assert "max_array_size" in refused.envelope["remediation"]


def _witness(site):
    path = site.scratch / "ran"
    path.touch()
    path.chmod(0o666)
    return path
