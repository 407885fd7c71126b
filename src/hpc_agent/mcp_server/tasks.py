"""The Tasks extension: the watch of a run as a task, whose id is the run's.

A task is a line in a file of the journal's folder before its id is in an answer; after a restart of the server the watch begins
again with the same request. To cancel a task is to stop watching: jobs are never cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hpc_agent.mcp_server.event_log import whole_lines
from hpc_agent.mcp_server.session import Session
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.state.journal import append_line
from hpc_agent.state.repo_files import local_path

EXTENSION = "io.modelcontextprotocol/tasks"
# The verb whose calls become tasks.
VERB = "monitor-flow"
POLL_MS = 5000
STOPPED = "The watch was stopped. The run and its jobs go on: jobs are never cancelled."


@dataclass
class Task:
    """A watch, as its file has it."""

    task_id: str
    arguments: dict[str, Any] = field(default_factory=dict)
    status: str = "working"
    created: float = 0.0
    updated: float = 0.0

    def wire(self, message: str = "", **more: Any) -> dict[str, Any]:
        """Return the task as the protocol describes it."""
        return {
            "taskId": self.task_id,
            "status": self.status,
            "createdAt": iso(self.created),
            "lastUpdatedAt": iso(self.updated),
            "ttlMs": None,
            "pollIntervalMs": POLL_MS,
            **({"statusMessage": message} if message else {}),
            **more,
        }


class _Line(msgspec.Struct):
    """A line of the file."""

    task: str
    event: str
    at: float
    arguments: dict[str, Any] | None = None


class TaskFile:
    """The tasks of this machine: ``mcp-tasks.jsonl`` in the journal's folder."""

    def __init__(self, session: Session) -> None:
        self._world = session.world
        self._path = session.world.journal_root / "mcp-tasks.jsonl"

    def begin(self, arguments: dict[str, Any]) -> Task:
        """Write a task for the watch of a run, and return it. Raises RunNotFound, PreconditionFailed, SpecInvalid."""
        from hpc_agent.ops.run.known_run import journal_of, load_record

        given = arguments.get("experiment_dir", ".")
        repo, journal = journal_of(self._world, given)
        run_id = load_record(journal, repo, arguments.get("run_id", "latest")).run_id
        here = str(local_path(self._world.cwd, given, "experiment_dir"))
        request = {**arguments, "run_id": run_id, "experiment_dir": here}
        self.write(run_id, "working", arguments=request)
        found = self.find(run_id)
        assert found is not None
        return found

    def write(self, task_id: str, status: str, **facts: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        at = round(self._world.now(), 3)
        append_line(self._path, {"event": status, "task": task_id, "at": at, **facts})

    def find(self, task_id: str) -> Task | None:
        """Return the task of that id, as its last line left it."""
        task: Task | None = None
        for line in whole_lines(self._path):
            try:
                entry = msgspec.json.decode(line, type=_Line)
            except (msgspec.MsgspecError, RecursionError):
                continue  # a torn or damaged line
            if entry.task != task_id:
                continue
            if task is None or entry.arguments is not None:
                task = Task(task_id, entry.arguments or {}, created=entry.at)
            task.status, task.updated = entry.event, entry.at
        return task
