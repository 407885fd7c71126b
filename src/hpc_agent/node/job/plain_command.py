"""Commands that need no shell: bash would only start the program, and takes a millisecond of CPU for that in each task."""

import os
import re
import subprocess
from subprocess import DEVNULL, PIPE
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

# Words that bash takes as they are. In the first one an "=" would set a variable, a "-" or "+" before it an option of bash.
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+:,@%-]*(?: +[A-Za-z0-9_./+:,@%=-]+)*\Z")
_LONGEST = 4096
_MOST = 20  # questions to bash, of each process
# Variables that bash sets for a program in its own way, the same way for the same values. A task has no parameter PWD.
_SHELL_OWN = ("SHLVL", "PWD", "OLDPWD")
_KEYS = (*_SHELL_OWN, "BASH_ENV")
_SSH = ("SSH_CLIENT", "SSH2_CLIENT")
_READS = ("BASH_ENV", *_SSH)  # let bash read a file first
# Variables that change what bash does, or that bash changes, whatever it answered for another task: a task may have them as
# parameters.
_SPECIAL = frozenset(
    "BASH BASHOPTS BASHPID COMP_WORDBREAKS COPROC DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID EXECIGNORE FUNCNAME GROUPS "
    "HISTCMD HOSTTYPE IFS LINENO MACHTYPE MAPFILE OPTARG OPTERR OPTIND OSTYPE PIPESTATUS POSIXLY_CORRECT PPID PS1 PS2 PS4 "
    "RANDOM REPLY SECONDS SHELLOPTS SRANDOM UID".split()
)
# Prints what a file named by BASH_ENV may change of bash: the file of a word, traps, limits, options, folder, open files, nice.
_FACTS = (
    'type -t -- "$0"; type -p -- "$0"; trap -p; umask; ulimit -aS; ulimit -aH; pwd -P; echo "$-" /proc/self/fd/*; '
    "read -r stat </proc/self/stat; set -- ${stat##*\\)}; echo ${17}; "
    "while read -r line; do case $line in Sig[BI]*|Cpus*) echo $line;; esac; done </proc/self/status; echo said >&2"
)
_OF_SYSTEM = ("/etc/", "/opt/", "/usr/")
_PATIENCE_SEC = 10.0
_begun: List[str] = []  # the first command of this process
_known: Dict[Tuple[Any, ...], Optional[Dict[str, str]]] = {}


class Start(NamedTuple):
    """How bash would start a program."""

    words: List[str]
    program: str  # with a slash
    env: Dict[str, str]


def plain_start(command: str, env: Dict[str, str], cwd: str) -> Optional[Start]:
    """Return how bash would start a command of which it takes all words as they are; None for every other command.

    Ask bash once in this process: a name may be a function, and bash may change the environment. The first task is not
    worth the question, for most elements have one.
    """
    if not _begun:
        _begun.append(command)
        return None
    if len(command) > _LONGEST or not _PLAIN.match(command) or not _SPECIAL.isdisjoint(env):
        return None
    words = command.split()
    program = _program(words[0], env.get("PATH", ""), cwd)
    own = _own(words[0], env, cwd, (command, cwd, frozenset(env), *map(env.get, _KEYS))) if program else None
    if program is None or own is None:
        return None
    found = {name: value for name, value in env.items() if name not in _SHELL_OWN}
    found.update(own, _=program)
    return Start(words, program, found)


def _reads_bashrc(env: Dict[str, str]) -> bool:
    """Return True where bash takes itself for the first shell of an ssh session, and so reads the user's .bashrc.

    Jobs that were submitted over ssh have the variables of the session.
    """
    return any(name in env for name in _SSH) and not re.match("[1-9]", env.get("SHLVL", ""))


def _program(word: str, path: str, cwd: str) -> Optional[str]:
    """Return the file that bash starts for a word, as bash spells it; None where only bash knows.

    The first file on the PATH that may be executed is it, even when the system then refuses it. (``Popen`` would go on to
    the next one.) Without a PATH, bash has one of its own.
    """
    if "/" in word:
        return word
    for folder in path.split(":") if path else ():
        if folder.startswith("~"):  # bash puts the home folder in
            return None
        place = os.path.join(folder or ".", word)
        full = os.path.join(cwd, place)
        if os.access(full, os.X_OK) and not os.path.isdir(full):
            return place
    return None


def _own(word: str, env: Dict[str, str], cwd: str, key: Tuple[Any, ...]) -> Optional[Dict[str, str]]:
    """Return the ``_SHELL_OWN`` of a program that bash starts; None where bash does more than to start a file."""
    if key not in _known:
        if len(_known) >= _MOST:
            return None
        is_file = _starts_a_file(word, env, cwd)
        told = _ask(["env -0"], env, cwd) if is_file else b""  # a plain command too: SHLVL is that of one
        lines = (os.fsdecode(line).partition("=") for line in told.split(b"\0") if line)
        found = {name: value for name, _, value in lines}
        is_same = _of_others(found) == _of_others(env)
        _known[key] = {name: found[name] for name in _SHELL_OWN if name in found} if is_file and is_same else None
    return _known[key]


def _starts_a_file(word: str, env: Dict[str, str], cwd: str) -> bool:
    """Return True where bash starts a file for the word, and no file that bash reads first changes anything."""
    start = env.get("BASH_ENV")
    if not start and not _reads_bashrc(env):
        return _ask(['type -t -- "$0"', word], env, cwd) == b"file\n"
    if start and not _is_of_site(start):
        return False
    told = _ask([_FACTS, word], env, cwd, b"said\n")
    without = {name: value for name, value in env.items() if name not in _READS}
    return told.startswith(b"file\n") and told == _ask([_FACTS, word], without, cwd, b"said\n")


def _is_of_site(path: str) -> bool:
    """Return True for a file that the user cannot change, such as that of the environment modules.

    One of the user may do something else in each task, or write down who called it.
    """
    real, user = os.path.realpath(path), os.geteuid()
    if not re.match(r"/[A-Za-z0-9_./+-]+\Z", path) or not os.path.isfile(real):  # bash expands other paths
        return False
    if user == 0:  # may write everywhere
        return real.startswith(_OF_SYSTEM)
    places = (real, os.path.dirname(real))
    return not any(os.access(place, os.W_OK) or os.stat(place).st_uid == user for place in places)


def _ask(words: List[str], env: Dict[str, str], cwd: str, said: bytes = b"") -> bytes:
    """Return what bash prints; nothing where it fails, or says anything else beside that."""
    try:
        asked = subprocess.run(
            ["/bin/bash", "-c", *words], env=env, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            timeout=_PATIENCE_SEC, check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError):
        return b""
    return asked.stdout if asked.returncode == 0 and asked.stderr == said else b""


def _of_others(env: Dict[str, str]) -> Dict[str, str]:
    return {name: value for name, value in env.items() if name not in _SHELL_OWN and name != "_"}
