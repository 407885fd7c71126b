"""A server of the Model Context Protocol for tests, in memory or as a process, and a client that counts calls and bytes."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from hpc_agent.mcp_server.server import make_server
from hpc_agent.mcp_server.session import Session, Settings
from hpc_agent.world import World

MODES = ("legacy", "2026-07-28")


class Agent:
    """A client, with the calls and bytes that it has read so far."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls: list[str] = []
        self.bytes = 0

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The answer of a call; its text holds the same as its structure."""
        result = await self.client.call_tool(tool, arguments, **more)
        text = result.content[0].text
        self.calls.append(tool)
        self.bytes += len(text.encode())
        assert len(text.encode()) <= 16_000, (tool, len(text))
        assert json.loads(text) == result.structured_content
        assert result.is_error == ("error" in result.structured_content)
        assert result.structured_content["summary"]
        assert "next" in result.structured_content
        return result.structured_content

    async def data(self, tool: str, arguments: dict[str, Any] | None = None) -> Any:
        """The data of a call that succeeded; long work is asked for again, as the answer says."""
        while "work" in (answer := await self.call(tool, arguments)):
            tool, arguments = answer["next"]["tool"], answer["next"]["arguments"]
        assert "error" not in answer, answer
        return answer["data"]

    async def follow(self, answer: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The answer of the call that comes next."""
        return await self.call(answer["next"]["tool"], {**answer["next"]["arguments"], **more})


def session_in(folder: Path, env: Mapping[str, str], **settings: Any) -> Session:
    return Session(Settings(**settings), World(cwd=folder, env=dict(env)))


def in_memory(
    session: Session, work: Callable[[Agent], Awaitable[Any]], mode: str = "2026-07-28", **client: Any
) -> Any:
    """What ``work`` gives with a client of a server in this process."""

    async def run() -> Any:
        async with Client(make_server(session), mode=mode, **client) as connected:
            return await work(Agent(connected))

    return anyio.run(run)


def process(folder: Path, env: Mapping[str, str], *options: str) -> StdioServerParameters:
    words = ["-m", "hpc_agent", "mcp", *options]
    return StdioServerParameters(command=sys.executable, args=words, env=dict(env), cwd=str(folder))


@asynccontextmanager
async def over_stdio(server: StdioServerParameters, mode: str = "auto") -> AsyncIterator[Agent]:
    """A client of a server that is a process of its own."""
    async with Client(stdio_client(server), mode=mode) as connected:
        yield Agent(connected)
