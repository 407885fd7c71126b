"""Write the settings of a campaign as flags of ``campaign-init``, for a next step that runs as printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from hpc_agent.campaign.manifest import Manifest

AS_GIVEN = {"submit", "strategy_params"}  # their fields that say nothing may say something to another one
NOT_TAKEN = {"campaign_id", "created_at", "seed_from", "start", "earlier_limits", "manifest_schema_version"}


def settings_flags(manifest: Manifest) -> Iterator[str]:
    """Yield the flags that give a campaign the settings of another one, without its name and where it starts."""
    told = msgspec.to_builtins(manifest)
    usual = msgspec.to_builtins(Manifest(campaign_id="", space={}, metrics=[]))
    told |= {"strategy": manifest.strategy.name, "strategy_params": manifest.strategy.params}
    usual |= {"strategy": usual["strategy"]["name"], "strategy_params": {}}
    for document in (told, usual):
        document |= document.pop("budget") | document.pop("stop_criteria")
    if [metric.name for metric in manifest.metrics] == [told["metric"]]:
        told |= {"metric": None, "direction": None}  # which --metrics says
    for name, value in told.items():
        if value != usual[name] and name not in NOT_TAKEN:
            document = value if name in AS_GIVEN else _short(value)
            text = value if isinstance(value, str) else json.dumps(document, ensure_ascii=False)
            flag = f"--{name.replace('_', '-')}"
            yield from [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _short(value: Any) -> Any:
    """Return a document without fields that say nothing (null, false, an empty list), and bounds of integers as integers."""
    if isinstance(value, list):
        return [_short(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _short(item) for name, item in value.items()}
    if value.get("type") == "int":
        kept |= {name: int(kept[name]) for name in ("low", "high", "step") if isinstance(kept.get(name), float)}
    return {name: item for name, item in kept.items() if item is not None and item is not False and item != []}
