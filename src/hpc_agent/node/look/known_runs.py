"""Answer questions about many runs at once, and about the arrays of a run."""

import glob
import os
from typing import Any, Dict, Iterator, List, Sequence, Tuple, Union

from ..schedulers import load
from ..schedulers.base import QueueRow
from ..shared.errors import NodeError
from ..shared.files import read_json
from ..shared.ledger import Array, arrays_of, summary
from ..shared.run_folder import IDENTIFIER, RunFolder, existing_run, read_run, run_folder
from ..shared.task_records import Records
from .run_status import RunStatus

ADOPTABLE_AT_MOST = 200
# Fields of the run's document that a list of runs has.
_SHOWN = ("run_id", "run_name", "cmd_sha", "tree_sha", "submitted_at", "executor", "task_count", "remote_path", "campaign_id",
          "cluster")  # fmt: skip


class SharedQueue(object):
    """A scheduler whose queue is asked once for all runs of a request."""

    def __init__(self, scheduler: Any, job_ids: Sequence[str]) -> None:
        self._scheduler = scheduler
        self._job_ids = list(job_ids)
        self._rows: Any = None
        self.accounting = scheduler.accounting

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


def statuses(request: Dict[str, Any]) -> Iterator[Tuple[str, Union[RunStatus, NodeError]]]:
    """Yield each run with its status or its error; one queue query for all. Request: ``runs`` = [{root, run_id}]."""
    site = request.get("site") or {}
    folders: Dict[str, RunFolder] = {}
    jobs: List[str] = []
    for run in request["runs"]:
        try:
            folder = existing_run(run["root"], run["run_id"])
            jobs += [str(entry.job_id) for entry in arrays_of(folder) if entry.job_id]
            folders[run["run_id"]] = folder
        except NodeError as error:
            yield run["run_id"], error
    schedulers: Dict[str, SharedQueue] = {}
    for run_id, folder in folders.items():
        name = read_run(folder).scheduler
        if name not in schedulers:
            schedulers[name] = SharedQueue(load(name, site), jobs)
        try:
            found: Union[RunStatus, NodeError] = RunStatus(folder, site, schedulers[name])
        except NodeError as error:
            found = error
        yield run_id, found


def adoptable(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the runs of a repo that any machine submitted: folders called ``name``-HASH below ``parent``, newest first.

    With ``run_id`` the answer has the whole document of that run only.
    """
    parent, name, run_id = os.path.expanduser(request["parent"]), request["name"], request.get("run_id")
    runs = os.path.join(glob.escape(parent), glob.escape(name) + "-*", "runs")
    found: List[Dict[str, Any]] = []
    for path in sorted(glob.glob(os.path.join(runs, glob.escape(run_id) if run_id else "*"))):
        root = os.path.dirname(os.path.dirname(path))
        if os.path.basename(root).rpartition("-")[0] != name or not IDENTIFIER.match(os.path.basename(path)):
            continue
        folder = run_folder(root, os.path.basename(path))
        try:
            document = read_json(folder.document)
        except (OSError, ValueError):
            continue
        if document:
            kept = document if run_id else {key: document.get(key) for key in _SHOWN}
            found.append(dict(kept, root=root, arrays=summary(folder)))
    found.sort(key=lambda run: str(run.get("submitted_at")), reverse=True)
    return {"runs": found[:ADOPTABLE_AT_MOST], "more": max(0, len(found) - ADOPTABLE_AT_MOST)}


def verify(request: Dict[str, Any]) -> Dict[str, Any]:
    """Check the submitted arrays of the ledger against the scheduler and the claims.

    Return for each array {job_id, state}: a queue state, ``ended``, ``missing`` (neither the scheduler nor a claim has the
    job), or the ledger's own state.
    """
    folder = existing_run(request["root"], request["run_id"])
    scheduler = load(read_run(folder).scheduler, request.get("site") or {})
    entries = arrays_of(folder)
    records = Records(folder, entries)
    submitted = {str(entry.job_id): entry for entry in entries if entry.job_id}
    queued = {row.job: row.state for row in scheduler.queue(sorted(submitted))}
    unseen = sorted(set(submitted) - set(queued))
    since = min((submitted[job].at for job in unseen), default=0.0)
    ended = {row.job for row in scheduler.accounting(unseen, since)} if unseen else set()
    states = {}
    for entry in entries:
        state = entry.state
        if entry.job_id:
            job = str(entry.job_id)
            state = queued.get(job) or ("ended" if job in ended or _has_begun(records, entry) else "missing")
        states[entry.array] = {"job_id": entry.job_id, "state": state}
    return {"arrays": states}


def _has_begun(records: Records, array: Array) -> bool:
    return any(map(os.path.exists, records.claims(array)))
