"""A cluster is checked by a real login: green where all is in order; each fault is told, and the line that is told mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_sshd import SSHD, Host, free_port, own_host
from testbed import BED, NODE_PYTHON, Site

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd")
ON_SLURM = pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)


def checks_of(answer: Any) -> dict[str, str]:
    """The state of every check, of a green answer or of an error."""
    if answer.envelope["ok"]:
        return {check["name"]: check["state"] for check in answer.data["preflight"]["checks"]}
    return answer.envelope["details"]["checks"]


def reds(answer: Any, code: int = 2) -> dict[str, dict[str, str]]:
    assert (answer.code, answer.envelope["ok"]) == (code, False), answer.envelope
    return {check["name"]: check for check in answer.envelope["details"]["red"]}


@pytest.fixture
def probe(run_cli: Callable[..., Any]) -> Callable[..., Any]:
    def call(**env: str) -> Any:
        return run_cli("setup", "--cluster", "testbed", env=env)

    return call


@pytest.fixture
def settings(clusters_file: Path, site: Site) -> Callable[..., None]:
    """Writes the cluster's entry anew, with changes."""

    def change(**changes: Any) -> None:
        clusters_file.write_text(site.clusters_yaml(**changes), encoding="utf-8")

    return change


def with_options(tmp_path: Path, **options: Any) -> str:
    """The bed's ssh configuration with other options, which come first and win."""
    path = tmp_path / "ssh_config"
    lines = [f"  {name} {value}" for name, value in options.items()]
    path.write_text("\n".join(["Host *", *lines, f"Include {BED}/etc/ssh_config", ""]))
    return str(path)


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_a_cluster_in_order(site, run_cli, probe, clusters_file, ssh_counter):
    absent = run_cli("check-preflight", "testbed")
    assert (absent.code, absent.envelope["details"]["state"]) == (1, "absent")
    assert "hpc-agent setup --cluster testbed" in absent.envelope["remediation"]
    found = probe()
    report = found.data["preflight"]
    assert report["green"] and Path(report["marker"]).is_file()
    states = checks_of(found)
    assert set(states.values()) <= {"ok", "unknown", "warn"}, report
    assert not {"login", "scheduler_commands", "partitions", "python", "scratch", "rsync", "clock"} - {
        name for name, state in states.items() if state == "ok"
    }, report
    assert not list(site.scratch.glob(".hpc-agent-probe*")) + list(site.scratch.glob("hpc-agent/.probe*"))
    if site.transport == "ssh":
        assert (ssh_counter.count("ssh"), ssh_counter.count("rsync")) == (3, 2), ssh_counter.lines()
    fresh = run_cli("check-preflight", "testbed").data
    assert fresh["state"] == "fresh" and fresh["checks"] == states
    clusters_file.write_text(site.clusters_yaml(default_mem_mb=65), encoding="utf-8")
    other = run_cli("check-preflight", "--cluster", "testbed")
    assert (other.code, other.envelope["details"]["state"]) == (1, "other_configuration")


@ON_SLURM
def test_a_red_check_takes_the_marker_away(site, run_cli, probe, settings, tmp_path):
    probe()
    settings(ssh_config=with_options(tmp_path, Port=free_port()))
    closed = reds(probe())
    assert set(closed) == {"port"} and "Connection refused" in closed["port"]["detail"]
    settings()
    assert run_cli("check-preflight", "testbed").envelope["details"]["state"] == "absent"


@ON_SLURM
def test_the_steps_of_a_login(site, probe, settings, tmp_path, world_home):
    world_home.env["HPC_NO_BREAKER"] = "1"
    settings(host="no-such-host.invalid")
    assert set(reds(probe())) == {"address"}
    settings(user="nobody-of-that-name")
    answer = probe()
    bad_user = reds(answer)
    assert set(bad_user) == {"login"} and "'nobody-of-that-name'" in bad_user["login"]["detail"]
    assert "login name" in bad_user["login"]["remedy"]
    assert checks_of(answer)["host_key"] == "ok" and checks_of(answer)["python"] == "unknown"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:2222 {kind} {key}\n")
    settings(ssh_config=with_options(tmp_path, UserKnownHostsFile=known))
    wrong_key = reds(probe())
    assert set(wrong_key) == {"host_key"} and "has changed" in wrong_key["host_key"]["detail"]
    subprocess.run(["sh", "-c", wrong_key["host_key"]["paste"]], check=True, capture_output=True)
    assert not known.read_text(), "the pasted line takes the wrong key away"
    assert "not known here" in reds(probe())["host_key"]["detail"]


@ON_SLURM
def test_no_agent(site, probe, settings, tmp_path, world_home):
    """The agent of another terminal holds the key: the pasted line tells of it."""
    world_home.env["HPC_NO_BREAKER"] = "1"
    config = Path(with_options(tmp_path, IdentitiesOnly="no", IdentityFile="none"))
    bed = (BED / "etc/ssh_config").read_text().replace(f"    IdentityFile {BED}/etc/ssh/id_ed25519\n", "")
    config.write_text(config.read_text().replace(f"Include {BED}/etc/ssh_config\n", bed))
    settings(ssh_config=str(config))
    without = reds(probe())
    assert {"ssh_agent", "login"} == set(without) and "SSH_AUTH_SOCK is not set" in without["ssh_agent"]["detail"]
    folder = world_home.path / ".ssh/agent"
    folder.mkdir(parents=True)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(folder / "a")], stdout=subprocess.DEVNULL)
    try:
        add = ["sh", "-c", f"until ssh-add -q {BED}/etc/ssh/id_ed25519; do sleep 0.1; done"]
        subprocess.run(
            add, env={**os.environ, "SSH_AUTH_SOCK": str(folder / "a")}, check=True, timeout=20, capture_output=True
        )
        line = reds(probe())["ssh_agent"]["paste"]
        name, _, socket = line.removeprefix("export ").partition("=")
        assert Path(socket).is_socket()
        assert checks_of(probe(**{name: socket}))["login"] == "ok" or socket != str(folder / "a")
    finally:
        agent.terminate()
        agent.wait(20)


@ON_SLURM
def test_python_scratch_partition_and_shell_init(site, probe, settings, tmp_path):
    settings(python="python9", scratch=f"{site.scratch}/not/made", default_partition="nosuch")
    answer = probe()
    found = reds(answer)
    assert set(found) == {"python", "scratch"}, "the partitions are asked for by Python"
    key, _, value = found["python"]["paste"].partition(": ")
    subprocess.run(["sh", "-c", found["scratch"]["paste"]], check=True, capture_output=True, timeout=30)
    settings(**{key: value}, scratch=f"{site.scratch}/not/made", default_partition="nosuch")
    partition = reds(probe())
    assert set(partition) == {"partitions"}
    assert partition["partitions"]["paste"] == "default_partition: batch"
    settings(shell_init=f"{site.scratch}/no-such-file", modules=["no/such"])
    answer = probe()
    assert set(reds(answer)) == {"shell_init"} and checks_of(answer)["modules"] == "warn"
    if os.getuid() == 0:
        locked = site.scratch / "locked"
        locked.mkdir(mode=0o755)
        settings(scratch=str(locked))
        assert "you may not write there" in reds(probe())["scratch"]["detail"]


@ON_SLURM
def test_a_full_scratch(site, probe, settings):
    folder = site.scratch / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        settings(scratch=str(folder))
        full = reds(probe())
        assert {"scratch", "room"} == set(full) and "No space left" in full["scratch"]["detail"]
        assert "64" not in full["room"]["detail"] or "0 MiB" in full["room"]["detail"]
        shown = subprocess.run(
            ["sh", "-c", full["scratch"]["paste"]], check=False, capture_output=True, text=True, timeout=30
        )
        assert "tmpfs" in shown.stdout
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_settings_that_cannot_be_used(run_cli, tmp_path, world_home):
    placeholder = run_cli("setup", "--cluster", "hoffman2")
    found = reds(placeholder, code=1)
    assert placeholder.envelope["error_code"] == "config_invalid" and "<your_user>" in found["configuration"]["detail"]
    assert found["configuration"]["paste"].startswith("hpc-agent clusters-add hoffman2.idre.ucla.edu --name hoffman2")
    file = tmp_path / "clusters.yaml"
    file.write_text(yaml.safe_dump({"other": {"scheduler": "pbspro", "scratch": "/scratch/me"}}))
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(file)
    assert "'pbspro' is not known" in reds(run_cli("setup", "--cluster", "other"), code=1)["configuration"]["detail"]
    unknown = run_cli("setup", "--cluster", "othr")
    assert (unknown.code, unknown.envelope["error_code"]) == (1, "cluster_unknown")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield from own_host(tmp_path)


TOOLS = (
    "sh",
    "bash",
    "cat",
    "cp",
    "rm",
    "mkdir",
    "date",
    "uname",
    "id",
    "sed",
    "tr",
    "df",
    "dd",
    "ls",
    "grep",
    "timeout",
    "env",
)


@pytest.mark.slurm
@pytest.mark.parametrize("shell", ["tcsh", "bash", "fish"])
def test_a_login_shell_that_finds_neither_scheduler_nor_rsync(host, probe, run_cli, tmp_path, world_home, shell):
    """Its PATH has neither. The pasted lines put their folders there, in the start-up file of that shell."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell}")
    few, there = tmp_path / "few", tmp_path / "there"
    few.mkdir()
    there.mkdir()
    for tool in TOOLS:
        (few / tool).symlink_to(str(shutil.which(tool)))
    name = {"tcsh": ".cshrc", "bash": ".bashrc", "fish": ".config/fish/config.fish"}[shell]
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    (there / name).write_text("")
    # The PATH that sshd gives is the small one; the start-up file may add to it.
    clean = f"env -u SHLVL -u SSH_AUTH_SOCK HOME={there} SHELL={path} PATH={few}"
    host.serve(f'ForceCommand cd {there}; exec {clean} {path} -c "$SSH_ORIGINAL_COMMAND"')
    file = tmp_path / "clusters.yaml"
    entry = {"scheduler": "slurm", "host": "testhost", "ssh_config": host.config(), "python": NODE_PYTHON}
    file.write_text(yaml.safe_dump({"testbed": {**entry, "scratch": str(there)}}))
    world_home.env |= {"HPC_CLUSTERS_CONFIG": str(file), "HPC_NO_SSH_MULTIPLEX": "1"}
    found = reds(probe())
    assert set(found) == {"scheduler_commands", "rsync"}, found
    assert path in found["rsync"]["detail"]
    lines = {found["rsync"]["paste"], found["scheduler_commands"]["paste"]}
    for line in lines:
        if line.startswith("shell_init: "):
            file.write_text(file.read_text() + f"  {line}\n")
        else:
            subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=30)
    after = probe()
    assert after.envelope["ok"], (lines, (there / name).read_text(), after.envelope)
    assert checks_of(after)["rsync"] == "ok"


def test_a_start_up_file_that_prints(host, probe, tmp_path, world_home):
    """The pasted line goes before what prints, and ends the file where nobody types."""
    there = tmp_path / "there"
    there.mkdir()
    (there / ".bashrc").write_text("echo Welcome to the cluster\n")
    clean = f"env -u SHLVL -u SSH_AUTH_SOCK HOME={there} SHELL=/bin/bash"
    host.serve(f'ForceCommand cd {there}; exec {clean} /bin/bash -c "$SSH_ORIGINAL_COMMAND"')
    file = tmp_path / "clusters.yaml"
    entry = {"scheduler": "local", "host": "testhost", "ssh_config": host.config(), "scratch": str(tmp_path)}
    file.write_text(yaml.safe_dump({"testbed": {**entry, "python": NODE_PYTHON}}))
    world_home.env |= {"HPC_CLUSTERS_CONFIG": str(file), "HPC_NO_SSH_MULTIPLEX": "1"}
    found = reds(probe())
    assert set(found) == {"login_shell"} and "Welcome to the cluster" in found["login_shell"]["detail"]
    subprocess.run(["sh", "-c", found["login_shell"]["paste"]], capture_output=True, check=False, timeout=30)
    assert checks_of(probe())["rsync"] == "ok", (there / ".bashrc").read_text()


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_a_cluster_is_added_by_its_host(site, run_cli, tmp_path, world_home):
    """Both schedulers' commands are on this machine, so the one is named."""
    file = tmp_path / "own.yaml"
    file.write_text("# mine\nother:  # stays\n  scheduler: local\n  scratch: /tmp/x\n")
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(file)
    words = ["clusters-add", site.cluster["host"], "--ssh-config", site.cluster["ssh_config"], "--name", "found"]
    shown = run_cli(*words, "--scheduler", site.scheduler, "--dry-run").data
    assert not shown["written"] and "found:" not in file.read_text()
    assert shown["config"]["default_partition"] == {"slurm": "batch", "sge": "all.q"}[site.scheduler]
    assert shown["config"]["scratch"] in str(site.scratch)
    both = run_cli(*words)
    assert (both.code, both.envelope["field"]) == (1, "scheduler")
    assert run_cli(*words, "--scheduler", site.scheduler).data["written"]
    assert file.read_text().startswith("# mine\nother:  # stays\n")
    taken = run_cli(*words, "--scheduler", site.scheduler)
    assert (taken.code, taken.envelope["field"]) == (1, "name")
    checked = run_cli("setup", "--cluster", "found").data
    assert checked["preflight"]["green"]
    page = run_cli("doctor", "--cluster", "found", cwd=tmp_path).data
    assert page["healthy"] and page["in_order"]["found"]["login"]
