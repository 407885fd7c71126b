"""The events of the runs of one repo, in a file beside its journal: what was seen last, and who has received what.

An event is in the file before it is in an answer, and it is in every answer until its id comes back: each is received at least
once, whatever is lost between, and after a restart of the server too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.mcp_server.meta_requests import Event
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.state.journal import TERMINAL, append_line
from hpc_agent.state.repo_files import locked

LOCK_SEC = 10.0
# The file is written anew, with what still counts, when it has so many lines.
MOST_LINES = 1000
KEPT_EVENTS = 200
QUARTERS = 4

Look = dict[str, Any]  # the fields of _LookLine


class _EventLine(Event, tag_field="kind", tag="event"):
    """A line of the file: something happened."""


class _LookLine(msgspec.Struct, tag_field="kind", tag="look"):
    """A line of the file: how a run was seen."""

    run_id: str
    lifecycle_state: str
    total: int
    counts: dict[str, int]
    failures_by_cause: dict[str, int] = {}
    stuck: int = 0
    to_submit: int = 0


class _AckLine(msgspec.Struct, tag_field="kind", tag="ack"):
    """A line of the file: a consumer has received the events up to this one."""

    consumer: str
    id: int


class _LastLine(msgspec.Struct, tag_field="kind", tag="last_id"):
    """A line of the file: the last event before the file was written anew."""

    id: int


_Line = _EventLine | _LookLine | _AckLine | _LastLine


@dataclass
class _State:
    """The file, folded."""

    looks: dict[str, Look] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    last_id: int = 0
    lines: int = 0

    def take(self, line: _Line) -> None:
        match line:
            case _EventLine():
                self.events.append(Event(**msgspec.structs.asdict(line)))
                self.last_id = max(self.last_id, line.id)
            case _LookLine():
                self.looks[line.run_id] = msgspec.structs.asdict(line)
            case _AckLine():
                self.received[line.consumer] = line.id
            case _LastLine():
                self.last_id = max(self.last_id, line.id)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, none where it is missing; the last one, if an append never returned, is left out."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


class EventLog:
    """The file ``mcp-events.jsonl`` in a folder of the journal. Several servers may share it."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._path = folder / "mcp-events.jsonl"
        self._lock = folder / ".mcp-events.lock"
        self._now = now

    def saw(self, look: Look) -> None:
        """Write what changed since the last look at this run: as events, and as the look that the next one is compared with."""
        with locked(self._lock, LOCK_SEC, "the events of this repo"):
            state = self._read()
            before = state.looks.get(look["run_id"])
            if before == look:
                return
            told = changes(before, look)
            at = iso(self._now())
            for event, text in told:
                state.last_id += 1
                entry = {"id": state.last_id, "at": at, "run_id": look["run_id"], "event": event, "text": text}
                append_line(self._path, {"kind": "event", **entry})
            # after its events: a kill between them repeats an event and loses none
            append_line(self._path, {"kind": "look", **look})

    def receive(self, consumer: str, ack: int | None) -> list[Event]:
        """Keep an acknowledgement, and return the events that this consumer has not acknowledged, the oldest first."""
        with locked(self._lock, LOCK_SEC, "the events of this repo"):
            state = self._read()
            known = state.received.get(consumer, 0)
            if ack is not None and known < ack <= state.last_id:
                append_line(self._path, {"kind": "ack", "consumer": consumer, "id": ack})
                state.received[consumer] = known = ack
            if state.lines > MOST_LINES:
                self._rewrite(state)
            return [event for event in state.events if event.id > known]

    def looks(self) -> dict[str, Look]:
        """Return the last look at each run."""
        with locked(self._lock, LOCK_SEC, "the events of this repo"):
            return self._read().looks

    def _read(self) -> _State:
        state = _State()
        for line in whole_lines(self._path):
            state.lines += 1
            try:
                state.take(msgspec.json.decode(line, type=_Line))
            except (msgspec.MsgspecError, RecursionError):
                continue  # a torn line, which an append that never returned has left, or a damaged one
        return state

    def _rewrite(self, state: _State) -> None:
        """Write the file anew: without events that every consumer has received, and the last ones at most."""
        least = min(state.received.values(), default=0)
        events = [event for event in state.events if event.id > least][-KEPT_EVENTS:]
        rows: list[dict[str, Any]] = [{"kind": "last_id", "id": state.last_id}]
        rows += [{"kind": "event", **msgspec.structs.asdict(event)} for event in events]
        rows += [{"kind": "look", **look} for look in state.looks.values()]
        rows += [{"kind": "ack", "consumer": name, "id": number} for name, number in state.received.items()]
        write_bytes(str(self._path), b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def changes(before: Look | None, now: Look) -> list[tuple[str, str]]:
    """Return what is worth a word: event and sentence. The first look at a run says only that it ended."""
    told: list[tuple[str, str]] = []
    run, counts, state = now["run_id"], now["counts"], now["lifecycle_state"]
    total = max(1, now["total"])
    old = before or {"counts": {}, "lifecycle_state": "in_flight", "failures_by_cause": {}, "stuck": 0, "to_submit": 0}
    if state not in TERMINAL and old["lifecycle_state"] in TERMINAL:
        told.append(("goes-on", f"{run} goes on: tasks were submitted again"))
    if counts.get("running") and not old["counts"].get("running") and not old["counts"].get("complete"):
        told.append(("started", f"{run}: the first of {total} tasks run"))
    new = [cause for cause in now["failures_by_cause"] if cause not in old["failures_by_cause"]]
    if new:
        causes = ", ".join(f"{now['failures_by_cause'][cause]} {cause}" for cause in new)
        told.append(("failures", f"{run}: tasks failed ({causes})"))
    if now["stuck"] and not old["stuck"]:
        told.append(("needs-person", f"{run}: {now['stuck']} tasks wait for something that does not come by itself"))
    if now["to_submit"] and not old["to_submit"]:
        told.append(("held-back", f"{run}: {now['to_submit']} arrays are not submitted yet; monitor-flow submits them"))
    done, was = counts.get("complete", 0), old["counts"].get("complete", 0)
    if state in TERMINAL and old["lifecycle_state"] not in TERMINAL:
        told.append(("ended", f"{run} is {state}: {done} of {total} tasks complete"))
    elif before and done * QUARTERS // total > was * QUARTERS // total and done < total:
        told.append(("progress", f"{run}: {done} of {total} tasks complete"))
    return told
