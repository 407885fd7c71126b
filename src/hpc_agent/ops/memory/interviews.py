"""Read interview.json: what recall shows of an interview, and the values of its parameters."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import msgspec

from hpc_agent.campaign.tagged import seconds_of
from hpc_agent.ops.run.fields import doc

# An interview names its generator whole up to so many bytes of JSON.
GENERATOR_BYTES = 300
MOST_VALUES = 10
Scalar = bool | int | float | str


class Interview(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A past interview; what it does not say is left out."""

    campaign_dir: str
    goal: str = ""
    no_interview: Annotated[
        bool, doc("true: the folder has no interview.json; its campaigns and its newest run say the rest")
    ] = False
    campaigns: Annotated[list[str], doc("names of the campaigns in its folder, the first five")] = []
    task_kind: str | None = None
    task_count: int | None = None
    operator: str | None = None
    produced_by_kind: str | None = None
    materialized_at: Annotated[str | None, doc("when its tasks were written")] = None
    cmd_sha: Annotated[str | None, doc("the first 12 digits")] = None
    budget: dict[str, Any] = {}
    abort_if: dict[str, Any] = {}
    cluster_target: dict[str, Any] = {}
    task_generator: Annotated[
        dict[str, Any], doc("kind and params; of a long one kind, the names of its parameters, and truncated: true")
    ] = {}
    data_axes: Annotated[list[str], doc("kinds of the series that were split")] = []


class Values(msgspec.Struct, omit_defaults=True):
    """The values that a parameter had: the extremes of its numbers, and all of them where they are ten at most."""

    low: int | float | None = None
    high: int | float | None = None
    few: list[Scalar] = []
    more: bool = False  # there are others beside ``few``

    def add(self, value: Any) -> None:
        """Take a value in: a list or an object as its JSON."""
        if isinstance(value, (list, dict)) or value is None:
            value = json.dumps(value, sort_keys=True)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            self.low = value if self.low is None else min(self.low, value)
            self.high = value if self.high is None else max(self.high, value)
        if any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.few):
            return
        if len(self.few) < MOST_VALUES:
            self.few.append(value)
        else:
            self.more = True

    def merge(self, other: Values) -> None:
        for value in (*other.few, other.low, other.high):
            if value is not None:
                self.add(value)
        self.more |= other.more


class Facts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An interview as the index keeps it; ``at`` is in seconds since the epoch."""

    interview: Interview
    at: float | None = None
    space: dict[str, Values] = {}
    words: str = ""  # in lower case

    def place(self) -> dict[str, Any]:
        """Return the fields of a start that tell where it comes from."""
        return {"task_kind": self.interview.task_kind, "campaign_dir": self.interview.campaign_dir}


def read_facts(campaign_dir: str, data: bytes) -> Facts:
    """Return the facts of an interview.json, of this version or an earlier one.

    Raises ValueError, which says what is wrong: no JSON object, no goal, a field of another type.
    """
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("goal"), str):
        raise ValueError("it has no goal, so it is not the interview.json of a campaign")  # noqa: TRY004
    made, by = _object(document, "_materialized"), _object(document, "produced_by")
    generator = _object(document, "task_generator")
    space = _space(document)
    kind = str(generator["kind"]) if "kind" in generator else "axes" if document.get("axes") else None
    axis, hint = _object(document, "data_axis"), _object(document, "entry_point").get("data_axis_hint")
    hint = hint.get("kind") if isinstance(hint, dict) else hint
    at = made.get("at")
    interview = msgspec.convert(
        {
            "campaign_dir": campaign_dir,
            "goal": document["goal"],
            "task_kind": document.get("task_kind"),
            "task_count": made.get("total_tasks", document.get("task_count")),
            "operator": by.get("operator"),
            "produced_by_kind": by.get("kind"),
            "materialized_at": at,
            "cmd_sha": sha[:12] if isinstance(sha := made.get("cmd_sha"), str) else sha,
            **{name: _object(document, name) for name in ("budget", "abort_if", "cluster_target")},
            "task_generator": _short_generator(kind, document, space),
            "data_axes": [kind for kind in (axis.get("kind"), hint) if isinstance(kind, str)],
        },
        Interview,
    )
    said = [turn.get("text") for turn in _object(document, "transcript", list) if isinstance(turn, dict)]
    words = [interview.goal, interview.task_kind, interview.operator, document.get("notes"), *space, *said]
    text = "\n".join(str(word) for word in words if word).lower()
    return Facts(interview=interview, at=seconds_of(at) if at else None, space=space, words=text)


def _object(document: dict[str, Any], name: str, kind: Any = dict) -> Any:
    """Return a field that is an object, or of another kind; an empty one where it is missing. Raises ValueError."""
    value = document.get(name)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"its {name} is not {'an object' if kind is dict else 'a list'}")
    return value or kind()


def _short_generator(kind: str | None, document: dict[str, Any], space: dict[str, Values]) -> dict[str, Any]:
    if kind is None:
        return {}
    whole = document.get("task_generator") or {"params": {"axes": document["axes"]}}
    if len(json.dumps(whole)) <= GENERATOR_BYTES:
        return {**whole, "kind": kind}
    return {"kind": kind, "parameters": list(space)[:50], "truncated": True}


def _space(document: dict[str, Any]) -> dict[str, Values]:
    """Return the values of every parameter that the generator and the axes of an interview name."""
    params = _object(_object(document, "task_generator"), "params")
    several = [document.get("axes"), params.get("axes"), params.get("ranges"), {"seed": params.get("seeds")}]
    if isinstance(name := params.get("param"), str):
        several.append({name: params})
    told = [(name, *_axis(axis)) for axes in several if isinstance(axes, dict) for name, axis in axes.items()]
    items = [item for item in _object(params, "items", list) if isinstance(item, dict)]
    told += [(name, [value], False) for item in items for name, value in item.items()]
    found: dict[str, Values] = {}
    for name, values, more in told:
        for value in values:
            found.setdefault(name, Values()).add(value)
            found[name].more |= more
    return found


def _axis(axis: Any) -> tuple[list[Any], bool]:
    """Return the values of an axis; of a range its ends, and True."""
    if not isinstance(axis, dict):
        return (axis, False) if isinstance(axis, list) else ([], False)
    spread = next((axis[kind] for kind in ("logspace", "linspace") if isinstance(axis.get(kind), list)), None)
    ends = spread[:2] if spread else [axis.get("low"), axis.get("high")]
    steps = axis.get("range")
    if isinstance(steps, list) and all(isinstance(step, int) for step in steps) and 0 not in steps[2:]:
        ends = [numbers[0], numbers[-1]] if (numbers := range(*steps)) else []
    return [end for end in ends if end is not None], True
