"""The form of every result: ``summary``, ``next``, then the envelope's data, within its bytes."""

from __future__ import annotations

import json
from typing import Any

from hpc_agent.contract import envelope as envelopes
from hpc_agent.errors import HpcError
from hpc_agent.mcp_server.calls import Outcome
from hpc_agent.mcp_server.session import Settings
from hpc_agent.mcp_server.tools import META, offered
from hpc_agent.mcp_server.trimming import fit, page, size
from hpc_agent.mcp_server.verbs import writes
from hpc_agent.mcp_server.wording import next_text, parse_command, summary
from hpc_agent.ops.run.invoke import catalogue

Answer = dict[str, Any]
# A message and its details are cut before the envelope around them would be.
MOST_DETAILS = 6000
# A call that an answer names.
MOST_OF_A_CALL = 1500


def tool_call(verb: str, arguments: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the tool call that runs a verb here; where this server refuses it, the verb for a person."""
    if writes(catalogue()[verb]) and not settings.allow_submit:
        return {"refused_here": verb, "arguments": arguments}
    if verb in offered(settings):
        return {"tool": verb, "arguments": arguments}
    return {"tool": "call", "arguments": {"verb": verb, "arguments": arguments}}


def next_call(outcome: Outcome, settings: Settings) -> dict[str, Any]:
    """Return what comes next: a tool call, else a command for a person, else one of the verbs that usually follow."""
    text = next_text(outcome.data)
    if outcome.arguments.get("dry_run") and text.startswith(f"hpc-agent {outcome.verb} "):
        meant = {name: value for name, value in outcome.arguments.items() if name != "dry_run"}
        return _short(tool_call(outcome.verb, meant, settings))
    known = parse_command(text)
    if known:
        call = tool_call(*known, settings)
        return {"command": text[:MOST_OF_A_CALL]} if "refused_here" in call else _short(call)
    if text:
        return {"command": text[:MOST_OF_A_CALL]}
    carried = {name: outcome.arguments[name] for name in ("run_id", "experiment_dir") if name in outcome.arguments}
    if outcome.data.get("run_id"):
        carried["run_id"] = outcome.data["run_id"]
    for verb in catalogue()[outcome.verb].next_verbs:
        flags = catalogue()[verb].flags
        takes = {flag.path[0] for flag in flags}
        call = tool_call(verb, {name: value for name, value in carried.items() if name in takes}, settings)
        if "tool" in call:
            is_whole = all(not flag.required or flag.path[0] in carried for flag in flags)
            return call if is_whole else {"tool": "find", "arguments": {"verb": verb}}
    return {}


def of_outcome(outcome: Outcome, settings: Settings, field: str | None = None, offset: int = 0) -> Answer:
    """Return the answer for the outcome of a verb; with ``field`` only that part of its data. Raises SpecInvalid."""
    if not outcome.ok:
        return of_failure(outcome.envelope, settings)
    answer: Answer = {"summary": summary(outcome.verb, outcome.data), "next": next_call(outcome, settings)}
    if field is not None:
        part, cut = page(outcome.data, field, offset)
        answer["data"] = {"field": field, "offset": offset, "part": part}
        cuts = [cut] if cut else []
    else:
        answer["data"], cuts = fit(outcome.data)
    if partial := outcome.envelope.get("partial_errors"):
        answer["partial_errors"], _ = fit(partial, 1500)
    answer["idempotent"] = outcome.envelope["idempotent"]
    if cuts:
        answer["more"] = [_rest(outcome, cut) for cut in cuts]
    return answer


def _rest(outcome: Outcome, cut: dict[str, Any]) -> dict[str, Any]:
    arguments = {"verb": outcome.verb, "arguments": outcome.arguments, "field": cut["field"], "offset": cut["shown"]}
    return {**cut, "get": _short({"tool": "call", "arguments": arguments})}


def _short(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call; where its arguments are long, the one that was made last is named in their place."""
    if size(call) <= MOST_OF_A_CALL:
        return call
    inner = call["arguments"]
    long = {name: value for name, value in inner.items() if size(value) > MOST_OF_A_CALL // 4}
    short = {name: value for name, value in inner.items() if name not in long}
    return {"tool": call["tool"], "arguments": short, "as_before": sorted(long)}


def of_failure(envelope: dict[str, Any], settings: Settings) -> Answer:
    """Return the answer for an envelope of an error: its message, and the remedy as a tool call where it is one."""
    error, _ = fit({name: value for name, value in envelope.items() if name != "ok"}, MOST_DETAILS)
    remedy = error["remediation"]
    for mark in ("'", "`"):
        for text in remedy.split(mark)[1::2]:
            if known := parse_command(text):
                call = tool_call(*known, settings)
                if "tool" in call:
                    return {"summary": error["message"], "next": call, "error": error}
    return {"summary": error["message"], "next": {"remedy": remedy}, "error": error}


def of_error(error: HpcError, settings: Settings) -> Answer:
    """Return the answer for an error of this server."""
    return of_failure(json.loads(envelopes.failure(error)), settings)


def of_unfinished(tool: str, arguments: dict[str, Any], seconds: float, step: str) -> Answer:
    """Return the answer for work that goes on: the same call finds it again."""
    at = f": {step}" if step else ""
    verb = arguments.get("verb", tool) if tool in META else tool
    return {
        "summary": f"{verb} has been at work for {seconds:.0f} s and goes on{at}. Call again with the same arguments.",
        "next": _short({"tool": tool, "arguments": arguments}),
        "work": {"state": "running", "seconds": round(seconds, 1), "step": step},
    }
