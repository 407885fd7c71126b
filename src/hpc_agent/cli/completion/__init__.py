"""``hpc-agent completion SHELL``: a static script for TAB, and the names that it offers."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")
# Shell -> the file of its script, named as that shell's own folder of completions wants it.
SHELLS = {"bash": "hpc-agent.bash", "zsh": "_hpc-agent", "fish": "hpc-agent.fish"}
HELP = """\
usage: hpc-agent completion bash|zsh|fish

Print the script that completes verbs, options, clusters and run ids at TAB.

bash   add to ~/.bashrc:  eval "$(hpc-agent completion bash)"
zsh    add to ~/.zshrc, after compinit:  eval "$(hpc-agent completion zsh)"
fish   hpc-agent completion fish > ~/.config/fish/completions/hpc-agent.fish

TAB starts no program: names of clusters and runs come from small files in
~/.cache/hpc-agent/completion, which each command keeps up to date.
"""


def main(arguments: list[str]) -> int:
    """Print the script of a shell. Returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        sys.stderr.write(HELP)
        return 1
    from hpc_agent.cli.completion.names import remember_clusters
    from hpc_agent.world import World

    remember_clusters(World())
    sys.stdout.write((SCRIPTS / SHELLS[arguments[0]]).read_text(encoding="utf-8"))
    return 0
