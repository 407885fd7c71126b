"""The text of ``.hpc/tasks.py``, signed with its hash, so that an edited file is recognised."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from hpc_agent.experiment.grid.generators import MANIFEST, TaskSource
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.writing.generated_file import compare_generated, edited, write_generated
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.state.repo_files import RepoLayout

CLI = "cli.py"
CLI_SOURCE = TEMPLATES / "scaffolds" / "cli.py"
_SIGNATURE = re.compile(r"^# Written by hpc-agent \(([0-9a-f]{12})\)[^\n]*\n", re.MULTILINE)
_ENDING = """

def total():
    return len(TASKS)


def resolve(task_id):
    return TASKS[task_id]
"""

Flags = dict[str, list[dict[str, Any]]]
Starts = dict[str, dict[str, Any]]


def render(source: TaskSource, flags: Flags, starts: Starts, python: str | None) -> str:
    """Return the signed text of tasks.py; ``python`` is None for the interpreter of any cluster."""
    tasks = f"{source.count:,} task" + ("" if source.count == 1 else "s")
    about = source.about if source.about.startswith(str(source.count)) else f"{source.about} = {tasks}"
    about = about.replace("\\", "/").replace('"', "'").replace("\n", " ")  # nothing that ends the docstring
    text = f'"""What to run: {about}."""\n\n'
    text += "".join(f"import {name}\n" for name in sorted(source.imports))
    text += ("\n" if source.imports else "") + source.python
    if flags:
        text += "\n# How .hpc/cli.py gives each parameter to an executor.\nFLAGS = {\n"
        for key, rows in flags.items():
            inner = "".join(f"        {literal(row, 8)},\n" for row in rows)
            text += f"    {literal(key)}: [" + (f"\n{inner}    " if rows else "") + "],\n"
        text += (
            "}\n"
            + (f"STARTS = {literal(starts)}\n" if starts else "")
            + (f"PYTHON = {literal(python)}\n" if python else "")
        )
    return sign(text + _ENDING)


def command_of(python: str) -> str:
    """Return the executor of a run whose tasks.py has FLAGS."""
    return f"{python} .hpc/{CLI}"


def sign(text: str) -> str:
    """Return ``text`` with a line under its docstring that has its hash."""
    head, _, rest = text.partition("\n")
    line = f"# Written by hpc-agent ({_digest(text)}), which writes it anew as long as nobody has edited it."
    return f"{head}\n{line}\n{rest}"


def untouched(text: str) -> bool:
    """Return True when nobody edited the text after ``sign``."""
    found = _SIGNATURE.search(text)
    return found is not None and _digest(_SIGNATURE.sub("", text, count=1)) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plan_files(
    repo: RepoLayout, source: TaskSource, flags: Flags, starts: Starts, python: str | None, force: bool
) -> dict[Path, str]:
    """Return path -> text of each file to write. Raises SpecInvalid for a file that was edited, unless ``force``."""
    files = {repo.tasks: render(source, flags, starts, python)}
    if flags:
        files[repo.hpc / CLI] = sign(CLI_SOURCE.read_text(encoding="utf-8"))
    if source.manifest is not None:
        files[repo.hpc / MANIFEST] = source.manifest
    for path, text in files.items():
        refuse_edited(repo, path, text, force)
    return files


def refuse_edited(repo: RepoLayout, path: Path, text: str, force: bool) -> None:
    """Raises SpecInvalid when ``text`` would replace an edited file, unless ``force``."""
    differs = compare_generated(path, text, repo.root) == "differs" and path.name != MANIFEST
    if differs and not force and not untouched(path.read_text(encoding="utf-8", errors="replace")):
        raise edited(path)


def write_files(repo: RepoLayout, files: dict[Path, str]) -> dict[str, str]:
    """Write the files, tasks.py last: a run needs the others. Return relative path -> written or kept."""
    order = sorted(files, key=lambda path: path == repo.tasks)
    return {
        path.relative_to(repo.root).as_posix(): write_generated(path, files[path], True, repo.root) for path in order
    }
