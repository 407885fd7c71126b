"""Record once per run in what the tasks run: node, modules, interpreter and packages, in ``environment.json``.

The first element that gets there looks; a look that fails leaves its reasons in the file, and never fails a task.
Values of environment variables are not recorded.
"""

import itertools
import json
import os
import re
import shlex
import shutil
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Tuple

from ..shared import task_environment
from ..shared.commands import run_command
from ..shared.errors import NodeError
from ..shared.files import remove_quietly, write_json
from .element import Element

LOOK_SEC = 30.0
# A look that has not ended after this time was killed with its element: another element looks.
GIVEN_UP_SEC = 120.0
_PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
# Programs that start a command in another environment: the look starts by them too.
_WRAPPERS = frozenset("conda mamba micromamba uv poetry pipenv pixi hatch apptainer singularity".split())
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_OPERATOR = re.compile(r"[;&|()<>]+\Z")


def look_once(element: Element) -> None:
    """Write ``environment.json`` unless another element does. Never raises."""
    path = element.run.environment
    with suppress(Exception):
        if not _begin(path + ".claim"):
            return
        temporary = "%s.%d.%s" % (path, os.getpid(), os.urandom(4).hex())
        try:
            document = _look(element)
        except Exception as error:  # noqa: BLE001 - a record of the reason, so that no other element looks in vain
            document = {"format": 1, "problems": ["the look failed: %s: %s" % (type(error).__name__, error)]}
        write_json(temporary, document)
        try:
            os.link(temporary, path)  # fails where a slower element has written the file
        finally:
            remove_quietly(temporary)
            remove_quietly(path + ".claim")


def _begin(claim: str) -> bool:
    """Return True for the one element that looks."""
    for _ in range(2):
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            return True
        except FileExistsError:
            if time.time() - os.stat(claim).st_mtime < GIVEN_UP_SEC:
                return False
            remove_quietly(claim)
    return False


def _look(element: Element) -> Dict[str, Any]:
    """Return the document; what is not known is null, with its reason in ``problems``."""
    problems: List[str] = []
    env = task_environment.build(element.document, element.run.path, 0, {}, "", dict(os.environ))
    words, seen = interpreter_words(element.document.executor, env, element.run.work)
    system = os.uname()
    document: Dict[str, Any] = {
        "format": 1,
        "at": round(time.time(), 3),
        "node": element.host,
        "task": element.tasks[0],
        "os": _field("/etc/os-release", "PRETTY_NAME", "="),
        "kernel": "%s %s %s" % (system.sysname, system.release, system.machine),
        "cpu_model": _field("/proc/cpuinfo", "model name", ":") or _field("/proc/cpuinfo", "Model", ":"),
        "cpus": os.cpu_count(),
        "modules": [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name],
        "gpus": _gpus(element, env, problems),
        "python": None,
        "packages": None,
    }
    if document["cpu_model"] is None:
        problems.append("the CPU model is not known: /proc/cpuinfo does not name it")
    try:
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages.py"), encoding="utf-8") as handle:
            source = "import sys; sys.path[:] = [p for p in sys.path if p]\n" + handle.read()
        found = json.loads(_output(words + ["-c", source], env, element.run.work).strip().rpartition("\n")[2])
        document["packages"] = found.pop("packages")
        where = "in the command" if seen else "first python on PATH; the command names none"
        document["python"] = dict(found, seen=where)
        total, listed = found["package_count"], len(document["packages"])
        if total > listed:
            problems.append("%d packages: the first %d are listed" % (total, listed))
    except (NodeError, OSError, ValueError, KeyError) as error:
        problems.append("the interpreter is not known: %s" % error)
    return dict(document, problems=problems)


def interpreter_words(command: str, env: Dict[str, str], work: str) -> Tuple[List[str], bool]:
    """Return the words that start the tasks' interpreter, and True if the command names it."""
    for segment in _segments(command, env):
        segment = list(itertools.dropwhile(_ASSIGNMENT.match, segment))
        segment = segment and (_shebang(segment[0], work) or segment)
        for index, word in enumerate(segment):
            if _PYTHON.match(os.path.basename(word)):
                wrapped = os.path.basename(segment[0]) in _WRAPPERS
                return (segment[: index + 1] if wrapped else [word]), True
        if len(segment) > 1 and segment[0] == "uv" and segment[1] == "run":
            return ["uv", "run", "python"], True
    found = (name for name in ("python3", "python") if shutil.which(name, path=env.get("PATH", "")))
    return [next(found, "python3")], False


def _segments(command: str, env: Dict[str, str]) -> List[List[str]]:
    """Return the words of each simple command in a shell command, with its plain variables put in."""
    found: List[List[str]] = [[]]
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.wordchars += "!#$%+,:@[]^`{}"  # instead of whitespace_split, which hides operators before Python 3.8
    lexer.commenters = ""
    with suppress(ValueError):  # an open quote: the words before it are enough
        for word in lexer:
            if _OPERATOR.match(word):
                found.append([])
            else:
                found[-1].append(re.sub(r"\$\{?(\w+)\}?", lambda m: env.get(m.group(1), ""), word))
    return found


def _shebang(program: str, work: str) -> Optional[List[str]]:
    """Return the words of the first line of a script that Python runs."""
    line = b""
    with suppress(OSError, ValueError), open(os.path.join(work, program), "rb") as handle:
        line = handle.readline(200)
    words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
    return [word for word in words if os.path.basename(word) != "env" and not word.startswith("-")] or None


def _gpus(element: Element, env: Dict[str, str], problems: List[str]) -> Optional[List[str]]:
    """Return model and driver of each GPU of the job; None where they are not known."""
    if not element.gpus:
        return []
    try:
        words = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        return [line.strip() for line in _output(words, env, "/").splitlines() if line.strip()]
    except (NodeError, ValueError) as error:
        problems.append("the GPU model is not known: %s" % error)
        return None


def _output(words: List[str], env: Dict[str, str], cwd: str) -> str:
    """Return what a command prints. Raises NodeError when it is missing or takes too long, ValueError when it fails."""
    code, out, err = run_command(words, LOOK_SEC, env, cwd)
    if code:
        tail = err.strip().splitlines()[-1:]
        raise ValueError("%s ended with exit code %d%s" % (words[0], code, ": %.200s" % tail[0] if tail else ""))
    return out


def _field(path: str, name: str, separator: str) -> Optional[str]:
    """Return the value of a field in a file of the system."""
    with suppress(OSError), open(path, "rb") as handle:
        for line in handle.read(1 << 16).decode("utf-8", "replace").splitlines():
            key, _, value = line.partition(separator)
            if key.strip() == name and value.strip():
                return value.strip().strip('"')
    return None
