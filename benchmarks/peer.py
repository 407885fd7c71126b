"""The peers: installed from the package index, as the user's pip is configured, into a virtual environment of their own; run
on a site as its user."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import leftovers
from benchmarks.bench import SideFailed, testbed

SCRIPTS = Path(__file__).resolve().parent / "peers"
# Package by the name in a table; the script is peers/<package>_peer.py.
PACKAGES = {
    "HyperQueue": "hyperqueue",
    "dask-jobqueue": "dask-jobqueue",
    "Parsl": "parsl",
    "submitit": "submitit",
    "executorlib": "executorlib",
    "joblib": "joblib",
}
LIBRARIES = ("scikit-learn",)  # what a task imports
PROGRAMS = {"GNU parallel": "parallel"}  # packages of Debian
SCRIPT = {"HyperQueue": "hyperqueue", "dask-jobqueue": "dask", "Parsl": "parsl", "submitit": "submitit", "joblib": "joblib",
          "executorlib": "executorlib", "GNU parallel": "parallel", "loop in one job": "loop"}  # fmt: skip
# They have no scheduler, or need none; of HyperQueue the package index has server and workers, but no program that submits them.
IN_ONE_JOB = ("loop in one job", "HyperQueue", "joblib", "executorlib", "GNU parallel")
INSTALL_SEC = 300


def cache_folder() -> Path:
    """Where the environment is kept. The users of the test bed must be able to enter it, which a home of root forbids."""
    chosen = os.environ.get("HPC_BENCHMARKS_CACHE")
    if chosen:
        return Path(chosen)
    if os.getuid() == 0:
        return Path("/var/cache/hpc-agent-benchmarks")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpc-agent-benchmarks"


def python() -> Path:
    return cache_folder() / "peers" / "bin" / "python"


@cache
def versions() -> dict[str, str]:
    """The installed version of each package in the environment, by its canonical name."""
    if not python().exists():
        return {}
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    done = subprocess.run([str(python()), "-c", code], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def install(progress: Callable[[str], None]) -> None:
    """Install every peer that is not there, and keep the reason of each that cannot be had; the rows only look."""
    reasons = {}
    for name in (*PACKAGES, *LIBRARIES, *PROGRAMS):
        if why_not(name):
            progress(f"installing {name}")
            reasons[name] = _program(PROGRAMS[name]) if name in PROGRAMS else _package(PACKAGES.get(name, name))
    cache_folder().mkdir(parents=True, exist_ok=True)
    _reasons().write_text(json.dumps(reasons))


def why_not(name: str) -> str:
    """Why a peer cannot be had; empty when it is there."""
    there = shutil.which(PROGRAMS[name]) if name in PROGRAMS else PACKAGES.get(name, name) in versions()
    if there:
        return ""
    known = json.loads(_reasons().read_text()) if _reasons().exists() else {}
    return known.get(name) or "it is not installed"


def _reasons() -> Path:
    return cache_folder() / "not-installed.json"


def version(name: str) -> str:
    if name in PROGRAMS:
        said = subprocess.run([PROGRAMS[name], "--version"], capture_output=True, text=True, check=False).stdout
        return said.split("\n")[0].rpartition(" ")[2] or "unknown"
    return versions().get(PACKAGES.get(name, name), "")


def _package(package: str) -> str:
    try:
        if not python().exists():
            cache_folder().mkdir(parents=True, exist_ok=True)
            _run([testbed.NODE_PYTHON, "-m", "venv", str(python().parents[1])])
        _run([str(python()), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", package])
    except SideFailed as error:
        return f"it cannot be installed: {error}"
    versions.cache_clear()
    return "" if package in versions() else "pip installed it, but it is not there"


def _program(name: str) -> str:
    if os.getuid() or not shutil.which("apt-get"):
        return f"it is not installed; with Debian: sudo apt-get install {name}"
    try:
        _run(["apt-get", "install", "--yes", "--no-install-recommends", name])
    except SideFailed as error:
        return f"it cannot be installed: {error}"
    return "" if shutil.which(name) else "apt-get installed it, but it is not there"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SEC, check=False,
                              env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SideFailed(str(error)) from error
    if done.returncode:
        raise SideFailed((done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")[-200:])


class Peer:
    """One peer on one site: it runs ``tasks`` tasks of a kind and records their values in a file."""

    def __init__(self, name: str, site: testbed.Site, workers: int, limit_sec: float) -> None:
        self.name, self.site, self.workers, self.limit_sec = name, site, workers, limit_sec

    def values(self, kind: str, tasks: int) -> tuple[float, dict[int, Any]]:
        """Return the seconds from its start to its record, and the value of each task. Raises SideFailed."""
        folder = self._folder(SCRIPT[self.name])
        out, code = folder / "values.jsonl", self._code()
        spec = {
            "kind": kind,
            "tasks": tasks,
            "site": self.site.scheduler,
            "workers": self.workers,
            "limit_sec": self.limit_sec,
            "out": str(out),
            "code": str(code),
            "folder": str(folder),
            "bin": str(python().parent),
        }
        text = json.dumps(spec)
        command = [str(self._python()), str(code / f"{SCRIPT[self.name]}_peer.py"), text]
        if self.name in IN_ONE_JOB:
            command = [testbed.NODE_PYTHON, str(code / "in_job.py"), text, *command]
        where, programs = shlex.quote(str(folder)), shlex.quote(str(python().parent))
        line = (
            f"export PYTHONPATH={shlex.quote(str(code))} PATH={programs}:$PATH HOME={where} PYTHONWARNINGS=ignore; "
            f"cd {where} && exec timeout {self.limit_sec:.0f} {shlex.join(command)}"
        )
        with ThreadPoolExecutor(1) as pool:
            begun = time.perf_counter()
            running = pool.submit(self.site.run, "bash", "-c", line, timeout=self.limit_sec + 15)
            while not out.exists() and not running.done():
                time.sleep(0.01)
            read = dict(json.loads(row) for row in out.read_text().splitlines()) if out.exists() else {}
            seconds = time.perf_counter() - begun
            self._end(running, out.exists())
        return seconds, read

    def _end(self, running: Future[subprocess.CompletedProcess[str]], recorded: bool) -> None:
        """Wait until the peer has tidied up, which is not its tasks' time. Raises SideFailed where it has recorded nothing."""
        late = f"it took over {self.limit_sec:.0f} s"
        try:
            done = running.result()
        except subprocess.TimeoutExpired:
            leftovers.cancel(self.site)
            raise SideFailed(late) from None
        if not recorded:
            leftovers.cancel(self.site)
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise SideFailed(late if done.returncode == 124 else f"it failed: {said[-1] if said else done.returncode}")

    def _python(self) -> Path | str:
        return python() if python().exists() else sys.executable

    def _folder(self, name: str) -> Path:
        folder = self.site.scratch / "peers" / f"{name}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        owner = self.site.scratch.stat()
        for made in (folder.parent, folder):
            os.chown(made, owner.st_uid, owner.st_gid)
        return folder

    def _code(self) -> Path:
        code = self.site.scratch / "peers" / "code"
        if not code.exists():
            shutil.copytree(SCRIPTS, code, ignore=shutil.ignore_patterns("__pycache__"))
            code.chmod(0o777)  # whoever runs a task first keeps the compiled modules
        return code
