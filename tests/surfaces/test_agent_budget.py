"""What an agent reads to do the four jobs (submit, monitor, aggregate, campaign) with nothing but what answers tell it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
CALLS, ERRORS, BYTES = 30, 2, 40 * 1024


@dataclass
class Agent:
    """Runs commands as they are printed in answers; keeps job, command, bytes read and exit code of each."""

    repo: Path
    env: dict[str, str]
    job: str = ""
    rows: list[tuple[str, str, int, int]] = field(default_factory=list)

    def run(self, command: str) -> Any:
        """The envelope of a command, or its text where it is a help page."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.repo,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.rows.append((self.job, command, len(done.stdout.encode()), done.returncode))
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    def data(self, command: str) -> Any:
        envelope = self.run(command)
        assert envelope["ok"], envelope
        return envelope["data"]

    def table(self) -> str:
        lines = [f"{job:<10} {size:>6} {code} {command[:90]}" for job, command, size, code in self.rows]
        jobs = dict.fromkeys(job for job, *_ in self.rows)
        sums = [f"{job}: {sum(row[2] for row in self.rows if row[0] == job)}" for job in jobs]
        return "\n".join(["job         bytes exit command", *lines, "; ".join(sums)]) + "\n"


@pytest.fixture
def agent(tmp_path, world_home):
    """An agent in the example without its tasks: two scripts that a person wants to run."""
    repo = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, repo, ignore=shutil.ignore_patterns(".hpc", "results", "__pycache__", "README.md"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, words in (("python3", ""), ("hpc-agent", "-m hpc_agent")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        (tools / name).chmod(0o755)
    path = f"{tools}{os.pathsep}{world_home.env['PATH']}"
    return Agent(repo, {**world_home.env, "PATH": path, "HPC_PROGRESS": "none"})


@pytest.mark.local
@pytest.mark.timeout(900)
@pytest.mark.slow(reason="a run and a campaign of six tasks each, which fit models, one after the other")
def test_the_four_jobs_within_the_budget(agent):
    submitted = submit(agent)
    monitor(agent, submitted)
    aggregate(agent)
    campaign(agent)
    sys.stdout.write(agent.table())  # pytest shows it with -rP, and where the test fails
    errors = sum(code != 0 for *_, code in agent.rows)
    assert len(agent.rows) <= CALLS, agent.table()
    assert errors <= ERRORS, agent.table()
    assert sum(size for _, _, size, _ in agent.rows) <= BYTES, agent.table()
    answers = [row for row in agent.rows if "--help" not in row[1]]
    assert all(size <= 4096 for _, _, size, _ in answers), agent.table()


def submit(agent: Agent) -> Any:
    agent.job = "submit"
    assert "load-context" in agent.run("hpc-agent --help")
    here = agent.data("hpc-agent load-context")
    assert here["next_step_hint"] == "onboard"
    first = agent.data(here["next_command"])
    assert first["next_command"].startswith("hpc-agent build-tasks-py --executors ml_gbm --axes")
    # the person named both scripts and three horizons
    written = agent.data("hpc-agent build-tasks-py --executors ml_ridge,ml_gbm --axes '{\"horizon\": [1, 5, 25]}'")
    assert written["total_tasks"] == 6
    agent.run("hpc-agent submit --help")
    refused = agent.run("hpc-agent submit --cluster local --excutor 'python3 .hpc/cli.py'")
    assert "Did you mean --executor?" in refused["remediation"]
    found = agent.data(written["next_step"])
    submitted = agent.data(found["next_step"])
    assert submitted["total_tasks"] == 6
    return submitted


def monitor(agent: Agent, submitted: Any) -> None:
    agent.job = "monitor"
    seen = agent.data(submitted["next_step"])
    assert seen["run_id"] == submitted["run_id"]
    agent.run("hpc-agent monitor-flow --help")
    ended = agent.data("hpc-agent monitor-flow --poll-interval-sec 1")
    assert ended["lifecycle_state"] == "complete", agent.run("hpc-agent failures")


def aggregate(agent: Agent) -> None:
    agent.job = "aggregate"
    following = agent.data("hpc-agent load-context")["next_command"]
    assert following.startswith("hpc-agent aggregate --run-id")
    agent.run("hpc-agent aggregate --help")
    refused = agent.run(f"{following} --sort error")
    assert "The columns are" in refused["remediation"]
    table = agent.data(f"{following} --sort mae")
    assert table["row_count"] == 6
    agent.data(f"hpc-agent report --run-id {table['run_id']}")


def campaign(agent: Agent) -> None:
    agent.job = "campaign"
    begin = agent.data("hpc-agent describe campaign-init")["example"]
    begun = agent.data(begin)
    assert begun["campaign_id"] == "horizons"
    command = begun["next_command"]
    for _ in range(3):
        driven = agent.data(f"{command} --loop --poll-interval-sec 1")
        if driven["decision"] != "wait_in_flight":
            break
    seen = agent.data("hpc-agent campaign-status horizons")
    assert seen["trials"]["complete"] == 6
    assert seen["decision"].startswith("stop")
    agent.data("hpc-agent report --campaign horizons")
