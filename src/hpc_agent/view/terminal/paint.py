"""Write lines to a terminal: in colours where rich is there and the terminal has them, as plain text otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from itertools import groupby
from typing import TextIO

from hpc_agent.view.terminal.layout import ASCII, Lines

NARROWEST, WIDEST = 40, 160
_RICH = {
    "good": "green",
    "bad": "red",
    "busy": "cyan",
    "warn": "yellow",
    "dim": "dim",
    "strong": "bold",
    "title": "bold",
    "": "",
}


def speaks_utf8(env: Mapping[str, str]) -> bool:
    """Does the user's locale say UTF-8? Python's own stand-in for the C locale, LC_CTYPE=C.UTF-8, is not what a user said."""
    told = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    is_stand_in = not env.get("LC_ALL") and env.get("LC_CTYPE") == "C.UTF-8"
    if is_stand_in and env.get("LANG", "") in ("", "C", "POSIX"):
        return False
    return "utf8" in told.lower().replace("-", "")


def as_ascii(stream: TextIO) -> None:
    """Let a stream write letters that its terminal may not know as escapes, where they would stop the program."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="ascii", errors="backslashreplace")


def columns_of(stream: TextIO) -> int:
    """Return the width of the terminal."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    width = width or shutil.get_terminal_size().columns
    return max(NARROWEST, min(width, WIDEST))


def paint(lines: Lines, stream: TextIO, plain_letters: bool = False) -> None:
    """Write the lines. A line that is longer than the terminal is left whole: the terminal itself wraps it."""
    if plain_letters:
        lines = [[cell._replace(text=cell.text.translate(ASCII)) for cell in line] for line in lines]
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        stream.write("".join("".join(cell.text for cell in line) + "\n" for line in lines))
        stream.flush()
        return
    console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in lines:
        runs = groupby(line, key=lambda cell: cell.style)
        console.print(Text.assemble(*(("".join(cell.text for cell in cells), _RICH[style]) for style, cells in runs)))
    stream.flush()
