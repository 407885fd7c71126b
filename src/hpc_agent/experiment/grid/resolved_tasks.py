"""The parameters of every task of a repo, resolved twice in child processes with a time limit, and compared."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.infra.transport import exit_code
from hpc_agent.node.shared.task_environment import DIGEST_BYTES, canonical, problems
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

PREVIEW = 3
EXAMPLE = "hpc_agent/models/mapreduce/templates/scaffolds/tasks_example.py"
QUICKER = "Make import, total() and resolve() quick, or add --resolve-timeout-sec 600 to the same hpc-agent command."
_invalid = functools.partial(SpecInvalid, field="tasks.py")


@dataclass(frozen=True)
class ResolvedTasks:
    """The parameters of every task, in a file with one line for each task."""

    path: Path
    total: int
    cmd_sha: str
    tasks_py_sha: str  # empty for tasks that stand in the request

    def lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as handle:
            yield from (line.rstrip(b"\n") for line in itertools.islice(handle, self.total))

    def kwargs(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.lines())

    def every(self, step: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return number and parameters of every ``step``-th task."""
        return ((task, json.loads(line)) for task, line in itertools.islice(enumerate(self.lines()), 0, None, step))

    def digests(self) -> str:
        """Return four bytes of SHA-256 for each task, compressed and as base64; a task compares its parameters with them."""
        return _packed(b"".join(hashlib.sha256(line).digest()[:DIGEST_BYTES] for line in self.lines()))

    def inline(self) -> str | None:
        """Return the parameters of all tasks for the run's tasks.jsonl, compressed and as base64; None for tasks.py."""
        return None if self.tasks_py_sha else _packed(self.path.read_bytes())

    def preview(self) -> list[dict[str, Any]]:
        return list(itertools.islice(self.kwargs(), PREVIEW))


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@contextlib.contextmanager
def resolve_tasks(world: World, repo: RepoLayout, limit: int, timeout_sec: float) -> Iterator[ResolvedTasks]:
    """Resolve every task, in files that are deleted at the end of the ``with``.

    Raises SpecInvalid with the task's number: tasks.py missing, raising, of a wrong type, too slow, not reproducible.
    """
    if not repo.tasks.is_file():
        remedy = "Run 'hpc-agent build-tasks-py', or write .hpc/tasks.py with total() and resolve(task_id) as in "
        remedy += f"{EXAMPLE} ('hpc-agent demo' makes a whole repo)."
        raise SpecInvalid(f"there is no {repo.tasks}", field="experiment_dir", remediation=remedy)
    before = hashlib.sha256(repo.tasks.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory(prefix="hpc-agent-") as folder:
        outputs = first, second = Path(folder, "first"), Path(folder, "second")
        # Different hash seeds show a dependence on the order of a set; two processes one on the clock or on chance.
        children = [_start(world, repo.tasks, output, limit, seed) for output, seed in zip(outputs, "01", strict=True)]
        try:
            for child in children:
                exit_code(child, timeout_sec)
        except subprocess.TimeoutExpired:
            message = f"resolving the tasks took more than {timeout_sec:.0f} s"
            raise _invalid(message, remediation=QUICKER) from None
        finally:
            for child in children:
                end_group(child)
        total, _ = (_total(output, child, repo.tasks) for output, child in zip(outputs, children, strict=True))
        cmd_sha = _compare(first, second, total, repo.tasks)
        if hashlib.sha256(repo.tasks.read_bytes()).hexdigest() != before:
            raise _invalid("tasks.py changed while it was being read")
        yield ResolvedTasks(first, total, cmd_sha, before)


@contextlib.contextmanager
def given_tasks(tasks: list[dict[str, Any]], limit: int) -> Iterator[ResolvedTasks]:
    """Return tasks whose parameters stand in the request, in a file that is deleted at the end of the ``with``.

    Raises SpecInvalid with the task's number: no task, too many, or parameters that cannot become variables.
    """
    if not 0 < len(tasks) <= limit:
        message = f"tasks has {len(tasks):,} tasks: one run may have 1 to {limit:,} (constraints.max_tasks)"
        raise SpecInvalid(message, field="tasks")
    lines = []
    for task, kwargs in enumerate(tasks):
        found = problems(kwargs)
        try:
            lines.append(canonical(kwargs))
        except ValueError as error:
            found.append(str(error))
        if found:
            raise SpecInvalid(f"task {task} of tasks: {found[0]}", field="tasks", details={"task": task})
    with tempfile.TemporaryDirectory(prefix="hpc-agent-") as folder:
        path = Path(folder, "tasks.jsonl")
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        yield ResolvedTasks(path, len(tasks), hashlib.sha256(b"\n".join(lines)).hexdigest(), "")


def _start(world: World, tasks_py: Path, output: Path, limit: int, seed: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[3]), world.env.get("PYTHONPATH", "")]))
    env = {**world.env, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path}
    # With -m, Python would import json.py or types.py of the repo instead of its own modules.
    code = "import sys; sys.path[:] = filter(None, sys.path)\n"
    code += "from hpc_agent.experiment.grid.resolve_child import main; main(*sys.argv[1:])"
    words, cwd = [sys.executable, "-c", code, str(tasks_py), str(output), str(limit)], tasks_py.parents[1]
    with output.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen(
            words, cwd=cwd, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, start_new_session=True
        )


def _total(output: Path, child: subprocess.Popen[bytes], tasks_py: Path) -> int:
    """Return the number of tasks that the child wrote. Raises SpecInvalid with the error of tasks.py."""
    remedy = f"Correct {tasks_py}, then run 'hpc-agent compute-run-id' to check it."
    try:
        with output.open("rb") as handle:
            handle.seek(max(0, output.stat().st_size - 65536))
            outcome = json.loads(handle.read().rstrip(b"\n").rpartition(b"\n")[2])
    except (OSError, ValueError):
        outcome = {}
    if error := outcome.get("error"):
        details = {key: value for key, value in error.items() if value not in (None, "")}
        raise _invalid(error["message"], remediation=remedy, details=details)
    if "total" not in outcome:
        tail = output.with_suffix(".err").read_bytes()[-1500:].decode(errors="replace")
        message = f"tasks.py ended the process that read it (exit code {child.returncode})"
        raise _invalid(message, remediation=remedy, details={"stderr_tail": tail})
    return int(outcome["total"])


def _compare(first: Path, second: Path, total: int, tasks_py: Path) -> str:
    """Return the SHA-256 of all parameters. Raises SpecInvalid when the two files differ."""
    digest = hashlib.sha256()
    with first.open("rb") as one, second.open("rb") as two:
        for task in range(total):
            line = one.readline()
            if line != two.readline():
                remedy = f"Make {tasks_py} deterministic (no clock, no chance), then 'hpc-agent submit'."
                message = f"resolve({task}) gives other parameters each time it is called"
                raise _invalid(message, remediation=remedy, details={"task": task})
            digest.update((b"\n" if task else b"") + line.rstrip(b"\n"))
        if one.readline() != two.readline():
            raise _invalid("total() gives another number each time it is called")
    return digest.hexdigest()
