"""``wait-for-events`` as a call: within its bound, with progress, and with every event that was not acknowledged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from hpc_agent.errors import HpcError
from hpc_agent.mcp_server.event_log import EventLog
from hpc_agent.mcp_server.meta_requests import Event, WaitForEventsRequest, WaitForEventsResult
from hpc_agent.mcp_server.trimming import fit
from hpc_agent.mcp_server.watching import Watcher, rows, watched
from hpc_agent.mcp_server.wording import parse_command
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.ops.run.run_status import next_step
from hpc_agent.state.journal import TERMINAL
from hpc_agent.view.terminal.words import counted

if TYPE_CHECKING:
    from hpc_agent.mcp_server.answers import Answer
    from hpc_agent.mcp_server.session import Session
    from hpc_agent.mcp_server.work import Told, Work

PROGRESS_SEC = 10.0
PAUSE_SEC = 0.1
# What the answer itself takes of the longest call.
MARGIN_SEC = 1.0


async def wait_for_events(session: Session, request: WaitForEventsRequest, told: Told) -> Answer:
    """Return the events that are not acknowledged, as soon as there is one; else wait for one, at most ``wait_sec``.

    The looks run in a thread: one that takes longer than this call goes on, and the next call finds its events. Raises
    SpecInvalid for a folder that is not there, RunNotFound for a run that is not.
    """
    _, journal = journal_of(session.world, request.experiment_dir)
    log = EventLog(journal.folder, session.world.now)
    watched(journal, log.looks(), request.run_id)  # names a run that is not there
    watcher = session.watchers.setdefault(str(journal.folder), Watcher())
    events = log.receive(request.consumer, request.ack)
    began = telling = time.monotonic()
    limit = min(request.wait_sec, session.settings.answer_within - MARGIN_SEC)
    due: float | None = began
    while not events and due is not None:
        if time.monotonic() >= due:
            due = await _look(session, watcher, request, began + limit)
            events = log.receive(request.consumer, None)
        if time.monotonic() - began >= limit:
            break
        if time.monotonic() - telling >= PROGRESS_SEC:
            telling = time.monotonic()
            await told(telling - began, f"{counted(len(rows(session.world, request)), 'run')} watched")
        if not events and due is not None:
            await anyio.sleep(min(PAUSE_SEC, max(0.0, began + limit - time.monotonic())))
    return _answer(session, request, watcher, events, time.monotonic() - began)


async def _look(session: Session, watcher: Watcher, request: WaitForEventsRequest, until: float) -> float | None:
    """Begin a look, or join the one under way, and wait for its end or ``until``.

    Return the time at which the next one is due; None when every run has ended. Raises the error of the look.
    """
    key = ("look", id(watcher), request.run_id)

    def look(work: Work) -> HpcError | float | None:
        try:
            return watcher.look(request, session.world_of(work))
        except HpcError as error:
            return error

    work = session.works.begin(key, look)
    while not work.done.is_set() and time.monotonic() < until:
        await anyio.sleep(0.02)
    if not work.done.is_set():
        return until
    session.works.forget(key, work)
    if isinstance(work.outcome, HpcError):
        raise work.outcome
    return None if work.outcome is None else time.monotonic() + float(work.outcome)


def _answer(
    session: Session, request: WaitForEventsRequest, watcher: Watcher, events: list[Event], waited: float
) -> Answer:
    last = events[-1].id if events else None
    seen = rows(session.world, request)
    result = WaitForEventsResult(events=events, last_id=last, runs=seen, waited_sec=round(waited, 1))
    data, cuts = fit(msgspec.to_builtins(result))
    data.pop("partial_errors", None)
    if cuts and data["events"]:
        data["last_id"] = data["events"][-1]["id"]  # the events that were cut off come with the next call
    answer: Answer = {
        "summary": _summary(events, seen),
        "next": _next(session, request, data["last_id"], events, seen),
        "data": data,
        "idempotent": True,
    }
    if watcher.problems:
        answer["partial_errors"] = msgspec.to_builtins(list(watcher.problems.values()))
    return answer


def _summary(events: list[Event], seen: list[dict[str, Any]]) -> str:
    if events:
        text = "; ".join(event.text for event in events[:3])
        return f"{counted(len(events), 'event')}: {text}"[:300]
    if not seen:
        return "No run is in flight"
    return f"Nothing new of {counted(len(seen), 'run')}"


def _next(
    session: Session,
    request: WaitForEventsRequest,
    last: int | None,
    events: list[Event],
    seen: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the next wait, with the acknowledgement; after the end of the last run what follows on it."""
    given = msgspec.to_builtins(request)
    defaults = msgspec.to_builtins(WaitForEventsRequest())
    again = {name: value for name, value in given.items() if value != defaults[name] and name != "ack"}
    if last is not None:
        again["ack"] = last
    waiting = [row for row in seen if row["lifecycle_state"] not in TERMINAL]
    ended = [event.run_id for event in events if event.event == "ended"]
    held = [event.run_id for event in events if event.event == "held-back"]
    if held and not ended:
        return _after(session, request, "monitor-flow", {"run_id": held[-1]}, last)
    if waiting or not (ended or seen):
        return {"tool": "wait-for-events", "arguments": again} if waiting else {"tool": "load-context", "arguments": {}}
    run_id = ended[-1] if ended else seen[-1]["run_id"]
    _, journal = journal_of(session.world, request.experiment_dir)
    record = journal.load(run_id)
    known = parse_command(next_step(run_id, record.status, record.last_status))
    if known is None:
        return {"tool": "wait-for-events", "arguments": again}
    return _after(session, request, *known, last)


def _after(
    session: Session, request: WaitForEventsRequest, verb: str, arguments: dict[str, Any], last: int | None
) -> dict[str, Any]:
    """Return the call of a verb about a run; ``ack`` goes with the next wait."""
    from hpc_agent.mcp_server.answers import tool_call

    if request.experiment_dir != ".":
        arguments = {**arguments, "experiment_dir": request.experiment_dir}
    call = tool_call(verb, arguments, session.settings)
    if "refused_here" in call:
        call = {"command": f"hpc-agent {verb} --run-id {arguments['run_id']}"}
    return {**call, "ack": last} if last is not None else call
