"""The prompt of a worker, from the same texts that are installed for Claude Code, and the report that it has to give."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.catalogue import schema
from hpc_agent.contract.vocabulary import doc
from hpc_agent.ops.agents.assets import SOURCE

Workflow = Literal["submit", "status", "aggregate", "campaign"]


class Outcome(msgspec.Struct, kw_only=True):
    """What became of the workflow."""

    status: Literal["done", "waiting", "needs_resolution", "failed"]
    summary: Annotated[str, doc("two sentences for a person")]
    run_ids: list[str] = []
    next_command: Annotated[str, doc("the hpc-agent command that comes next; empty without one")] = ""
    ambiguities: Annotated[list[dict[str, Any]], doc("what a person has to decide, as the answer had it")] = []


class Decision(msgspec.Struct, kw_only=True):
    """A value that the worker chose."""

    field: str
    value: Any
    why: str


class WorkerReport(msgspec.Struct, kw_only=True):
    """The report of a worker."""

    result: Outcome
    decisions: list[Decision]
    anomalies: Annotated[list[str], doc("whatever was not as expected")]


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of the report; its root is an object, as ``--json-schema`` wants it."""
    document = schema(WorkerReport, "worker report")
    definitions = document.pop("$defs")
    root = definitions.pop("WorkerReport")
    del document["$ref"]
    return {**document, **root, "$defs": definitions}


def worker_prompt(workflow: Workflow, facts: dict[str, Any]) -> str:
    """Return the prompt: the rules of the agent hpc-worker, the procedure of the skill, and the facts of this call."""
    rules = _body("agents/hpc-worker.md")
    procedure = _body(f"skills/hpc-{workflow}/SKILL.md")
    call = json.dumps({"workflow": workflow, **facts}, indent=1, ensure_ascii=False)
    return f"{rules}\n{procedure}\n# This call\n\n```json\n{call}\n```\n"


def _body(name: str) -> str:
    """Return a text without its front matter."""
    return (SOURCE / name).read_text(encoding="utf-8").split("---\n", 2)[2].lstrip("\n")
