"""The clusters that tests run on: SLURM, Grid Engine and OAR over SSH, SLURM on this machine, and no scheduler at all."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hpc_agent.infra.backends import backend_names, get_backend

BED = Path(os.environ.get("TESTBED_DIR", "/tmp/hpc-testbed"))
NODE_PYTHON = os.environ.get("HPC_TEST_NODE_PYTHON", "/usr/bin/python3")
SCHEDULERS = ("slurm", "sge", "oar")  # the real ones: of each, tests run one after the other
SITES = (*(f"{scheduler}-ssh" for scheduler in SCHEDULERS), "slurm-local", "local")
REMEDY = "sudo testbed/up"
CLUSTER = "testbed"  # what clusters.yaml calls it


@dataclass(frozen=True)
class Reach:
    """How commands get to a site: over SSH as ``user``, or on this machine."""

    scheduler: str
    ssh_config: Path | None
    host: str
    user: str
    scratch_root: Path
    probe: str  # a shell command that succeeds where a test could submit


# As slurm-up names them: with the folder, another SLURM is tested, such as that of testbed/slurm24-up.
_ALIAS, _USER = os.environ.get("TESTBED_ALIAS", "slurm-testbed"), os.environ.get("TESTBED_USER", "hpcuser")
_SLURM_PROBE = "sbatch --test-only --wrap=true"
_OAR_PROBE = "oarnodes --sql \"state = 'Alive'\" -l | grep -q ."
_ME = pwd.getpwuid(os.getuid()).pw_name
_REACH = {
    "slurm-ssh": Reach(
        "slurm", BED / "etc/ssh_config", f"{_ALIAS}-direct", _USER, BED / "scratch" / _USER, _SLURM_PROBE
    ),
    "sge-ssh": Reach(
        "sge", BED / "sge/ssh_config", "sge-testbed-direct", "sgeuser", BED / "sge/scratch/sgeuser", "qselect -q all.q"
    ),
    "oar-ssh": Reach(
        "oar", BED / "oar/etc/ssh_config", "oar-testbed-direct", "oaruser", BED / "oar/scratch/oaruser", _OAR_PROBE
    ),
    **{
        f"slurm-{shell}": Reach(
            "slurm",
            BED / "etc/ssh_config",
            f"{_ALIAS}-{shell}",
            f"hpc{shell}",
            BED / f"scratch/hpc{shell}",
            _SLURM_PROBE,
        )
        for shell in ("tcsh", "fish")  # the user's login shell
    },
    "slurm-local": Reach("slurm", None, "", _ME, BED / "scratch" / _ME, _SLURM_PROBE),
}


@dataclass(frozen=True)
class Site:
    """One cluster for one test, with a scratch folder of its own."""

    name: str
    scheduler: str  # slurm, sge, oar, local
    transport: str  # ssh, local
    cluster: dict[str, Any]  # the entry in clusters.yaml
    science_python: str  # has scikit-learn, and the site's user may execute it
    why_not: str = ""

    @property
    def available(self) -> bool:
        return not self.why_not

    @property
    def scratch(self) -> Path:
        """On this machine too: the bed's nodes share its file system."""
        return Path(self.cluster["scratch"])

    def can(self, feature: str) -> bool:
        """Whether the scheduler has this at all: the backend of another package says what it has not (``cannot``)."""
        return feature not in get_backend(self.scheduler).cannot

    def clusters_yaml(self, **changes: Any) -> str:
        """clusters.yaml with this one cluster; ``changes`` replace keys of its entry, None removes one."""
        entry = {key: value for key, value in {**self.cluster, **changes}.items() if value is not None}
        return yaml.safe_dump({CLUSTER: entry}, sort_keys=False)

    def run(self, *argv: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """A command as the site's user (``squeue``, ``qstat``), started in the scratch folder unless that is gone."""
        command = f"cd {shlex.quote(str(self.scratch))} 2>/dev/null; {shlex.join(argv)}"
        return _run(_REACH.get(self.name), command, timeout)

    def wait_until_alone(self, limit: float = 120) -> None:
        """Wait until this site's user has no job in the queue: cancelled ones of earlier tests take a while to leave."""
        end = time.monotonic() + limit
        commands = {"sge": ["qstat"], "oar": ["oarstat", "-u"]}
        if self.scheduler == "slurm":
            commands["slurm"] = ["squeue", "-h", "-u", _REACH[self.name].user]
        command = commands.get(self.scheduler, ["true"])
        while (done := self.run(*command)).returncode or done.stdout.strip():
            assert time.monotonic() < end, f"{self.name}: still in the queue: {done.stdout}{done.stderr}"
            time.sleep(1)

    def clean_up(self) -> None:
        """Cancel what this site's test left in the queue, then remove its scratch folder."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            jobs = jobs_of(self)
            if jobs:
                self.run({"slurm": "scancel", "sge": "qdel", "oar": "oardel"}[self.scheduler], *jobs)
        shutil.rmtree(self.scratch, ignore_errors=True)


def make_site(name: str, folder: Path) -> Site:
    """The site ``name`` with a fresh scratch folder (below ``folder`` when there is no scheduler); see ``why_not``."""
    reach = _REACH.get(name)
    reason = why_not(name)
    scratch = (reach.scratch_root if reach else folder) / f"t-{uuid.uuid4().hex[:10]}"
    entry: dict[str, Any] = {
        "scheduler": reach.scheduler if reach else "local",
        "scratch": str(scratch),
        "python": NODE_PYTHON,
        "default_mem_mb": 64,
        "min_poll_sec": 1,
        "constraints": {"max_array_size": 1000, "max_concurrent_jobs": 10, "est_spin_up": "5s"},
    }
    if reach and reach.ssh_config:
        entry |= {"host": reach.host, "user": reach.user, "ssh_config": str(reach.ssh_config)}
    if entry["scheduler"] == "slurm":
        entry["default_partition"] = "batch"
    if not reason:
        _make_scratch(scratch, reach.user if reach else _ME)
    transport = "ssh" if "host" in entry else "local"
    return Site(name, entry["scheduler"], transport, entry, _science_python(), reason)


@cache
def why_not(name: str) -> str:
    """Why a test cannot use this site; empty when it can."""
    reach = _REACH.get(name)
    if reach is None:
        return ""
    if reach.scheduler not in backend_names():
        return f"no backend '{reach.scheduler}' is installed (pip install --no-deps -e plugins/hpc-agent-{reach.scheduler})"
    if reach.ssh_config and not os.access(reach.ssh_config, os.R_OK):
        return f"{reach.ssh_config} is not there"
    try:
        done = _run(reach, f"{shlex.quote(NODE_PYTHON)} -c pass && {reach.probe}", timeout=20)
    except subprocess.TimeoutExpired:
        return f"'{reach.probe}' did not answer within 20 s"
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"'{reach.probe}' failed: {said[-1] if said else done.returncode}" if done.returncode else ""


def _run(reach: Reach | None, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    over_ssh = reach is not None and reach.ssh_config is not None
    words = ["ssh", "-F", str(reach.ssh_config), reach.host, command] if reach and over_ssh else ["sh", "-c", command]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)


def _make_scratch(scratch: Path, user: str) -> None:
    scratch.mkdir(parents=True)
    if user != _ME:
        shutil.chown(scratch, user, user)


def _science_python() -> str:
    bed_python = BED / "venv/bin/python"
    return str(bed_python) if bed_python.exists() else sys.executable


def jobs_of(site: Site) -> list[str]:
    """Return the jobs in the queue whose folders are below the site's scratch folder."""
    return [job for job, facts in _queued(site).items() if str(site.scratch) in facts]


def _queued(site: Site) -> dict[str, str]:
    """Job id -> text that names the job's folders, for every job that this site's user has in the queue."""
    if site.scheduler == "slurm":
        rows = site.run("squeue", "-h", "-u", _REACH[site.name].user, "-o", "%A|%Z|%o").stdout.splitlines()
        return {job: facts for job, _, facts in (row.partition("|") for row in rows)}
    if site.scheduler == "sge":
        rows = site.run("qstat").stdout.splitlines()[2:]
        ids = {row.split()[0] for row in rows}
        blocks = site.run("qstat", "-j", ",".join(ids)).stdout.split("=" * 30) if ids else []
        return {job: block for block in blocks for job in ids if f"job_number: {job}" in " ".join(block.split())}
    if site.scheduler == "oar":
        said = site.run("oarstat", "-J", "-u").stdout
        return {job: str(facts) for job, facts in json.loads(said or "{}").items()}
    return {}
