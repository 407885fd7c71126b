"""The pages of the documentation, their blocks of code, and how a page is run from top to bottom."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from dataclasses import dataclass
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/hpc-agent/hpc-agent/blob/main/"  # a page of the site links to files beside docs/ by it
EVERY_PAGE = sorted(
    [
        path
        for where in ("*.md", "docs/**/*.md", "examples/**/*.md", "plugins/*/*.md", "testbed/*.md")
        for path in ROOT.glob(where)
    ]
)
# Pages that are made from the definition of one verb have no blocks.
PAGES = [path for path in EVERY_PAGE if path.parent.name not in ("primitives", "generated")]
COLUMNS = 80


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return str(self.page.relative_to(ROOT))

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks_of(page: Path) -> list[Block]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(page, language, text) for language, text in fences]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def run_bash(block: Block, folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block.text],
        cwd=folder, env=env, capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def run_console(block: Block, folder: Path, env: dict[str, str]) -> None:
    """Type each command of the block at a terminal of 80 columns, and compare what stands there afterwards."""
    lines: list[str] = []
    for command, expected in commands_of(block.text):
        shown = at_a_terminal("\n".join([*lines, command]), folder, env)
        if command.startswith("cd "):
            lines.append(command)
        assert re.fullmatch(pattern(expected), shown), (
            f"$ {command}\n--- the page\n{expected}\n--- the terminal\n{shown}"
        )


def commands_of(text: str) -> list[tuple[str, str]]:
    """Pairs of a command, which may go on after a backslash, and the output that the page states."""
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)\n?((?:(?!\$ ).*\n?)*)", text, re.MULTILINE)
    assert found, f"a console block begins with '$ ': {text}"
    return [(command, expected.strip("\n")) for command, expected in found]


def pattern(expected: str) -> str:
    """``...`` in a line stands for any text of that line; a line of nothing else for any lines."""
    lines = []
    for line in expected.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?.*")
        else:
            lines.append(re.escape(line.rstrip()).replace(r"\.\.\.", ".*"))
    return "\n".join(lines)


def at_a_terminal(script: str, folder: Path, env: dict[str, str]) -> str:
    """The text on a terminal after a script: what was overwritten or erased is not there."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 300, COLUMNS, 0, 0))
    env = {**env, "TERM": "xterm-256color", "NO_COLOR": "1"}
    env.pop("HPC_PROGRESS", None)
    process = subprocess.Popen(
        ["timeout", "540", "bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder, env=env, stdin=side, stdout=side, stderr=side, start_new_session=True,
    )  # fmt: skip
    os.close(side)
    screen = pyte.Screen(COLUMNS, 300)
    stream = pyte.ByteStream(screen)
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        stream.feed(chunk)
    os.close(main)
    shown = "\n".join(line.rstrip() for line in screen.display).strip("\n")
    assert process.wait() == 0, f"{script}\n{shown}"
    return shown
