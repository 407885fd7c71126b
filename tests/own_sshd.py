"""An sshd of the tests' own: its user is that of the tests, its port nobody else's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpc_agent.errors import HpcError
from hpc_agent.infra.ssh import SshTransport

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@dataclass
class Host:
    """An sshd of this user on a port of its own."""

    folder: Path
    port: int
    daemon: subprocess.Popen[bytes] | None = None

    def serve(self, *lines: str) -> None:
        """Start the daemon anew with these lines of sshd_config; sessions that are open go on."""
        self.stop()
        config = self.folder / "sshd_config"
        own = [f"HostKey {self.folder}/host", f"AuthorizedKeysFile {self.folder}/key.pub", f"Port {self.port}"]
        own += ["ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes"]
        config.write_text("\n".join([*own, *lines, ""]))
        log = (self.folder / "log").open("wb")
        self.daemon = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=log)
        end = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < end and self.daemon.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(20)

    def config(self, text: str = "", **options: str) -> str:
        """The path of an ssh_config with the host ``testhost``."""
        facts = {"HostName": "127.0.0.1", "Port": self.port, "IdentityFile": self.folder / "key", **options}
        facts |= {
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.folder / "known",
            "GlobalKnownHostsFile": "/dev/null",
        }
        path = self.folder / "ssh_config"
        path.write_text("\n".join(["Host testhost", *(f"  {key} {value}" for key, value in facts.items()), text, ""]))
        return str(path)

    def know(self, key: str) -> None:
        kind, text = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def error(self, config: str, timeout: float = 30, **env: str) -> HpcError:
        """The error of a command there."""
        words = {**os.environ, "HPC_NO_BREAKER": "1", **env}
        transport = SshTransport("testhost", words, config, None, self.folder / "hosts")
        with pytest.raises(HpcError) as caught:
            transport.run(["true"], b"", timeout)
        return caught.value


def own_host(tmp_path: Path) -> Iterator[Host]:
    """A host with keys, which a fixture hands on; the daemon ends with it."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    for name in ("host", "key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    made = Host(folder, free_port())
    made.know("host")
    yield made
    made.stop()
