"""The requests that each verb makes of slurmctld, by its own count: sites limit them for each user."""

import re
import time

import pytest
from experiment import WRITE, make_repo, submit

from hpc_agent.node.shared.files import make_folder

pytestmark = pytest.mark.usefixtures("clusters_file")
SBATCH, SQUEUE = 1, 3  # squeue asks for the federation, the partitions and the user's jobs


def requests(site, verb):
    """Do something; how many requests of the site's user slurmctld has received meanwhile."""

    def received():
        rows = re.findall(
            rf"^\s+{site.cluster['user']}\s+\(\s*\d+\) count:(\d+)", site.run("sdiag").stdout, re.MULTILINE
        )
        return sum(map(int, rows))

    before = received()
    verb()
    return received() - before - 1  # sdiag's own


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_each_verb_asks_slurmctld_for_what_it_needs(site, run_cli, tmp_path):
    gate = site.scratch / "gate"
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    executor = f'until test -e {gate}; do sleep 0.2; done; test "$X" != 1 || exit 3; {WRITE}'
    assert requests(site, lambda: submit(run_cli, repo, executor, "--mem-mb", "32")) == SBATCH
    assert requests(site, lambda: submit(run_cli, repo, executor, "--mem-mb", "32")) == 0
    assert requests(site, lambda: run_cli("status", cwd=repo)) == SQUEUE
    make_folder(str(gate))
    end = time.monotonic() + 120
    while run_cli("status", cwd=repo).data["lifecycle_state"] == "in_flight":
        assert time.monotonic() < end
    assert requests(site, lambda: run_cli("status", cwd=repo)) == 0
    assert requests(site, lambda: run_cli("monitor-flow", cwd=repo)) == 0
    assert requests(site, lambda: run_cli("failures", cwd=repo)) == 0
    assert requests(site, lambda: run_cli("aggregate", cwd=repo)) == 0
    assert requests(site, lambda: run_cli("resubmit", "--task-id", "1", cwd=repo).data) == SBATCH
