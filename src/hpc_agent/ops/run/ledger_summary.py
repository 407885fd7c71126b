"""Write the ledger of a run, as the cluster summarizes it, into the journal and the sidecar of this machine."""

from __future__ import annotations

import getpass
import socket
from typing import Any

from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import Sidecar, sidecar_of, write_run_sidecar

IDENTITY = ("run_name", "cluster", "cmd_sha", "tree_sha", "executor", "content_sha", "remote_path", "campaign_id")


def owner() -> str:
    """Return the name under which this client takes a run's lock."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def identity_of(sidecar: Sidecar) -> dict[str, Any]:
    """Return the fields of a sidecar that a RunRecord has too."""
    return {"total_tasks": sidecar.task_count, **{name: getattr(sidecar, name) for name in IDENTITY}}


def journal_ledger(journal: Journal, run_id: str, run_path: str, arrays: dict[str, Any], accepted: bool) -> list[str]:
    """Write the ledger's summary into the journal. ``accepted``: every array that may go now has been accepted.

    Return the job ids.
    """
    job_ids = job_ids_of(arrays)
    if job_ids or accepted:
        facts = {"job_ids": job_ids, "remote_path": run_path, "whole": accepted, "waiting": arrays_left(arrays)}
        journal.append(run_id, "submitted", **facts)
    return job_ids


def job_ids_of(arrays: dict[str, Any]) -> list[str]:
    """Return the job ids of a ledger's summary, in the order of submission."""
    ordered = sorted(arrays.values(), key=lambda entry: int(entry.get("order") or 0))
    return [str(entry["job_id"]) for entry in ordered if entry.get("job_id")]


def arrays_left(arrays: dict[str, Any]) -> int:
    """Return the number of arrays in a ledger's summary that were not submitted yet."""
    return sum(1 for entry in arrays.values() if not entry.get("job_id"))


def all_accepted(arrays: dict[str, Any]) -> bool:
    """Return True if every array that may go now has a job, and there is one."""
    return bool(arrays) and all(entry.get("job_id") or entry.get("held") for entry in arrays.values())


def keep_document(repo: RepoLayout, document: dict[str, Any] | None, arrays: dict[str, Any]) -> None:
    """Write the document of a run on the cluster as its sidecar; an earlier runtime returns none."""
    if document:
        write_run_sidecar(repo, sidecar_of(document, job_ids_of(arrays)))
