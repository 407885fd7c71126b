"""Views of a setup: what was found on a cluster, each check with its remedy and a line to paste; files for Claude Code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_agent.view.terminal.blocks import (
    Block,
    Cell,
    Column,
    Content,
    Fact,
    Facts,
    Gap,
    Heading,
    Line,
    Para,
    Table,
    Title,
)
from hpc_agent.view.terminal.generic import generic
from hpc_agent.view.terminal.words import brief, clock, duration, pairs

STYLES = {"ok": "good", "green": "good", "red": "bad", "warn": "warn", "unknown": "warn", "skipped": "dim"}


def setup(data: Mapping[str, Any]) -> list[Block]:
    """View of ``setup``: the cluster's checks first, then the files."""
    blocks: list[Block] = []
    probe = data.get("preflight")
    if probe:
        word = Cell("ready", "good") if probe.get("green") else Cell("not ready", "bad")
        where = f" ({probe['host']})" if probe.get("host") else ""
        blocks += [Title([f"{probe['cluster']}{where}: ", word]), *checks(probe["checks"])]
    rest = {name: value for name, value in data.items() if name not in ("preflight", "assets")}
    files = assets(data.get("assets") or {}, bool(data.get("dry_run")))
    return [*blocks, *([Gap()] if blocks else []), *files, *(generic(rest) if _tells(rest) else [])]


def _tells(rest: Mapping[str, Any]) -> bool:
    return any(value for name, value in rest.items() if name not in ("deduped", "dry_run"))


def checks(found: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return checks as a table, and below it what to do about those that are not in order."""
    rows: list[list[Content]] = [
        [Cell(one["state"], STYLES.get(one["state"], "")), one["name"].replace("_", " "), one["detail"]]
        for one in found
        if not _is_left_out(one)
    ]
    left_out = [one["name"].replace("_", " ") for one in found if _is_left_out(one)]
    blocks: list[Block] = [Table([Column("state"), Column("check"), Column("what was found", wraps=True)], rows)]
    blocks += [Para([Cell("not looked at: ", "dim"), ", ".join(left_out)])] if left_out else []
    for one in found:
        if one.get("remedy"):
            style = STYLES.get(one["state"], "strong")
            blocks += [Gap(), Para([Cell(f"{one['name'].replace('_', ' ')}: ", style), one["remedy"]])]
            blocks += [Line(one["paste"], 2)] if one.get("paste") else []
    return blocks


def _is_left_out(check: Mapping[str, Any]) -> bool:
    """Was the check not made, because an earlier one failed?"""
    return check["state"] == "unknown" and str(check["detail"]).startswith("not looked at")


def assets(facts: Mapping[str, Any], dry_run: bool = False) -> list[Block]:
    """Return the files for Claude Code: how many are there, which were written, which stay."""
    if not facts:
        return []
    rows: list[Fact] = [("folder", Cell(facts["claude_dir"], whole=True))]
    kinds = ("commands", "skills", "agents", "hooks")
    rows += [(name, brief(facts[f"{name}_installed"])) for name in kinds if facts.get(f"{name}_installed")]
    wrote, removed = facts.get("wrote") or [], facts.get("removed") or []
    rows.append(
        ("would write" if dry_run else "written now", f"{len(wrote)} files" if wrote else "nothing had to be changed")
    )
    rows += [("removed", brief(removed))] if removed else []
    blocks: list[Block] = [Heading("files for Claude Code"), Facts(rows, 2)]
    return [
        *blocks,
        *(Para([Cell(f"kept {one['path']}: ", "warn"), one["reason"]], 2) for one in facts.get("kept") or []),
    ]


def install(data: Mapping[str, Any]) -> list[Block]:
    """View of ``install-commands``."""
    return assets(data["assets"], bool(data.get("dry_run")))


def preflight(data: Mapping[str, Any]) -> list[Block]:
    """View of ``check-preflight``."""
    facts: list[Fact] = [
        ("checked", f"{clock(data['checked_at'])}, {duration(data['age_sec'])} ago"),
        ("good for", f"{duration(data['left_sec'])} more"),
    ]
    facts += [(name, str(value)) for name, value in data.get("versions", {}).items() if value]
    blocks: list[Block] = [Title([data["cluster"], ": ", Cell("in order", "good")]), Facts(facts)]
    for one in data.get("warnings") or []:
        blocks.append(Para([Cell(f"{one.get('name', 'warning')}: ", "warn"), one.get("detail") or pairs(one)]))
        blocks += [Line(one["paste"], 2)] if one.get("paste") else []
    return blocks
