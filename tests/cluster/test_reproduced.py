"""Provenance on real schedulers: what a node records, data that is hashed on the cluster, a repeat, a story."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
WORK = 'import json, os\njson.dump({"y": float(os.environ["X"])}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))\n'


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_recorded_repeated_compared_and_told(site, run_cli, ssh_counter, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)], **{"work.py": WORK})
    data = site.scratch / "on-the-cluster.csv"
    data.write_text("1\n")
    flags = ("--inputs", str(data), "--walltime-sec", "60")
    first = submit(run_cli, repo, "python3 work.py", *flags)
    assert (ssh_counter.count("ssh"), ssh_counter.count("rsync")) == (2, 0)  # one for the data on the cluster
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    found = json.loads(Path(first["remote_path"], "environment.json").read_text())
    assert (found["problems"], found["gpus"]) == ([], [])
    assert found["python"]["version"].startswith("3.")
    assert found["cpu_model"]

    ssh_counter.reset()
    again = run_cli("reproduce-run", cwd=repo).data
    assert again["run_id"] == f"{first['run_id']}-r1"
    assert (ssh_counter.count("ssh"), ssh_counter.count("rsync")) == (2, 0)
    assert run_cli("reproduce-run", "--run-id", first["run_id"], cwd=repo).data["job_ids"] == again["job_ids"]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    seen = run_cli("verify-reproduction", cwd=repo).data
    assert (seen["reproduced"], seen["of"], seen["rows_equal"]) == (True, first["run_id"], 3)

    ssh_counter.reset()
    told = run_cli("run-story", cwd=repo).data["text"]
    assert ssh_counter.count() == 1
    assert f"repeats  {first['run_id']}" in told
    assert "the last attempt ends: 3 complete" in told

    data.write_text("2\n")
    changed = submit(run_cli, repo, "python3 work.py", *flags, "--dry-run")
    assert changed["run_id"] != first["run_id"]
