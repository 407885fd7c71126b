"""What the campaigns and the newest run of a repo say about it where nobody wrote an interview.json."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpc_agent.campaign.manifest import read_manifest
from hpc_agent.campaign.tagged import seconds_of
from hpc_agent.errors import HpcError
from hpc_agent.ops.memory.interviews import Facts, Interview, Values
from hpc_agent.state.repo_files import HPC_DIR, RepoLayout
from hpc_agent.state.runs import read_run_sidecar


def stamp_of_repo(path: str, stamp: Callable[[os.stat_result], str]) -> str:
    """Return a text that changes with the manifests of a repo, and when a run is submitted; empty: not to be trusted."""
    parts = []
    for name in (*_manifests(path), "campaigns", "runs"):
        try:
            parts.append(stamp(os.stat(f"{path}/{HPC_DIR}/{name}")))  # noqa: PTH116 - many times
        except (FileNotFoundError, NotADirectoryError):
            parts.append("-")
    return "" if "" in parts else "; ".join(parts)


def read_repo(path: str) -> Facts | None:
    """Return the facts of a repo with a campaign or a run; None for another folder.

    Raises ValueError where it has some, and none of them can be read.
    """
    repo, problems = RepoLayout(Path(path)), []
    manifests, sidecar = [], None
    for name in _manifests(path):
        try:
            manifests.append(read_manifest(repo, name.split("/")[1]))
        except HpcError as error:
            problems.append(error.message)
    newest = max(repo.runs.glob("*.json"), key=lambda file: file.stat().st_mtime, default=None)
    if newest is not None:
        try:
            sidecar = read_run_sidecar(repo, newest.stem)
        except HpcError as error:
            problems.append(error.message)
    if not manifests and sidecar is None:
        if problems:
            raise ValueError(problems[0])
        return None
    manifests.sort(key=lambda manifest: manifest.created_at)
    space: dict[str, Values] = {}
    for manifest in manifests:
        for name, parameter in manifest.space.items():
            seen = space.setdefault(name, Values())
            seen.more |= parameter.type != "categorical"
            for value in (parameter.low, parameter.high, *parameter.values):
                if value is not None:
                    seen.add(int(value) if parameter.type == "int" else value)
    last: Any = manifests[-1].submit if manifests else {}
    cluster = sidecar.cluster if sidecar else last.get("cluster")
    times = [one.created_at for one in manifests if one.created_at] + ([sidecar.submitted_at] if sidecar else [])
    at = max(times, default=None)
    goals = [manifest.goal for manifest in manifests if manifest.goal]
    interview = Interview(
        goal=goals[-1] if goals else "",
        no_interview=True,
        campaign_dir=path,
        task_count=sidecar.task_count if sidecar else None,
        materialized_at=at,
        cluster_target={"cluster": cluster} if cluster else {},
    )
    words = [*goals, *space, *(manifest.campaign_id for manifest in manifests)]
    words += [metric.name for manifest in manifests for metric in manifest.metrics]
    words += [sidecar.run_name, sidecar.executor] if sidecar else []
    return Facts(interview=interview, at=seconds_of(at) if at else None, space=space, words="\n".join(words).lower())


def _manifests(path: str) -> list[str]:
    """Return the paths of a repo's manifests below its .hpc folder, sorted."""
    try:
        names = os.listdir(f"{path}/{HPC_DIR}/campaigns")  # noqa: PTH208 - many times
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [f"campaigns/{name}/manifest.json" for name in sorted(names)]
    return [name for name in paths if os.path.isfile(f"{path}/{HPC_DIR}/{name}")]  # noqa: PTH113
