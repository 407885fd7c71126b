"""Processes with a time limit, and the transport to a cluster whose login node is this machine."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_agent.errors import ClusterTimeout

STARTED = "HPC-AGENT-STARTED"
LAST_WORDS_SEC = 10.0


@dataclass(frozen=True)
class Completed:
    """The exit code, stdout and stderr of a command; ``noise``: what start-up files of the login shell printed there."""

    code: int
    stdout: bytes
    stderr: bytes
    noise: Sequence[str] = ("", "")

    @property
    def stderr_tail(self) -> str:
        return self.stderr.decode(errors="replace")[-2000:]


def quote(words: Sequence[str]) -> str:
    """Return words as shell text; no other function quotes. Raises ValueError for NUL, which no shell accepts."""
    if any("\0" in word for word in words):
        raise ValueError("a command may not hold a NUL character")
    return shlex.join(words)


def shell_text(words: Sequence[str], init: str | None) -> str:
    """Return ``words`` as a command for /bin/sh, which first sources the site's ``shell_init`` file."""
    text = "exec " + quote(words)
    return f". {quote([init])} >/dev/null 2>&1; {text}" if init else text


def one_line(text: str) -> str:
    """Return a line that every login shell (sh, csh, fish, ...) hands on as it is, and that runs ``text`` in /bin/sh.

    csh ends a quoted word at a newline and replaces ``!`` in quotes, fish a backslash in single quotes: these and the quote
    itself travel as octal numbers. Output of start-up files ends at STARTED, in stdout and stderr.
    """
    code = f"echo {STARTED}; echo {STARTED} >&2; {text}".encode("utf-8", "surrogateescape")
    safe = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"'!\\" else f"\\0{byte:03o}" for byte in code)
    return f"""exec /bin/sh -c 'eval "$(printf %b "$0")"' '{safe}'"""


def run_bounded(words: Sequence[str], stdin: bytes, timeout: float, env: Mapping[str, str]) -> Completed:
    """Run a local process. Raises ClusterTimeout after ``timeout`` seconds, when the whole process group is killed.

    Output goes to files and not to pipes: a ControlMaster that stays in the background would hold a pipe open for ever.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(words, stdin=given, stdout=out, stderr=err, env=env, start_new_session=True)
        try:
            code = exit_code(process, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ClusterTimeout(f"{Path(words[0]).name} took longer than {timeout:.0f} s") from None
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        if code:
            _wait_for_last_words(process.pid)
        out.seek(0)
        err.seek(0)
        return Completed(code, out.read(), err.read())


LONGEST_POLL_MS = 2**31 - 1  # poll() takes a C int


def exit_code(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for the end of a process. Raises TimeoutExpired.

    ``Popen.wait`` with a limit looks every 50 ms, and a command of this package takes 100: the kernel tells the end at once.
    """
    begun = time.monotonic()
    with contextlib.suppress(OSError, AttributeError):  # an old kernel, or one that has no file left for this process
        descriptor = os.pidfd_open(process.pid)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(min(timeout * 1000, LONGEST_POLL_MS))
        finally:
            os.close(descriptor)
    return process.wait(max(0.0, timeout - (time.monotonic() - begun)))


def _wait_for_last_words(group: int) -> None:
    """Wait, at most LAST_WORDS_SEC, until no process of the group is left.

    rsync ends when the other side says that it failed; its ssh may bring the reason on stderr a moment later.
    """
    end = time.monotonic() + LAST_WORDS_SEC
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.02)


class LocalTransport:
    """Runs commands and copies files on this machine, with the same methods as SshTransport."""

    def __init__(self, env: Mapping[str, str], shell_init: str | None) -> None:
        self._env = env
        self._init = shell_init

    def run(self, words: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        """Run one command. Raises ClusterTimeout."""
        return run_bounded(["/bin/sh", "-c", shell_text(words, self._init)], stdin, timeout, self._env)

    def push(self, source: Path, files: Sequence[str], destination: str, already: str | None, timeout: float) -> None:
        """Copy ``files``, relative to ``source``. Links would let an edit of the repo change the snapshot."""
        del already, timeout
        for name in files:
            target = Path(destination) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(target.name + ".hpc-tmp")
            shutil.copy2(source / name, temporary)
            temporary.replace(target)

    def pull(self, source: str, files: Sequence[str], destination: Path, timeout: float) -> None:
        """Copy ``files``, relative to ``source``, below ``destination``."""
        self.push(Path(source), files, str(destination), None, timeout)
