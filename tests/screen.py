"""Run a command on a real terminal of some size, and read what stands on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

HPC_AGENT = (sys.executable, "-m", "hpc_agent")
# What a caller's shell says about its own terminal must not reach the command.
_CALLERS = (
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "LC_ALL",
    "LC_CTYPE",
    "TTY_COMPATIBLE",
)
_TERMINAL = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Screen:
    """A command on a terminal. Its signal handlers are the default ones: a start in the background would ignore SIGINT."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        columns: int = 80,
        lines: int = 60,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        self._emulator = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._emulator)
        self.raw = b""
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=_environment(env),
            stdin=terminal if stdin is None else stdin,
            stdout=terminal if stdout is None else stdout,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: _begin(terminal),
        )
        os.close(terminal)

    def lines(self) -> list[str]:
        """The lines on the screen, without blanks at their ends and without empty ones at the end."""
        shown = [line.rstrip() for line in self._emulator.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def text(self) -> str:
        return "\n".join(self.lines())

    def styled(self) -> list[list[tuple[str, str, bool]]]:
        """The lines as pieces of text with their colour, and whether they are bold."""
        rows = []
        for number in range(len(self.lines())):
            row: list[tuple[str, str, bool]] = []
            for column in range(self._emulator.columns):
                letter = self._emulator.buffer[number][column]
                if row and row[-1][1:] == (letter.fg, letter.bold):
                    row[-1] = (row[-1][0] + letter.data, *row[-1][1:])
                else:
                    row.append((letter.data, letter.fg, letter.bold))
            rows.append(row)
        return rows

    def joined(self) -> str:
        """All that stands on the screen as one line: a command that the terminal wrapped is whole in it."""
        return "".join(self._emulator.display)

    @property
    def cursor_is_shown(self) -> bool:
        return not self._emulator.cursor.hidden

    def read(self, seconds: float = 0.1) -> bool:
        """Read what has come. False where the terminal is closed."""
        if not select.select([self._controller], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._controller, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def wait_for(self, is_there: str | Callable[[str], bool], limit: float = 60) -> None:
        """Read until a text stands on the screen, or a condition of it holds."""
        end = time.monotonic() + limit
        while not (is_there in self.text() if isinstance(is_there, str) else is_there(self.text())):
            assert time.monotonic() < end, f"not on the screen: {is_there}\n{self.text()}"
            is_open = self.read()
            if not is_open:
                text = self.text()
                assert is_there in text if isinstance(is_there, str) else is_there(text), text
                return

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def finish(self, limit: float = 60) -> int:
        """Read until the command has ended; its exit code."""
        end = time.monotonic() + limit
        while self.read():
            if self.process.poll() is not None and not select.select([self._controller], [], [], 0.2)[0]:
                break
            assert time.monotonic() < end, f"still running:\n{self.text()}"
        code = self.process.wait(max(1.0, end - time.monotonic()))
        self.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        with contextlib.suppress(OSError):
            os.close(self._controller)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """The given environment; what it has from this process about a terminal and a locale is replaced."""
    kept = {name: value for name, value in env.items() if name not in _CALLERS or os.environ.get(name) != value}
    return {
        **kept,
        **{
            name: value
            for name, value in _TERMINAL.items()
            if env.get(name, os.environ.get(name)) == os.environ.get(name)
        },
    }


def _begin(terminal: int) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def hide_rich(folder: Path) -> str:
    """Make a folder for PYTHONPATH in which ``import rich`` fails as if it were not installed."""
    package = folder / "without-rich" / "rich"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("rich is hidden")\n', encoding="utf-8")
    return str(package.parent)
