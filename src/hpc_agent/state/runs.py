"""Run sidecars, ``.hpc/runs/<run_id>.json``: the record of one submission, beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent.errors import JournalCorrupt, RunNotFound, SchemaIncompat
from hpc_agent.state.repo_files import RepoLayout, save

SIDECAR_VERSION = 3


class Sidecar(msgspec.Struct, kw_only=True, frozen=True):
    """The record of a submission; ``run.json`` in the run's folder on the cluster holds the same."""

    sidecar_schema_version: int = SIDECAR_VERSION
    run_id: str
    run_name: str
    cmd_sha: str
    tasks_py_sha: str
    tree_sha: str
    snapshot: Annotated[str, Meta(description="name of the snapshot on the cluster: code and runtime")]
    hpc_agent_version: str
    submitted_at: str
    executor: str
    result_dir_template: str
    task_count: int
    executors: Annotated[list[str], Meta(description="what tasks start, as tasks.py names it in FLAGS")] = []
    wave_map: Annotated[dict[str, str], Meta(description="wave -> ranges of task ids")]
    cluster: str
    scheduler: str
    remote_path: str
    campaign_id: str | None = None
    resources: dict[str, Any] = {}
    placement: dict[str, Any] = {}
    env: dict[str, str] = {}
    modules: list[str] = []
    conda_env: str | None = None
    constraints: dict[str, Any] = {}
    results: dict[str, Any] = {}
    outputs: list[str] = []
    shared: dict[str, str] = {}
    nfs_data_dir: str | None = None
    content_sha: Annotated[str, Meta(description="identity without the repo's place: the same in another clone")] = ""
    chain: Annotated[dict[str, Any] | None, Meta(description="mode (ahead, detect) and number of segments")] = None
    canary: Annotated[bool, Meta(description="task 0 was sent first, alone")] = False
    plan: Annotated[
        dict[str, Any], Meta(description="shape, estimates and origins, as submit showed them; empty before 0.9")
    ] = {}
    inline_tasks: Annotated[bool, Meta(description="the parameters came with the request, not from tasks.py")] = False
    trials: Annotated[list[int], Meta(description="of a campaign's run: the number of each task's trial")] = []
    early_stop: Annotated[dict[str, Any] | None, Meta(description="the rule by which its tasks stop themselves")] = None
    git: Annotated[
        dict[str, Any], Meta(description="commit, dirty, changed files; or unknown: the reason. Empty: not recorded")
    ] = {}
    inputs: Annotated[
        list[dict[str, Any]], Meta(description="declared inputs: path, files, bytes, sha256, sampled")
    ] = []
    layout: Annotated[int, Meta(description="how records lie in the run's folder; 1 in runs made before")] = 1
    isolate: Annotated[str, Meta(description="how packed registered functions run: warm, fork or exec")] = "fork"
    at_once: Annotated[int, Meta(description="tasks that an element runs at the same time")] = 1
    reproduces: Annotated[str | None, Meta(description="the run of which this one is a repeat")] = None
    job_ids: list[str] = []


def write_run_sidecar(repo: RepoLayout, sidecar: Sidecar) -> Path:
    """Write the sidecar. ``.hpc/.gitignore`` keeps ``runs/`` and ``runtimes/`` out of version control."""
    path = repo.sidecar(sidecar.run_id)
    save(path, sidecar)
    ignore = repo.hpc / ".gitignore"
    if not ignore.exists():
        ignore.write_text("runs/\nruntimes/\n", encoding="utf-8")
    return path


def sidecar_of(document: dict[str, Any], job_ids: list[str]) -> Sidecar:
    """Return the sidecar in a run's document of the cluster. Raises SchemaIncompat for another version of hpc-agent."""
    version = document.get("sidecar_schema_version")
    if version != SIDECAR_VERSION:
        raise SchemaIncompat(f"run.json of {document.get('run_id')} has version {version}, not {SIDECAR_VERSION}")
    known = {name: document[name] for name in Sidecar.__struct_fields__ if name in document}
    return msgspec.convert({**known, "job_ids": job_ids}, Sidecar)


def read_run_sidecar(repo: RepoLayout, run_id: str) -> Sidecar:
    """Return a run's sidecar. Raises RunNotFound, JournalCorrupt (unreadable) or SchemaIncompat (another version)."""
    path = repo.sidecar(run_id)
    try:
        document = msgspec.json.decode(path.read_bytes())
        version = document.get("sidecar_schema_version")
        if version != SIDECAR_VERSION:
            raise SchemaIncompat(f"{path} has version {version}; this hpc-agent reads {SIDECAR_VERSION}")
        return msgspec.convert(document, Sidecar)
    except FileNotFoundError:
        raise RunNotFound(f"no run '{run_id}' in {repo.runs}", field="run_id") from None
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError, RecursionError, IsADirectoryError) as error:
        raise JournalCorrupt(
            f"the sidecar {path} cannot be read: {error}",
            remediation=f"Run 'mv {path} {path}.broken', then the same 'hpc-agent submit' again: the sidecar is written "
            "anew, and no task is submitted twice.",
            details={"path": str(path)},
        ) from error


def find_existing_runs(repo: RepoLayout) -> tuple[list[Sidecar], list[str]]:
    """Return every readable sidecar, newest first, and a sentence for each unreadable one."""
    found, problems = [], []
    for path in repo.runs.glob("*.json") if repo.runs.is_dir() else ():
        try:
            found.append(read_run_sidecar(repo, path.stem))
        except (JournalCorrupt, SchemaIncompat) as error:
            problems.append(error.message)
    return sorted(found, key=lambda s: s.submitted_at, reverse=True), problems


def find_run_by_cmd_sha(repo: RepoLayout, cmd_sha: str) -> Sidecar | None:
    """Return the newest run with these parameters. ``cmd_sha`` may be a prefix of at least 8 hex digits."""
    runs, _ = find_existing_runs(repo)
    return next((s for s in runs if len(cmd_sha) >= 8 and s.cmd_sha.startswith(cmd_sha)), None)
