"""Submit the arrays of a run that were kept back, and write the outcome into the journal."""

from __future__ import annotations

from typing import Any

from hpc_agent.errors import HpcError
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.ledger_summary import arrays_left, journal_ledger, keep_document, owner

SUBMIT_TIMEOUT_SEC = 900.0


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
    run_id = run.record.run_id
    try:
        answer = run.node.ask("advance", run_id, {"owner": owner(), **question}, SUBMIT_TIMEOUT_SEC)
    except HpcError as error:
        arrays = error.details.get("arrays") or {}
        keep_document(run.repo, error.details.pop("run", None), arrays)
        journal_ledger(run.journal, run_id, run.record.remote_path, arrays, accepted=False)
        raise
    keep_document(run.repo, answer.get("run"), answer["arrays"])
    run.record.job_ids = journal_ledger(run.journal, run_id, run.record.remote_path, answer["arrays"], accepted=True)
    run.record.waiting = arrays_left(answer["arrays"])
    return answer
