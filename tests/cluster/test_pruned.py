"""Runs on real schedulers are removed when the scheduler says that they have ended, not before."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_in_flight_then_removed(site, run_cli, ssh_counter, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    go = site.scratch / "go"
    executor = f'until test -e {go}; do sleep 0.2; done; echo "{{\\"y\\": $X}}" > "$HPC_RESULT_DIR/metrics.json"'
    sent = submit(run_cli, repo, executor, "--walltime-sec", "120", "--mem-mb", "50", "--pack", "2")
    path = Path(sent["remote_path"])
    every = ("prune-runs", sent["run_id"], "--what", "all")
    ssh_counter.reset()
    early = run_cli(*every, cwd=repo).data
    assert ssh_counter.count("ssh") == 1
    assert (early["removed"], early["blocked"]) == (False, 1)
    assert "of its elements are in the queue" in early["runs"][0]["why"]
    go.touch()
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert run_cli("aggregate", cwd=repo).data["row_count"] == 4
    ssh_counter.reset()
    look = run_cli(*every, cwd=repo).data
    assert ssh_counter.count("ssh") == 1
    assert (look["chosen"]["runs"], look["runs"][0]["combined"], look["runs"][0]["aggregated"]) == (1, "1 of 1", True)
    snapshots = sorted(path.parents[1].glob("snapshots/*"))
    ssh_counter.reset()
    done = run_cli(*every, "--confirm", look["token"], cwd=repo).data
    assert ssh_counter.count("ssh") == 2
    assert (done["removed"], done["deleted"]["left"], path.exists()) == (True, 0, False)
    assert sorted(path.parents[1].glob("snapshots/*")) == snapshots != []
    ssh_counter.reset()
    assert "was pruned on" in run_cli("status", cwd=repo).data["notes"][0]
    assert ssh_counter.count("ssh") == 0
