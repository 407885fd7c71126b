"""``wait-for-events``: look at runs at their cluster's pace while somebody waits, and tell what changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from hpc_agent.contract.primitive import PartialError
from hpc_agent.errors import HpcError, JournalCorrupt, RunNotFound
from hpc_agent.mcp_server.event_log import EventLog, Look
from hpc_agent.mcp_server.meta_requests import WaitForEventsRequest
from hpc_agent.ops.monitor.monitor_flow import PollInterval
from hpc_agent.ops.run.known_run import KnownRun, RunScoped, journal_of, known_run
from hpc_agent.ops.run.run_status import ask_status
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.world import World

MOST_RUNS = 20
# A run whose cluster does not answer is asked again after so long.
UNANSWERED_SEC = 15.0


class Watcher:
    """The pace of the looks at the runs of one repo. A server has one for each repo."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._pace: dict[str, PollInterval] = {}
        self.problems: dict[str, PartialError] = {}

    def look(self, request: WaitForEventsRequest, world: World) -> float | None:
        """Look at each run of the request that is due, and write what changed. A run that cannot be asked is a problem.

        Return the seconds until the next look is due; None when every run has ended.
        """
        with self._lock:
            _, journal = journal_of(world, request.experiment_dir)
            log = EventLog(journal.folder, world.now)
            dues = []
            looks = log.looks()
            for record in watched(journal, looks, request.run_id):
                run_id = record.run_id
                if record.status in TERMINAL and record.last_status:
                    log.saw(_of_record(record))
                    continue
                if time.monotonic() < self._due.get(run_id, 0.0) or not self._look_at(
                    run_id, request, log, looks.get(run_id), world
                ):
                    dues.append(self._due[run_id])
            return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _look_at(
        self, run_id: str, request: WaitForEventsRequest, log: EventLog, before: Look | None, world: World
    ) -> bool:
        """Look at one run, which was ``before`` seen so. Return True when it has ended."""
        pause, has_ended = UNANSWERED_SEC, False
        try:
            run = known_run(world, RunScoped(run_id=run_id, experiment_dir=request.experiment_dir))
            seen = _look(run)
            pace = self._pace.setdefault(run_id, PollInterval(run.node.cluster))
            pace.saw(before is None or before["counts"] != seen[0]["counts"], seen[1])
            log.saw(seen[0])
            pause, has_ended = pace.seconds(), seen[0]["lifecycle_state"] in TERMINAL
            self.problems.pop(run_id, None)
        except HpcError as error:
            self.problems[run_id] = PartialError(code=error.error_code, detail=f"{run_id}: {error.message}")
        self._due[run_id] = time.monotonic() + pause
        return has_ended


def _look(run: KnownRun) -> tuple[Look, float | None]:
    seen = ask_status(run)
    look = {
        "run_id": seen.run_id,
        "lifecycle_state": seen.lifecycle_state,
        "total": seen.total_tasks,
        "counts": seen.counts(),
        "failures_by_cause": seen.failures_by_cause,
        "stuck": seen.stuck,
        "to_submit": seen.to_submit,
    }
    return look, seen.next_look_sec


def _of_record(record: RunRecord) -> Look:
    """Return the look that the journal remembers, of a run that another call saw end."""
    counts = {name: value for name, value in record.last_status.items() if isinstance(value, int)}
    return {
        "run_id": record.run_id,
        "lifecycle_state": record.status,
        "total": record.total_tasks,
        "counts": counts,
        "failures_by_cause": {},
        "stuck": 0,
        "to_submit": 0,
    }


def watched(journal: Journal, looks: Mapping[str, Look], run_id: str | None) -> list[RunRecord]:
    """Return the runs to watch: the one that is named, else those in flight, and those that were in flight at the last look.

    Raises RunNotFound for a run that this repo does not have.
    """
    if run_id == "latest":
        return journal.all(never_sent=True)[0][:1]
    if run_id is not None:
        return [journal.load(run_id)]
    was_open = {name for name, look in looks.items() if look["lifecycle_state"] not in TERMINAL}
    records = [record for record in journal.all()[0] if record.status not in TERMINAL or record.run_id in was_open]
    return records[:MOST_RUNS]


def rows(world: World, request: WaitForEventsRequest) -> list[dict[str, Any]]:
    """Return the watched runs as of the last look."""
    _, journal = journal_of(world, request.experiment_dir)
    looks, found = EventLog(journal.folder, world.now).looks(), []
    try:
        records = watched(journal, looks, request.run_id)
    except (RunNotFound, JournalCorrupt):
        records = []
    for record in records:
        look = looks.get(record.run_id)
        state = look["lifecycle_state"] if look else record.status
        found.append({"run_id": record.run_id, "lifecycle_state": state, "counts": look["counts"] if look else {}})
    return found
