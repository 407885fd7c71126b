"""Samples of time and memory that tasks used, in ``.hpc/runtimes/<cluster>.json``: requests derive from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.state.repo_files import RepoLayout, check_identifier, locked, save
from hpc_agent.state.runs import Sidecar

RUNTIMES = "runtimes"
VERSION = 1
# For each executor, the newest runs are kept: the needs of code change with the code.
KEPT_RUNS = 10


class RunSamples(msgspec.Struct, kw_only=True):
    """The rows of one run; each names the ``executor`` that the task started."""

    run_id: str
    at: str
    stamp: str = ""  # RUN_ID:TEXT, where the text changes when tasks of the run are run again
    gpu_type: str | None = None
    asked: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []


class Samples(msgspec.Struct, kw_only=True):
    """All runs of a repo on one cluster, newest first."""

    version: int = VERSION
    cluster: str
    runs: list[RunSamples] = []

    def of_run(self, run_id: str) -> RunSamples | None:
        return next((one for one in self.runs if one.run_id == run_id), None)

    def rows_of(self, executors: set[str], gpu_type: str | None) -> list[dict[str, Any]]:
        """Return the rows of these executors on this kind of GPU, newest run first, with their ``run_id``."""
        runs = [run for run in self.runs if run.gpu_type == gpu_type]
        return [{**row, "run_id": run.run_id} for run in runs for row in run.rows if row.get("executor") in executors]


def samples_path(repo: RepoLayout, cluster: str) -> Path:
    return repo.hpc / RUNTIMES / f"{check_identifier(cluster, 'cluster')}.json"


def load_samples(repo: RepoLayout, cluster: str) -> Samples:
    """Return the samples of a cluster; none when the file is missing or unreadable, since they can be measured again."""
    try:
        found = msgspec.json.decode(samples_path(repo, cluster).read_bytes(), type=Samples)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return Samples(cluster=cluster)
    return found if found.version == VERSION else Samples(cluster=cluster)


def measured_as(repo: RepoLayout, cluster: str, run_id: str) -> str | None:
    """Return the stamp of a run's rows; None where there are none. Only text is searched, because every status calls this."""
    try:
        text = samples_path(repo, cluster).read_bytes()
    except OSError:
        return None
    found = re.search(rb'"%s:([^"]*)"' % re.escape(run_id.encode()), text)
    return found[1].decode() if found else None


def keep_samples(repo: RepoLayout, sidecar: Sidecar, rows: list[dict[str, Any]], stamp: str) -> None:
    """Replace the rows of a run by these."""
    only = sidecar.executors[0] if len(sidecar.executors) == 1 else sidecar.executor
    named = [{**row, "executor": str((row.get("kwargs") or {}).get("executor") or only)} for row in rows]
    run = RunSamples(
        run_id=sidecar.run_id,
        at=sidecar.submitted_at,
        stamp=f"{sidecar.run_id}:{stamp}",
        gpu_type=sidecar.resources.get("gpu_type") if sidecar.resources.get("gpus") else None,
        asked={name: sidecar.resources.get(name) for name in ("walltime_sec", "mem_mb", "cpus")},
        rows=named,
    )
    path = samples_path(repo, sidecar.cluster)
    with locked(path.with_suffix(".lock"), 10.0, "the samples of this repo"):
        known = load_samples(repo, sidecar.cluster)
        others = [other for other in known.runs if other.run_id != sidecar.run_id]
        newest = sorted([run, *others], key=lambda one: one.at, reverse=True)
        known.runs = newest[: KEPT_RUNS * max(1, len({row["executor"] for one in newest for row in one.rows}))]
        save(path, known)
