"""The protocol: tools, resources, prompts and tasks of one server, over standard input and output."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

import anyio
import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from hpc_agent._version import __version__
from hpc_agent.errors import HpcError
from hpc_agent.mcp_server import answers, prompts, resources, task_calls
from hpc_agent.mcp_server.dispatch import answer_call, outcome_of, wait
from hpc_agent.mcp_server.session import Session, Settings
from hpc_agent.mcp_server.tasks import EXTENSION
from hpc_agent.mcp_server.tools import offered, tool
from hpc_agent.mcp_server.work import end_children
from hpc_agent.ops.run.invoke import as_hpc_error
from hpc_agent.world import World

Context = ServerRequestContext[Any, Any]
# Tools and prompts are the same for the server's life.
_HOUR_MS = 3_600_000
INSTRUCTIONS = (
    "Runs experiments as job arrays on SLURM and Grid Engine clusters. A run's life: load-context, discover-executors, "
    "build-tasks-py, resolve-submit-inputs, submit, wait-for-events, aggregate. Every result has a sentence (summary) and "
    "the call that comes next (next). Every call is safe to repeat: the same submit returns the same run, and long work answers "
    "'call again'. find shows every other verb, call runs it. Jobs are never cancelled."
)


def make_server(session: Session) -> Server[Any]:
    """Return the server of a session."""
    handlers = _Handlers(session)
    server: Server[Any] = Server(
        "hpc-agent",
        version=__version__,
        title="hpc-agent",
        instructions=INSTRUCTIONS,
        cache_hints={
            "tools/list": CacheHint(ttl_ms=_HOUR_MS, scope="private"),
            "prompts/list": CacheHint(ttl_ms=_HOUR_MS, scope="private"),
        },
        on_list_tools=handlers.list_tools,
        # a result of the extension is a mapping of its own kind
        on_call_tool=handlers.call_tool,  # type: ignore[arg-type]
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
    )
    server.extensions[EXTENSION] = {}
    for method, (params, handler) in task_calls.methods(handlers.tasks).items():
        server.add_request_handler(method, params, handler)
    return server


class _Handlers:
    """The methods of the protocol. What a model can correct is in a result; what it never reads is a protocol error."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.tasks = task_calls.TaskCalls(session, lambda answer: _wire(_result(answer)))

    async def list_tools(self, context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        del context, params
        settings = self._session.settings
        return types.ListToolsResult(tools=[_tool(tool(name, settings)) for name in offered(settings)])

    async def call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | dict[str, Any]:
        arguments = params.arguments or {}

        async def told(seconds: float, step: str) -> None:
            await context.session.report_progress(seconds, message=step or None)

        watch = task_calls.watch_arguments(params.name, arguments)
        if watch is not None and task_calls.declared(context):
            try:
                return await self.tasks.watch(watch, told)
            except HpcError as error:
                return _result(answers.of_error(error, self._session.settings))
        return _result(await answer_call(self._session, params.name, arguments, told))

    async def list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        del context, params
        found = [
            types.Resource(uri=uri, name=name, mime_type=resources.KINDS[kind].mime_type)
            for uri, name, kind in resources.newest(self._session)
        ]
        return types.ListResourcesResult(resources=found)

    async def list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        del context, params
        found = [
            types.ResourceTemplate(
                uri_template=resources.TEMPLATES[kind],
                name=f"run-{kind}",
                description=facts.description,
                mime_type=facts.mime_type,
            )
            for kind, facts in resources.KINDS.items()
        ]
        return types.ListResourceTemplatesResult(resource_templates=found)

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)

        async def told(seconds: float, step: str) -> None:
            await context.session.report_progress(seconds, message=step or None)

        try:
            place = resources.address(uri)
            if place.kind == "journal":
                text = resources.journal_text(self._session, place)
            else:
                text = await self._report(place, told)
        except MCPError:
            raise
        except Exception as error:  # what a damaged repo does to the reader of it is told too
            raise _protocol_error(as_hpc_error(error)) from error
        mime_type = resources.KINDS[place.kind].mime_type
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)])

    async def _report(self, place: resources.Address, told: Any) -> str:
        key, work = resources.begin_report(self._session, place)
        if not await wait(work, self._session.settings.answer_within, told):
            raise MCPError(types.INTERNAL_ERROR, "the page is still being made: read the same resource again")
        self._session.works.forget(key, work)
        outcome = outcome_of(work, "report", {})
        if not outcome.ok:
            found = outcome.envelope
            raise MCPError(types.INVALID_PARAMS, f"{found['message']}. {found['remediation']}", found)
        return str(outcome.data["page"])

    async def list_prompts(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        del context, params
        found = [
            types.Prompt(
                name=name,
                description=known.description,
                arguments=[types.PromptArgument(name="arguments", description=known.hint, required=False)],
            )
            for name, known in prompts.workflows().items()
        ]
        return types.ListPromptsResult(prompts=found)

    async def get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        del context
        try:
            known, text = prompts.rendered(params.name, (params.arguments or {}).get("arguments", ""))
        except HpcError as error:
            raise _protocol_error(error) from error
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(description=known.description, messages=[message])


def _tool(described: dict[str, Any]) -> types.Tool:
    facts = {**described, "annotations": types.ToolAnnotations(**described["annotations"])}
    meta = facts.pop("_meta", None)
    return types.Tool(**facts, **({"_meta": meta} if meta else {}))


def _result(answer: answers.Answer) -> types.CallToolResult:
    """Return an answer as text and as structure: some clients show one of them to the model, some the other."""
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    content = types.TextContent(type="text", text=text)
    return types.CallToolResult(content=[content], structured_content=answer, is_error="error" in answer)


def _wire(result: types.CallToolResult) -> dict[str, Any]:
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def _protocol_error(error: HpcError) -> MCPError:
    data = {"error_code": error.error_code, "remediation": error.remediation, "details": error.details}
    return MCPError(types.INVALID_PARAMS, f"{error.message}. {error.remediation}", data)


async def _serve(session: Session) -> None:
    server = make_server(session)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def serve(settings: Settings) -> int:
    """Serve until standard input ends or a signal comes; then end the processes that calls have begun. Returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="hpc-agent mcp: %(message)s")
    session = Session(settings, World())

    def stop(number: int, frame: Any) -> None:
        del frame
        end_children()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    anyio.run(_serve, session)
    if session.works.under_way():
        # threads of calls that nobody waits for would begin further processes
        end_children()
        sys.stderr.flush()
        os._exit(0)
    return 0
