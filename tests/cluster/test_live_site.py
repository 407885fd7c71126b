"""The live cluster is read in one command, and what cannot fit is said to."""

import pytest
from experiment import make_repo, submit

pytestmark = pytest.mark.usefixtures("clusters_file")
NAMES = {"slurm": "batch", "sge": "all.q", "local": "local"}


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_a_partition_is_recommended_from_what_the_cluster_says_now(site, run_cli, ssh_counter):
    found = run_cli("recommend-partition", "--cluster", "testbed", "--mem-mb", "64").data
    assert ssh_counter.count() == (0 if site.transport == "local" else 1)
    assert found["recommended_partition"] == NAMES[site.scheduler], found
    assert found["candidates"][0]["idle"] > 0 or site.scheduler == "local"
    none = run_cli("recommend-partition", "--cluster", "testbed", "--mem-mb", "99000000").data
    assert (none["recommended_partition"], none["rationale"]) == (None, "none_fit")
    assert "MiB" in none["message"]
    if site.scheduler == "slurm":
        assert {row["partition"]: row["why_not"] for row in found["candidates"]}["closed"] == "it is down"
        gpu = run_cli(
            "recommend-partition", "--cluster", "testbed", "--gpus", "1", "--user-preferred-partition", "gpu"
        ).data
        assert (gpu["recommended_partition"], gpu["gpu_type"], gpu["rationale"]) == ("gpu", "fake", "user_preferred")
        long = run_cli(
            "recommend-partition",
            "--cluster",
            "testbed",
            "--walltime-sec",
            "700",
            "--user-preferred-partition",
            "short",
        ).data
        assert long["recommended_partition"] != "short"
        assert "short does not fit: its walltime limit is 600 s" in long["message"]


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_the_sites_own_limits_are_held_against_a_plan(site, run_cli):
    found = run_cli("validate-self-qos-limit", "--cluster", "testbed", "--new-array-size", "2000000").data
    assert found["overall"] == "warn"
    over = [row for row in found["findings"] if row["code"] == "limit_over"]
    assert any(row["evidence"]["kind"] == "array_size" for row in over)


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_a_limit_counts_that_of_the_account_and_not_that_of_another_qos(site, run_cli, tmp_path):
    """The account ``grouped`` takes 20 jobs of all its members together, the QOS ``tiny`` 10 of each user."""

    def over(*flags):
        found = run_cli("validate-self-qos-limit", "--cluster", "testbed", *flags).data["findings"]
        return {(row["evidence"]["scope"], row["evidence"]["most"]) for row in found if row["code"] == "limit_over"}

    assert over("--new-array-size", "30") == set(), "of the QOS tiny, which the jobs do not use"
    assert ("qos tiny", 10) in over("--new-array-size", "30", "--qos", "tiny")
    assert over("--new-array-size", "30", "--account", "grouped") == {("account grouped, all members", 20)}
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(15)])
    job = submit(run_cli, repo, "true", "--account", "grouped", "--extra-flags=--hold")["job_ids"][0]
    assert over("--new-array-size", "5", "--account", "grouped") == set()
    assert over("--new-array-size", "6", "--account", "grouped") == {("account grouped, all members", 20)}
    site.run("scancel", job)
