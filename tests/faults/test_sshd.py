"""Logins that fail, and login shells that are in the way: a real sshd says so, and the answer names cause and next command.

And a watch over an sshd that is gone for a while."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from experiment import WRITE, make_repo, submit
from own_sshd import SSHD, Host, free_port, own_host

from hpc_agent.errors import HpcError, RemoteCommandFailed, SshUnreachable
from hpc_agent.infra.ssh import SshTransport
from hpc_agent.infra.transport import run_bounded

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield from own_host(tmp_path)


def forced(text: str) -> str:
    return f"ForceCommand {text}"


AS_ASKED = 'eval "$SSH_ORIGINAL_COMMAND"'


@pytest.mark.parametrize(
    ("said", "code", "cause", "next_command"),
    [
        ("/usr/sbin/nologin", "remote_command_failed", "no login shell there", "Ask the site"),
        ("echo This account is not available; exit 1", "remote_command_failed", "no login shell there", "ssh -F"),
        ("exit 0", "remote_command_failed", "exit code 0 and did not run the command", "interactive shells only"),
        ("exec sh", "remote_command_failed", "did not run the command", "must print 'it works'"),
        ("echo WARNING: Your password has expired. >&2; exit 1", "ssh_unreachable", "password has expired", "Change it: 'ssh"),
        ("echo Your account has expired. >&2; exit 1", "ssh_unreachable", "account has expired", "Ask the site"),
        (f"bash -r -c {AS_ASKED!r}", "remote_command_failed", "restricted", "ordinary login shell"),
        ("echo bash: fork: retry: Resource temporarily unavailable >&2; exit 254", "ssh_unreachable", "another process", "ssh"),
        ("echo bash: /home/a/.cache: Disk quota exceeded >&2; exit 1", "storage_full", "room in the home folder", "quota -s"),
        ("internal-sftp", "remote_command_failed", "sftp connections only", "Ask the site"),
    ],
)  # fmt: skip
def test_a_shell_that_does_not_run_the_command(host, said, code, cause, next_command):
    host.serve(forced(said))
    error = host.error(host.config(), HPC_NO_SSH_MULTIPLEX="1")
    assert (error.error_code, cause in error.message, next_command in error.remediation) == (code, True, True), (
        error.message,
        error.remediation,
    )


def test_text_of_start_up_files_is_no_answer_and_no_cause(host):
    host.serve(forced(f"echo Welcome; stty -echo; echo '/home/a: Disk quota exceeded' >&2; {AS_ASKED}"))
    transport = SshTransport("testhost", {**os.environ, "HPC_NO_SSH_MULTIPLEX": "1"}, host.config(), None, host.folder)
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"], b"", 30)
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_host_key_that_changed_and_one_that_is_new(host):
    host.serve()
    host.know("other")
    changed = host.error(host.config(), HPC_NO_SSH_MULTIPLEX="1")
    assert "has changed" in changed.message
    known = host.folder / "known"
    assert f'ssh-keygen -f "{known}" -R "[127.0.0.1]:{host.port}"' in changed.remediation
    subprocess.run(["ssh-keygen", "-f", str(known), "-R", f"[127.0.0.1]:{host.port}"], check=True, capture_output=True)
    new = host.error(host.config(), HPC_NO_SSH_MULTIPLEX="1")
    assert "not known here" in new.message and "by hand" in new.remediation


def test_a_key_that_is_not_accepted_here_or_at_the_jump_host(host):
    host.serve("PasswordAuthentication no", "KbdInteractiveAuthentication no")
    config = host.config(IdentityFile=str(host.folder / "other"))
    refused = host.error(config, SSH_AUTH_SOCK="", HPC_NO_SSH_MULTIPLEX="1")
    assert "accepted no key" in refused.message and "SSH_AUTH_SOCK is not set" in refused.remediation
    behind = f"Host behind\n  HostName 127.0.0.1\n  Port {host.port}\n  ProxyJump testhost"
    config = host.config(behind, IdentityFile=str(host.folder / "other"))
    at_jump = reach(host, "behind", config)
    assert "the jump host testhost accepted no key" in at_jump.message
    config = host.config(f"Host behind\n  HostName 127.0.0.1\n  Port {free_port()}\n  ProxyJump testhost")
    beyond = reach(host, "behind", config)
    assert "the jump host was reached" in beyond.message and "Connection refused" in beyond.message
    host.stop()
    assert "Connection refused" in reach(host, "behind", config).message


def reach(host: Host, name: str, config: str) -> HpcError:
    env = {**os.environ, "HPC_NO_SSH_MULTIPLEX": "1", "HPC_NO_BREAKER": "1"}
    with pytest.raises(HpcError) as caught:
        SshTransport(name, env, config, None, host.folder / "hosts").run(["true"], b"", 30)
    assert caught.value.error_code == "ssh_unreachable"
    return caught.value


def test_what_is_wrong_on_this_machine(host):
    host.serve("PasswordAuthentication no", "KbdInteractiveAuthentication no")
    (host.folder / "key").chmod(0o644)
    assert f"chmod 600 {host.folder}/key" in host.error(host.config(), HPC_NO_SSH_MULTIPLEX="1").remediation
    bad = host.error(host.config("  NoSuchOption yes"), HPC_NO_SSH_MULTIPLEX="1")
    assert "cannot use its configuration" in bad.message and "line 8" in bad.message


def test_a_host_that_wants_a_code_is_used_over_a_master_that_was_opened_by_hand(host):
    """The printed command is run as it is; this sshd lets the key in while it is, in place of a person who types."""
    host.serve("AuthenticationMethods keyboard-interactive", "KbdInteractiveAuthentication yes")
    runtime = tempfile.mkdtemp(prefix="x")
    env = {"XDG_RUNTIME_DIR": runtime}
    config = host.config()
    error = host.error(config, **env)
    assert "wants a password or code that a person types" in error.message
    command = re.search(r"terminal: `(ssh .*?)`", error.remediation).group(1)
    host.serve()
    subprocess.run(shlex.split(command), check=True, timeout=30, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host.serve("AuthenticationMethods keyboard-interactive", "KbdInteractiveAuthentication yes")
    transport = SshTransport("testhost", {**os.environ, **env}, config, None, host.folder / "hosts")
    try:
        assert transport.run(["echo", "in"], b"", 30).stdout == b"in\n"
    finally:
        [socket_path] = Path(runtime).glob("*/*")
        subprocess.run(
            ["ssh", "-o", f"ControlPath={socket_path}", "-O", "exit", "testhost"], capture_output=True, check=False
        )
        shutil.rmtree(runtime)
    without = host.error(config, HPC_NO_SSH_MULTIPLEX="1")
    assert "ControlMaster auto" in without.remediation


@pytest.fixture
def repo(host, tmp_path, world_home):
    """A repo for the cluster ``testbed``: this machine over the host's sshd."""
    entry = {"scheduler": "local", "host": "testhost", "ssh_config": host.config(), "python": sys.executable}
    file = tmp_path / "clusters.yaml"
    file.write_text(yaml.safe_dump({"testbed": {**entry, "scratch": str(tmp_path / "scratch")}}))
    world_home.env |= {"HPC_CLUSTERS_CONFIG": str(file), "HPC_NO_SSH_MULTIPLEX": "1"}
    return make_repo(tmp_path / "repo", [{"x": 1}])


def test_a_start_up_file_that_reads_the_request(host, run_cli, repo):
    host.serve(forced(f"read project; {AS_ASKED}"))
    refused = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (2, "remote_command_failed"), refused.envelope
    assert "start-up file of the login shell reads standard input" in refused.envelope["message"]


@pytest.mark.parametrize(
    ("shell", "file"), [("tcsh", "~/.cshrc"), ("fish", "~/.config/fish/config.fish"), ("bash", "~/.bashrc")]
)
def test_why_rsync_fails(host, tmp_path, shell, file):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell}")
    (tmp_path / "a").write_text("x")
    env = {**os.environ, "HPC_NO_SSH_MULTIPLEX": "1", "HPC_NO_BREAKER": "1"}
    transport = SshTransport("testhost", env, host.config(), None, host.folder / "hosts")

    def push(login: str) -> None:
        host.serve(forced(f'{login}; SHELL={path}; export SHELL; exec {path} -c "$SSH_ORIGINAL_COMMAND"'))
        transport.push(tmp_path, ["a"], str(tmp_path / "there"), None, 60)

    with pytest.raises(RemoteCommandFailed, match="Welcome to the cluster") as noisy:
        push("echo Welcome to the cluster")
    assert f"start-up file of the login shell {path} prints text" in noisy.value.message
    assert file in noisy.value.remediation
    with pytest.raises(RemoteCommandFailed, match="rsync is not on the PATH"):
        push("PATH=/nosuch")
    with pytest.raises(
        RemoteCommandFailed, match=r"rsync failed with exit code .*: .*(mkdir|Not a directory|File exists)"
    ):
        push(f"touch {tmp_path}/there; echo stty: no terminal >&2")
    (tmp_path / "there").unlink()
    with pytest.raises(SshUnreachable, match=r"connection was lost|closed by remote host"):
        push('case "$SSH_ORIGINAL_COMMAND" in rsync*) kill -9 $PPID; sleep 9;; esac')
    push(":")
    assert (tmp_path / "there/a").read_text() == "x"


@pytest.mark.slow(reason="sshd is away for longer than a watch waits between two looks")
def test_a_watch_survives_an_sshd_that_is_gone_and_one_that_hangs(host, run_cli, repo, tmp_path, world_home):
    host.serve()
    go_on = tmp_path / "go-on"
    submit(run_cli, repo, f"until test -e {go_on}; do sleep 0.1; done; {WRITE}")
    words = [sys.executable, "-m", "hpc_agent", "monitor-flow", "--wall-clock-budget-sec", "240"]
    watcher = subprocess.Popen(
        words, cwd=repo, env=world_home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    records = iter(watcher.stderr.readline, "")
    said(records, "status")
    host.stop()
    said(records, "unreachable")
    host.serve()
    said(records, "status")
    os.kill(host.daemon.pid, signal.SIGSTOP)
    said(records, "unreachable")
    os.kill(host.daemon.pid, signal.SIGCONT)
    said(records, "status")
    go_on.write_text("")
    answer = json.loads(watcher.communicate(timeout=240)[0])
    assert answer["data"]["lifecycle_state"] == "complete", answer


def said(records: Iterator[str], event: str) -> None:
    """Read progress records up to one with this event."""
    for line in records:
        if json.loads(line)["event"] == event:
            return
    pytest.fail(f"the watch ended without {event}")


LOSES = """#!/bin/bash
for word in "$@"; do [ "$word" = -G ] && exec ssh "$@"; done
call=1
until mkdir {calls}/$call 2>/dev/null; do call=$((call + 1)); done
case $call in
    {lost}) echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255 ;;
    {killed}) cat >/dev/null; echo HPC-AGENT-STARTED; exit 143 ;;
esac
exec ssh "$@"
"""


def test_waiting_for_the_canary_survives_a_lost_connection_and_a_process_that_is_killed(
    host, run_cli, repo, tmp_path, world_home
):
    """Call 1 submits; then looks, of which some are lost and one is killed on the login node."""
    host.serve()
    calls = tmp_path / "calls"
    calls.mkdir()
    wrapper = tmp_path / "ssh-that-loses"
    wrapper.write_text(LOSES.format(calls=calls, lost="2|3|6", killed="5"))
    wrapper.chmod(0o755)
    world_home.env["HPC_SSH_BINARY"] = str(wrapper)
    executor = f"until test -e {calls}/7; do sleep 0.1; done; {WRITE}"
    verified = run_cli(
        "submit-and-verify", "--cluster", "testbed", "--executor", executor, "--poll-interval-sec", "0.5", cwd=repo
    )
    assert verified.data["verified"], verified


def test_a_shell_that_reads_the_request_runs_nothing_of_it(host, run_cli, repo, tmp_path):
    """``exec`` in a start-up file: the new shell takes standard input for commands."""
    host.serve(forced("exec bash"))
    name = f"$(touch {tmp_path}/hit)"
    (repo / name).parent.mkdir(parents=True)
    (repo / name).write_text("")
    refused = run_cli("submit", "--cluster", "testbed", "--executor", "true", "--shared-paths", name, cwd=repo)
    assert "did not run the command" in refused.envelope["message"], refused.envelope
    assert len(refused.envelope["message"]) < 400
    assert not (tmp_path / "hit").exists()


def test_what_a_child_writes_after_the_end_of_a_failed_command_is_kept():
    """As of rsync, which ends before its ssh has brought the reason."""
    done = run_bounded(["sh", "-c", "(sleep 0.3; echo the reason >&2) & exit 3"], b"", 10, os.environ)
    assert (done.code, done.stderr) == (3, b"the reason\n")


@pytest.mark.parametrize("shell", ["/bin/bash", ""], ids=["shell", "no-shell"])
def test_an_ssh_that_brings_the_reason_late_is_not_killed_by_its_rsync(tmp_path, shell):
    late = tmp_path / "ssh"
    late.write_text(
        f'#!/bin/sh\nwhile [ "$1" != testhost ]; do shift; done; shift\nsh -c "$*" 2>{tmp_path}/said\ncode=$?\n'
        f"sleep 0.5\ncat {tmp_path}/said >&2\nexit $code\n"
    )
    late.chmod(0o755)
    (tmp_path / "a").write_text("x")
    (tmp_path / "there").write_text("no folder")
    env = {
        **os.environ,
        "HPC_NO_SSH_MULTIPLEX": "1",
        "HPC_NO_BREAKER": "1",
        "HPC_SSH_BINARY": str(late),
        "SHELL": shell,
    }
    transport = SshTransport("testhost", env, None, None, tmp_path / "hosts")
    with pytest.raises(RemoteCommandFailed, match=r"rsync failed with exit code .*: .*(Not a directory|File exists)"):
        transport.push(tmp_path, ["a"], str(tmp_path / "there"), None, 60)
