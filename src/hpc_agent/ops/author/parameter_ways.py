"""How parameters that no source shows reach an executor: as somebody says (``pass_as``), or as its --help prints."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.executors import Executor, help_of
from hpc_agent.experiment.reading.parameters import POSITIONAL, flag_rows, names_of_rows, with_given
from hpc_agent.infra.transport import quote
from hpc_agent.node.shared.task_environment import is_reserved
from hpc_agent.world import World

HELP_SEC = 20.0
WAY = re.compile(rf"--?[A-Za-z][\w.-]*=?|[+]{{0,2}}[A-Za-z][\w./@-]*=|\$[A-Za-z_]\w*|{POSITIONAL}")


def with_ways(
    world: World, root: Path, entries: list[Executor], names: set[str], said: dict[str, str], python: str | None
) -> tuple[list[Executor], list[str]]:
    """Return the executors with the ways that were ``said``, and for ``names`` with those that --help prints; and notes.

    Raises SpecInvalid for a way that does not exist.
    """
    for name, way in said.items():
        if not WAY.fullmatch(way) or (way.startswith("$") and is_reserved(way[1:])):
            message = f"pass_as: {way!r} is no way to pass '{name}' on"
            remedy = f'Write an option ("--{name}"), "{name}=", a free variable ("${name.upper()}") or "{POSITIONAL}".'
            if " " in way.strip() and entries:  # such as sacred's ``with lr=``
                variable = f"HPC_KW_{name.upper()}" if is_reserved(name) else name.upper()
                command = f'python3 {entries[0].key} {way.strip()}"${variable}"'
                remedy += (
                    f" A way is one word: for several, write {quote(['--pass-as', json.dumps({name: '$' + variable})])}"
                )
                remedy += f" and submit a command of your own: {quote(['--executor', command])}."
            raise SpecInvalid(message, field="pass_as", remediation=remedy)
    found, notes = [], []
    for entry in entries:
        ways, missing = {}, names - said.keys() - names_of_rows(flag_rows(entry))
        if missing:
            options, problem = help_of(root, entry, python or sys.executable, HELP_SEC, world.env)
            notes += [f"{entry.key} --help: {problem}"] if problem else []
            spelt = [(name, option) for name in missing for option in (f"--{name}", f"--{name.replace('_', '-')}")]
            entry = replace(entry, help_said=f"ended with: {problem}" if problem else "prints no such option")
            ways = {name: option for name, option in spelt if option in options}
        found.append(with_given(entry, {**ways, **said}))
    return found, notes
