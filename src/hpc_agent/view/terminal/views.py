"""Which view an answer has: the registry of views, what stands around each of them, and the view of an error."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from hpc_agent.view.terminal.blocks import Block, Cell, Facts, Gap, Line, Para
from hpc_agent.view.terminal.evidence import finding_blocks, log_end
from hpc_agent.view.terminal.generic import generic

View = Callable[[Mapping[str, Any]], list[Block]]

# Verb -> module and function of its view. Verbs that are not here have the generic one.
VIEWS = {
    "aggregate": "tables:aggregate",
    "campaign-advance": "campaigns:advance",
    "campaign-budget": "campaigns:budget",
    "campaign-converged": "campaigns:health",
    "campaign-driver": "campaigns:campaign",
    "campaign-health": "campaigns:health",
    "campaign-init": "campaigns:health",
    "campaign-list": "campaigns:campaigns",
    "campaign-replay": "campaigns:replay",
    "campaign-status": "campaigns:campaign",
    "capabilities": "places:capabilities",
    "check-preflight": "checks:preflight",
    "cluster-reduce": "tables:reduction",
    "clusters-add": "setup:added",
    "clusters-describe": "places:cluster",
    "clusters-list": "places:clusters",
    "compare": "tables:compare",
    "demo": "tables:demo",
    "describe": "places:describe",
    "discover-executors": "places:executors",
    "discover-reducers": "places:reducers",
    "discover-runs": "places:functions",
    "doctor": "setup:doctor",
    "dry-run-local": "evidence:findings",
    "failures": "evidence:failures",
    "find": "places:find",
    "install-commands": "checks:install",
    "list-in-flight": "runs:list_in_flight",
    "load-context": "places:context",
    "logs": "evidence:logs",
    "monitor-flow": "runs:monitor_flow",
    "monitor-summary": "runs:monitor_summary",
    "prune-runs": "holdings:prune_runs",
    "recall": "places:recall",
    "report": "tables:report",
    "reproduce-run": "runs:reproduce_run",
    "resolve-submit-inputs": "places:resolved",
    "resubmit": "runs:resubmit",
    "run": "campaigns:worker",
    "run-story": "evidence:story",
    "setup": "checks:setup",
    "status": "runs:status",
    "submit": "runs:submit",
    "submit-and-verify": "runs:submit_and_verify",
    "submit-flow-batch": "runs:batch",
    "suggest-setup-action": "places:setup_action",
    "summarize-submit-plan": "runs:submit_plan",
    "update-run-constraints": "runs:changed_constraints",
    "validate-campaign": "evidence:findings",
    "validate-executor-signatures": "evidence:findings",
    "validate-input-dataset": "evidence:findings",
    "validate-self-qos-limit": "evidence:findings",
    "validate-stochastic-marker": "evidence:findings",
    "validate-walltime-against-history": "evidence:findings",
    "verify-aggregation-complete": "evidence:verified",
    "verify-canary": "runs:verify_canary",
    "watch": "runs:watch",
}
# Fields that stand below every view: notes, and the commands that come next.
NEXT = ("next_step", "next_command", "next_steps", "armed_hint")
AROUND = (*NEXT, "notes")
# Views that tell by themselves what failed while the rest went on.
TELL_ERRORS = ("submit-flow-batch",)
# Details of an error that a person reads; the others are in the envelope.
EVIDENCE = ("checks", "findings", "blocked", "stderr_tail", "log_tail", "traceback", "problems", "questions", "missing")


def view_of(verb: str) -> View:
    """Return the view of a verb: its own, or the generic one."""
    found = VIEWS.get(verb)
    if found is None:
        from hpc_agent.view.terminal.runs import other

        return other
    module, _, name = found.partition(":")
    return getattr(importlib.import_module(f"hpc_agent.view.terminal.{module}"), name)  # type: ignore[no-any-return]


def success(verb: str, answer: Mapping[str, Any]) -> list[Block]:
    """Return the view of an answer: its body, what could not be asked, the next commands."""
    blocks = body(verb, answer["data"])
    missing = answer.get("partial_errors") or [] if verb not in TELL_ERRORS else []
    blocks += [Gap()] if missing else []
    blocks += [Para([Cell(f"Not known ({one['code']}): ", "warn"), one["detail"]]) for one in missing]
    return [*blocks, *next_commands(answer["data"])]


def body(verb: str, data: Mapping[str, Any]) -> list[Block]:
    """Return the view of a verb's data with its notes, without the commands that come next."""
    blocks = view_of(verb)({name: value for name, value in data.items() if name not in AROUND})
    notes = [Para([Cell("Note: ", "warn"), note]) for note in data.get("notes") or []]
    return [*blocks, Gap(), *notes] if notes else blocks


def next_commands(data: Mapping[str, Any]) -> list[Block]:
    """Return the commands that come next, each on a line that may be copied."""
    given = [data[name] for name in NEXT if data.get(name)]
    steps = [step for one in given for step in (one if isinstance(one, list) else [one])]
    if not steps:
        return []
    commands = all(step.startswith(("hpc-agent ", "cd ")) for step in steps)
    return [Gap(), Line(Cell("Next:", "strong")), *(Line(step, 2) if commands else Para(step, 2) for step in steps)]


def failure(answer: Mapping[str, Any]) -> list[Block]:
    """Return the view of an error: what happened, and what to type; the evidence where the remedy speaks of it."""
    field = answer.get("field")
    about = answer["error_code"] + (f", {field}" if field else "")
    told: list[str | Cell] = [f"{answer['message']} ", Cell(f"({about})", "dim", whole=True)]
    blocks: list[Block] = [Facts([(Cell("Error:", "bad"), told), (Cell("Remedy:", "strong"), answer["remediation"])])]
    details = answer.get("details") or {}
    if details.get("red"):  # every red check has its own remedy
        from hpc_agent.view.terminal.setup import red

        return [*blocks, *red(details)]
    known = {name: value for name, value in details.items() if name in EVIDENCE or "details" in answer["remediation"]}
    return [*blocks, *evidence(known)]


def evidence(details: Mapping[str, Any]) -> list[Block]:
    """Return the details of an error: findings as sentences, the ends of logs, the rest by name."""
    from hpc_agent.view.terminal.checks import checks
    from hpc_agent.view.terminal.runs import blocked

    if details.get("checks"):
        return [Gap(), *checks(details["checks"])]
    found = details.get("findings")
    blocks: list[Block] = [Gap(), *finding_blocks(found)] if found and all("message" in one for one in found) else []
    blocks += blocked(details["blocked"]) if details.get("blocked") else []
    tails = [name for name in ("stderr_tail", "log_tail", "traceback") if details.get(name)]
    for name in tails:
        blocks += [Gap(), Line(Cell(f"{name.replace('_', ' ')}:", "dim")), log_end(str(details[name]))]
    rest = {name: value for name, value in details.items() if name not in ("findings", "blocked", *tails) and value}
    return [*blocks, Gap(), *generic(rest)] if rest else blocks


def whole(verb: str, answer: Mapping[str, Any]) -> list[Block]:
    """Return the view of an envelope."""
    return success(verb, answer) if answer["ok"] else failure(answer)
