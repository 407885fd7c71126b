"""``run-story``: one timeline of a run, from the journal of this machine, the ledger and the records on the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from hpc_agent.contract.primitive import Effect, PartialError, Result, primitive
from hpc_agent.errors import ClusterTimeout, RemoteCommandFailed, RunNotFound, SshUnreachable
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.state.journal import read_events
from hpc_agent.view.report.numbers import NBSP, duration
from hpc_agent.view.terminal.words import counted
from hpc_agent.world import World

STORY_TIMEOUT_SEC = 900.0
EVENTS_SHOWN = 30
NO_CLUSTER = (SshUnreachable, ClusterTimeout, RemoteCommandFailed, RunNotFound)


class Event(NamedTuple):
    """One line of a story: when (seconds since the epoch), where it is written, and what happened."""

    at: float
    source: str  # journal, ledger, records
    text: str


class RunStoryRequest(RunScoped):
    """The run, and how much of its story."""

    full: Annotated[bool, doc("every event, also as a list")] = False


class RunStoryResult(Result, omit_defaults=True, kw_only=True):
    run_id: str
    text: Annotated[str, doc("the story for a person: what ran, then one line an event, in UTC")]
    event_count: int
    truncated: Annotated[bool, doc("events in the middle were left out: --full has all")] = False
    events: Annotated[list[dict[str, Any]], doc("with full: at, source (journal, ledger, records) and text")] = []


@primitive(
    stage="provenance",
    effects=[Effect.SSH],
    errors=RUN_ERRORS,
    brief="a run's timeline",
    example={"run_id": "latest"},
    next_verbs=["report", "failures"],
)
def run_story(request: RunStoryRequest, world: World) -> RunStoryResult:
    """Tell the story of a run: submission, jobs, first start, failures, resubmissions, end, table; in one timeline.

    One SSH command. Where the cluster does not answer, the story has the events that this machine knows, and says so.
    """
    run = known_run(world, request)
    problems: list[PartialError] = []
    there: dict[str, Any] | None = None
    try:
        there = run.ask_this_version("provenance", STORY_TIMEOUT_SEC)
    except NO_CLUSTER as error:
        problems.append(PartialError(code=error.error_code, detail=error.message))
    events = story_of(run, there)
    shown, truncated = (events, False) if request.full else _shortened(events)
    text = story_text(run, there, shown)
    if there is None:
        text += "What happened on the cluster is not known: it did not answer.\n"
    return RunStoryResult(
        run_id=run.record.run_id,
        text=text,
        event_count=len(events),
        truncated=truncated,
        events=[{**event._asdict(), "at": iso(event.at)} for event in events] if request.full else [],
        partial_errors=problems,
    )


def story_text(run: KnownRun, there: dict[str, Any] | None, events: list[Event]) -> str:
    """Return what ran, then one line an event."""
    lines = [*_headline(run, there), "", *(f"{_time(event.at)}  {event.text}" for event in events)]
    return "\n".join(lines) + "\n"


def story_of(run: KnownRun, there: dict[str, Any] | None) -> list[Event]:
    """Return the events of a run in the order of time."""
    events = list(_journal_events(run))
    if there is not None:
        events += [*_ledger_events(there), *_task_events(there)]
    return sorted(events, key=lambda event: event.at)


def _headline(run: KnownRun, there: dict[str, Any] | None) -> list[str]:
    """Return the lines about what ran, on what."""
    record = run.record
    lines = [f"{record.run_id}: {record.total_tasks} tasks on {record.cluster}, {record.status} as of the last look"]
    lines.append(f"command  {record.executor}")
    if there is None:
        return lines
    document, tasks = there["run"], there["tasks"]
    lines.insert(1, f"tasks    {_counts(tasks['states'])} by their records, {_duration(tasks['seconds'])} in all")
    lines.append(f"code     snapshot {document['snapshot'][:12]}, {_git(document.get('git') or {})}")
    if document.get("reproduces"):
        lines.append(f"repeats  {document['reproduces']}")
    lines += [
        f"input    {one['path']}: {counted(one['files'], 'file')}, {one['bytes']} bytes, sha256 {one['sha256'][:12]}"
        for one in document.get("inputs") or []
    ]
    lines.append(f"ran on   {_environment(there['environment'])}")
    return lines


def _git(git: dict[str, Any]) -> str:
    if "commit" not in git:
        return f"git commit not known ({git.get('unknown', 'not recorded')})"
    if not git["dirty"]:
        return f"git {git['commit'][:12]} clean"
    changed = f"{counted(git['changed_count'], 'changed file')} ({', '.join(git['changed'][:3])})"
    return f"git {git['commit'][:12]} with {changed}"


def _environment(environment: dict[str, Any] | None) -> str:
    if environment is None:
        return "not recorded (no task has started, or the run is of an earlier version)"
    python = environment.get("python") or {}
    packages = python.get("package_count")
    parts = [
        f"node {environment.get('node')}",
        environment.get("cpu_model"),
        *(environment.get("gpus") or []),
        f"{python['implementation']} {python['version']}" if python else "interpreter not known",
        f"{packages} packages" if packages is not None else None,
        f"modules {', '.join(environment['modules'])}" if environment.get("modules") else None,
    ]
    return ", ".join(part for part in parts if part)


def _journal_events(run: KnownRun) -> Iterable[Event]:
    lifecycle = None
    for event in read_events(run.journal.path(run.record.run_id))[0]:
        text = None
        match event["event"]:
            case "submitting":
                text = f"submission of {event.get('total_tasks', '?')} tasks begins"
            case "submitted":
                text = f"the scheduler has accepted {_jobs(event['job_ids'])}"
                text += f"; {event['waiting']} arrays wait" if event.get("waiting") else ""
            case "status" if event["lifecycle_state"] != lifecycle:
                lifecycle = event["lifecycle_state"]
                counts = {name: number for name, number in event["counts"].items() if number and number is not True}
                text = f"seen {lifecycle}: {_counts(counts)}"
            case "marked":
                text = f"marked {event['status']}" + (f": {event['reason']}" if event.get("reason") else "")
            case "resubmitting":
                text = f"resubmission {event['request_id']} begins"
            case "resubmitted":
                text = f"resubmission {event['request_id']}: {_jobs(event['jobs']) if event['jobs'] else 'no job'}"
            case "aggregated":
                text = f"table of {counted(len(event['waves']), 'wave')} written to {event['output']}"
        if text:
            yield Event(event["at"], "journal", text)


def _jobs(jobs: list[str]) -> str:
    return f"job{'s' if len(jobs) != 1 else ''} {_first(jobs, 5)}"


def _first(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _ledger_events(there: dict[str, Any]) -> Iterable[Event]:
    """Yield one event for the arrays of a wave, or of a resubmission, that were submitted."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for array in there["arrays"]:
        key = (array.get("resubmit"), array.get("wave", 0), array.get("generation", 1))
        groups.setdefault(key, []).append(array)
    for (resubmit, wave, generation), arrays in groups.items():
        sent = [array for array in arrays if array.get("submitted_at")]
        if sent:
            names = _first([array["array"] for array in sent], 3)
            elements = sum(array.get("elements", 0) for array in sent)
            why = f"wave {wave}" if resubmit is None else f"resubmission {resubmit} ({_classes(sent)})"
            asked = sent[0].get("resources") or {}
            text = f"arrays {names} of {why} submitted, {elements} elements, generation {generation}"
            text += f", {asked['mem_mb']} MiB" if asked.get("mem_mb") else ""
            text += f", walltime {_duration(asked['walltime_sec'])}" if asked.get("walltime_sec") else ""
            yield Event(sent[-1]["submitted_at"], "ledger", text)
        for array in arrays:
            if array.get("state") == "refused":
                yield Event(array.get("at") or 0.0, "ledger", f"array {array['array']} refused: {array.get('message')}")


def _classes(arrays: list[dict[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for array in arrays:
        counts.update(array.get("classes") or {})
    return _counts(counts) or "by hand"


def _task_events(there: dict[str, Any]) -> Iterable[Event]:
    tasks = there["tasks"]
    if tasks["first"]:
        hosts = ", ".join(tasks["hosts"]) if tasks["host_count"] <= 3 else f"{tasks['host_count']} nodes"
        yield Event(tasks["first"], "records", f"the first task starts (tasks ran on {hosts})")
    for group in tasks["failures"]:
        if group["first"]:
            more = f"; {group['count']} tasks until {_time(group['last'])}" if group["count"] > 1 else ""
            text = f"task {group['task']} fails in generation {group['generation']} ({group['cause']}"
            yield Event(group["first"], "records", f"{text}: {group['message']}){more}")
    if tasks["last"]:
        left = tasks["total"] - sum(tasks["states"].values())
        states = {name: number for name, number in {**tasks["states"], "without a record": left}.items() if number}
        yield Event(tasks["last"], "records", f"the last attempt ends: {_counts(states)}")
    if waves := there["waves"]:
        wave = max(waves, key=lambda name: waves[name])
        text = f"the last of {counted(len(waves), 'combined wave')} is written (wave {wave})"
        yield Event(waves[wave], "records", text)


def _shortened(events: list[Event]) -> tuple[list[Event], bool]:
    """Return the first and last events of a long story, with a line about those between."""
    if len(events) <= EVENTS_SHOWN:
        return events, False
    half = EVENTS_SHOWN // 2
    gap = Event(events[half].at, "", f"... {len(events) - 2 * half} events are left out: --full has them")
    return [*events[:half], gap, *events[-half:]], True


def _time(at: float) -> str:
    return iso(at).replace("T", " ").rstrip("Z")


def _duration(seconds: float) -> str:
    return duration(seconds).replace(NBSP, " ")
