"""The sentence of a result, and the call that comes next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from hpc_agent.contract.catalogue import CatalogueEntry, parse_value
from hpc_agent.errors import SpecInvalid
from hpc_agent.mcp_server.verbs import names
from hpc_agent.ops.run.invoke import catalogue

STATES = ("complete", "running", "pending", "failed", "unknown")
_SENTENCE = 300


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def counts_of(status: Mapping[str, Any]) -> str:
    """Return ``3 complete, 2 running`` for the counts of a look."""
    return ", ".join(f"{status[name]} {name}" for name in STATES if status.get(name)) or "no task looked at yet"


def _run(data: dict[str, Any]) -> str:
    causes = ", ".join(f"{count} {name}" for name, count in (data.get("failures_by_cause") or {}).items())
    text = f"{data['run_id']} is {data['lifecycle_state'].replace('_', ' ')}: {counts_of(data['last_status'])}"
    return text + (f" (failures: {causes})" if causes else "")


def _submit(data: dict[str, Any]) -> str:
    where = f"{counted(data['total_tasks'], 'task')} on {data['cluster']}"
    if not data["submitted"]:
        return f"Nothing was submitted: {data['run_id']} would be {where}"
    done = "was submitted before" if data["deduped"] else "was submitted"
    return f"{data['run_id']} {done}: {where}"


def _aggregate(data: dict[str, Any]) -> str:
    done = f"{data['included_tasks']} of {counted(data['total_tasks'], 'task')}"
    return f"The table of {data['run_id']} has {counted(data.get('row_count', 0), 'row')} from {done}"


def _failures(data: dict[str, Any]) -> str:
    if not data["failed"]:
        return f"No task of {data['run_id']} has failed"
    first = data["clusters"][0] if data["clusters"] else {}
    cause = first.get("sentence") or first.get("cause") or first.get("class") or ""
    return f"{counted(data['failed'], 'task')} of {data['run_id']} failed" + (f"; first: {cause}" if cause else "")


def _context(data: dict[str, Any]) -> str:
    return f"{counted(data['in_flight_count'], 'run')} in flight; {data['next_step_hint']}"


# Verb -> the sentence for its data. Every other verb has the one of ``_plain``.
_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "status": _run,
    "monitor-flow": _run,
    "submit": _submit,
    "aggregate": _aggregate,
    "failures": _failures,
    "load-context": _context,
    "resubmit": lambda data: f"{counted(data['resubmitted'], 'task')} of {data['run_id']} submitted again",
    "list-in-flight": lambda data: f"{counted(data['total_matching'], 'run')} match",
    "clusters-list": lambda data: "Clusters: " + ", ".join(
        row["name"] + ("" if row["ready"] else " (not ready)") for row in data["clusters"]
    ),
    "discover-executors": lambda data: "Scripts: " + ", ".join(
        str(row.get("path") or row.get("name")) for row in data["executors"][:8]
    ),
    "build-tasks-py": lambda data: f"Wrote a grid of {counted(data['total_tasks'], 'task')}",
    "campaign-status": lambda data: f"{data['campaign_id']}: {data['decision']}, {data['reason']}",
}  # fmt: skip


def summary(verb: str, data: dict[str, Any]) -> str:
    """Return one sentence about a result, for a reader."""
    make = _SENTENCES.get(verb)
    text = make(data) if make else _plain(verb, data)
    return text[:_SENTENCE]


def _plain(verb: str, data: dict[str, Any]) -> str:
    for name in ("headline", "summary", "reason", "message"):
        if isinstance(data.get(name), str) and data[name]:
            return str(data[name])
    parts = []
    for name, value in data.items():
        if isinstance(value, list):
            parts.append(f"{len(value)} {name.replace('_', ' ')}")
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and 0 < len(value) <= 60):
            parts.append(f"{name.replace('_', ' ')} {value}")
    return f"{verb}: {', '.join(parts[:4]) or 'done'}"


# Fields of results that hold the command that comes next, the best first.
_NEXT_FIELDS = ("next_command", "next_step", "next_steps", "armed_hint")


def next_text(data: dict[str, Any]) -> str:
    """Return the advice of a result, as the command line prints it; empty where there is none."""
    for name in _NEXT_FIELDS:
        value = data.get(name)
        if isinstance(value, list):
            value = next((line for line in value if str(line).startswith("hpc-agent ")), "")
        if isinstance(value, str) and value:
            return value
    return ""


def parse_command(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return verb and arguments of a command line of hpc-agent; None for other text, or with options that no verb has."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return None
    if len(words) < 2 or words[0] != "hpc-agent" or words[1] not in names():
        return None
    verb = names()[words[1]]
    try:
        return verb, _arguments(catalogue()[verb], words[2:])
    except (SpecInvalid, KeyError, IndexError, ValueError):
        return None


def _arguments(entry: CatalogueEntry, words: list[str]) -> dict[str, Any]:
    """Return the request in the words of a command. Raises KeyError, IndexError or SpecInvalid for others than its flags."""
    flags = {flag.flag: flag for flag in entry.flags}
    found: dict[str, Any] = {}
    while words:
        word, *words = words
        if not word.startswith("--"):
            if entry.positional is None or entry.positional in found:
                raise ValueError(word)
            found[entry.positional] = word
            continue
        name, equals, text = word.partition("=")
        negated = name not in flags and name.startswith("--no-")
        flag = flags["--" + name[5:] if negated else name]
        value: Any = not negated
        if flag.kind != "bool":
            if not equals:
                text, *words = [words[0], *words[1:]]
            value = parse_value(flag, text)
        target = found
        for step in flag.path[:-1]:
            target = target.setdefault(step, {})
        target[flag.path[-1]] = value
    return found
