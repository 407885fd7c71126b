"""Fixtures that tests share: a private home, the test bed's clusters, the command line, a count of SSH commands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import testbed
from testbed import SITES, Site

SLOW_SEC = 60
LEAKS = ("HPC_", "SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SGE_", "SSH_", "XDG_", "PYTEST_")


# A busy machine must not fail a property: there is no time limit for a single example.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def _require(name: str) -> None:
    """Skip a test whose site is not there, or fail it where schedulers are required."""
    reason = testbed.why_not(name)
    if not reason:
        return
    message = f"{name} is not available: {reason}. Bring it up with: {testbed.REMEDY}"
    if os.environ.get("HPC_REQUIRE_SCHEDULERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with their scheduler; those of one real scheduler run one after the other (--dist loadgroup)."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        scheduler = str(callspec.params.get("site", "")).split("-")[0] if callspec else ""
        if scheduler in (*testbed.SCHEDULERS, "local"):
            item.add_marker(scheduler)
        slow = item.get_closest_marker("slow")
        if slow and not slow.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: a slow test says why: @pytest.mark.slow(reason=...)")
        for name in testbed.SCHEDULERS:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.xdist_group(name))


def pytest_runtest_setup(item: pytest.Item) -> None:
    slow = item.get_closest_marker("slow")
    if slow:
        item.user_properties.append(("slow", slow.kwargs["reason"]))
    for scheduler in testbed.SCHEDULERS:
        if item.get_closest_marker(scheduler):
            _require(f"{scheduler}-ssh")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the tests that took more than a minute and do not say why. They do not fail: a busy machine is slow."""
    seconds: dict[str, float] = defaultdict(float)
    explained = set()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid] += report.duration
            if any(name == "slow" for name, _ in report.user_properties):
                explained.add(report.nodeid)
    silent = [(took, test) for test, took in seconds.items() if took > SLOW_SEC and test not in explained]
    if silent:
        terminalreporter.section(f"over {SLOW_SEC} s without @pytest.mark.slow(reason=...)")
    for took, test in sorted(silent, reverse=True):
        terminalreporter.line(f"{took:.0f}s {test}")


@dataclass
class Home:
    """A home folder of one's own, and the environment that goes with it; fixtures and tests may add to ``env``."""

    path: Path
    env: dict[str, str]


@pytest.fixture
def world_home(tmp_path: Path) -> Home:
    """An empty HOME, and an environment without the agent's sockets and the user's scheduler settings."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    env = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
    if "PYTHONPATH" in env:  # the command may start in another folder
        env["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in env["PYTHONPATH"].split(os.pathsep))
    return Home(home, {**env, "HOME": str(home)})


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Each cluster in turn; ``@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)`` restricts them."""
    _require(request.param)
    chosen = testbed.make_site(request.param, tmp_path)
    yield chosen
    chosen.clean_up()


@pytest.fixture
def clusters_file(tmp_path: Path, site: Site, world_home: Home) -> Path:
    """clusters.yaml with the site as its one cluster ``testbed``; ``run_cli`` finds it."""
    path = tmp_path / "clusters.yaml"
    path.write_text(site.clusters_yaml(), encoding="utf-8")
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(path)
    return path


@dataclass(frozen=True)
class Outcome:
    """What one call of the command line gave."""

    code: int
    envelope: dict[str, Any]
    stderr: str

    @property
    def data(self) -> Any:
        """The result of a call that succeeded."""
        assert (self.code, self.envelope["ok"]) == (0, True), (
            f"exit {self.code}: {self.envelope}\n{self.stderr[-2000:]}"
        )
        return self.envelope["data"]


@pytest.fixture
def run_cli(world_home: Home, tmp_path: Path) -> Callable[..., Outcome]:
    """``run_cli("status", "--run-id", run, cwd=repo, env={...}, stdin="", timeout=120)``; env adds to the home's."""

    def call(
        *arguments: str,
        cwd: Path = tmp_path,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 120,
    ) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "hpc_agent", *arguments],
            cwd=cwd,
            env={**world_home.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        shown = f"exit {done.returncode}\nstdout: {done.stdout!r}\nstderr: {done.stderr[-4000:]}"
        assert done.stdout.count("\n") == 1, f"stdout is not one line: {shown}"
        return Outcome(done.returncode, json.loads(done.stdout), done.stderr)

    return call


# -O, -G, -V and -Q answer on this machine: no round trip. The ssh that rsync starts is part of that rsync.
SSH_WRAPPER = """#!/bin/bash
if [ -z "${{HPC_TEST_INSIDE_RSYNC:-}}" ]; then
    kind=ssh
    while getopts ":46AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:" option; do
        case $option in O | G | V | Q) kind=ssh-control ;; esac
    done
    line=$(printf '%q ' "$kind" "$@")
    printf '%s\\n' "${{line:0:4000}}" >>{log}
fi
exec {real} "$@"
"""
RSYNC_WRAPPER = """#!/bin/bash
kind=rsync
case ${{1:-}} in --version | -V) kind=rsync-control ;; esac
line=$(printf '%q ' "$kind" "$@")
printf '%s\\n' "${{line:0:4000}}" >>{log}
HPC_TEST_INSIDE_RSYNC=1 exec {real} "$@"
"""


@dataclass(frozen=True)
class SshCounter:
    """The ssh and rsync commands that ``run_cli`` made so far."""

    log: Path

    def lines(self) -> list[str]:
        """One line a command: ``ssh``, ``ssh-control``, ``rsync`` or ``rsync-control``, then its arguments."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def count(self, kind: str = "") -> int:
        """Commands that reach a cluster: of one kind (``ssh``, ``rsync``), or all."""
        return sum(line.split()[0] in ((kind,) if kind else ("ssh", "rsync")) for line in self.lines())

    def reset(self) -> None:
        self.log.write_text("", encoding="utf-8")


@pytest.fixture
def ssh_counter(tmp_path: Path, world_home: Home) -> SshCounter:
    """Puts counting ``ssh`` and ``rsync`` first on the PATH of ``world_home.env``."""
    folder = tmp_path / "counted"
    folder.mkdir()
    counter = SshCounter(tmp_path / "ssh-commands.log")
    counter.reset()
    for name, text in (("ssh", SSH_WRAPPER), ("rsync", RSYNC_WRAPPER)):
        real = shutil.which(name, path=world_home.env["PATH"]) or f"/usr/bin/{name}"
        wrapper = folder / name
        script = text.format(log=shlex.quote(str(counter.log)), real=shlex.quote(real))
        wrapper.write_text(script, encoding="utf-8")
        wrapper.chmod(0o755)
    world_home.env["PATH"] = f"{folder}{os.pathsep}{world_home.env['PATH']}"
    return counter
