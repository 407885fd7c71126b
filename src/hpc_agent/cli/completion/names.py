"""The names that TAB offers: clusters, campaigns and run ids, in files of one name a line, the newest first."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpc_agent.errors import HpcError
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.world import World

KEPT = 100
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FIELDS = {"run_id": "runs", "campaign_id": "campaigns", "cluster": "clusters"}


def names_folder(env: Mapping[str, str], home: Path) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "hpc-agent" / "completion"


def remember(stage: str, request: Any, result: Any, world: World) -> None:
    """Add the names in a request that succeeded, and in its result. A verb that is about clusters renews theirs."""
    with contextlib.suppress(OSError):
        for field, kind in _FIELDS.items():
            found = [getattr(each, field, None) for each in (result, request)]
            _add(kind, [name for name in found if isinstance(name, str) and name != "latest"], world)
        rows = getattr(result, "runs", None)
        _add("runs", [getattr(row, "run_id", None) for row in rows] if isinstance(rows, list) else [], world)
        if stage == "setup":
            remember_clusters(world)


def remember_clusters(world: World) -> None:
    """Write the names of the configured clusters; where a file is wrong, the old names stay."""
    from hpc_agent.infra.clusters import load_clusters

    with contextlib.suppress(OSError, HpcError):
        _write("clusters", sorted(load_clusters(world.env, world.home)), world)


def _add(kind: str, names: Iterable[str | None], world: World) -> None:
    new = [name for name in dict.fromkeys(names) if name and _PLAIN.fullmatch(name)]
    if not new:
        return
    known = _read(kind, world)
    if not set(new) <= set(known[:KEPT]):
        _write(kind, [*new, *(name for name in known if name not in new)], world)


def _read(kind: str, world: World) -> list[str]:
    path = names_folder(world.env, world.home) / kind
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _write(kind: str, names: list[str], world: World) -> None:
    text = "".join(f"{name}\n" for name in names[:KEPT] if _PLAIN.fullmatch(name))
    folder = names_folder(world.env, world.home)
    if text == "".join(f"{name}\n" for name in _read(kind, world)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(str(folder / kind), text.encode(), sync=False)
