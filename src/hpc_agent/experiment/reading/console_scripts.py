"""Commands that a repo installs: ``[project.scripts]`` of pyproject.toml, and console_scripts of setup.cfg and setup.py."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from hpc_agent.experiment.reading.syntax import module_paths

_FILES = {
    "pyproject.toml": r"^\[(?:project|tool\.poetry)\.scripts\](.*?)(?=^\[|\Z)",
    "setup.cfg": r"console_scripts(.*?)(?=^\[|\Z)",
    "setup.py": r"console_scripts(.*?)\]",
}
_COMMAND = re.compile(r"([\w.-]+)[\"']?\s*=\s*[\"']?([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


def console_scripts(root: Path) -> list[tuple[str, str, str, str]]:
    """Return file, command, path of the module in the repo, and function of each command."""
    found = []
    for file, section in _FILES.items():
        text = ""
        with contextlib.suppress(OSError):
            text = (root / file).read_text(encoding="utf-8", errors="replace")
        for part in re.findall(section, text, re.MULTILINE | re.DOTALL):
            for command, module, function in _COMMAND.findall(part):
                paths = [base + path for path in module_paths(module) for base in ("", "src/")]
                path = next((path for path in paths if (root / path).is_file()), None)
                found += [(file, command, path, function)] if path else []
    return found
