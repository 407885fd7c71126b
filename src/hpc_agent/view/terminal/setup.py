"""Views of doctor, of clusters-add, and of a red set-up: what is wrong first, each with a line to paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_agent.view.terminal.blocks import Block, Cell, Facts, Gap, Heading, Line, Para, Raw, Title
from hpc_agent.view.terminal.generic import generic, label

_STYLES = {"red": "bad", "warn": "warn", "unknown": "dim", "ok": "good"}
_WORDS = {"red": "red", "warn": "warning", "unknown": "not known", "ok": "ok"}
_ORDER = tuple(_STYLES)


def problems(checks: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the checks that are not in order, the worst first."""
    blocks: list[Block] = []
    for check in sorted(checks, key=lambda one: _ORDER.index(one["state"])):
        about = f"{check['about']}: " if check.get("about") else ""
        word = Cell(f"{_WORDS[check['state']]}: ", _STYLES[check["state"]])
        blocks.append(Para([word, Cell(f"{about}{label(check['name'])}", "strong"), f": {check['detail']}"]))
        blocks += [Para(check["remedy"], 2)] if check.get("remedy") else []
        blocks += [Line(check["paste"], 4)] if check.get("paste") else []
    return blocks


def doctor(data: Mapping[str, Any]) -> list[Block]:
    """View of ``doctor``: what is wrong, then machine, repo and clusters."""
    healthy = data["healthy"]
    title = Cell("Nothing is red", "good") if healthy else Cell("Something is red", "bad")
    blocks: list[Block] = [Title([title]), *problems(data["problems"])]
    for about, checks in data["in_order"].items():
        blocks += [Heading(f"{about}: in order"), Facts([(label(name), found) for name, found in checks.items()], 2)]
    return blocks


def added(data: Mapping[str, Any]) -> list[Block]:
    """View of ``clusters-add``: the entry, and what to look at."""
    done = "replaced in" if data["replaced"] else "written to"
    where = f"{done} {data['file']}" if data["written"] else f"not written; it belongs into {data['file']}"
    blocks: list[Block] = [Title([Cell(data["name"], "strong"), f": {where}"]), Raw(data["entry"].rstrip("\n"), 2)]
    blocks += [Para([Cell("look at: ", "warn"), text]) for text in data["warnings"]]
    return blocks


def red(details: Mapping[str, Any]) -> list[Block]:
    """Return the evidence of a red set-up: every red check with its line."""
    others = {name: value for name, value in details.items() if name not in ("red", "checks", "cluster")}
    blocks: list[Block] = [Gap(), *problems(details["red"])]
    return [*blocks, *generic(others)] if others else blocks
