"""hpc-agent as its user has it: the command line in an experiment repo, on a site of the test bed."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import leftovers
from benchmarks.bench import SideFailed, testbed

LIMIT_SEC = 600
LEAKS = ("HPC_", "SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SGE_", "SSH_", "XDG_")
FOLDER = Path(__file__).resolve().parent
# What the cluster side took: a python that notes when each of its processes began and ended.
TIMED_PYTHON = """#!/bin/bash
begun=$EPOCHREALTIME
{python} "$@"
code=$?
echo "$begun $EPOCHREALTIME" >>{log}
exit $code
"""


def clean_env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}


class Product:
    """The command line with a home, a clusters.yaml and repos of its own, below ``folder``."""

    def __init__(self, site: testbed.Site, folder: Path, **changes: Any) -> None:
        self.site, self.folder, self._changes = site, folder, changes
        self._config, self._ssh_log = folder / "clusters.yaml", folder / "ssh.jsonl"
        self._python_log = site.scratch / "python.times"
        (folder / "home").mkdir(parents=True, exist_ok=True)
        self.env = {**clean_env(), "HOME": str(folder / "home"), "HPC_CLUSTERS_CONFIG": str(self._config),
                    "HPC_PROGRESS": "none", "PYTHONPATH": str(FOLDER.parent / "src")}  # fmt: skip
        self._config.write_text(site.clusters_yaml(**changes))
        self._repos = 0

    def repo(self, source: str = "", **files: str) -> Path:
        """A new experiment repo with this tasks.py, and other files by name (``__`` for ``/``)."""
        self._repos += 1
        repo = self.folder / f"repo{self._repos}"
        named = {name.replace("__", "/"): text for name, text in files.items()}
        for name, text in {**({".hpc/tasks.py": source} if source else {}), **named}.items():
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            (repo / name).write_text(text)
        return repo

    def call(self, repo: Path, *words: str, stdin: str = "", limit_sec: float = LIMIT_SEC) -> Any:
        """The answer of a verb. Raises SideFailed with its message."""
        command = [sys.executable, "-m", "hpc_agent", *words]
        try:
            done = subprocess.run(command, cwd=repo, env=self.env, input=stdin, capture_output=True, text=True,
                                  timeout=limit_sec, check=False)  # fmt: skip
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise SideFailed(f"hpc-agent {words[0]} took over {limit_sec:.0f} s") from None
        except ValueError:
            raise SideFailed(f"hpc-agent {words[0]} gave no answer: {done.stderr[-300:]}") from None
        if not answer["ok"]:
            raise SideFailed(f"hpc-agent {words[0]}: {answer.get('message')}")
        return answer["data"]

    def submit(self, repo: Path, executor: str, *flags: str) -> Any:
        return self.call(repo, "submit", "--cluster", testbed.CLUSTER, "--executor", executor, *flags)

    def held(self, repo: Path, executor: str, *flags: str) -> Any:
        """Submit a run that SLURM keeps back until ``release``: its elements stay in the real queue."""
        return self.submit(repo, executor, *flags, "--extra-flags=--hold")

    def release(self, submitted: Any) -> None:
        for job in submitted["job_ids"]:
            self.on_site("scontrol", "release", job)

    def wait(self, repo: Path, limit_sec: float = LIMIT_SEC) -> Any:
        """Watch until the run has ended. Raises SideFailed, and cancels its jobs, where that takes longer."""
        budget = ("--wall-clock-budget-sec", str(int(limit_sec)))
        ended = self.call(repo, "monitor-flow", *budget, limit_sec=limit_sec + 30)
        if ended["lifecycle_state"] == "in_flight":
            leftovers.cancel(self.site)
            counts = ended["last_status"]
            raise SideFailed(
                f"it took over {limit_sec:.0f} s: {counts['complete']} of {sum_of(counts)} tasks were complete"
            )
        return ended

    def table(self, repo: Path, *flags: str) -> list[dict[str, str]]:
        """Aggregate, and read the table that it wrote."""
        answer = self.call(repo, "aggregate", *flags)
        with Path(answer["table_csv"]).open(newline="") as handle:
            return list(csv.DictReader(handle))

    def metric(self, repo: Path, name: str) -> list[float]:
        """Aggregate, and read a metric of every row."""
        rows = self.table(repo)
        column = next((key for key in (name, f"{name}_mean", f"{name}.mean") if rows and key in rows[0]), None)
        if column is None:
            raise SideFailed(f"the table has no column {name}: {list(rows[0]) if rows else 'it is empty'}")
        return [float(row[column]) for row in rows]

    def has_option(self, verb: str, field: str) -> bool:
        """Whether this version's verb knows the option."""
        entry = self.call(self.folder, "describe", verb, "--full")["entry"]
        return any(flag["flag"] == f"--{field}" for flag in entry["flags"])

    def on_site(self, *words: str, limit_sec: float = 60) -> str:
        """A command as the site's user. Raises SideFailed with the end of what it said."""
        try:
            done = self.site.run(*words, timeout=limit_sec)
        except subprocess.TimeoutExpired:
            raise SideFailed(f"{words[0]} took over {limit_sec:.0f} s") from None
        if done.returncode:
            raise SideFailed(
                f"{Path(words[0]).name} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-250:]}"
            )
        return done.stdout

    def node_script(self, name: str, *words: str, limit_sec: float = 300) -> Any:
        """Run a script of benchmarks/node on the cluster; its last line is its answer."""
        script = self.site.scratch / name
        if not script.exists():
            shutil.copy(FOLDER / "node" / name, script)
        said = self.on_site(testbed.NODE_PYTHON, str(script), *words, limit_sec=limit_sec)
        return json.loads(said.splitlines()[-1])

    # ------------------------------------------------------------ what a verb cost
    def time_the_cluster(self) -> None:
        """From now on the cluster's Python notes its seconds, which ``cluster_seconds`` returns."""
        wrapper = self.site.scratch / "timed-python"
        python, log = shlex.quote(testbed.NODE_PYTHON), shlex.quote(str(self._python_log))
        wrapper.write_text(TIMED_PYTHON.format(python=python, log=log))
        wrapper.chmod(0o755)
        self._python_log.write_text("")
        self._python_log.chmod(0o666)
        self._config.write_text(self.site.clusters_yaml(**{**self._changes, "python": str(wrapper)}))

    def cluster_seconds(self) -> float:
        """Seconds of the cluster's Python since the last call."""
        lines = self._python_log.read_text().split("\n")[:-1]
        self._python_log.write_text("")
        return sum(float(end) - float(begun) for begun, end in (line.split() for line in lines))

    def count_ssh(self) -> None:
        """From now on a program in the place of ssh counts commands and bytes, which ``ssh_used`` returns."""
        program = self.folder / "counting-ssh"
        text = (FOLDER / "counting_ssh.py").read_text()
        program.write_text(f"#!{sys.executable} -S\n{text}")
        program.chmod(0o755)
        self.env |= {"HPC_SSH_BINARY": str(program), "HPC_BENCHMARK_SSH_LOG": str(self._ssh_log),
                     "HPC_BENCHMARK_SSH": shutil.which("ssh") or "ssh"}  # fmt: skip
        self._ssh_log.write_text("")

    def stop_counting(self) -> None:
        self.env.pop("HPC_SSH_BINARY", None)

    def ssh_used(self) -> dict[str, int]:
        """Commands over SSH and their bytes since the last call."""
        rows = [json.loads(line) for line in self._ssh_log.read_text().splitlines()]
        self._ssh_log.write_text("")
        return {"commands": len(rows), **{key: sum(row[key] for row in rows) for key in ("sent", "received")}}


def sum_of(counts: dict[str, Any]) -> int:
    """The number of tasks in the counts of a status."""
    return sum(counts[state] for state in ("complete", "failed", "running", "pending", "unknown"))


def seconds_of(act: Any, *arguments: Any) -> float:
    begun = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - begun
