"""A check of the set-up: what was looked at, what was found, and the line that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.transport import quote
from hpc_agent.ops.run.fields import doc

State = Literal["ok", "warn", "red", "unknown"]
NOT_LOOKED = "not looked at"


class Check(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One check. ``red`` stops a run, ``warn`` may, ``unknown`` could not be found out."""

    name: str
    state: State
    detail: Annotated[str, doc("what was found")]
    remedy: Annotated[str, doc("what to do; empty where nothing has to be done")] = ""
    paste: Annotated[str, doc("the line to paste: a command, or a line of the file that the remedy names")] = ""


class ProbeReport(msgspec.Struct, kw_only=True):
    """What a login to a cluster found."""

    cluster: str
    host: Annotated[str | None, doc("user and host of the login; null: commands run on this machine")] = None
    green: Annotated[bool, doc("no check is red; then the marker is written that submit workflows read")] = False
    checks: list[Check] = []
    versions: Annotated[dict[str, str], doc("of hpc-agent, Python, scheduler, rsync there, and the system")] = {}
    marker: Annotated[str | None, doc("the file that says so for 24 hours; null while a check is red")] = None

    @property
    def red(self) -> list[Check]:
        return [check for check in self.checks if check.state == "red"]


def ok(name: str, detail: str) -> Check:
    return Check(name=name, state="ok", detail=detail)


def warn(name: str, detail: str, remedy: str = "", paste: str = "") -> Check:
    return Check(name=name, state="warn", detail=detail, remedy=remedy, paste=paste)


def red(name: str, detail: str, remedy: str, paste: str = "") -> Check:
    return Check(name=name, state="red", detail=detail, remedy=remedy, paste=paste)


def unknown(name: str, detail: str) -> Check:
    return Check(name=name, state="unknown", detail=detail)


@dataclass(frozen=True)
class Place:
    """How a person reaches the cluster by hand, and where its settings stand."""

    cluster: Cluster
    file: Path  # the user's clusters.yaml
    home: Path

    @property
    def ssh(self) -> list[str]:
        config = self.cluster.ssh_config_path(self.home)
        return ["ssh", *(["-F", config] if config else [])]

    @property
    def target(self) -> str:
        return self.cluster.ssh_target or ""

    def there(self, command: str) -> str:
        """Return a line that runs a command on the cluster, which every login shell reads alike."""
        return quote([*self.ssh, self.target, command]) if self.target else command

    @property
    def setting(self) -> str:
        return f"Under '{self.cluster.name}:' in {self.file}, set:"

    def before_start_up(self, line: str, file: str) -> str:
        """Return a command that puts a line before all others of a start-up file there."""
        rewrite = f"cat - {file} > .hpc-agent.new; cp .hpc-agent.new {file}; rm .hpc-agent.new"
        return f"echo {shlex.quote(line)} | {self.there(rewrite) if self.target else f'(cd; {rewrite})'}"

    def on_the_path(self, folder: str, shell: str) -> str:
        """Return a command that puts a folder on the PATH of the login shell there, for commands that nobody types."""
        name = shell.rpartition("/")[2]
        file, line = _PATH_LINES.get(name, _PATH_LINES["bash"])
        return self.before_start_up(line.format(folder=folder), file)


_PATH_LINES = {
    "bash": (".bashrc", "export PATH={folder}:$PATH"),
    "zsh": (".zshenv", "export PATH={folder}:$PATH"),
    "tcsh": (".cshrc", "setenv PATH {folder}:$PATH"),
    "csh": (".cshrc", "setenv PATH {folder}:$PATH"),
    "fish": (".config/fish/config.fish", "set -gx PATH {folder} $PATH"),
}


def listing(words: Sequence[str]) -> str:
    return ", ".join(words)
