"""TAB in real shells, and the names that it offers."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_agent.cli.completion import SCRIPTS, SHELLS
from hpc_agent.contract.catalogue import load_catalogue

LIMIT_SEC = 60
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='> '; bind 'set bell-style none'; source {script}\n"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='> '; autoload -Uz compinit; compinit -u -D; unsetopt beep; LISTMAX=1000; source {script}\n",
    ),
}
# What is typed -> the line after TAB. Both are the same in every shell.
COMPLETED = {
    "hpc-agent aggregate-f": "hpc-agent aggregate-flow",
    "hpc-agent submit --clus": "hpc-agent submit --cluster",
    "hpc-agent submit-flow --walltime": "hpc-agent submit-flow --walltime-sec",
    "hpc-agent submit --cluster sl": "hpc-agent submit --cluster slurm-site",
    "hpc-agent submit --cluster=sl": "hpc-agent submit --cluster=slurm-site",
    "hpc-agent submit --dry-run --cluster sl": "hpc-agent submit --dry-run --cluster slurm-site",
    "hpc-agent status --run-id rid": "hpc-agent status --run-id ridge-12345678",
    "hpc-agent status --run-id old": "hpc-agent status --run-id old-87654321",
    "hpc-agent compare --run-ids ridge-12345678,o": "hpc-agent compare --run-ids ridge-12345678,old-87654321",
    "hpc-agent aggregate --direction mini": "hpc-agent aggregate --direction minimize",
    "hpc-agent campaign bud": "hpc-agent campaign budget",
    "hpc-agent campaign status st": "hpc-agent campaign status study",
    "hpc-agent clusters describe sl": "hpc-agent clusters describe slurm-site",
    "hpc-agent campaign status --exp": "hpc-agent campaign status --experiment-dir",
    "hpc-agent help monitor-s": "hpc-agent help monitor-summary",
    "hpc-agent completion ba": "hpc-agent completion bash",
    "hpc-agent submit --spec req": "hpc-agent submit --spec request.json",
    "hpc-agent status --experiment-dir fol": "hpc-agent status --experiment-dir folder",
    "hpc-agent submit --mem-mb f": "hpc-agent submit --mem-mb f",
    "hpc-agent nonsense --x": "hpc-agent nonsense --x",
}


def require(program: str) -> None:
    """Skip a test whose program is missing, or fail it where CI promises it (testbed/tools-up)."""
    if shutil.which(program):
        return
    if os.environ.get("HPC_REQUIRE_SCHEDULERS") == "1":
        pytest.fail(f"{program} is missing; testbed/tools-up installs it", pytrace=False)
    pytest.skip(f"{program} is missing; testbed/tools-up installs it")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repo with one run and one campaign, in a home that remembers clusters and an older run."""
    names = tmp_path / "home" / ".cache" / "hpc-agent" / "completion"
    repo = tmp_path / "repo"
    for folder in (names, repo / ".hpc" / "runs", repo / ".hpc" / "campaigns" / "study", repo / "folder"):
        folder.mkdir(parents=True)
    (names / "clusters").write_text("local\nslurm-site\n")
    (names / "runs").write_text("old-87654321\n")
    (repo / "request.json").write_text("{}")
    for program in ("python3", "hpc-agent"):
        stub = tmp_path / "bin" / program
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\ntouch {repo}/started\n")
        stub.chmod(0o755)
    for name in ("ridge-12345678", "ridge$(touch pwned)", "ridge;x"):  # a file's name is never run
        (repo / ".hpc" / "runs" / f"{name}.json").write_text("{}")
    return repo


def surroundings(repo: Path) -> dict[str, str]:
    home = str(repo.parent / "home")
    path = f"{repo.parent / 'bin'}:/usr/bin:/bin"
    return {"HOME": home, "PATH": path, "TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": "100"}


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, shell: str, repo: Path) -> None:
        words, first = START[shell]
        self.process, self.screen = pty.fork()
        if not self.process:
            os.chdir(repo)
            os.execvpe(words[0], words, surroundings(repo))
        self.send(first.format(script=SCRIPTS / SHELLS[shell]))
        self.ask("echo '<", "ready>'\n")

    def send(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def ask(self, before: str, after: str) -> str:
        """Return what stands between < and > in the next line of output."""
        self.send(before + after)
        shown, end = "", time.monotonic() + LIMIT_SEC
        while not (found := re.search(r"\n\r?(?:\x1b[^<\n]*)?<([^\n]*)>\r", shown)):
            assert time.monotonic() < end, f"no answer: {shown!r}"
            if select.select([self.screen], [], [], 1)[0]:
                shown += os.read(self.screen, 65536).decode(errors="replace")
        return found[1]

    def after_tab(self, typed: str) -> str:
        return self.ask(f"{typed}\t", "\x01echo '<\x05>'\n").strip().rstrip("/")

    def close(self) -> None:
        os.close(self.screen)
        os.waitpid(self.process, 0)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_at_a_terminal(shell, place):
    require(shell)
    terminal = Terminal(shell, place)
    try:
        assert {typed: terminal.after_tab(typed) for typed in COMPLETED} == COMPLETED
    finally:
        terminal.close()
    assert not (place / "pwned").exists()
    assert not (place / "started").exists(), "TAB starts no program of ours"


def in_fish(place: Path, typed: str) -> list[str]:
    script = f"source {SCRIPTS / SHELLS['fish']}; complete -C $argv[1]"
    words = ["fish", "--no-config", "-c", script, typed]
    done = subprocess.run(
        words, cwd=place, env=surroundings(place), capture_output=True, text=True, timeout=LIMIT_SEC, check=True
    )
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_tab_in_fish(place):
    require("fish")
    for typed, completed in COMPLETED.items():
        before, _, last = typed.rpartition(" ")
        found = [f"{before} {word}".rstrip("/") for word in in_fish(place, typed)]
        assert completed in found if found else completed == typed, typed
        assert all(word.rpartition(" ")[2].startswith(last.partition("=")[0][:2]) for word in found)
    assert not (place / "pwned").exists()
    assert not (place / "started").exists(), "TAB starts no program of ours"


def in_bash(place: Path, typed: str) -> list[str]:
    """The candidates themselves: what readline would list."""
    words = typed.split(" ")
    script = f"""source {SCRIPTS / SHELLS["bash"]}; compopt() {{ :; }}; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _hpc_agent; printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        cwd=place, env=surroundings(place), capture_output=True, text=True, timeout=LIMIT_SEC, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("candidates", [in_bash, in_fish])
def test_every_verb_and_every_flag_is_offered(candidates, place):
    require(candidates.__name__[3:])
    catalogue = load_catalogue()
    first = set(candidates(place, "hpc-agent "))
    assert first >= {name for verb, entry in catalogue.items() for name in (verb, *entry.aliases)}
    assert {"completion", "campaign", "help"} <= first
    for verb in ("submit", "status", "campaign-init", "recall"):
        offered = set(candidates(place, f"hpc-agent {verb} --"))
        assert offered >= {flag.flag for flag in catalogue[verb].flags if flag.kind != "bool"} | {"--spec", "--json"}
    assert set(candidates(place, "hpc-agent status --run-id ")) == {"ridge-12345678", "old-87654321", "latest"}


def test_the_command_prints_each_script(tmp_path):
    for shell, name in SHELLS.items():
        done = subprocess.run(
            [sys.executable, "-m", "hpc_agent", "completion", shell],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout == (SCRIPTS / name).read_text()
        assert done.stderr == ""
    assert "local" in (tmp_path / ".cache" / "hpc-agent" / "completion" / "clusters").read_text().split()
    wrong = subprocess.run(
        [sys.executable, "-m", "hpc_agent", "completion", "tcsh"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "bash|zsh|fish" in wrong.stderr


def test_calls_keep_the_names_up_to_date(run_cli, world_home, tmp_path):
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text("mine: {scheduler: slurm, host: h, scratch: /s}\n")
    run_cli("clusters-list", env={"HPC_CLUSTERS_CONFIG": str(clusters)})
    names = world_home.path / ".cache" / "hpc-agent" / "completion"
    assert "mine" in (names / "clusters").read_text().split()
    for run in ("first-00000001", "second-00000002", "first-00000001"):
        facts = {"run_id": run, "run_name": "r", "cluster": "local", "executor": "true", "total_tasks": 1}
        spec = json.dumps({**facts, "cmd_sha": "0" * 64})
        done = run_cli("write-run-sidecar", "--spec", "-", stdin=spec)
        assert done.code == 0, done.envelope
    assert (names / "runs").read_text().split() == ["second-00000002", "first-00000001"]
    (names / "runs").chmod(0o444)
    names.chmod(0o555)  # a cache that cannot be written is no error
    assert run_cli("clusters-list").code == 0
    names.chmod(0o755)
