"""``submit-flow-batch``: several submissions of one repo to one cluster, with one push and one round trip."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import Effect, PartialError, Request, Result, primitive
from hpc_agent.errors import HpcError, SpecInvalid
from hpc_agent.ops.run.fields import EXAMPLE_RIDGE, ExperimentDir, doc
from hpc_agent.ops.run.freeze import freeze
from hpc_agent.ops.run.planned_run import PlannedRun
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.run.submission import submit_lock
from hpc_agent.ops.submit.new_run import NewRun, submit_together
from hpc_agent.ops.submit.submit import SUBMIT_ERRORS, SubmitResult, begin, dry_run, finished, planned_run
from hpc_agent.state.journal import Journal
from hpc_agent.world import World

Outcome = SubmitResult | HpcError
_BARE = re.compile(r"(?:the same )?'hpc-agent submit'")
AGAIN = "the same 'hpc-agent submit-flow-batch'"


class SubmitFlowBatchRequest(Request):
    """The submissions, and the fields that they share."""

    specs: Annotated[
        list[dict[str, Any]], doc("requests of submit, each with a run name, command or tasks of its own", min_length=1)
    ]
    common: Annotated[dict[str, Any], doc("fields of each spec that does not name them itself")] = {}
    experiment_dir: ExperimentDir = "."


class BatchItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The outcome of one spec: what submit returns, or the error in its place."""

    ok: bool
    run_id: str | None = None
    deduped: bool = False
    submitted: bool = False
    job_ids: list[str] = []
    total_tasks: int | None = None
    lifecycle_state: str | None = None
    waiting: int = 0
    notes: list[str] = []
    next_step: str = ""
    error_code: str | None = None
    message: str = ""
    field: str | None = None
    retry_safe: bool | None = None
    remediation: str = ""


class SubmitFlowBatchResult(Result):
    results: Annotated[list[BatchItem], doc("one for each spec, in their order")]
    n_results: int
    n_failed: Annotated[int, doc("specs with an error; the others went on")]
    deduped: Annotated[bool, doc("true: nothing was submitted now")]
    pushed_files: int


@primitive(
    stage="submit",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=SUBMIT_ERRORS,
    progress=True,
    brief="several runs at once",
    example={
        "common": {"cluster": "local", "executor": EXAMPLE_RIDGE},
        "specs": [
            {"run_name": "near", "tasks": [{"horizon": 1}]},
            {"run_name": "far", "tasks": [{"horizon": 25}]},
        ],
    },
    next_verbs=["list-in-flight", "monitor-flow"],
    whole=["results"],  # the id of each run
    spare=[f"results[].{name}" for name in ("notes", "next_step", "remediation")],
)
def submit_flow_batch(request: SubmitFlowBatchRequest, world: World) -> SubmitFlowBatchResult:
    """Submit several runs of one repo to one cluster, each exactly once, with one push and one round trip.

    A spec that fails does not stop the others: its result has the error. If all fail, the first error is the answer. The
    same batch again submits only what is not there yet. Specs with other shared_paths or outputs have a push of their own.
    """
    outcomes: dict[int, Outcome] = {}
    with contextlib.ExitStack() as stack:
        planned = _planned(stack, world, request, outcomes)
        _check_one_place(planned.values())
        for number in [number for number, run in planned.items() if run.request.dry_run]:
            outcomes[number] = _tried(dry_run, world, planned.pop(number))
        if planned:
            _submit_all(world, planned, outcomes)
    ordered = [outcomes[number] for number in range(len(request.specs))]
    items = [_item(outcome) for outcome in ordered]
    failures = [outcome for outcome in ordered if isinstance(outcome, HpcError)]
    if len(failures) == len(ordered):
        first = failures[0]
        first.message = f"no spec of {len(ordered)} can be submitted; the first: {first.message}"
        first.remediation = _BARE.sub(AGAIN, first.remediation)
        first.details = {**first.details, "results": [item.message for item in items]}
        raise first
    results = [outcome for outcome in ordered if isinstance(outcome, SubmitResult)]
    return SubmitFlowBatchResult(
        results=items,
        n_results=len(items),
        n_failed=len(failures),
        deduped=not failures and all(result.deduped for result in results),
        pushed_files=max(result.pushed_files for result in results),
        partial_errors=[
            PartialError(item.error_code or "", f"spec {number}: {item.message}")
            for number, item in enumerate(items)
            if not item.ok
        ],
    )


def _planned(
    stack: contextlib.ExitStack, world: World, request: SubmitFlowBatchRequest, outcomes: dict[int, Outcome]
) -> dict[int, PlannedRun]:
    """Freeze and plan each spec; the error of one goes into ``outcomes``."""
    planned = {}
    for number, given in enumerate(request.specs):
        world.progress.update("resolving tasks", spec=number)
        try:
            document = {"experiment_dir": request.experiment_dir, **request.common, **given}
            spec = convert(document, SubmitRequest, "submit")
            planned[number] = planned_run(stack.enter_context(freeze(world, spec)), spec)
        except HpcError as error:
            outcomes[number] = error
    return planned


def _check_one_place(planned: Collection[PlannedRun]) -> None:
    """Raise SpecInvalid for specs of several repos or clusters: they cannot share a push."""
    for what, field, values in (
        ("clusters", "cluster", [run.frozen.cluster.name for run in planned]),
        ("repos", "experiment_dir", [str(run.frozen.repo.root) for run in planned]),
    ):
        if len(set(values)) > 1:
            named = ", ".join(sorted(set(values))[:3])
            remedy = "Give each of them a batch of its own; 'hpc-agent describe submit-flow-batch' shows the fields."
            raise SpecInvalid(f"the specs name several {what} ({named})", field=f"specs.{field}", remediation=remedy)


def _tried(call: Any, *arguments: Any) -> Any:
    """Return what the call returns, or its error."""
    try:
        return call(*arguments)
    except HpcError as error:
        return error


def _submit_all(world: World, planned: dict[int, PlannedRun], outcomes: dict[int, Outcome]) -> None:
    """Submit the planned runs under the lock of their repo, those of one snapshot together."""
    journal = Journal(world, next(iter(planned.values())).frozen.repo)
    with submit_lock(journal):
        new: dict[str, int] = {}
        same: dict[int, int] = {}
        groups: dict[tuple[str, ...], dict[int, NewRun]] = {}
        for number, run in planned.items():
            outcome = _tried(begin, world, journal, run)
            if not isinstance(outcome, NewRun):
                outcomes[number] = outcome
            elif outcome.run_id in new:
                same[number] = new[outcome.run_id]
            else:
                new[outcome.run_id] = number
                groups.setdefault(outcome.place(), {})[number] = outcome
        for group in groups.values():
            sent = _tried(submit_together, list(group.values()))  # an error of the connection is that of each of them
            for place, (number, one) in enumerate(group.items()):
                outcomes[number] = _tried(finished, one, sent if isinstance(sent, HpcError) else sent[place])
    for number, first in same.items():
        outcome = outcomes[first]
        if isinstance(outcome, SubmitResult):
            notes = [*outcome.notes, f"the same as spec {first} of this batch: submitted once"]
            outcome = msgspec.structs.replace(outcome, deduped=True, submitted=False, notes=notes)
        outcomes[number] = outcome


def _item(outcome: Outcome) -> BatchItem:
    if isinstance(outcome, HpcError):
        told = {name: getattr(outcome, name) for name in ("error_code", "message", "field", "retry_safe")}
        return BatchItem(ok=False, **told, remediation=_BARE.sub(AGAIN, outcome.remediation))
    shared = set(BatchItem.__struct_fields__) & set(SubmitResult.__struct_fields__)
    return BatchItem(ok=True, **{name: getattr(outcome, name) for name in shared})
