"""The runs of a repo with what they hold, on each cluster and on this machine, and what keeps a run where it is."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import PartialError
from hpc_agent.errors import HpcError
from hpc_agent.infra.remote import Node, root_of
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import node_of
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

PARTS = ("logs", "work", "checkpoints", "results", "outputs")
WHOLE = "all"
PRUNED = "pruned"  # the state of a run that is gone
DAY = 86400.0
# The look itself: the connection, the runtime, one query of the scheduler.
LOOK_SEC = 60.0
REPEATS_SHOWN = 3


class HeldRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run and what it holds; what is empty is left out."""

    run_id: str
    cluster: str
    state: Annotated[str, doc("as of the last look of this machine; not known here; or pruned")]
    action: Annotated[str, doc("keep, remove, removed, blocked, or gone: nothing is left of it on the cluster")]
    why: Annotated[str, doc("what blocks a removal, or when the run was removed")] = ""
    last_change: Annotated[float | None, doc("seconds since the epoch")] = None
    bytes: Annotated[int | None, doc("what goes with the whole run, by disk blocks; null: not known in time")] = None
    files: Annotated[int | None, doc("files and folders; null: not known in time")] = None
    parts: Annotated[dict[str, int], doc("bytes of each part, without zeros")] = {}
    part_files: Annotated[dict[str, int], doc("files and folders of each part, without zeros")] = {}
    filled: Annotated[list[str], doc("parts that have a file, as far as is known")] = []
    shared_bytes: Annotated[int, doc("hard links: bytes that stay, because snapshots have them too")] = 0
    pruned: Annotated[list[str], doc("parts that were removed before")] = []
    tasks: int = 0
    aggregated: Annotated[bool, doc("a table was written on this machine")] = False
    combined: Annotated[str, doc("waves that are folded on the cluster, of all")] = ""
    campaign_id: str | None = None
    repeats: Annotated[str | None, doc("the run of which this one is a repeat")] = None
    repeated_by: Annotated[list[str], doc("runs that repeat it; verify-reproduction compares with its records")] = []
    local_bytes: Annotated[int, doc("sidecar and journal on this machine")] = 0
    sidecar: Annotated[bool, doc("this machine has its sidecar")] = False


@dataclass
class Place:
    """A folder of this repo's runs on a cluster: its runs as the journal knows them, and the answer of the cluster."""

    cluster: str
    node: Node
    records: dict[str, RunRecord] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    error: HpcError | None = None


def places(
    world: World, repo: RepoLayout, records: list[RunRecord], cluster: str | None
) -> tuple[list[Place], list[PartialError]]:
    """Return the places where the repo has runs, and the error of each cluster that is described no more."""
    found: dict[tuple[str, str], Place] = {}
    errors: dict[str, PartialError] = {}
    wanted = [(r.cluster, root_of(r.remote_path), r) for r in records if r.cluster and cluster in (None, r.cluster)]
    for name, root, record in [*wanted, *([(cluster, "", None)] if cluster else [])]:
        try:
            node = node_of(world, repo, name, root or None)
        except HpcError as error:
            if cluster:
                raise
            errors[name] = PartialError(code=error.error_code, detail=error.message)
            continue
        place = found.setdefault((name, node.root), Place(name, node))
        if record is not None:
            place.records[record.run_id] = record
    return list(found.values()), list(errors.values())


def look(place: Place, run_ids: list[str], measure_sec: float) -> None:
    """Ask a cluster what its runs hold; ``run_ids``: only these. An error is kept, so that other clusters are asked."""
    question = {"root": place.node.root, "site": place.node.site, "runs": run_ids or None, "measure_sec": measure_sec}
    try:
        place.answer = place.node.bootstrap("holdings", question, measure_sec + LOOK_SEC)
    except HpcError as error:
        place.error = error


def settle(journal: Journal, place: Place, asked: Collection[str]) -> None:
    """Write into the journal what became of removals that were interrupted, of the runs that the cluster was asked for."""
    for run_id, record in list(place.records.items()):
        if run_id not in asked:
            continue
        there = place.answer["runs"].get(run_id)
        if there is not None and record.open_prune:
            journal.append(run_id, "pruned", parts=sorted(there["pruned"]))
        elif there is None and (record.open_prune or run_id in place.answer["gone"]) and not record.pruned_at:
            when = {"pruned_at": place.answer["gone"][run_id]} if run_id in place.answer["gone"] else {}
            journal.append(run_id, "pruned", parts=[WHOLE], **when)
        else:
            continue
        place.records[run_id] = journal.load(run_id)


def rows_of(world: World, repo: RepoLayout, journal: Journal, place: Place) -> list[HeldRun]:
    """Return a row for each run of a place, the newest first."""
    there: dict[str, dict[str, Any]] = place.answer.get("runs", {})
    rows = [_row(place, run_id, facts) for run_id, facts in there.items()]
    if place.error is not None:
        rows += [_unasked(place, record) for record in place.records.values() if not record.pruned_at]
    for row in rows:
        row.local_bytes = local_bytes(repo, journal, row.run_id)
        row.sidecar = repo.sidecar(row.run_id).is_file()
        if row.action == "keep" and (facts := there.get(row.run_id)):
            row.why = blocked(facts, place.records.get(row.run_id), world.now())
    return sorted(rows, key=lambda row: row.last_change or 0.0, reverse=True)


def _row(place: Place, run_id: str, facts: dict[str, Any]) -> HeldRun:
    record, sizes = place.records.get(run_id), facts["sizes"]
    return HeldRun(
        run_id=run_id,
        cluster=place.cluster,
        state=record.status if record else "not known here",
        action="keep",
        last_change=round(facts["last_change"]),
        bytes=None if sizes is None else sum(size[0] for size in sizes.values()),
        files=None if sizes is None else sum(size[1] for size in sizes.values()),
        parts={part: size[0] for part, size in sorted((sizes or {}).items()) if size[0]},
        part_files={part: size[1] for part, size in sorted((sizes or {}).items()) if size[1]},
        filled=list(PARTS) if sizes is None else [part for part in PARTS if sizes.get(part, [0] * 4)[3]],
        shared_bytes=sum(size[2] for size in (sizes or {}).values()),
        pruned=sorted(facts["pruned"]),
        tasks=facts["task_count"] or 0,
        aggregated=bool(record and record.output),
        combined=f"{facts['combined']} of {facts['waves']}",
        campaign_id=facts["campaign_id"],
        repeats=facts["reproduces"],
        repeated_by=facts["repeated_by"][:REPEATS_SHOWN],
    )


def _unasked(place: Place, record: RunRecord) -> HeldRun:
    """Return the row of a run whose cluster gave no answer."""
    why = f"not known whether it has jobs: {place.error.message if place.error else ''}"
    return HeldRun(run_id=record.run_id, cluster=place.cluster, state=record.status, action="blocked", why=why,
                   tasks=record.total_tasks, aggregated=bool(record.output), campaign_id=record.campaign_id)  # fmt: skip


def gone_row(repo: RepoLayout, journal: Journal, record: RunRecord) -> HeldRun:
    """Return the row of a run of which nothing is left on its cluster."""
    when = iso(record.pruned_at)[:10]
    return HeldRun(run_id=record.run_id, cluster=record.cluster, state=PRUNED, action="gone", why=f"pruned on {when}",
                   tasks=record.total_tasks, aggregated=bool(record.output), campaign_id=record.campaign_id,
                   local_bytes=local_bytes(repo, journal, record.run_id),
                   sidecar=repo.sidecar(record.run_id).is_file())  # fmt: skip


def blocked(facts: dict[str, Any], record: RunRecord | None, now: float) -> str:
    """Return why nothing of a run may be removed; empty where it may. The cluster looks again, under the run's lock."""
    if facts["not_known"]:
        return f"not known whether it has jobs: {facts['not_known']}"
    if facts["queued"]:
        return f"in flight: {facts['queued']} of its elements are in the queue"
    if facts["unsent"] and not unsent_ok(record):
        return f"in flight: {facts['unsent']} of its arrays are still to be submitted; mark-run-terminal ends that"
    if not facts["whole"] and now - facts["last_change"] < DAY:
        return "it has no run.json yet: a submission may be writing it"
    return ""


def unsent_ok(record: RunRecord | None) -> bool:
    """Return True for a run whose arrays without a job will never be submitted: it is marked as ended."""
    return record is not None and record.status in TERMINAL


def local_paths(repo: RepoLayout, journal: Journal, run_id: str) -> list[Path]:
    """Return the files that this machine keeps of a run, beside the tables that aggregate wrote."""
    return [path for path in (repo.sidecar(run_id), journal.path(run_id)) if path.is_file()]


def local_bytes(repo: RepoLayout, journal: Journal, run_id: str) -> int:
    return sum(os.stat(path).st_size for path in local_paths(repo, journal, run_id))  # noqa: PTH116
