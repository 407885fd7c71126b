"""OpenSSH with a private ControlMaster, rsync over it, and pauses after failures. The user's own ~/.ssh/config holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from hpc_agent.errors import ClusterTimeout, PreconditionFailed, SshUnreachable, StorageFull
from hpc_agent.infra import ssh_causes
from hpc_agent.infra.transport import STARTED, Completed, one_line, quote, run_bounded, shell_text
from hpc_agent.node.shared.files import write_json

CONNECT_SEC = 8
OPTIONS = ("BatchMode=yes", f"ConnectTimeout={CONNECT_SEC}", "ConnectionAttempts=1", "ServerAliveInterval=5",
           "ServerAliveCountMax=2", "LogLevel=ERROR")  # fmt: skip
PERSIST = "10m"
MASTER_CHECK_SEC = 3.0
SSH_FAILED = 255
FAILURES_BEFORE_OPEN = 5
# A host that refuses logins may ban the address after many of them; a host that cannot be reached does not.
FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC, LONGEST_AFTER_REFUSAL_SEC = 30.0, 120.0, 600.0
FORGOTTEN_SEC = 3600.0
# A failed rsync kills its ssh with SIGUSR1, often before the ssh has brought the reason from the other side's stderr.
_UNKILLED = ("/bin/sh", "-c", 'trap "" USR1; exec "$@"', "sh")


class SshTransport:
    """Commands and files to one host: no password prompt (BatchMode), host keys checked, every wait limited."""

    def __init__(
        self, target: str, env: Mapping[str, str], ssh_config: str | None, shell_init: str | None, hosts: Path
    ) -> None:
        self._target = target
        self._env = env
        self._init = shell_init
        self._config = ssh_config
        self._hosts = hosts
        self._binary = env.get("HPC_SSH_BINARY", "ssh")

    def run(self, words: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        """Run one command. Raises SshUnreachable, ClusterTimeout; RemoteCommandFailed, StorageFull without a shell there."""
        with pauses(self._target, self._hosts, self._env):
            return self._run(shell_text(words, self._init), stdin, timeout)[0]

    def _run(self, text: str, stdin: bytes, timeout: float) -> tuple[Completed, list[str]]:
        """Return the outcome of a text for /bin/sh, and stdout and stderr of the login shell's start-up files."""
        done = self._bounded([*self._ssh(), "--", self._target, one_line(text)], stdin, timeout)
        if done.code == SSH_FAILED:
            raise ssh_causes.refused(done.stderr_tail, self._reach())
        mark = STARTED.encode() + b"\n"
        (printed, begun, out), (warned, _, err) = done.stdout.partition(mark), done.stderr.partition(mark)
        noise = [part.decode(errors="replace") for part in (printed, warned)]
        if not begun:
            raise ssh_causes.not_run(done.code, "\n".join(part[-2000:] for part in noise), self._reach())
        return Completed(done.code, out, err, noise), noise

    def push(self, source: Path, files: Sequence[str], destination: str, already: str | None, timeout: float) -> None:
        """Copy ``files`` (relative to ``source``) below ``destination``, but none that is the same below ``already``.

        Raises SshUnreachable, StorageFull, RemoteCommandFailed, ClusterTimeout, PreconditionFailed (a file vanished).
        """
        words = ["rsync", "-rltz", "--files-from=-", "--from0", "--chmod=D700,Fu+rw"]
        words += [f"--compare-dest={already}"] if already else []
        self._rsync(words, files, f"{source}/", f"{self._target}:{destination}/", timeout)

    def pull(self, source: str, files: Sequence[str], destination: Path, timeout: float) -> None:
        """Copy ``files`` (relative to ``source`` there) below ``destination`` here. Raises the errors of ``push``."""
        words = ["rsync", "-rltz", "--files-from=-", "--from0", "--chmod=Du+rwx,Fu+rw"]
        self._rsync(words, files, f"{self._target}:{source}/", f"{destination}/", timeout)

    def _rsync(self, words: Sequence[str], files: Sequence[str], source: str, destination: str, timeout: float) -> None:
        words = [*words, "-e", quote([*_UNKILLED, *self._ssh()]), "--", source, destination]
        # "./" because rsync takes a name that begins with # or ; for a comment.
        names = b"\0".join(b"./" + name.encode() for name in files)
        with pauses(self._target, self._hosts, self._env):
            done = self._bounded(words, names, timeout)
            if done.code == 0:
                return
            text = done.stderr_tail
            if full := re.search(r".*(?:No space left on device|Disk quota exceeded) \(\d+\)", text):
                raise StorageFull(f"no space below {destination}: {full.group(0)}", details={"stderr_tail": text})
            if "file has vanished" in text or "link_stat" in text:
                raise PreconditionFailed(
                    "a file vanished while it was being copied",
                    details={"stderr_tail": text},
                    remediation="Run the same 'hpc-agent' command again.",
                )
            if done.code == SSH_FAILED:
                raise ssh_causes.refused(text, self._reach())
            # Without shell_init, which is not sourced before rsync.
            asked, noise = self._run('echo "$SHELL"; command -v rsync', b"", CONNECT_SEC + 2 * MASTER_CHECK_SEC)
            raise ssh_causes.not_copied(done, noise, asked.stdout.decode(errors="replace").splitlines(), self._reach())

    def _bounded(self, words: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        self._drop_dead_master()
        try:
            return run_bounded(words, stdin, timeout, self._env)
        except FileNotFoundError as error:
            raise PreconditionFailed(
                f"'{words[0]}' is not installed here", remediation=f"Install {words[0]}, then call again."
            ) from error
        except ClusterTimeout as error:
            error.message = f"{self._target} did not finish a command within {timeout:.0f} s"
            raise

    def _ssh(self) -> list[str]:
        words = [self._binary]
        if self._config:
            words += ["-F", self._config]
        options = [*OPTIONS]
        if self._socket is not None:
            options += ["ControlMaster=auto", f"ControlPath={self._socket}", f"ControlPersist={PERSIST}"]
        for option in options:
            words += ["-o", option]
        return words

    @property
    def _socket(self) -> Path | None:
        """Return the private master's socket. The kernel refuses a path over about 100 bytes, so the name is a hash."""
        if self._env.get("HPC_NO_SSH_MULTIPLEX"):
            return None
        folder = _private_folder(self._env)
        name = hashlib.sha256(f"{self._target}\0{self._config or ''}".encode()).hexdigest()[:16]
        return folder / name if folder else None

    def _drop_dead_master(self) -> None:
        """Remove the socket of a master that hangs or has ended; every command would wait for it."""
        socket = self._socket
        if socket is None or not socket.exists():
            return
        words = [self._binary, "-o", f"ControlPath={socket}", "-O", "check", "--", self._target]
        try:
            alive = run_bounded(words, b"", MASTER_CHECK_SEC, self._env).code == 0
        except (ClusterTimeout, OSError):
            alive = False
        if not alive:
            socket.unlink(missing_ok=True)

    def _reach(self) -> ssh_causes.Reach:
        """Return how the user reaches the host by hand; ``ssh -G`` reads the configuration and connects to nothing."""
        words = [self._binary, *(["-F", self._config] if self._config else [])]
        jump = None
        with contextlib.suppress(ClusterTimeout, OSError):
            facts = run_bounded([*words, "-G", self._target], b"", MASTER_CHECK_SEC, self._env).stdout.decode(
                errors="replace"
            )
            jump = re.search(r"^proxyjump (\S+)", facts, re.MULTILINE)
        socket = str(self._socket) if self._socket else None
        return ssh_causes.Reach(
            words, self._target, socket, jump.group(1) if jump else "", bool(self._env.get("SSH_AUTH_SOCK"))
        )


def _private_folder(env: Mapping[str, str]) -> Path | None:
    """Return a folder for sockets that only this user can enter; None (no multiplexing) where that is impossible."""
    runtime = env.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and len(runtime) < 40 and Path(runtime).is_dir() else Path("/tmp")  # noqa: S108
    folder = base / f"hpc-agent-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    safe = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    return folder if safe else None


class _HostFailures(msgspec.Struct, frozen=True):
    """The failures of a host in a row, the time of the last one, and the end of the pause."""

    failures: int = 0
    last: float = 0.0
    open_until: float = 0.0
    why: str = ""
    remedy: str = ""


@contextlib.contextmanager
def pauses(target: str, folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    """Pause after repeated failures of a host, for every process of this user: sites ban addresses that retry.

    Raises SshUnreachable during a pause. ``folder`` holds a file for each host that has failed.
    """
    path = folder / (hashlib.sha256(target.encode()).hexdigest()[:16] + ".json")
    past = _HostFailures()
    with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):
        read = msgspec.json.decode(path.read_bytes(), type=_HostFailures)
        past = read if 0 <= time.time() - read.last < FORGOTTEN_SEC else past
    left = past.open_until - time.time()
    if left > 0 and not env.get("HPC_NO_BREAKER"):
        raise SshUnreachable(
            f"{past.why or target}; this was failure {past.failures} in a row, and no process tries it for {left:.0f} s more",
            remediation=f"Wait {left:.0f} s (HPC_NO_BREAKER=1 in the environment tries at once). "
            + (past.remedy or f"See that 'ssh -o BatchMode=yes {target} true' works, then call again."),
            details={"host": target, "retry_after_sec": round(left), "failures": past.failures},
        )
    try:
        yield
    except SshUnreachable as error:
        failures = past.failures + 1
        above = failures - FAILURES_BEFORE_OPEN
        longest = LONGEST_AFTER_REFUSAL_SEC if error.details.get("login_refused") else LONGEST_PAUSE_SEC
        pause = min(FIRST_PAUSE_SEC * 2**above, longest) if above >= 0 else 0.0
        now = time.time()
        document: dict[str, float | str] = {"failures": failures, "last": now, "open_until": now + pause}
        document |= {"why": error.message, "remedy": error.remediation}
        # A full disk must not hide that the host is unreachable.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(str(path), document, sync=False)
        raise
    if past.failures:
        path.unlink(missing_ok=True)
