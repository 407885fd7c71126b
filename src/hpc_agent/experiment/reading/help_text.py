"""The options in the ``--help`` of a script."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts

# A line of argparse or click begins with the option; typer draws a bar before it, and a star when it is required.
_LINE = re.compile(r"^[ \u2502|]{1,6}(?:\*\s+)?(-{1,2}[A-Za-z0-9][^\n]*)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z0-9][\w.-]*)")
_ALWAYS = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
MOST_BYTES = 200_000


def options_from_help(
    root: Path, path: str, python: str, timeout_sec: float, env: Mapping[str, str]
) -> tuple[set[str], str]:
    """Run the script with --help in a session of its own. Return the options, and the problem when there are none."""
    plain = {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    child = subprocess.Popen(
        [python, str(root / path), "--help"],
        cwd=root,
        env={**env, **plain},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=timeout_sec)
    except subprocess.TimeoutExpired:
        return set(), f"--help took more than {timeout_sec:g} s"
    finally:
        end_group(child)
        if child.stdout:
            child.stdout.close()
    text = output[:MOST_BYTES].decode(errors="replace")
    if child.returncode != 0:
        return set(), (text.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    return options_in(text), ""


def options_in(text: str) -> set[str]:
    """Return the option strings of a help text, without --help and --version."""
    found: set[str] = set()
    for line in _LINE.findall(text):
        # The description follows after two blanks.
        head = re.split(r"\s{2,}(?!-)", line.strip(), maxsplit=1)[0]
        for part in re.split(r",\s+|\s{2,}|/", head):
            match = _OPTION.match(part.strip())
            if match:
                found.add(match[1])
    return found - _ALWAYS


def compare_with_help(
    root: Path, facts: ExecutorFacts, python: str, timeout_sec: float, env: Mapping[str, str]
) -> dict[str, Any]:
    """Return the options that only the source has and those that only the help has, or the error of the help."""
    helped, problem = options_from_help(root, facts.path, python, timeout_sec, env)
    if problem:
        return {"error": problem}
    read = {option for flag in facts.flags if not flag.hidden for option in flag.options}
    return {"only_in_source": sorted(read - helped), "only_in_help": sorted(helped - read), "same": read == helped}
