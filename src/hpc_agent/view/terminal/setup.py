"""Views of the set-up: what is wrong first, each with what was found and a line to paste; then what is in order."""

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


def report(found: Mapping[str, Any]) -> list[Block]:
    """Return what a login found."""
    host = f" ({found['host']})" if found.get("host") else ""
    state = Cell("in order", "good") if found["green"] else Cell("not in order", "bad")
    wrong = [check for check in found["checks"] if check["state"] != "ok"]
    fine = [
        (Cell(label(check["name"]), "good"), check["detail"]) for check in found["checks"] if check["state"] == "ok"
    ]
    blocks: list[Block] = [Title([f"{found['cluster']}{host}: ", state])]
    return [*blocks, *problems(wrong), Gap(), Facts(list(fine))]


def setup(data: Mapping[str, Any]) -> list[Block]:
    """View of ``setup``: the cluster where there is one, then the files."""
    assets = data["assets"]
    changed = [*(f"wrote {name}" for name in assets["wrote"]), *(f"removed {name}" for name in assets["removed"])]
    would = "would have " if data["dry_run"] else ""
    blocks: list[Block] = [*report(data["preflight"]), Gap()] if data.get("preflight") else []
    blocks.append(Para([Cell("Claude Code: ", "strong"), assets["claude_dir"]]))
    blocks += [Line(f"{would}{line}", 2) for line in changed] or [Para("all files are in place", 2)]
    kept = [name if isinstance(name, str) else str(name) for name in assets["kept"]]
    return [*blocks, *(Para([Cell("kept, with changes of yours: ", "warn"), name], 2) for name in kept)]


def doctor(data: Mapping[str, Any]) -> list[Block]:
    """View of ``doctor``: what is wrong, then machine, repo and clusters."""
    healthy = data["healthy"]
    title = Cell("Nothing is red", "good") if healthy else Cell("Something is red", "bad")
    blocks: list[Block] = [Title([title]), *problems(data["problems"])]
    for about, checks in data["in_order"].items():
        blocks += [Heading(f"{about}: in order"), Facts([(label(name), found) for name, found in checks.items()], 2)]
    return blocks


def preflight(data: Mapping[str, Any]) -> list[Block]:
    """View of ``check-preflight``."""
    hours = f"{data['age_sec'] // 3600} h" if data["age_sec"] >= 7200 else f"{data['age_sec'] // 60} min"
    left = f"{data['left_sec'] // 3600} h" if data["left_sec"] >= 7200 else f"{data['left_sec'] // 60} min"
    fine = sum(state == "ok" for state in data["checks"].values())
    blocks: list[Block] = [Title([f"{data['cluster']}: ", Cell("in order", "good"), f", checked {hours} ago"])]
    blocks.append(Para(f"{fine} of {len(data['checks'])} checks are ok, none is red; that counts for {left} more."))
    return [*blocks, *problems(data["warnings"])]


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
