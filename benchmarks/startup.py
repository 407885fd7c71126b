"""Start-up of the command line against its budgets, side by side in one run.

    python benchmarks/startup.py [RUNS]

Each command is a whole process. The commands take turns, so that a machine that slows down slows all of them; the table shows the
median, the processor time (the least of all rounds: other work on the machine adds to it) and its ratio to a bare interpreter's.
Budgets, of processor time: --version 40 ms, a local query 150 ms.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS_IN_JOURNAL = 20


def fill_journal(world: Path, repo: Path) -> None:
    from hpc_agent.state.journal import Journal
    from hpc_agent.state.repo_files import RepoLayout
    from hpc_agent.world import World

    journal = Journal(World(cwd=repo, env={"HPC_JOURNAL_DIR": str(world)}), RepoLayout(repo))
    for number in range(RUNS_IN_JOURNAL):
        run_id = f"run-{number:08x}"
        journal.append(run_id, "submitting", run_name="run", cluster="c", total_tasks=1000, cmd_sha="0" * 64)
        journal.append(run_id, "submitted", job_ids=[str(number)])
        for complete in range(0, 1000, 100):
            journal.append(run_id, "status", lifecycle_state="in_flight", counts={"complete": complete})


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    command = Path(sys.executable).with_name("hpc-agent")
    agent = [str(command)] if command.exists() else [sys.executable, "-m", "hpc_agent"]
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder) / "repo"
        repo.mkdir()
        fill_journal(Path(folder) / "journal", repo)
        env = {**os.environ, "HPC_JOURNAL_DIR": str(Path(folder) / "journal"), "HPC_PROGRESS": "none"}
        rows = [
            ("python -c pass", [sys.executable, "-c", "pass"], None),
            ("hpc-agent --version", [*agent, "--version"], 0.040),
            ("hpc-agent submit --help", [*agent, "submit", "--help"], None),
            (f"hpc-agent list-in-flight ({RUNS_IN_JOURNAL} runs)", [*agent, "list-in-flight"], 0.150),
            ("hpc-agent load-context", [*agent, "load-context"], 0.150),
        ]
        times: dict[str, list[float]] = {name: [] for name, _, _ in rows}
        cpu: dict[str, list[float]] = {name: [] for name, _, _ in rows}
        for number in range(rounds + 1):
            for name, words, _ in rows:
                before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run(words, cwd=repo, env=env, stdout=subprocess.DEVNULL, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                if number:
                    times[name].append(time.perf_counter() - begun)
                    cpu[name].append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    bare = min(cpu[rows[0][0]])
    width = max(len(name) for name, _, _ in rows)
    print(f"{'command'.ljust(width)}   median      cpu    ratio   budget")
    within = True
    for name, _, budget in rows:
        middle, least = statistics.median(times[name]), min(cpu[name])
        verdict = "" if budget is None else f"{budget * 1000:5.0f} ms {'ok' if least <= budget else 'OVER'}"
        within = within and (budget is None or least <= budget)
        print(f"{name.ljust(width)} {middle * 1000:5.0f} ms {least * 1000:5.0f} ms {least / bare:6.1f}x {verdict}")
    print(json.dumps({name: round(min(values), 4) for name, values in cpu.items()}))
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
