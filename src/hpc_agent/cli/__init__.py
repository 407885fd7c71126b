"""``hpc-agent VERB``: argv -> primitive -> envelope -> exit code.

Importing this module costs nothing: the verb's own module and everything heavy are imported after the verb is known.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["--version"], ["-V"]):
        from hpc_agent._version import __version__

        sys.stdout.write(f"hpc-agent {__version__}\n")
        return 0
    from hpc_agent.cli.run import run

    return run(arguments)
