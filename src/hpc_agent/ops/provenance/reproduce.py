"""``reproduce-run``: submit a frozen run again, from what the cluster keeps of it."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import PreconditionFailed, SchedulerRefused, StorageFull
from hpc_agent.node.shared.input_hashes import place
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.ledger_summary import identity_of, owner
from hpc_agent.ops.run.submission import SUBMIT_TIMEOUT_SEC, keep_outcome, kept_back, submit_lock
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.runs import Sidecar, sidecar_of, write_run_sidecar
from hpc_agent.world import World

_REPEAT = re.compile(r"(.*-[0-9a-f]{8})-r\d+\Z")


class ReproduceRunRequest(RunScoped):
    """The run to submit again."""

    changed_inputs_ok: Annotated[bool, doc("submit although declared inputs are not what they were")] = False


class ReproduceRunResult(Result):
    run_id: Annotated[str, doc("the new run: the id of the first one with -r and the number of the repeat")]
    reproduces: str
    deduped: Annotated[bool, doc("true: this repeat was submitted before and has not ended; nothing was submitted now")]
    cluster: str
    job_ids: list[str]
    total_tasks: int
    snapshot: Annotated[str, doc("the frozen code on the cluster, the same for both runs")]
    not_repeated: Annotated[list[str], doc("what may differ from the first time")]
    notes: list[str] = []
    next_step: str = ""


@primitive(
    stage="provenance",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.SUBMIT],
    errors=[*RUN_ERRORS, SchedulerRefused, StorageFull],
    progress=True,
    brief="run a frozen run again",
    example={"run_id": "latest"},
    next_verbs=["monitor-flow", "verify-reproduction"],
)
def reproduce_run(request: ReproduceRunRequest, world: World) -> ReproduceRunResult:
    """Submit a frozen run again: the same snapshot, parameters, command and resources, under a new run id.

    The repo may have moved on, because the code is on the cluster. While a repeat has not ended, the same call returns
    that repeat; after a kill the same call goes on with it. The answer names what cannot be repeated.
    """
    run = known_run(world, request)
    of = run.record.run_id
    found = _REPEAT.fullmatch(of)
    base = found.group(1) if found else of
    with submit_lock(run.journal):
        there = run.node.bootstrap("reproducible", {"root": run.node.root, "of": of, "base": base})
        first = sidecar_of(there["run"], [])
        run_id = _repeat_of(run, base, there["taken"])
        known = run.journal.find(run_id)
        if known is not None and known.submitted_at:
            note = f"{run_id} repeats {of} already and has not ended, as far as is known here"
            return _result(run, first, run_id, there, deduped=True, notes=[note])
        _check(run, there, request.changed_inputs_ok or known is not None)
        answer = _submit(world, run, first, run_id, there["inputs"], request.changed_inputs_ok)
    return _result(run, first, run_id, there, deduped=False, notes=kept_back(answer))


def _repeat_of(run: KnownRun, base: str, taken: dict[str, str | None]) -> str:
    """Return the id of the open repeat of this run, or the first free one."""
    for number in itertools.count(1):
        run_id = f"{base}-r{number}"
        record = run.journal.find(run_id)
        if taken.get(run_id, run.record.run_id) == run.record.run_id and (
            record is None or record.status not in TERMINAL
        ):
            break
    return run_id


def _check(run: KnownRun, there: dict[str, Any], inputs_ok: bool) -> None:
    """Raise PreconditionFailed for a run that cannot be repeated as it was."""
    run_id = run.record.run_id
    if not there["snapshot"] or there["as_frozen"] is False:
        command = run.journal.submit_command(run_id)
        again = f"Check out the code of {run_id}, then run: {command}"
        message = f"the snapshot of {run_id} is not on '{run.record.cluster}' any more"
        remedy = again if command else "Submit the code of that run again."
        if there["snapshot"]:
            message = f"files of the snapshot of {run_id} on '{run.record.cluster}' were changed since they were frozen"
            remedy = f"Move {run.node.root}/snapshots/{there['run']['snapshot']} away there. {remedy}"
        raise PreconditionFailed(message, remediation=remedy)
    if there["changed_inputs"] and not inputs_ok:
        changed = there["changed_inputs"]
        message = f"the inputs of {run_id} are not what they were: {'; '.join(changed[:5])}"
        again = f"hpc-agent reproduce-run --run-id {run_id} --changed-inputs-ok"
        remedy, details = f"Restore the data, or accept other results: {again}", {"changed_inputs": changed}
        raise PreconditionFailed(message, field="changed_inputs_ok", remediation=remedy, details=details)


def _submit(
    world: World, run: KnownRun, first: Sidecar, run_id: str, inputs: list[dict[str, Any]], inputs_ok: bool
) -> dict[str, Any]:
    """Journal the intent, submit, journal the outcome. Return the cluster's answer."""
    repo, journal, node, of = run.repo, run.journal, run.node, run.record.run_id
    path = f"{node.root}/runs/{run_id}"
    submitted_at = iso(world.now())
    sidecar = msgspec.structs.replace(
        first, run_id=run_id, remote_path=path, submitted_at=submitted_at, reproduces=of, inputs=inputs,
        campaign_id=None, trials=[],
    )  # fmt: skip
    command = f"hpc-agent reproduce-run --run-id {of}" + (" --changed-inputs-ok" if inputs_ok else "")
    journal.append(run_id, "submitting", **identity_of(sidecar), command=command)
    write_run_sidecar(repo, sidecar)
    world.progress.update("submitting", run=run_id)
    question: dict[str, Any] = {"root": node.root, "of": of, "run_id": run_id, "inputs": inputs}
    question |= {"submitted_at": submitted_at, "owner": owner(), "site": node.site}
    submit = functools.partial(node.bootstrap, "reproduce", question, SUBMIT_TIMEOUT_SEC)
    return keep_outcome(repo, journal, run_id, path, submit)


def _result(
    run: KnownRun, first: Sidecar, run_id: str, there: dict[str, Any], deduped: bool, notes: list[str]
) -> ReproduceRunResult:
    record = run.journal.load(run_id)
    verb = "verify-canary" if first.canary else "monitor-flow"
    compare = f"when it has ended: hpc-agent verify-reproduction --run-id {run_id}"
    return ReproduceRunResult(
        run_id=run_id,
        reproduces=run.record.run_id,
        deduped=deduped,
        cluster=record.cluster,
        job_ids=record.job_ids,
        total_tasks=record.total_tasks,
        snapshot=first.snapshot,
        not_repeated=_not_repeated(run, first, there["changed_inputs"]),
        notes=[*notes, compare],
        next_step=f"hpc-agent {verb} --run-id {run_id}",
    )


def _not_repeated(run: KnownRun, first: Sidecar, changed: list[str]) -> list[str]:
    """Return a sentence for each thing that may differ from the first time."""
    told = [f"inputs: {text}" for text in changed]
    declared = [one["path"] for one in first.inputs]
    told += [
        f"the shared path {name} was not declared as an input: a change of its content is not seen"
        for name in first.shared
        if not any(place(path, {name: name}) and not path.startswith("/") for path in declared)
    ]
    told.append("packages, modules and nodes are those of today: verify-reproduction compares them")
    if first.campaign_id:
        told.append(
            f"the repeat is no iteration of the campaign {first.campaign_id}: HPC_CAMPAIGN_ID and HPC_TRIAL are not set"
        )
    if first.early_stop:
        told.append("tasks that end themselves compare with the tasks of the repeat alone: others may end early")
    if run.record.resubmits:
        told.append(f"tasks of {run.record.run_id} were submitted again later: the repeat has the first plan")
    return told
