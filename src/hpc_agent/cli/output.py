"""Write the answer: the one line of JSON, or on a terminal the view for a person."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpc_agent.cli.globals import Globals

if TYPE_CHECKING:
    from hpc_agent.view.terminal.blocks import Block


class Declined(Exception):
    """The person at the terminal said no."""


def is_for_person(chosen: Globals) -> bool:
    """Is standard output a terminal, and no program asked for its form?"""
    return not chosen.for_programs and on_terminal(sys.stdout)


def on_terminal(stream: object) -> bool:
    """Is the stream there, open, and a terminal?"""
    try:
        return bool(stream is not None and stream.isatty())  # type: ignore[attr-defined]
    except ValueError:
        return False


def prepare_terminals(env: Mapping[str, str]) -> None:
    """Write ASCII where a terminal's locale knows nothing else: bars, and ids with other letters, must not stop a command."""
    terminals = [stream for stream in (sys.stdout, sys.stderr) if on_terminal(stream)]
    if not terminals:
        return
    from hpc_agent.view.terminal.paint import as_ascii, speaks_utf8

    if not speaks_utf8(env):
        for stream in terminals:
            as_ascii(stream)


def show(line: bytes, verb: str, seen: Mapping[str, Any]) -> None:
    """Show an envelope as a view on standard output, which is a terminal; what was ``seen`` before is left out."""
    from hpc_agent.view.terminal.views import whole

    answer = json.loads(line)
    data = answer.get("data") or {}
    if data.get("plan") == seen.get("plan"):
        data.pop("plan", None)
    if "notes" in seen:
        data["notes"] = [note for note in data.get("notes", []) if note not in seen["notes"]]
    try:
        blocks = whole(verb, answer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        # the call has done its work: a view that does not know this answer must not hide it
        blocks = whole("", answer)
    show_blocks(blocks)


def show_blocks(blocks: list[Block]) -> None:
    """Show a view on standard output, which is a terminal."""
    from hpc_agent.view.terminal.layout import lines_of
    from hpc_agent.view.terminal.paint import columns_of, paint

    paint(lines_of(blocks, columns_of(sys.stdout)), sys.stdout, sys.stdout.encoding == "ascii")


def write_line(line: bytes, code: int) -> int:
    """Write the line of the answer. Return the exit code: another one where it cannot be written."""
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except AttributeError:
        return code or 3  # started with standard output closed
    except OSError as error:
        code = _unwritten(error, code)
    if code and on_terminal(sys.stderr) and not on_terminal(sys.stdout):
        failed = json.loads(line)
        sys.stderr.write(f"{failed['message']}\n{failed['remediation']}\n")
    return code


def _unwritten(error: OSError, code: int) -> int:
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"hpc-agent: cannot write the answer: {error.strerror}\n")
        code = code or 3
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
