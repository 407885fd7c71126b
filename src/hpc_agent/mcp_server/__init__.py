"""``hpc-agent mcp``: the verbs as tools of the Model Context Protocol, over standard input and output.

A request goes through ``server`` (the protocol) to ``calls`` (one verb), which runs in a thread of ``work``; ``answers`` gives
the result its form. Standard output is for the frames of the protocol only.
"""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

INSTALL = "pip install 'hpc-agent[mcp]'"


class _Parser(argparse.ArgumentParser):
    """A parser whose exit code for a wrong option is 1, as it is everywhere in hpc-agent."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"hpc-agent mcp: {message}. Run 'hpc-agent mcp --help'.\n")


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours < float("inf"):
        raise ValueError(text)
    return hours


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 50:
        raise ValueError(text)
    return seconds


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``hpc-agent mcp``."""
    made = _Parser(
        prog="hpc-agent mcp",
        description="Serve the verbs to an agent over standard input and output (Model Context Protocol).",
        epilog="Without --allow-submit no tool writes into the repo or submits jobs. Tools take experiment_dir; a relative one "
        "is below the folder in which the server was started.",
        allow_abbrev=False,
    )
    made.add_argument("--allow-submit", action="store_true", help="offer the tools that write files and submit jobs")
    made.add_argument(
        "--ask-user", action="store_true", help="mark these tools so that the client asks a person before each call"
    )
    made.add_argument(
        "--budget-core-hours", type=_hours, metavar="N", help="core hours that this session may submit at most"
    )
    made.add_argument(
        "--answer-within",
        type=_seconds,
        default=45.0,
        metavar="SEC",
        help="longest wait of one call, at most 50; longer work goes on, and the same call finds it again [45]",
    )
    return made


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. Returns the exit code."""
    chosen = parser().parse_args(arguments)
    try:
        from hpc_agent.mcp_server.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("hpc_agent", ""):
            raise
        sys.stderr.write(f"hpc-agent mcp needs the extra 'mcp' ({error.name} is missing): {INSTALL}\n")
        return 1
    from hpc_agent.mcp_server.session import Settings

    return serve(Settings(**vars(chosen)))
