"""Start-up of the command line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.product import clean_env
from benchmarks.registry import row
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

RUNS_IN_JOURNAL = 20
BARE = "python -c pass"


@row("startup", "Start-up of the command line: CPU seconds", aim_sec=15)
def startup(bench: Bench) -> None:
    """Each command is a whole process, in turn with a bare interpreter; `list-in-flight` and `load-context` read a journal of 20
    runs. CPU seconds, for other work on the machine adds to the wall time."""
    repo = bench.folder / "repo"
    repo.mkdir()
    fill_journal(bench.folder / "journal", repo)
    env = {**clean_env(), "HPC_JOURNAL_DIR": str(bench.folder / "journal"), "HPC_PROGRESS": "none"}
    command = Path(sys.executable).with_name("hpc-agent")
    agent = [str(command)] if command.exists() else [sys.executable, "-m", "hpc_agent"]
    commands = {BARE: [sys.executable, "-c", "pass"]}
    commands |= {f"hpc-agent {words}": [*agent, *words.split()] for words in
                 ("--version", "submit --help", "list-in-flight", "load-context")}  # fmt: skip
    for number in range(bench.size(15, 3) + 1):
        bench.step(f"round {number + 1}")
        for name, words in commands.items():
            cpu, wall = spent(words, repo, env)
            if number:  # the first round compiles
                bench.take(name, cpu)
                bench.take(f"{name}: wall", wall)


def spent(words: list[str], cwd: Path, env: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of one process."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def fill_journal(journal_folder: Path, repo: Path) -> None:
    """Journal some runs that are in flight."""
    journal = Journal(World(cwd=repo, env={**os.environ, "HPC_JOURNAL_DIR": str(journal_folder)}), RepoLayout(repo))
    for number in range(RUNS_IN_JOURNAL):
        run_id = f"run-{number:08x}"
        journal.append(run_id, "submitting", run_name="run", cluster="c", total_tasks=1000, cmd_sha="0" * 64)
        journal.append(run_id, "submitted", job_ids=[str(number)])
        for complete in range(0, 1000, 100):
            journal.append(run_id, "status", lifecycle_state="in_flight", counts={"complete": complete})
