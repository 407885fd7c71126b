"""The marker of a cluster whose set-up was found in order: ``<journal root>/preflight/<cluster>.json``, good for a day."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from hpc_agent.node.shared.files import write_bytes
from hpc_agent.world import World

FRESH_SEC = 24 * 3600
Freshness = Literal["fresh", "stale", "absent", "other_configuration"]


class Marker(msgspec.Struct, kw_only=True):
    """What was in order, and when. ``configuration`` is a hash of the cluster's keys in force."""

    cluster: str
    checked_at: float
    configuration: str
    versions: dict[str, str] = {}
    checks: list[dict[str, str]] = []


def marker_path(world: World, cluster: str) -> Path:
    return world.journal_root / "preflight" / f"{cluster}.json"


def configuration_hash(values: Any) -> str:
    """Return a hash of a cluster's values, the same whatever the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()[:16]


def write_marker(world: World, marker: Marker) -> Path:
    """Write the marker in the place of an older one. Raises OSError."""
    path = marker_path(world, marker.cluster)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(str(path), msgspec.json.format(msgspec.json.encode(marker, order="sorted"), indent=2) + b"\n")
    return path


def remove_marker(world: World, cluster: str) -> None:
    with contextlib.suppress(OSError):
        marker_path(world, cluster).unlink()


def read_marker(world: World, cluster: str) -> Marker | None:
    """Return the marker of a cluster; None where there is none that can be read."""
    try:
        marker = msgspec.json.decode(marker_path(world, cluster).read_bytes(), type=Marker)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    return marker if all({"name", "state"} <= check.keys() for check in marker.checks) else None


def freshness(marker: Marker | None, configuration: str, now: float) -> Freshness:
    """Return whether a marker still counts. One of the future does not: a clock was wrong."""
    if marker is None:
        return "absent"
    if marker.configuration != configuration:
        return "other_configuration"
    return "fresh" if 0 <= now - marker.checked_at < FRESH_SEC else "stale"
