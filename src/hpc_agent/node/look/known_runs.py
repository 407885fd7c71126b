"""Answer questions about many runs at once, and about the arrays of a run."""

import os
from typing import Any, Dict, List, Sequence

from ..schedulers import load
from ..schedulers.base import QueueRow
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_json
from ..shared.ledger import Array, arrays_of, summary
from ..shared.ranges import spans
from ..shared.run_folder import read_run
from .report import status_answer
from .run_status import RunStatus

ADOPTABLE_AT_MOST = 200


class SharedQueue(object):
    """A scheduler whose queue is asked once for all runs of a request."""

    def __init__(self, scheduler: Any, job_ids: Sequence[str]) -> None:
        self._scheduler = scheduler
        self._job_ids = list(job_ids)
        self._rows: Any = None

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        if self._rows is None:
            try:
                self._rows = self._scheduler.queue(self._job_ids)
            except NodeError as error:
                self._rows = error
        if isinstance(self._rows, NodeError):
            raise self._rows
        wanted = set(job_ids)
        return [row for row in self._rows if row.job in wanted]

    def accounting(self, job_ids: Sequence[str], since: float) -> Any:
        return self._scheduler.accounting(job_ids, since)


def overview(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the status or the error of each run. Request: ``runs`` = [{root, run_id}]."""
    site = request.get("site") or {}
    folders: Dict[str, run_folder.RunFolder] = {}
    answers: Dict[str, Any] = {}
    for run in request["runs"]:
        try:
            folders[run["run_id"]] = run_folder.existing_run(run["root"], run["run_id"])
        except NodeError as error:
            answers[run["run_id"]] = {"error": error.message, "code": error.code}
    jobs = [str(e.job_id) for folder in folders.values() for e in arrays_of(folder) if e.job_id]
    schedulers: Dict[str, SharedQueue] = {}
    for run_id, folder in folders.items():
        name = read_run(folder).scheduler
        if name not in schedulers:
            schedulers[name] = SharedQueue(load(name, site), jobs)
        try:
            status = RunStatus(folder, site, schedulers[name])
            answers[run_id] = status_answer(status)
            status.save()
        except NodeError as error:
            answers[run_id] = {"error": error.message, "code": error.code}
    return {"runs": answers}


def adoptable(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the runs of a repo that any machine submitted: folders called ``name``-HASH below ``parent``, newest first.

    With ``run_id`` the answer has the whole document of that run only.
    """
    found: List[Dict[str, Any]] = []
    parent = os.path.expanduser(request["parent"])
    for repo in _folders(parent):
        if repo.rpartition("-")[0] != request["name"]:
            continue
        root = os.path.join(parent, repo)
        for run_id in _folders(os.path.join(root, "runs")):
            if request.get("run_id") not in (None, run_id) or not run_folder.IDENTIFIER.match(run_id):
                continue
            folder = run_folder.run_folder(root, run_id)
            document = _document_of(folder.document)
            if document:
                kept = document if request.get("run_id") else {key: document.get(key) for key in _SHOWN}
                found.append(dict(kept, root=root, arrays=summary(folder)))
    found.sort(key=lambda run: str(run.get("submitted_at")), reverse=True)
    return {"runs": found[:ADOPTABLE_AT_MOST], "more": max(0, len(found) - ADOPTABLE_AT_MOST)}


_SHOWN = ("run_id", "run_name", "cmd_sha", "tree_sha", "submitted_at", "executor", "task_count", "remote_path", "campaign_id",
          "cluster")  # fmt: skip


def _folders(path: str) -> List[str]:
    try:
        return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))
    except OSError:
        return []


def _document_of(path: str) -> Dict[str, Any]:
    try:
        return read_json(path) or {}
    except (OSError, ValueError):
        return {}


def verify(request: Dict[str, Any]) -> Dict[str, Any]:
    """Check the submitted arrays of the ledger against the scheduler and the claims.

    Return for each array {job_id, state}: a queue state, ``ended``, ``missing`` (neither the scheduler nor a claim has the
    job), or the ledger's own state.
    """
    folder = run_folder.existing_run(request["root"], request["run_id"])
    scheduler = load(read_run(folder).scheduler, request.get("site") or {})
    entries = arrays_of(folder)
    submitted = {str(entry.job_id): entry for entry in entries if entry.job_id}
    queued = {row.job: row.state for row in scheduler.queue(sorted(submitted))}
    unseen = [job for job in submitted if job not in queued]
    ended = set()
    if unseen:
        since = min(submitted[job].at for job in unseen)
        ended = {row.job for row in scheduler.accounting(sorted(unseen), since)}
    states = {}
    for entry in entries:
        job = str(entry.job_id or "")
        state = queued.get(job) or ("ended" if job in ended or _has_claims(folder, entry) else "missing")
        states[entry.array] = {"job_id": entry.job_id, "state": state if job else entry.state}
    return {"arrays": states}


def _has_claims(folder: run_folder.RunFolder, entry: Array) -> bool:
    """Return True if a task of the array was claimed."""
    return any(
        os.path.exists(folder.claim(task, entry.generation))
        for start, stop in spans(entry.tasks)
        for task in range(start, stop)
    )
