"""Answer one tool call: find the verb, refuse what this server may not do, wait for the work within bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable
from typing import Any, TypeVar

import anyio

from hpc_agent.contract import envelope
from hpc_agent.contract.primitive import Request
from hpc_agent.errors import HpcError, InternalError, PreconditionFailed, SpecInvalid
from hpc_agent.mcp_server import answers
from hpc_agent.mcp_server.answers import Answer
from hpc_agent.mcp_server.calls import Outcome, failed, run_verb, verb_of
from hpc_agent.mcp_server.discovery import as_data, find
from hpc_agent.mcp_server.meta_requests import CallRequest, FindRequest, FindResult, WaitForEventsRequest
from hpc_agent.mcp_server.session import Session
from hpc_agent.mcp_server.tools import offered
from hpc_agent.mcp_server.trimming import fit
from hpc_agent.mcp_server.verbs import names, submits, writes
from hpc_agent.mcp_server.work import Told, Work
from hpc_agent.ops.run.invoke import as_hpc_error, catalogue

PROGRESS_SEC = 10.0
R = TypeVar("R", bound=Request)

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


async def answer_call(session: Session, name: str, arguments: dict[str, Any], told: Told) -> Answer:
    """Return the answer of a tool call. Errors are answers too."""
    try:
        if name == "find":
            return await _found(session, arguments, told)
        if name == "wait-for-events":
            from hpc_agent.mcp_server.waiting import wait_for_events

            return await wait_for_events(session, own_request(arguments, WaitForEventsRequest, name), told)
        if name == "call":
            asked = own_request(arguments, CallRequest, name)
            verb = verb_of(asked.verb)
            return await _answer_verb(session, name, arguments, (verb, asked.arguments), told, asked)
        return await _answer_verb(session, name, arguments, (_tool_verb(session, name), arguments), told)
    except Exception as error:  # noqa: BLE001 - a bug is an answer too: the model reads no other
        return answers.of_error(as_hpc_error(error), session.settings)


def own_request(arguments: dict[str, Any], kind: type[R], tool: str) -> R:
    """Return the typed request of a tool that is no verb. Raises SpecInvalid, which names its fields."""
    try:
        return envelope.convert(arguments, kind, tool)
    except SpecInvalid as error:
        fields = f"The tool {tool} takes: {', '.join(kind.__struct_fields__)}."
        error.remediation = error.remediation.replace(f"Run 'hpc-agent describe {tool}' to see every field.", fields)
        raise


async def _found(session: Session, arguments: dict[str, Any], told: Told) -> Answer:
    """Return the verbs that are looked for. A thread looks, as the first time it imports them all. Raises SpecInvalid."""
    request = own_request(arguments, FindRequest, "find")

    def look(work: Work) -> FindResult | HpcError:
        try:
            return find(request, session.settings, session.world_of(work))
        except HpcError as error:
            return error

    key = key_of("find", arguments)
    work = session.works.begin(key, look)
    if not await wait(work, session.settings.answer_within, told):
        return answers.of_unfinished("find", arguments, work.seconds, "")
    session.works.forget(key, work)
    result = work.outcome
    if not isinstance(result, FindResult):
        raise result or InternalError("the search ended without an answer")
    text = f"{len(result.verbs)} verbs" + (f", and {result.more} that fit less" if result.more else "")
    following: dict[str, Any] = {}
    if result.verb:
        text = f"{result.verb}: {result.description}"
        following = answers.tool_call(result.verb, result.example, session.settings)
        following = {} if "refused_here" in following else following
    else:
        following = {"tool": "find", "arguments": {"verb": result.verbs[0].verb} if result.verbs else {}}
    data, cuts = fit(as_data(result))
    return {"summary": text, "next": following, "data": data, **({"more": cuts} if cuts else {})}


def _tool_verb(session: Session, name: str) -> str:
    """Return the verb of a tool. Raises SpecInvalid for another word, with the nearest tool."""
    tools = offered(session.settings)
    if name in tools:
        return name
    if name in names():
        verb = names()[name]
        refuse(session, verb)
        message = f"'{name}' is no tool of its own: the tool call runs it"
        raise SpecInvalid(message, field="name", remediation='Call the tool call with {"verb": "' + verb + '"}.')
    hint = envelope.did_you_mean(name, [*tools, *names()])
    remedy = f"{hint}The tools are: {', '.join(tools)}. The tool find shows every other verb."
    raise SpecInvalid(f"there is no tool '{name}'", field="name", remediation=remedy)


def refuse(session: Session, verb: str) -> None:
    """Raise PreconditionFailed for a verb that writes or submits, where the server is read-only."""
    entry = catalogue()[verb]
    if session.settings.allow_submit or not writes(entry):
        return
    does = "submits jobs" if submits(entry) else "writes or removes files, or writes decisions"
    raise PreconditionFailed(
        f"'{verb}' {does}, and this server is read-only",
        remediation=f"Ask a person to run it, or to start the server with 'hpc-agent mcp --allow-submit'. In a terminal: "
        f"hpc-agent {verb}",
    )


async def _answer_verb(
    session: Session,
    tool: str,
    given: dict[str, Any],
    call: tuple[str, dict[str, Any]],
    told: Told,
    part: CallRequest | None = None,
) -> Answer:
    verb, arguments = call
    key, work = begin(session, verb, arguments)
    if not await wait(work, session.settings.answer_within, told):
        return answers.of_unfinished(tool, given, work.seconds, work.progress.text)
    session.works.forget(key, work)
    outcome = outcome_of(work, verb, arguments)
    if part is not None:
        return answers.of_outcome(outcome, session.settings, part.field, part.offset)
    return answers.of_outcome(outcome, session.settings)


def begin(session: Session, verb: str, arguments: dict[str, Any]) -> tuple[Hashable, Work]:
    """Return the work of a call with its key: the one under way, else a new one. Raises PreconditionFailed; see ``refuse``."""
    refuse(session, verb)
    key = key_of(verb, arguments)
    return key, session.works.begin(key, lambda work: _outcome(session, verb, arguments, work))


def key_of(verb: str, arguments: dict[str, Any]) -> Hashable:
    """Return the key of a call: the same for the same arguments in any order."""
    return (verb, json.dumps(arguments, sort_keys=True))


def _outcome(session: Session, verb: str, arguments: dict[str, Any], work: Work) -> Outcome:
    world = session.world_of(work)
    try:
        with session.budget.guard(verb, arguments, world) as told:
            outcome = run_verb(verb, arguments, world)
            told(outcome.envelope)
            return outcome
    except Exception as error:  # noqa: BLE001 - what the price of a submission meets is the answer to it
        return failed(verb, arguments, as_hpc_error(error))


def outcome_of(work: Work, verb: str, arguments: dict[str, Any]) -> Outcome:
    """Return the outcome of work that has ended."""
    if isinstance(work.outcome, Outcome):
        return work.outcome
    return failed(verb, arguments, InternalError(f"the work of '{verb}' ended without an answer"))


async def wait(work: Work, seconds: float, told: Told) -> bool:
    """Wait for work, at most so long, and tell its steps. Return True when it has ended."""
    began = telling = time.monotonic()
    pause = _SHORTEST_PAUSE
    while not work.done.is_set():
        now = time.monotonic()
        if now - began >= seconds:
            return False
        if now - telling >= PROGRESS_SEC:
            telling = now
            await told(now - began, work.progress.text)
        await anyio.sleep(min(pause, max(0.0, seconds - (now - began))))
        pause = min(_LONGEST_PAUSE, pause * 1.5)
    return True
