"""Resolve every task of a repo, in a child process with a time limit, twice, and refuse what is not reproducible."""

from __future__ import annotations

import base64
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
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.node.shared.tasks_module import DIGEST_BYTES
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

PREVIEW = 3


@dataclass(frozen=True)
class ResolvedTasks:
    """Every task's parameters, on disk; ``kwargs()`` reads them one by one, so a million tasks need no memory."""

    path: Path
    total: int
    cmd_sha: str
    tasks_py_sha: str

    def lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as handle:
            for _, line in zip(range(self.total), handle, strict=False):
                yield line.rstrip(b"\n")

    def kwargs(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.lines())

    def every(self, step: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and kwargs of every ``step``-th task; the others are not even parsed."""
        for task, line in itertools.islice(enumerate(self.lines()), 0, None, step):
            yield task, json.loads(line)

    def digests(self) -> str:
        """Four bytes of SHA-256 a task, compressed and as base64: what the node holds ``resolve`` against."""
        data = b"".join(hashlib.sha256(line).digest()[:DIGEST_BYTES] for line in self.lines())
        return base64.b64encode(zlib.compress(data)).decode()

    def preview(self) -> list[dict[str, Any]]:
        return [kwargs for kwargs, _ in zip(self.kwargs(), range(PREVIEW), strict=False)]


class resolved:  # noqa: N801 - used as ``with resolved(...) as tasks``
    """Context of the resolved tasks; the files vanish with it.

    Raises SpecInvalid with the task's number: tasks.py missing, raising, of a wrong type, too slow, not reproducible.
    """

    def __init__(self, world: World, repo: RepoLayout, limit: int, timeout_sec: float) -> None:
        self._world = world
        self._repo = repo
        self._limit = limit
        self._timeout = timeout_sec
        self._folder = tempfile.TemporaryDirectory(prefix="hpc-agent-")

    def __enter__(self) -> ResolvedTasks:
        try:
            return self._resolve()
        except BaseException:
            self._folder.cleanup()
            raise

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _resolve(self) -> ResolvedTasks:
        if not self._repo.tasks.is_file():
            raise SpecInvalid(
                f"there is no {self._repo.tasks}",
                field="experiment_dir",
                remediation="Run 'hpc-agent build-tasks-py', or write .hpc/tasks.py with total() and resolve(task_id) as in "
                "hpc_agent/models/mapreduce/templates/scaffolds/tasks_example.py ('hpc-agent demo' makes a whole repo).",
            )
        before = hashlib.sha256(self._repo.tasks.read_bytes()).hexdigest()
        first, second = (Path(self._folder.name) / name for name in ("first", "second"))
        # Two processes with different hash seeds: what depends on the order of a set, the clock or chance differs.
        children = [self._start(first, "0"), self._start(second, "1")]
        try:
            for child in children:
                child.wait(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            raise SpecInvalid(
                f"resolving the tasks took more than {self._timeout:.0f} s",
                field="tasks.py",
                remediation="Make import, total() and resolve() quick, or allow more: "
                "'hpc-agent submit --resolve-timeout-sec N'.",
            ) from None
        finally:
            for child in children:
                end_group(child)
        total = self._verdict(first, children[0])
        self._verdict(second, children[1])
        cmd_sha = self._compare(first, second, total)
        if hashlib.sha256(self._repo.tasks.read_bytes()).hexdigest() != before:
            raise SpecInvalid("tasks.py changed while it was being read", field="tasks.py")
        return ResolvedTasks(first, total, cmd_sha, before)

    def _start(self, output: Path, seed: str) -> subprocess.Popen[bytes]:
        env = {**self._world.env, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
        package = str(Path(__file__).resolve().parents[3])
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [package, env.get("PYTHONPATH", "")]))
        # Not -m: it would look for our own imports in the repo first, where a json.py or types.py may lie.
        code = "import sys; sys.path[:] = filter(None, sys.path)\n"
        code += "from hpc_agent.experiment.grid.resolve_child import main; main(*sys.argv[1:])"
        words = [sys.executable, "-c", code]
        return subprocess.Popen(
            [*words, str(self._repo.tasks), str(output), str(self._limit)],
            cwd=self._repo.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output.with_suffix(".err").open("wb"),
            start_new_session=True,
        )

    def _verdict(self, output: Path, child: subprocess.Popen[bytes]) -> int:
        try:
            verdict = json.loads(_last_line(output))
        except (OSError, ValueError):
            verdict = {}
        if error := verdict.get("error"):
            details = {key: value for key, value in error.items() if value not in (None, "")}
            raise SpecInvalid(
                error["message"],
                field="tasks.py",
                details=details,
                remediation=f"Correct {self._repo.tasks}, then run 'hpc-agent compute-run-id' to check it.",
            )
        if "total" not in verdict:
            noise = output.with_suffix(".err").read_bytes()[-1500:].decode(errors="replace")
            raise SpecInvalid(
                f"tasks.py ended the process that read it (exit code {child.returncode})",
                field="tasks.py",
                details={"stderr_tail": noise},
                remediation=f"Correct {self._repo.tasks}, then run 'hpc-agent compute-run-id' to check it.",
            )
        return int(verdict["total"])

    def _compare(self, first: Path, second: Path, total: int) -> str:
        digest = hashlib.sha256()
        with first.open("rb") as one, second.open("rb") as two:
            for task in range(total):
                line = one.readline()
                if line != two.readline():
                    raise SpecInvalid(
                        f"resolve({task}) gives other parameters each time it is called",
                        field="tasks.py",
                        details={"task": task},
                        remediation=f"Make {self._repo.tasks} deterministic (no clock, no chance), then 'hpc-agent submit'.",
                    )
                digest.update((b"\n" if task else b"") + line.rstrip(b"\n"))
            if one.readline() != two.readline():
                raise SpecInvalid("total() gives another number each time it is called", field="tasks.py")
        return digest.hexdigest()


def _last_line(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - 65536))
        return handle.read().rstrip(b"\n").rpartition(b"\n")[2]
