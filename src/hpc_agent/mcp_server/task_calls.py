"""``tasks/get``, ``tasks/update`` and ``tasks/cancel``, and the tool call that becomes a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from hpc_agent.mcp_server import answers
from hpc_agent.mcp_server.answers import Answer
from hpc_agent.mcp_server.calls import typed_request
from hpc_agent.mcp_server.dispatch import begin, key_of, outcome_of, refuse, wait
from hpc_agent.mcp_server.session import Session
from hpc_agent.mcp_server.tasks import EXTENSION, STOPPED, VERB, Task, TaskFile
from hpc_agent.mcp_server.work import Told, Work

Context = ServerRequestContext[Any, Any]
Render = Callable[[Answer], dict[str, Any]]  # an answer as the result of a tool call
# A watch that ends within so many seconds is answered as it is, without a task.
AT_ONCE_SEC = 2.0


class TaskParams(RequestParams):
    """The task that a request is about."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to questions of a task. A watch asks none."""

    input_responses: dict[str, Any] = {}


def declared(context: Context) -> bool:
    """Return True when the client takes tasks in this request."""
    known = context.session.client_capabilities
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS and EXTENSION in ((known and known.extensions) or {})


def watch_arguments(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call that watches a run, as a tool of its own or through the tool call; else None."""
    if name == VERB:
        return arguments
    if name == "call" and arguments.get("verb") == VERB and "field" not in arguments:
        inner = arguments.get("arguments", {})
        return inner if isinstance(inner, dict) else None
    return None


class TaskCalls:
    """The methods of the extension. Results of watches that have ended are kept for the server's life."""

    def __init__(self, session: Session, render: Render) -> None:
        self._session = session
        self._file = TaskFile(session)
        self._render = render
        self._ended: dict[str, dict[str, Any]] = {}

    async def watch(self, arguments: dict[str, Any], told: Told) -> dict[str, Any]:
        """Return the result of a watch that ends at once; else a task, which is on disk. Raises the errors of the verb."""
        self._check(arguments)
        task = self._file.begin(arguments)
        self._ended.pop(task.task_id, None)
        work = self._work(task)
        if await wait(work, AT_ONCE_SEC, told):
            return self._end(task, work)
        return {"resultType": "task", **task.wire(work.progress.text)}

    async def get(self, context: Context, params: TaskParams) -> dict[str, Any]:
        """Return a task as it is now, with its result when it has ended."""
        task = self._find(context, params.task_id)
        if task.status == "cancelled":
            return task.wire(STOPPED)
        if params.task_id in self._ended:
            return task.wire(result=self._ended[params.task_id])
        work = self._work(task)
        if task.status == "completed":  # before a restart: the watch of a run that has ended ends at its first look
            await wait(work, self._session.settings.answer_within, _untold)
        if work.done.is_set():
            result = self._end(task, work)
            task = self._find(context, params.task_id)
            return task.wire(STOPPED) if task.status == "cancelled" else task.wire(result=result)
        task.status = "working"
        return task.wire(work.progress.text)

    async def update(self, context: Context, params: UpdateParams) -> dict[str, Any]:
        """Acknowledge: a watch asks no questions, so every answer is one to a question that is not open."""
        self._find(context, params.task_id)
        return {}

    async def cancel(self, context: Context, params: TaskParams) -> dict[str, Any]:
        """Stop watching. The run and its jobs go on."""
        task = self._find(context, params.task_id)
        if task.status == "working":
            self._file.write(task.task_id, "cancelled")
            self._session.works.stop(key_of(VERB, task.arguments))
        return {}

    def _find(self, context: Context, task_id: str) -> Task:
        if not declared(context):
            needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", needed)
        task = self._file.find(task_id)
        if task is None:
            raise MCPError(
                INVALID_PARAMS, f"there is no task '{task_id}': a task's id is the id of a run that is watched"
            )
        return task

    def _check(self, arguments: dict[str, Any]) -> None:
        refuse(self._session, VERB)
        typed_request(VERB, arguments)

    def _work(self, task: Task) -> Work:
        return begin(self._session, VERB, task.arguments)[1]

    def _end(self, task: Task, work: Work) -> dict[str, Any]:
        self._session.works.forget(key_of(VERB, task.arguments), work)
        outcome = outcome_of(work, VERB, task.arguments)
        result = self._render(answers.of_outcome(outcome, self._session.settings))
        known = self._file.find(task.task_id)
        if known is not None and known.status == "working":
            self._file.write(task.task_id, "completed")
        self._ended[task.task_id] = result
        return result


async def _untold(seconds: float, step: str) -> None:
    del seconds, step


Handler = Callable[[Context, Any], Awaitable[dict[str, Any]]]


def methods(calls: TaskCalls) -> dict[str, tuple[type[RequestParams], Handler]]:
    """Return the extension's methods, with the form of their requests."""
    return {
        "tasks/get": (TaskParams, calls.get),
        "tasks/update": (UpdateParams, calls.update),
        "tasks/cancel": (TaskParams, calls.cancel),
    }
