"""The live cluster is read in one command, and what cannot fit is said to."""

import pytest

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
