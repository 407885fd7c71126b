"""Commands that need no shell: bash would only start the program, and takes a millisecond of CPU for that in each task."""

import os
import re
import subprocess
from subprocess import DEVNULL, PIPE
from typing import Dict, List, Optional

# Words that bash takes as they are. In the first one an "=" would set a variable.
_PLAIN = re.compile(r"[A-Za-z0-9_./+-][A-Za-z0-9_./+:,@%-]*(?: +[A-Za-z0-9_./+:,@%=-]+)*\Z")
_LONGEST = 4096
# Prints how bash understands a word, then the environment of a program that it starts.
_QUESTION = 'type -t -- "$0"; exec env -0'
# Variables that differ in every shell.
_SHELL_OWN = frozenset(("_", "SHLVL", "PWD", "OLDPWD"))
_PATIENCE_SEC = 10.0
_begun: List[str] = []  # the first command of this process
_known: Dict[str, Optional[List[str]]] = {}


def words_of(command: str, env: Dict[str, str], cwd: str) -> Optional[List[str]]:
    """Return the words of a command that bash would start as they are; None for every other command.

    Ask bash once in this process: a name may be a function, and a file named by BASH_ENV may change the environment. The first
    task is not worth the question, for most elements have one.
    """
    if not _begun:
        _begun.append(command)
        return None
    if command not in _known:
        words = command.split() if len(command) <= _LONGEST and _PLAIN.match(command) else []
        _known[command] = words if words and _starts_a_file(words[0], env, cwd) else None
    return _known[command]


def _starts_a_file(word: str, env: Dict[str, str], cwd: str) -> bool:
    """Return True where the word is a program to bash, which leaves the environment as it is."""
    try:
        asked = subprocess.run(
            ["/bin/bash", "-c", _QUESTION, word], env=env, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL,
            timeout=_PATIENCE_SEC, check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    kind, _, rest = asked.stdout.partition(b"\n")
    lines = (os.fsdecode(line).partition("=") for line in rest.split(b"\0") if line)
    found = {name: value for name, _, value in lines}
    return asked.returncode == 0 and kind == b"file" and _of_others(found) == _of_others(env)


def _of_others(env: Dict[str, str]) -> Dict[str, str]:
    return {name: value for name, value in env.items() if name not in _SHELL_OWN}
