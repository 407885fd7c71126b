"""A state folder of the embedded scheduler with real processes, for the fault tests."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_agent.node.schedulers.base import Job
from hpc_agent.node.schedulers.local import adapter as local_module
from hpc_agent.node.schedulers.local.adapter import Local
from hpc_agent.node.shared import processes
from hpc_agent.node.shared.files import read_json


class Bench:
    """One state folder, and what a test asks of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.scheduler = Local(str(self.state), 2, 4000)
        self.out = root / "out"

    def document(self, script: str, **fields: Any) -> dict[str, Any]:
        path = self.root / f"script-{len(list(self.root.glob('script-*')))}.sh"
        path.write_text(script)
        environment = {"OUT": str(self.out), **fields.pop("environment", {})}
        basic = {"name": "token", "count": 1, "script": str(path), "environment": environment}
        return {**basic, "log_folder": str(self.root / "log"), "working_directory": str(self.root), **fields}

    def submit(self, script: str, **fields: Any) -> str:
        return self.scheduler.submit(Job(**self.document(script, **fields)))

    def wait(self, *jobs: str, timeout: float = 60) -> dict[int, dict[str, Any]]:
        """Ask until the jobs are over; the accounting of the last one."""
        until(lambda: not self.scheduler.queue(jobs), timeout)
        return self.rows(jobs[-1])

    def rows(self, job: str) -> dict[int, dict[str, Any]]:
        return {row.element: {**row._asdict(), "state": row.state} for row in self.scheduler.accounting([job], 0)}

    def events(self, job: str) -> list[dict[str, Any]]:
        log = self.state / "jobs" / job / "events.jsonl"
        text = log.read_text() if log.exists() else ""
        return [json.loads(line) for line in text.split("\n") if line.startswith("{") and line.endswith("}")]

    def start_event(self, job: str, element: int = 0) -> dict[str, Any]:
        """Wait until an element runs its script, and return its latest start event.

        The event is seen before the supervisor opens the gate of the element (its fsync lies between). A supervisor
        that is killed there has started nothing, and the same attempt begins again.
        """

        def found() -> list[dict[str, Any]]:
            return [e for e in self.events(job) if e["event"] == "start" and e["element"] == element]

        def beyond_its_gate() -> bool:
            event = found()[-1]
            parents = {process.parent for process in processes.table().values()}
            return event["pid"] in parents or processes.born(event["pid"]) != event["born"]

        until(found)
        until(beyond_its_gate)
        return found()[-1]

    def lines(self) -> list[str]:
        return self.out.read_text().split() if self.out.exists() else []

    def supervisor(self) -> int:
        document = read_json(str(self.state / "supervisor.json"), {})
        return int(document.get("pid", 0))

    def kill_supervisor(self, number: int = signal.SIGKILL) -> bool:
        """Whether there was one to kill."""
        pid = self.supervisor()
        if not pid or pid not in self.supervisors():
            return False
        os.kill(pid, number)
        # Its command line is gone before its files are: the lock is free only once the process has ended.
        until(lambda: processes.born(pid) is None)
        return True

    def supervisors(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.state).encode() in words and processes.born(int(entry.name)):
                found.append(int(entry.name))
        return found

    def leftovers(self) -> dict[int, str]:
        """Processes of this test's elements."""
        table = processes.table()
        members: dict[int, str] = {}
        for job in self.scheduler.state.job_ids():
            for event in self.events(str(job)):
                if event["event"] == "start":
                    members.update(processes.family(table, event["pid"], {event["pid"]: event["born"]}))
        return members

    def close(self) -> None:
        for pid in self.supervisors():
            with contextlib.suppress(ProcessLookupError):  # it ended just now: its work is done
                os.kill(pid, signal.SIGKILL)
        processes.kill_all(self.leftovers())


def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def patched_boot(monkeypatch: pytest.MonkeyPatch, statements: str) -> None:
    """Let the supervisor run ``statements`` first, with its own modules as names."""
    lines = [
        "import importlib, sys",
        "sys.path.append(sys.argv[1])",
        "for name in ('supervise', 'events', 'state_folder'):",
        "    globals()[name] = importlib.import_module(sys.argv[2] + '.' + name)",
        "processes = supervise.processes",
        statements,
        "supervise.main(sys.argv[3], int(sys.argv[4]))",
    ]
    monkeypatch.setattr(local_module, "_BOOT", "\n".join(lines))


def most_at_once(events: list[dict[str, Any]], weight: Callable[[dict[str, Any]], int] = lambda _: 1) -> int:
    now = most = 0
    for event in events:
        now += {"start": 1, "end": -1}.get(event["event"], 0) * weight(event)
        most = max(most, now)
    return most
