"""Submit the arrays of a run that were kept back, and write the outcome into the journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from hpc_agent.errors import HpcError
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.ledger_summary import arrays_left, job_ids_of, journal_ledger, keep_document, owner
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout, locked

SUBMIT_TIMEOUT_SEC = 900.0
LOCK_WAIT_SEC = 120.0


def submit_lock(journal: Journal) -> AbstractContextManager[None]:
    return locked(journal.folder / ".submit_lock", LOCK_WAIT_SEC, "a submission from this repo")


def keep_outcome(
    repo: RepoLayout, journal: Journal, run_id: str, run_path: str, submit: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Submit arrays of a run and return the cluster's answer. Sidecar and journal follow it, also after an error."""
    failed, answer = None, {}
    try:
        answer = submit()
    except HpcError as error:
        failed = error
        answer = {"run": error.details.pop("run", None), "arrays": error.details.get("arrays") or {}}
    keep_document(repo, answer.get("run"), answer["arrays"])
    journal_ledger(journal, run_id, run_path, answer["arrays"], accepted=failed is None)
    if failed:
        raise failed
    return answer


def kept_back(answer: dict[str, Any]) -> list[str]:
    """Return a note about the arrays that wait for room."""
    later = "'hpc-agent monitor-flow' submits them when there is room"
    return [f"{answer['waiting']} arrays wait: {answer['message']}; {later}"] if answer.get("waiting") else []


def advance(run: KnownRun, release_canary: bool = False) -> tuple[int, list[str]]:
    """Submit the planned arrays that may go now; update the run's record and the journal.

    Return the number of arrays that were submitted, and a note about those that still wait.
    """
    before = set(run.record.job_ids)
    answer = ask_advance(run, {"release_canary": release_canary})
    return len(set(run.record.job_ids) - before), kept_back(answer)


def ask_advance(run: KnownRun, question: dict[str, Any]) -> dict[str, Any]:
    """Submit the arrays that may go now; with ``arrays`` in the question after they took its plan. Return the answer.

    Sidecar, journal and record follow the cluster, also after an error, which is raised.
    """
    record = run.record

    def submit() -> dict[str, Any]:
        return run.node.ask("advance", record.run_id, {"owner": owner(), **question}, SUBMIT_TIMEOUT_SEC)

    answer = keep_outcome(run.repo, run.journal, record.run_id, record.remote_path, submit)
    record.job_ids, record.waiting = job_ids_of(answer["arrays"]), arrays_left(answer["arrays"])
    return answer
