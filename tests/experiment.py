"""Small experiment repos for tests, and the run that most of them want."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]

WRITE = '''echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'''


def make_repo(folder: Path, tasks: Sequence[dict[str, Any]] | str, **files: str) -> Path:
    """A repo with .hpc/tasks.py: the given list, or the given source. Other files by name (``__`` for ``/``)."""
    source = tasks if isinstance(tasks, str) else listed(tasks)
    write(folder / ".hpc" / "tasks.py", source)
    for name, text in files.items():
        write(folder / name.replace("__", "/"), text)
    return folder


def listed(tasks: Sequence[dict[str, Any]]) -> str:
    return f"TASKS = {list(tasks)!r}\n\ndef total():\n    return len(TASKS)\n\ndef resolve(task_id):\n    return TASKS[task_id]\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def submit(run_cli: Cli, repo: Path, executor: str, *flags: str, **options: Any) -> Any:
    """Submit on the test bed's cluster; the result's data."""
    return run_cli("submit", "--cluster", "testbed", "--executor", executor, *flags, cwd=repo, **options).data


def watch(run_cli: Cli, repo: Path, budget: float = 120) -> Any:
    """Wait for the newest run to end; the result's data."""
    return run_cli("monitor-flow", "--wall-clock-budget-seconds", str(budget), cwd=repo, timeout=budget + 60).data


def aggregate(run_cli: Cli, repo: Path, *flags: str) -> Any:
    """The answer of aggregate, with all that table.json has: every row and statistic, and what is empty."""
    answer = run_cli("aggregate", *flags, cwd=repo).data
    return {**answer, **json.loads(Path(answer["table_csv"]).with_name("table.json").read_text())}
