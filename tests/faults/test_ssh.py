"""The network's ways to fail: an answer in time, exit 2, never a prompt, and the right thing when it is back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from experiment import WRITE, make_repo, submit, watch

ARGUMENTS = ("submit", "--cluster", "testbed", "--executor", WRITE)


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])


def clusters(tmp_path: Path, world_home, **entry) -> None:
    path = tmp_path / "own-clusters.yaml"
    path.write_text(yaml.safe_dump({"testbed": {"scheduler": "slurm", "scratch": "/scratch/me", **entry}}))
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(path)


def unreachable(run_cli, repo) -> dict:
    outcome = run_cli(*ARGUMENTS, cwd=repo, timeout=60)
    assert (outcome.code, outcome.envelope["error_code"]) == (2, "ssh_unreachable"), outcome.envelope
    assert outcome.envelope["retry_safe"]
    return outcome.envelope


@contextlib.contextmanager
def mute_server() -> Iterator[int]:
    """A host that accepts connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection in held:
            connection.close()


def ssh_config(tmp_path: Path, port: int, **options: str) -> str:
    path = tmp_path / "ssh_config"
    lines = [f"  {key} {value}" for key, value in {"HostName": "127.0.0.1", "Port": str(port), **options}.items()]
    path.write_text("\n".join(["Host testhost", *lines, ""]))
    return str(path)


def test_a_host_that_refuses(run_cli, repo, tmp_path, world_home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clusters(tmp_path, world_home, host="testhost", ssh_config=ssh_config(tmp_path, port))
    assert "refused" in unreachable(run_cli, repo)["message"].lower()


def test_a_host_that_never_speaks(run_cli, repo, tmp_path, world_home):
    with mute_server() as port:
        clusters(tmp_path, world_home, host="testhost", ssh_config=ssh_config(tmp_path, port))
        unreachable(run_cli, repo)


def test_a_name_that_nobody_knows(run_cli, repo, tmp_path, world_home):
    clusters(tmp_path, world_home, host="no-such-host.invalid")
    unreachable(run_cli, repo)


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_a_key_that_never_arrives(site, run_cli, repo, tmp_path, world_home):
    """An empty agent environment, the classic of agent harnesses: said at once, and what to do."""
    config = Path(site.cluster["ssh_config"]).read_text()
    stripped = [line for line in config.splitlines() if "IdentityFile" not in line and "IdentitiesOnly" not in line]
    own = tmp_path / "keyless"
    own.write_text("\n".join(stripped))
    clusters(tmp_path, world_home, **{**site.cluster, "ssh_config": str(own)})
    envelope = unreachable(run_cli, repo)
    assert "SSH_AUTH_SOCK is not set" in envelope["remediation"]
    world_home.env["SSH_AUTH_SOCK"] = str(tmp_path / "gone")
    assert "ssh-add -l" in unreachable(run_cli, repo)["remediation"]


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_a_master_that_died_or_hangs_is_replaced(site, run_cli, repo, world_home, tmp_path):
    runtime = tempfile.mkdtemp(prefix="x")
    world_home.env["XDG_RUNTIME_DIR"] = runtime
    submit(run_cli, repo, WRITE)
    [master] = masters(runtime)
    os.kill(master, 19)
    assert run_cli("status", cwd=repo, timeout=60).code == 0
    os.kill(master, 9)
    [other] = masters(runtime)
    os.kill(other, 9)
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    for left in masters(runtime):
        os.kill(left, 15)
    shutil.rmtree(runtime)


def masters(runtime: str) -> list[int]:
    """The background ssh masters whose socket lies below this folder."""
    done = subprocess.run(["pgrep", "-f", rf"^ssh: {runtime}/.*\[mux\]"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_without_rsync_or_ssh_it_says_what_to_install(site, run_cli, repo, tmp_path, world_home):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "env", "uname"):
        (tools / name).symlink_to(f"/bin/{name}")
    outcome = run_cli(*ARGUMENTS, cwd=repo, env={"PATH": str(tools)})
    assert (outcome.code, outcome.envelope["error_code"]) == (1, "precondition_failed")
    assert "Install ssh" in outcome.envelope["remediation"]


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_banners_on_the_way_are_no_answer(site, run_cli, repo, clusters_file, tmp_path):
    """Login shells and site files print; the answer stands between sentinels."""
    noisy = site.scratch / "python3"
    python = site.cluster["python"]
    noisy.write_text(f'#!/bin/sh\necho \'{{"ok": true}}\'; echo HPC-AGENT-BEGIN; echo hello >&2\nexec {python} "$@"\n')
    noisy.chmod(0o755)
    clusters_file.write_text(site.clusters_yaml(python=str(noisy)))
    assert submit(run_cli, repo, WRITE)["submitted"]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_no_python_over_there(site, run_cli, repo, clusters_file):
    clusters_file.write_text(site.clusters_yaml(python="/nosuch/python3"))
    outcome = run_cli(*ARGUMENTS, cwd=repo)
    assert (outcome.code, outcome.envelope["error_code"]) == (2, "remote_command_failed")
    assert "python" in outcome.envelope["remediation"]
