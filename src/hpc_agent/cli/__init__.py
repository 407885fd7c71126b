"""``hpc-agent VERB``: argv -> primitive -> envelope -> exit code.

The verb's module and every heavy import are loaded after the verb is known, so that start-up stays short.
"""

from __future__ import annotations

import sys

from hpc_agent.cli.programs import PROGRAMS


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["--version"], ["-V"]):
        from hpc_agent._version import __version__

        sys.stdout.write(f"hpc-agent {__version__}\n")
        return 0
    if arguments[:1] == ["help"] and "".join(arguments[1:]) in PROGRAMS:
        arguments = [arguments[1], "--help"]
    if arguments and arguments[0] in PROGRAMS:
        from importlib import import_module

        module, _, function = PROGRAMS[arguments[0]].partition(":")
        return int(getattr(import_module(module), function)(arguments[1:]))
    from hpc_agent.cli.run import run

    return run(arguments)


def drive_campaign() -> int:
    """Run ``hpc-campaign-driver``, which is ``hpc-agent campaign-driver``. Returns the exit code."""
    return main(["campaign-driver", *sys.argv[1:]])
