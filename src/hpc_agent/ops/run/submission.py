"""Write a submission into the journal, and submit the arrays of a run that were kept back."""

from __future__ import annotations

import getpass
import socket
from typing import Any

from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.state.journal import Journal
from hpc_agent.state.runs import Sidecar

SUBMIT_TIMEOUT_SEC = 900.0
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


def kept_back(answer: dict[str, Any]) -> list[str]:
    """Return a note about the arrays that wait for room."""
    later = "'hpc-agent monitor-flow' submits them when there is room"
    return [f"{answer['waiting']} arrays wait: {answer['message']}; {later}"] if answer.get("waiting") else []


def advance(run: KnownRun, release_canary: bool = False) -> tuple[int, list[str]]:
    """Submit the planned arrays that may go now; update the run's record and the journal.

    Return the number of arrays that were submitted, and a note about those that still wait.
    """
    question = {"owner": owner(), "release_canary": release_canary}
    answer = run.node.ask("advance", run.record.run_id, question, SUBMIT_TIMEOUT_SEC)
    before = set(run.record.job_ids)
    journal_arrays(run, answer["arrays"])
    return len(set(run.record.job_ids) - before), kept_back(answer)


def journal_arrays(run: KnownRun, arrays: dict[str, Any]) -> None:
    """Write the ledger of a run, of which every array that may go has been accepted, into record and journal."""
    run.record.job_ids = journal_ledger(run.journal, run.record.run_id, run.record.remote_path, arrays, accepted=True)
    run.record.waiting = arrays_left(arrays)
