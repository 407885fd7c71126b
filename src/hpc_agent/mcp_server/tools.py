"""The tools: a table of chosen verbs, and everything else of them from the registry."""

from __future__ import annotations

from typing import Any, NamedTuple

from hpc_agent.contract.catalogue import schema
from hpc_agent.contract.primitive import Request, Result
from hpc_agent.mcp_server import meta_requests as meta
from hpc_agent.mcp_server.session import Settings
from hpc_agent.mcp_server.verbs import certain_fields, compact, hints, input_schema, submits, writes
from hpc_agent.ops.run.invoke import catalogue

MOST_DESCRIPTION = 400

# Verb -> the fields that its tool shows; none: all of them. A tool takes every field of its verb: ``find`` shows the others.
# The order is that of a run's life.
CHOSEN: dict[str, tuple[str, ...]] = {
    "load-context": (),
    "clusters-list": (),
    "discover-executors": ("experiment_dir", "name"),
    "build-tasks-py": ("experiment_dir", "executors", "axes", "fixed_params", "task_generator"),
    "resolve-submit-inputs": ("experiment_dir", "cluster", "executor", "run_name", "resources", "accept_defaults"),
    "summarize-submit-plan": ("cluster", "executor", "experiment_dir", "tasks", "est_task_sec"),
    "submit": (
        "cluster", "executor", "experiment_dir", "tasks", "run_name", "resources", "partition", "est_task_sec", "canary",
        "dry_run", "rerun",
    ),
    "list-in-flight": ("experiment_dir", "all_states", "refresh"),
    "status": (),
    "failures": (),
    "logs": ("run_id", "experiment_dir", "task_id", "all_failed", "lines"),
    "monitor-flow": ("run_id", "experiment_dir", "auto_resubmit", "wall_clock_budget_sec"),
    "resubmit": ("run_id", "experiment_dir", "task_id", "classes", "mem_mb", "walltime_sec", "dry_run"),
    "aggregate": ("run_id", "experiment_dir", "over", "sort", "direction", "top", "where", "require_complete"),
    "campaign-status": (),
}  # fmt: skip


class MetaTool(NamedTuple):
    """A tool that is no verb."""

    request: type[Request]
    result: type[Result]
    description: str


META: dict[str, MetaTool] = {
    "find": MetaTool(
        meta.FindRequest,
        meta.FindResult,
        "Find a verb of hpc-agent by words, or see one in full: every field, effects, errors, an example. The tools here are the "
        "verbs that are used most; this shows the others, which the tool call runs.",
    ),
    "call": MetaTool(
        meta.CallRequest,
        Result,
        "Run any verb, as find shows it. Also gives the rest of a long result: field and offset.",
    ),
    "wait-for-events": MetaTool(
        meta.WaitForEventsRequest,
        meta.WaitForEventsResult,
        "Wait until a run starts, fails, needs a person or ends; at most wait_sec. Each event comes again until its id is given "
        "as ack, also after a lost answer or a restart. Submits nothing.",
    ),
}


def offered(settings: Settings) -> list[str]:
    """Return the names of the tools, always in the same order."""
    entries = catalogue()
    verbs = [verb for verb in CHOSEN if settings.allow_submit or not writes(entries[verb])]
    return [*verbs, *META]


def tool(name: str, settings: Settings) -> dict[str, Any]:
    """Return a tool as the protocol describes it."""
    if name in META:
        return _meta_tool(name, settings)
    entry, shown = catalogue()[name], CHOSEN[name]
    hidden = len({flag.path[0] for flag in entry.flags} - set(shown)) if shown else 0
    text = entry.summary + (f' {hidden} more fields: find {{"verb": "{name}"}}.' if hidden else "")
    described: dict[str, Any] = {
        "name": name,
        "description": text[:MOST_DESCRIPTION],
        "input_schema": input_schema(name, shown),
        "output_schema": _output_schema(certain_fields(name)),
        "annotations": hints(entry),
    }
    if settings.ask_user and submits(entry):
        described["_meta"] = {"anthropic/requiresUserInteraction": True}
    return described


def _meta_tool(name: str, settings: Settings) -> dict[str, Any]:
    own = META[name]
    # the tool call is as dangerous as the verbs that it may run
    calls = name == "call" and settings.allow_submit
    # the result of the tool call is that of its verb
    shown = () if name == "call" else own.result.__struct_fields__
    fields: dict[str, Any] = {field: {} for field in shown if field != "partial_errors"}
    described: dict[str, Any] = {
        "name": name,
        "description": own.description,
        "input_schema": compact(schema(own.request, name)),
        "output_schema": _output_schema(fields),
        "annotations": {
            "read_only_hint": not calls,
            "destructive_hint": calls,
            "idempotent_hint": True,
            "open_world_hint": name != "find",
        },
    }
    if calls and settings.ask_user:
        described["_meta"] = {"anthropic/requiresUserInteraction": True}
    return described


def _output_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a result: the sentence, the next call, and the fields of the verb, any of which may be left out."""
    data: dict[str, Any] = {"type": "object"}
    if fields:
        data["properties"] = fields
    properties = {"summary": {"type": "string"}, "next": {"type": "object"}, "data": data}
    return {"type": "object", "properties": properties, "required": ["summary", "next"]}
