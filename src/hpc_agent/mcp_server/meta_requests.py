"""The requests and results of the three tools that are no verbs: ``find``, ``call`` and ``wait-for-events``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Request, Result
from hpc_agent.contract.vocabulary import doc
from hpc_agent.state.repo_files import IDENTIFIER

Consumer = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,60}\Z", description="your name, where several wait here")]

Run = Annotated[str, Meta(pattern=IDENTIFIER.pattern)]


class FindRequest(Request):
    """Words to look for, or one verb to see in full."""

    words: Annotated[str, doc("what you want to do; empty: all verbs")] = ""
    verb: Annotated[str | None, doc("show this verb: every field, effects, errors, an example")] = None


class FoundVerb(msgspec.Struct, kw_only=True):
    """A verb in a list."""

    verb: str
    does: str
    way: Annotated[str, doc("tool: a tool of its own; call: by the tool call; refused: this server is read-only")]


class FindResult(Result):
    """The verbs that fit, the best first; or one verb in full."""

    verbs: list[FoundVerb] = []
    more: Annotated[int, doc("verbs that were left out")] = 0
    verb: str | None = None
    description: str = ""
    effects: list[str] = []
    errors: list[str] = []
    input_schema: dict[str, Any] = {}
    output_fields: dict[str, Any] = {}
    example: dict[str, Any] = {}
    next_verbs: list[str] = []


class CallRequest(Request):
    """A verb and its arguments, and the part of its result to show."""

    verb: Annotated[str, doc("as find names it")]
    arguments: Annotated[dict[str, Any], doc("fields of the verb; see find")] = {}
    field: Annotated[str | None, doc("only this part of data, such as clusters.0.sample")] = None
    offset: Annotated[int, doc("items or characters of the part to leave out", ge=0)] = 0


class WaitForEventsRequest(Request):
    """The runs to watch, the time to wait, and the events that were received."""

    experiment_dir: Annotated[str, doc("the experiment repo")] = "."
    run_id: Annotated[Run | None, doc("one run; by default all in flight")] = None
    wait_sec: Annotated[float, doc("longest wait", ge=0, le=50)] = 40.0
    ack: Annotated[int | None, doc("id of the last event you received: it and those before do not come again")] = None
    consumer: Consumer = "default"


class Event(msgspec.Struct, kw_only=True):
    """A change of a run."""

    id: int
    at: str
    run_id: str
    event: Annotated[str, doc("started, progress, failures, held-back, needs-person, ended, goes-on")]
    text: str


class WaitForEventsResult(Result):
    """The events that were not acknowledged, the oldest first, and the runs as of the last look."""

    events: list[Event]
    last_id: Annotated[int | None, doc("give it as ack with the next call")]
    runs: Annotated[list[dict[str, Any]], doc("run_id, lifecycle_state, counts")]
    waited_sec: float
