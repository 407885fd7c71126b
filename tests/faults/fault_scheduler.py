"""What the schedulers themselves say of a bench's jobs, asked without the product; and their daemons."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import testbed

USERS = {"slurm": "hpcuser", "sge": "sgeuser"}


def ask(*argv: str, limit: float = 30) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False)
    return done.stdout


def jobs_of(scheduler: str, prefix: str) -> dict[str, set[str]]:
    """Job name -> ids of the jobs whose name begins with ``prefix``, queued, running or ended."""
    return _slurm_jobs(prefix) if scheduler == "slurm" else _sge_jobs(prefix)


def _slurm_jobs(prefix: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for line in ask("squeue", "-h", "-t", "all", "-u", USERS["slurm"], "-o", "%F|%j").splitlines():
        job, _, name = line.partition("|")
        if name.startswith(prefix):
            found[name].add(job)
    names = ",".join(found)
    rows = ask("sacct", "-X", "-n", "-P", "-a", "-S", "now-3hours", f"--name={names}", "-o", "JobID,JobName,NodeList")
    for line in rows.splitlines() if names else []:
        job, name, nodes = line.split("|")
        if name in found and nodes not in ("", "None assigned"):
            found[name].add(job.partition("_")[0])
    return found


def _sge_jobs(prefix: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    job = ""
    for line in ask("qstat", "-u", USERS["sge"], "-r").splitlines():
        row = re.match(r"\s*([0-9]+) [0-9.]+ ", line)
        job = row.group(1) if row else job
        if "Full jobname:" in line and line.split()[-1].startswith(prefix):
            found[line.split()[-1]].add(job)
    for name, job in re.findall(rf"^jobname +({prefix}\S*)\s*\njobnumber +([0-9]+)", _accounting(prefix), re.MULTILINE):
        found[name].add(job)
    return found


def _accounting(prefix: str) -> str:
    return ask("qacct", "-o", USERS["sge"], "-j", f"{prefix}*")


# -- daemons ---------------------------------------------------------------------------------------------------------

TESTBED = Path(__file__).resolve().parents[2] / "testbed"
SPOOL = Path("/var/spool/gridengine")


def pid_file(daemon: str) -> Path:
    """Where a daemon of the bed keeps its pid."""
    run = testbed.BED / "run"
    if daemon == "sge_execd":
        return next(SPOOL.glob("execd/*/execd.pid"))
    places = {
        "sge_qmaster": SPOOL / "qmaster/qmaster.pid",
        "slurmctld": run / "slurm/slurmctld.pid",
        "slurmdbd": run / "slurm/slurmdbd.pid",
        "munged": run / "munge/munged.pid",
        "slurm-sshd": run / "sshd.pid",
        "sge-sshd": testbed.BED / "sge/run/sshd.pid",
    }
    return places.get(daemon) or run / f"slurmd/{daemon}.pid"


def bring_back(scheduler: str) -> None:
    """Start what is down; raises when the bed does not come up."""
    subprocess.run(
        [str(TESTBED / f"{scheduler}-up")], stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=True
    )
