"""Remove what was chosen: the intent into the journal, the act on the cluster, the outcome into the journal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from hpc_agent.ops.recover.held_runs import PRUNED, WHOLE, HeldRun, Place, local_paths, unsent_ok
from hpc_agent.ops.run.ledger_summary import owner
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

BATCH = 50
SWEEP_SEC = 45.0
ANSWER_SEC = 135.0  # beside the deletion: the locks of a batch, and one query of the scheduler


class Removal(NamedTuple):
    """What was confirmed: its token, the parts, and how long the deletion may take."""

    token: str
    parts: Sequence[str]
    budget_sec: float


def remove(
    world: World, journal: Journal, found: Sequence[Place], going: list[HeldRun], removal: Removal
) -> dict[str, int]:
    """Remove parts of the runs in ``going``, and set their rows. Return the files and bytes that were deleted.

    Every intent is written before the first act: the same call after a kill goes on with these runs and no others.
    """
    for row in going:
        if any(row.run_id in place.records for place in found):
            journal.append(row.run_id, "pruning", token=removal.token, parts=list(removal.parts))
    deleted = {"files": 0, "bytes": 0, "left": 0}
    deadline = world.now() + removal.budget_sec
    for place in found:
        here = iter(
            [row for row in going if row.run_id in place.answer.get("runs", {}) and row.cluster == place.cluster]
        )
        left = place.answer.get("unfinished", 0)
        while batch := list(islice(here, BATCH)):
            answer = _ask(place, batch, removal.parts)
            _keep_outcome(journal, place, batch, answer, removal)
            left = _count(deleted, answer)
        while left and place.error is None and world.now() < deadline:
            world.progress.update("deleting", cluster=place.cluster, left=left)
            before = (left, deleted["files"])
            left = _count(deleted, _ask(place, [], ()))
            if before == (left, deleted["files"]):
                break  # what cannot be deleted stays aside, and is told
        deleted["left"] += left
    return deleted


def _ask(place: Place, batch: list[HeldRun], parts: Sequence[str]) -> dict[str, Any]:
    """Ask the cluster to remove the parts of a batch of runs, and to delete what was moved aside, for some seconds."""
    question = {
        "root": place.node.root,
        "site": place.node.site,
        "owner": owner(),
        "runs": {row.run_id: list(parts) for row in batch},
        "unsent_ok": [row.run_id for row in batch if unsent_ok(place.records.get(row.run_id))],
        "sweep_sec": SWEEP_SEC,
    }
    return place.node.bootstrap("remove", question, SWEEP_SEC + ANSWER_SEC)


def _count(deleted: dict[str, int], answer: dict[str, Any]) -> int:
    deleted["files"] += answer["files"]
    deleted["bytes"] += answer["bytes"]
    return int(answer["left"])


def _keep_outcome(
    journal: Journal, place: Place, batch: list[HeldRun], answer: dict[str, Any], removal: Removal
) -> None:
    """Write into the journal what went, and that the rest stays."""
    for row in batch:
        went = row.run_id in answer["removed"]
        row.action, row.why = ("removed", "") if went else ("blocked", answer["kept"].get(row.run_id, "not answered"))
        if row.run_id in place.records:
            when = {"pruned_at": answer["removed"][row.run_id]} if went else {}
            facts: dict[str, Any] = {"files": row.files, "bytes": row.bytes} if went and WHOLE in removal.parts else {}
            journal.append(row.run_id, "pruned", parts=list(removal.parts) if went else [], **when, **facts)


def remove_local(repo: RepoLayout, journal: Journal, rows: list[HeldRun]) -> int:
    """Remove the sidecar and the events of runs that are gone from their cluster. Return the number of files.

    The journal keeps what the run was and when it was removed.
    """
    number = 0
    for row in rows:
        is_gone = row.action == "removed" or (row.state == PRUNED and row.action == "remove")
        if not is_gone or not journal.path(row.run_id).is_file():
            continue
        if not (record := journal.load(row.run_id)).pruned_at:
            continue
        number += len(local_paths(repo, journal, row.run_id))
        repo.sidecar(row.run_id).unlink(missing_ok=True)
        journal.keep_tombstone(record)
        row.action = "removed"
    return number
