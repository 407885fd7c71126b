"""The rules for Claude Code in the settings of an experiment: merged into what is there, nothing of it lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid

SETTINGS = ".claude/settings.json"
RULES = Path(__file__).resolve().parents[2] / "slash_commands" / "project-settings.json"
GUARD = "hpc-agent-guard.py"


def merged_settings(path: Path) -> str:
    """Return the text of the settings with the rules of hpc-agent; the text as it is where it has them already.

    Raises SpecInvalid for settings that are not as Claude Code has them: those are left for a person.
    """
    try:
        before = path.read_bytes().decode() if path.exists() else "{}"
        document = json.loads(before)
        changed = _add(document, json.loads(RULES.read_bytes()))
        # a number without end or half a character cannot be written as it was read
        after = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        after.encode()
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        is_shape = isinstance(error, (AttributeError, TypeError))
        reason = "'permissions' or 'hooks' have another shape there" if is_shape else error
        message = f"{path} is not a settings file of Claude Code, and was left as it is: {reason}"
        remedy = f"Correct {path}, or leave it out with --no-allow-cli; then run 'hpc-agent interview' again."
        raise SpecInvalid(message, field="allow_cli", remediation=remedy) from error
    return after if changed else before


def _add(document: dict[str, Any], ours: dict[str, Any]) -> bool:
    """Add the rules and the hook that are missing. Return True when there were any."""
    missing: list[Any] = []
    for kind, rules in ours["permissions"].items():
        known = document.setdefault("permissions", {}).setdefault(kind, [])
        spelled = {rule.replace(" *)", ":*)") for rule in known}
        missing += (new := [rule for rule in rules if rule not in spelled])
        known += new
    for event, entries in ours["hooks"].items():
        known = document.setdefault("hooks", {}).setdefault(event, [])
        if not any(GUARD in str(hook.get("command")) for entry in known for hook in entry.get("hooks", [])):
            known += entries
            missing += entries
    return bool(missing)
