"""Child processes that run the user's code in a session of their own: their end, and the options in their ``--help``."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

import yaml

# A line of argparse or click begins with the option; typer draws a bar before it, and a star when it is required.
_LINE = re.compile(r"^[ \u2502|]{1,6}(?:\*\s+)?(-{1,2}[A-Za-z0-9][^\n]*)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z0-9][\w.-]*)")
_ALWAYS = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
MOST_BYTES = 200_000


def end_group(child: Popen[bytes]) -> None:
    """Kill the child and every process of its group, and collect its exit code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def options_from_help(
    root: Path, words: list[str], timeout_sec: float, env: Mapping[str, str], is_hydra: bool = False
) -> tuple[set[str], str]:
    """Run the command with --help, or hydra's --cfg job. Return its other options but --version, and the problem if any.

    An option of hydra is a key of its configuration with "=".
    """
    plain = {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    env = {**env, **plain}
    asked = [*words, *(["--cfg", "job"] if is_hydra else ["--help"])]
    try:
        child = Popen(asked, cwd=root, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True)
    except OSError as error:
        return set(), f"{words[0]} cannot be started: {error.strerror}"
    with child:
        try:
            output, _ = child.communicate(timeout=timeout_sec)
        except TimeoutExpired:
            return set(), f"--help took more than {timeout_sec:g} s"
        finally:
            end_group(child)
    text = output[:MOST_BYTES].decode(errors="replace")
    if child.returncode != 0 and ("flags:" not in text or "Traceback" in text):  # absl ends --help with 1
        return set(), (text.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    if is_hydra:
        return keys_in(text)
    return options_in(text), ""


def options_in(text: str) -> set[str]:
    """Return the options in a text of --help, but --help and --version."""
    # The description follows after two blanks. Absl writes --[no]on for a switch.
    lines = _LINE.findall(text.replace("--[no]", "--"))
    heads = (re.split(r"\s{2,}(?!-)", line.strip(), maxsplit=1)[0] for line in lines)
    parts = (_OPTION.match(part.strip()) for head in heads for part in re.split(r",\s+|\s{2,}|/", head))
    return {match[1] for match in parts if match} - _ALWAYS


def keys_in(text: str) -> tuple[set[str], str]:
    """Return each key of a configuration with "=", and the problem when the text is none."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        return set(), "--cfg job printed no configuration"
    found: set[str] = set()
    todo = [("", document)]
    for prefix, part in todo:
        for key, value in part.items():
            if isinstance(value, dict) and value:
                todo.append((f"{prefix}{key}.", value))
            else:
                found.add(f"{prefix}{key}=")
    return found, ""
