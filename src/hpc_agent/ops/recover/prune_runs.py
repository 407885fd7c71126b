"""``prune-runs``: what the runs of a repo hold on the cluster, and the removal of what is asked for, after a look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import (
    ClusterTimeout,
    ClusterUnknown,
    ConfigInvalid,
    PreconditionFailed,
    RemoteCommandFailed,
    RunNotFound,
    SpecInvalid,
    SshUnreachable,
)
from hpc_agent.infra.constraints import parse_duration
from hpc_agent.ops.recover import held_runs
from hpc_agent.ops.recover.held_runs import PARTS, WHOLE, HeldRun, Place
from hpc_agent.ops.recover.run_removal import Removal, remove, remove_local
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World


class PruneRunsRequest(Request):
    """The runs, and what of them to remove. Without ``what`` nothing is chosen."""

    run_ids: Annotated[list[str], doc("only these runs; 'latest' is the newest of the repo")] = []
    what: Annotated[
        list[str],
        doc(
            "logs; work: the copy of the code; checkpoints; results; outputs: other output folders; all: the whole run"
        ),
    ] = []
    older_than: Annotated[str | None, doc("runs in which nothing has changed for so long: 30d, 12h")] = None
    keep_latest: Annotated[Annotated[int, Meta(ge=0)] | None, doc("keep the newest so many runs of the repo")] = None
    cluster: Annotated[str | None, doc("only runs on this cluster; also those that this machine does not know")] = None
    local: Annotated[bool, doc("with all: also the sidecar and the journal's events on this machine")] = False
    confirm: Annotated[str | None, doc("the token of the answer that showed what would go: remove it")] = None
    measure_sec: Annotated[float, doc("seconds that a cluster may take to add up sizes", gt=0, le=3600)] = 60.0
    budget_sec: Annotated[float, doc("seconds for the deletion; the same call goes on with the rest", gt=0)] = 1800.0
    limit: Annotated[int, doc("runs to show", ge=0)] = 20
    experiment_dir: ExperimentDir = "."


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, and what they hold; ``not_measured`` of them are not in bytes and files."""

    runs: int
    bytes: int
    files: int
    not_measured: int = 0


class PruneRunsResult(Result):
    removed: Annotated[bool, doc("false: nothing was removed by this call")]
    token: Annotated[str | None, doc("for confirm; null: nothing is chosen")]
    held: Annotated[Amount, doc("all runs of the repo that were looked at")]
    chosen: Annotated[Amount, doc("what goes, or went, of the chosen runs")]
    blocked: Annotated[int, doc("runs that were asked for and stay: in flight, or not known")]
    deleted: Annotated[dict[str, int], doc("files and bytes that this call deleted; left: folders to be deleted later")]
    runs: Annotated[list[HeldRun], doc("what goes and what is blocked first, then the newest; bounded by limit")]
    more_runs: Annotated[int, doc("runs beyond the limit")] = 0
    notes: list[str] = []
    next_step: str = ""


@primitive(
    stage="recover",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.REMOVE],
    errors=[
        SpecInvalid, ClusterUnknown, ConfigInvalid, RunNotFound, PreconditionFailed, SshUnreachable, ClusterTimeout,
        RemoteCommandFailed,
    ],
    brief="free space: remove old runs",
    example={"what": ["all"], "older_than": "30d"},
    next_verbs=["list-in-flight", "aggregate"],
    progress=True,
    whole=["token"],
    spare=["runs[].parts", "runs[].combined", "runs[].repeated_by", "runs"],
    larger=["limit"],
)  # fmt: skip
def prune_runs(request: PruneRunsRequest, world: World) -> PruneRunsResult:
    """Show what each run holds on the cluster; with ``what`` and a token, remove just that of the chosen runs.

    Without ``confirm`` nothing is removed: the answer has a token for what it shows. Runs that may have jobs stay, and so
    does what they share with other runs. After a kill the same call goes on.
    """
    _check(request)
    repo, journal = journal_of(world, request.experiment_dir)
    records, problems = journal.all(never_sent=True)
    if records and "latest" in request.run_ids:
        named = [records[0].run_id if run_id == "latest" else run_id for run_id in request.run_ids]
        request = msgspec.structs.replace(request, run_ids=named)
    unknown = set(request.run_ids) - {record.run_id for record in records}
    if unknown and not request.cluster:
        journal.load(min(unknown))  # RunNotFound, with the ids that are near
    resumed = {r.run_id for r in records if request.confirm and r.open_prune == request.confirm}
    found, errors = held_runs.places(world, repo, records, request.cluster)
    errors += [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    rows = _look(world, repo, journal, request, found)
    failed = [place.error for place in found if place.error is not None]
    if failed and len(failed) == len(found):
        raise failed[0]
    errors += [PartialError(code=error.error_code, detail=error.message) for error in failed]
    _choose(request, world, rows)
    chosen = [row for row in rows if row.action == "remove"]
    token = _token(request, chosen) if chosen else None
    deleted = {"files": 0, "bytes": 0, "left": sum(place.answer.get("unfinished", 0) for place in found)}
    if request.confirm:
        if request.confirm != token and not resumed:
            _refuse(request, token, rows)
        there = [row for row in chosen if row.state != held_runs.PRUNED]
        going = [row for row in there if request.confirm == token or row.run_id in resumed]
        deleted = remove(world, journal, found, going, Removal(request.confirm, request.what, request.budget_sec))
    local = remove_local(repo, journal, rows) if request.local and request.confirm else 0
    return _result(request, rows, token, deleted, local, errors)


def _check(request: PruneRunsRequest) -> None:
    """Raise SpecInvalid for a removal without a choice of runs, and for parts that contradict each other."""
    for word in request.what:
        if word not in (*PARTS, WHOLE):
            names = ", ".join((*PARTS, WHOLE))
            remedy = f"{did_you_mean(word, [*PARTS, WHOLE])}{_AGAIN}"
            raise SpecInvalid(f"a run has no part {word!r}; there are {names}", field="what", remediation=remedy)
    if WHOLE in request.what and len(set(request.what)) > 1:
        raise SpecInvalid("all is the whole run: nothing stands beside it", field="what", remediation=_AGAIN)
    if request.local and request.what != [WHOLE]:
        message = "what this machine keeps of a run goes with the whole run only"
        raise SpecInvalid(
            message, field="local", remediation="Give --what all with --local, to 'hpc-agent prune-runs'."
        )
    selects = request.run_ids or request.older_than or request.keep_latest is not None
    if request.what and not selects:
        raise SpecInvalid(
            "nothing says of which runs: name them, or say how old they are, or how many to keep",
            field="run_ids",
            remediation="Run 'hpc-agent prune-runs --older-than 30d --what all', or with --run-ids or --keep-latest.",
        )
    if request.older_than:
        try:
            parse_duration(request.older_than, "older_than")
        except SpecInvalid as error:
            raise SpecInvalid(error.message, field="older_than", remediation=_AGAIN) from None
    if request.confirm and not request.what:
        raise SpecInvalid("confirm needs what was to be removed", field="what", remediation=_AGAIN)


_AGAIN = "Run 'hpc-agent prune-runs --older-than 30d --what all' to see what would go."


def _look(
    world: World, repo: RepoLayout, journal: Journal, request: PruneRunsRequest, found: list[Place]
) -> list[HeldRun]:
    """Return the rows of every run, the newest first; of runs that are gone those that were asked for."""
    rows = []
    for place in found:
        world.progress.update("asking", cluster=place.cluster)
        # How many of the newest stay is decided by all of them.
        only = request.run_ids if request.keep_latest is None else []
        held_runs.look(place, only, request.measure_sec)
        if place.error is None:
            held_runs.settle(journal, place, only or place.records)
        rows += held_runs.rows_of(world, repo, journal, place)
    there = {row.run_id for row in rows}
    rows += [
        held_runs.gone_row(repo, journal, record)
        for place in found
        for record in place.records.values()
        if record.pruned_at and record.run_id in request.run_ids and record.run_id not in there
    ]
    return sorted(rows, key=lambda row: row.last_change or 0.0, reverse=True)


def _choose(request: PruneRunsRequest, world: World, rows: list[HeldRun]) -> None:
    """Set the action of each row: what was asked for goes, unless it is blocked."""
    oldest = world.now() - parse_duration(request.older_than, "older_than") if request.older_than else None
    kept = {row.run_id for row in rows[: request.keep_latest or 0]}
    for row in rows:
        # What this machine keeps of a run that is gone may go too.
        is_left = row.action != "gone" or (request.local and row.sidecar)
        asked = bool(request.what) and is_left and row.run_id not in kept
        asked = asked and (not request.run_ids or row.run_id in request.run_ids)
        asked = asked and (oldest is None or (row.last_change or 0.0) < oldest)
        asked = asked and (WHOLE in request.what or not set(request.what).isdisjoint(row.filled))
        if not asked:
            row.action, row.why = ("gone", row.why) if row.action == "gone" else ("keep", "")
        else:
            row.action = "blocked" if row.why and row.state != held_runs.PRUNED else "remove"


def _token(request: PruneRunsRequest, chosen: list[HeldRun]) -> str:
    """Return the token of exactly these runs and parts."""
    text = json.dumps([sorted((row.cluster, row.run_id) for row in chosen), sorted(request.what), request.local])
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _refuse(request: PruneRunsRequest, token: str | None, rows: list[HeldRun]) -> None:
    """Raise PreconditionFailed for a token of other runs; nothing is left to do where none is chosen or blocked."""
    blocked = [row for row in rows if row.action == "blocked"]
    if token is None and not blocked:
        return
    said = "what goes is not what that token was for: runs have come, ended or changed since"
    remedy = f"Look again: {command_line('prune-runs', msgspec.structs.replace(request, confirm=None))}"
    raise PreconditionFailed(said, field="confirm", remediation=remedy, details={
        "blocked": [f"{row.run_id}: {row.why}" for row in blocked[:10]]})  # fmt: skip


def _result(
    request: PruneRunsRequest, rows: list[HeldRun], token: str | None, deleted: dict[str, int], local: int,
    errors: list[PartialError],
) -> PruneRunsResult:  # fmt: skip
    chosen = [row for row in rows if row.action in ("remove", "removed")]
    open_now = [row for row in chosen if row.action == "remove"]
    order = {"removed": 0, "remove": 0, "blocked": 1, "gone": 2}
    shown = sorted(rows, key=lambda row: order.get(row.action, 3))
    again = msgspec.structs.replace(request, confirm=token)
    step = command_line("prune-runs", again) if open_now and not request.confirm else ""
    notes = []
    if deleted["left"]:
        notes.append(
            f"{deleted['left']} folders of removed runs are not deleted yet: the next removal goes on with them"
        )
        step = step or command_line("prune-runs", request)
    if local:
        notes.append(f"{local} files of this machine were removed; tables that aggregate wrote stay")
    return PruneRunsResult(
        removed=any(row.action == "removed" for row in rows),
        token=None if request.confirm else token,
        held=_amount([row for row in rows if row.action != "gone"], ()),
        chosen=_amount(chosen, request.what),
        blocked=sum(row.action == "blocked" for row in rows),
        deleted=deleted,
        runs=shown[: request.limit],
        more_runs=max(0, len(shown) - request.limit),
        notes=notes,
        next_step=step,
        partial_errors=errors,
    )


def _amount(rows: list[HeldRun], what: Sequence[str]) -> Amount:
    """Return the sum over the rows; ``what``: only these parts. Files of parts are not counted by part."""
    measured = [row for row in rows if row.bytes is not None]
    whole = not what or WHOLE in what
    size = sum((row.bytes or 0) if whole else sum(row.parts.get(part, 0) for part in what) for row in measured)
    files = sum((row.files or 0) if whole else sum(row.part_files.get(part, 0) for part in what) for row in measured)
    return Amount(runs=len(rows), bytes=size, files=files, not_measured=len(rows) - len(measured))
