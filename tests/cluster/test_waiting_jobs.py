"""``update-run-constraints`` on real schedulers: what waits is changed in the queue, what runs is not."""

from __future__ import annotations

import re
import time

import pytest
from experiment import WRITE, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")


def update(run_cli, repo, *flags):
    return run_cli("update-run-constraints", *flags, cwd=repo)


def until(fits, limit=60):
    """Wait for something that the scheduler will show."""
    end = time.monotonic() + limit
    while not (found := fits()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)
    return found


def slurm_elements(site, job) -> dict[str, tuple[str, str, str]]:
    """State, partition and time limit of each element."""
    rows = site.run("squeue", "-h", "-r", "-j", job, "-o", "%K|%T|%P|%l").stdout.split()
    return {row.split("|")[0]: tuple(row.split("|")[1:]) for row in rows}


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_slurm_changes_the_elements_that_wait(site, run_cli, tmp_path, ssh_counter):
    """One element runs, three wait for it: they get another partition and less time, and all of them end well."""
    flag = site.scratch / "go"
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    executor = f"while [ $X = 0 ] && [ ! -e {flag} ]; do sleep 0.2; done; {WRITE}"
    sent = submit(run_cli, repo, executor, "--max-running", "1", "--walltime-sec", "1200")
    [job] = sent["job_ids"]
    until(lambda: slurm_elements(site, job).get("0", ("",))[0] == "RUNNING")
    ssh_counter.reset()
    told = update(run_cli, repo, "--partition", "short", "--walltime-sec", "300").data
    assert ssh_counter.count() == 1, ssh_counter.lines()
    assert (told["job_ids_updated"], told["job_ids_failed"]) == ([job], {})
    changed = slurm_elements(site, job)
    assert changed["0"] == ("RUNNING", "batch", "20:00")
    assert [changed[str(element)] for element in (1, 2, 3)] == [("PENDING", "short", "5:00")] * 3
    refused = update(run_cli, repo, "--add-features", "nosuchfeature")
    assert (refused.code, refused.envelope["error_code"]) == (2, "scheduler_refused")
    assert "feature" in refused.envelope["message"].lower()
    assert slurm_elements(site, job) == changed
    longer = update(run_cli, repo, "--walltime-sec", "600")
    assert (longer.code, longer.envelope["error_code"]) == (1, "spec_invalid")
    flag.write_text("")
    assert watch(run_cli, repo)["last_status"]["complete"] == 4


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_slurm_refuses_for_an_element_that_has_started(site, run_cli, tmp_path):
    """The race that the ledger cannot see: the element began to run after the look at the queue. All of it is refused."""
    from hpc_agent.node.schedulers.base import Job
    from hpc_agent.node.schedulers.slurm.adapter import Slurm

    flag = site.scratch / "go"
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    [job] = submit(run_cli, repo, f"until [ -e {flag} ]; do sleep 0.2; done; {WRITE}", "--walltime-sec", "1200")[
        "job_ids"
    ]
    until(lambda: slurm_elements(site, job).get("0", ("",))[0] == "RUNNING")
    before = slurm_elements(site, job)
    wanted = Job("r", 1, "", "", "", resources={"walltime_sec": 60}, placement={"partition": "short"})
    done = site.run(*Slurm().change_command(job, "0", wanted, ["walltime_sec"]))
    assert done.returncode != 0
    assert slurm_elements(site, job) == before
    left = update(run_cli, repo, "--walltime-sec", "60").data
    assert left["job_ids_left"] == {job: "none of its elements waits"}
    assert slurm_elements(site, job) == before
    flag.write_text("")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


@pytest.mark.parametrize("site", ["sge-ssh"], indirect=True)
def test_grid_engine_changes_a_job_that_waits(site, run_cli, tmp_path, clusters_file, ssh_counter):
    """The second array waits for the first one, which runs."""
    clusters_file.write_text(site.clusters_yaml(constraints={"max_array_size": 1, "max_concurrent_jobs": 1}))
    flag = site.scratch / "go"
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    executor = f"until [ -e {flag} ]; do sleep 0.2; done; {WRITE}"
    runs, waits = submit(run_cli, repo, executor, "--walltime-sec", "1200", "--constraint", "highp")["job_ids"]
    until(lambda: re.search(rf"^ *{runs} .* r ", site.run("qstat").stdout, re.MULTILINE))
    before = site.run("qstat", "-j", runs).stdout
    ssh_counter.reset()
    told = update(run_cli, repo, "--add-features", "A100", "--walltime-sec", "300", "--partition", "all.q").data
    assert ssh_counter.count() == 1, ssh_counter.lines()
    assert (told["job_ids_updated"], list(told["job_ids_left"])) == ([waits], [runs])
    assert told["new_features"] == {"highp": "a0", "highp,A100": "a1"}
    asked = site.run("qstat", "-j", waits).stdout
    resources = re.search(r"hard resource_list: *(.*)", asked).group(1).split(",")
    assert {"h_rt=300", "highp=TRUE", "A100=TRUE"} <= set(resources), asked
    assert any(name.startswith("h_data=") for name in resources), "memory is asked for as before"
    assert re.search(r"hard_queue_list: *all.q", asked)
    assert asks_of(site.run("qstat", "-j", runs).stdout) == asks_of(before)
    refused = update(run_cli, repo, "--set-features", "nosuchresource=1")
    assert (refused.code, refused.envelope["error_code"]) == (2, "scheduler_refused")
    assert update(run_cli, repo, "--set-features", "highp").data["job_ids_updated"] == [waits]
    flag.write_text("")
    assert watch(run_cli, repo)["last_status"]["complete"] == 2
    ended = update(run_cli, repo, "--set-features", "highp").data
    assert ended["job_ids_left"] == dict.fromkeys([runs, waits], "none of its elements waits")


def asks_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("hard resource_list", "hard_queue_list"))]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_what_cannot_be_changed_is_said(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    submit(run_cli, repo, WRITE)
    refused = update(run_cli, repo, "--partition", "x")
    assert (refused.code, refused.envelope["error_code"]) == (1, "precondition_failed")
    for flags in (
        [],
        ["--add-features", "[]"],
        ["--add-features", "a", "--set-features", "b"],
        ["--add-features", "a;b"],
    ):
        assert update(run_cli, repo, *flags).envelope["error_code"] == "spec_invalid"
    watch(run_cli, repo)
