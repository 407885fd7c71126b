"""The ridge job through the protocol alone: from a repo to the table, as an agent without a shell does it."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from mcp_client import over_stdio, process

pytestmark = pytest.mark.usefixtures("clusters_file")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
MOST_CALLS, MOST_BYTES = 15, 40_000


async def ridge_job(agent, site):
    """Run ridge and gbm over horizon 1, 5, 25, with nothing but what the answers say."""
    context = await agent.call("load-context")
    assert not context["data"]["has_tasks_py"]
    scripts = await agent.data("discover-executors")
    names = [Path(script["path"]).stem for script in scripts["executors"]]
    assert sorted(names) == ["ml_gbm", "ml_ridge"]
    grid = {"executors": names, "axes": {"horizon": [1, 5, 25]}, "python": site.science_python}
    built = await agent.call("build-tasks-py", grid)
    assert built["data"]["total_tasks"] == 6, built
    completed = await agent.data(
        "resolve-submit-inputs",
        {"cluster": "testbed", "resources": {"mem_mb": 1000, "walltime_sec": 600}, "accept_defaults": True},
    )
    sent = await agent.call("submit", completed["spec"])
    assert sent["data"]["submitted"], sent
    told, ack = [], None
    while "ended" not in told:
        answer = await agent.call("wait-for-events", {"wait_sec": 40, **({"ack": ack} if ack else {})})
        told += [event["event"] for event in answer["data"]["events"]]
        ack = answer["data"]["last_id"] or ack
    assert answer["next"]["tool"] == "aggregate", answer
    table = await agent.follow(answer)
    while "work" in table:
        table = await agent.follow(table)
    return table["data"]


@pytest.mark.parametrize("site", ["local", "slurm-ssh"], indirect=True)
def test_the_ridge_job_through_the_protocol_alone(site, world_home, tmp_path, capsys):
    repo = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, repo, ignore=shutil.ignore_patterns(".hpc", "results", "runs", "__pycache__"))

    async def run():
        async with over_stdio(process(repo, world_home.env, "--allow-submit")) as agent:
            with anyio.fail_after(240):
                table = await ridge_job(agent, site)
            return table, agent

    table, agent = anyio.run(run)
    with capsys.disabled():
        print(f"\nridge job on {site.name}: {len(agent.calls)} calls, {agent.bytes:,} bytes: {' '.join(agent.calls)}")
    assert (table["complete"], table["row_count"]) == (True, 6)
    assert len(agent.calls) <= MOST_CALLS
    assert agent.bytes <= MOST_BYTES
