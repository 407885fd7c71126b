"""``submit``: freeze, plan, check, and submit every array once; a run that is there already is returned."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent import errors
from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.infra.extra_flags import check_extra_flags
from hpc_agent.ops.run.checks import warnings_of
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.declared_inputs import changes
from hpc_agent.ops.run.fields import EXAMPLE_RUN, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, FrozenRun, freeze
from hpc_agent.ops.run.known_run import KnownRun, node_of_record, pruned_note, with_command
from hpc_agent.ops.run.ledger_summary import identity_of
from hpc_agent.ops.run.planned_run import PlannedRun, differences, plan_facts, plan_run
from hpc_agent.ops.run.run_request import SubmitRequest, Trials, saved_command
from hpc_agent.ops.run.submission import ask_advance, kept_back, submit_lock
from hpc_agent.ops.submit.new_run import NewRun, Submitted, submit_together
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.runs import find_run_by_cmd_sha, read_run_sidecar
from hpc_agent.world import World

SCHEDULER_ERRORS = (errors.SchedulerRefused, errors.SubmissionUnknown, errors.RemoteCommandFailed, errors.StorageFull)
SUBMIT_ERRORS = (*FREEZE_ERRORS, errors.PreconditionFailed, errors.SshUnreachable, *SCHEDULER_ERRORS)
# Fields that a run's record and the result share.
RECORDED = ("run_id", "cluster", "job_ids", "total_tasks", "cmd_sha", "tree_sha", "remote_path", "waiting")


class SubmitResult(Result):
    run_id: str
    deduped: Annotated[bool, doc("true: the run was submitted before; nothing was submitted now")]
    submitted: Annotated[bool, doc("the scheduler has accepted every array that may go now")]
    cluster: str
    job_ids: list[str]
    total_tasks: int
    cmd_sha: Annotated[str, doc("SHA-256 of all parameters")]
    tree_sha: Annotated[str, doc("SHA-256 of the pushed files")]
    remote_path: Annotated[str, doc("the run's folder on the cluster")]
    lifecycle_state: str
    plan: Annotated[dict[str, Any], doc("arrays, waves, estimate, resources and where each number came from")]
    pushed_files: int = 0
    waiting: Annotated[int, doc("arrays that a limit or the canary keeps back; monitor-flow submits them")] = 0
    notes: Annotated[list[str], doc("notes for a person")] = []
    next_step: Annotated[str, doc("the command that follows")] = ""


@primitive(
    stage="submit",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=SUBMIT_ERRORS,
    aliases=["submit-flow"],
    progress=True,
    brief="push code, submit tasks",
    example=EXAMPLE_RUN,
    next_verbs=["monitor-flow", "status"],
)
def submit(request: SubmitRequest, world: World, trials: Trials | None = None) -> SubmitResult:
    """Freeze and push the code, and submit every task of .hpc/tasks.py (or of ``tasks``) as job arrays, exactly once.

    The same request again returns the run that was submitted before (``deduped``). Changed parameters, code or executor
    make a new run. A failed run needs ``rerun`` to run again. After a kill the same command goes on where it stopped.
    """
    world.progress.update("resolving tasks")
    try:
        with freeze(world, request, trials) as frozen:
            planned = planned_run(frozen, request)
            if request.dry_run:
                return dry_run(world, planned)
            journal = Journal(world, frozen.repo)
            with submit_lock(journal):
                run = begin(world, journal, planned)
                return run if isinstance(run, SubmitResult) else finished(run, submit_together([run])[0])
    except errors.HpcError as error:
        if trials:
            error.remediation = with_command(error.remediation, trials.command)
        raise


def planned_run(frozen: FrozenRun, request: SubmitRequest) -> PlannedRun:
    """Plan a frozen run whose scheduler options are in order. Raises SpecInvalid."""
    check_extra_flags(frozen.cluster.scheduler, request.extra_flags, request.env)
    return plan_run(frozen, request)


def begin(world: World, journal: Journal, planned: PlannedRun) -> SubmitResult | NewRun:
    """Return the run to submit, or the result for one that was submitted before. Under the repo's lock."""
    frozen = planned.frozen
    run_id, earlier = which_run(journal, frozen, planned.request.rerun)
    if earlier:
        # A run that another machine began goes on in that machine's folder.
        elsewhere = earlier.remote_path and not earlier.remote_path.startswith(f"{frozen.node.root}/")
        if earlier.submitted_at or elsewhere:
            return _submitted_before(world, planned, journal, earlier)
    notes = [*frozen.notes, *warnings_of(world, planned), *_code_changed(frozen, run_id)]
    return NewRun(world, journal, planned, run_id, notes)


def finished(run: NewRun, sent: Submitted | errors.HpcError) -> SubmitResult:
    """Return the result of a run that was submitted now. Raises the error in its place."""
    if isinstance(sent, errors.HpcError):
        raise sent
    plan, told = _plan_as_submitted(run.planned, run.run_id, sent.answer)
    step = f"hpc-agent {'verify-canary' if plan['canary'] else 'monitor-flow'} --run-id {run.run_id}"
    outcome = {"submitted": True, "deduped": False, "pushed_files": sent.pushed_files}
    return _result(plan, sent.record, [*run.notes, *told], step, **outcome)


def dry_run(world: World, planned: PlannedRun) -> SubmitResult:
    """Return the result of a submission that pushes and submits nothing."""
    frozen, journal = planned.frozen, Journal(world, planned.frozen.repo)
    request = msgspec.structs.replace(planned.request, dry_run=False)
    run_id, earlier = which_run(journal, frozen, request.rerun)
    step = command_line("submit", request)
    if request.tasks is not None:
        step = saved_command(request, world.cwd, journal.folder / "specs" / f"{run_id}.json")
        step += " --rerun" if request.rerun else ""
    if earlier and earlier.submitted_at:
        plan, told = _plan_as_submitted(planned, run_id, {})
        notes = [*frozen.notes, f"{run_id} was submitted already: submit returns it", *told]
        return _result(plan, earlier, notes, step, submitted=False, deduped=True)
    sidecar = NewRun(world, journal, planned, run_id).sidecar
    record = RunRecord(run_id=run_id, status="planned", **identity_of(sidecar))
    notes = [*frozen.notes, *warnings_of(world, planned)]
    return _result(planned.facts(), record, notes, step, submitted=False, deduped=False)


def _result(plan: dict[str, Any], record: RunRecord, notes: list[str], next_step: str, **outcome: Any) -> SubmitResult:
    facts = {**{name: getattr(record, name) for name in RECORDED}, "lifecycle_state": record.status, **outcome}
    return SubmitResult(plan=plan, notes=notes, next_step=next_step, **facts)


def which_run(journal: Journal, frozen: FrozenRun, rerun: bool) -> tuple[str, RunRecord | None]:
    """Return the run id of this request, and the journal's record of that run.

    With ``rerun`` the run id has the first number that no ended run has.
    """
    adopted = [] if rerun else [r for r in journal.all()[0] if r.adopted and r.content_sha == frozen.content_sha]
    if adopted:
        return adopted[0].run_id, adopted[0]
    number = 0
    while True:
        run_id = frozen.run_id(number)
        record = journal.find(run_id)
        following = journal.path(frozen.run_id(number + 1)).exists()
        if record is None or (not rerun and not following):
            return run_id, record
        if rerun and not following and (record.never_sent or record.status not in TERMINAL):
            if record.submitted_at is None:
                return run_id, record
            remedy = f"Wait for it with 'hpc-agent monitor-flow --run-id {run_id}', then call again."
            raise errors.PreconditionFailed(f"{run_id} is still {record.status}", field="rerun", remediation=remedy)
        number += 1


def _submitted_before(world: World, planned: PlannedRun, journal: Journal, record: RunRecord) -> SubmitResult:
    """Return the result for a run that was submitted before; submit the arrays of it that were kept back."""
    frozen = planned.frozen
    notes = [*frozen.notes, f"{record.run_id} was submitted already; nothing was submitted now"]
    answer: dict[str, Any] = {}
    if record.waiting or not record.submitted_at:
        node, before = node_of_record(world, frozen.repo, record), set(record.job_ids)
        question = NewRun(world, journal, planned, record.run_id).plan_question()
        answer = ask_advance(KnownRun(frozen.repo, journal, record, node), question)
        record.status = journal.load(record.run_id).status
        submitted = len(set(record.job_ids) - before) - len(answer.get("adopted", []))
        notes[-1] = f"{record.run_id} goes on: {submitted} arrays were submitted now"
    plan, told = _plan_as_submitted(planned, record.run_id, answer)
    notes += told
    step = "aggregate" if record.status == "complete" else "monitor-flow"
    if record.pruned_at is not None:
        notes.append(f"{pruned_note(record)}: --rerun runs it again as a new run")
        step = "status"
    elif record.status in ("failed", "abandoned"):
        notes.append(f"it is {record.status}: --rerun runs it again as a new run")
        step = "failures"
    step = f"hpc-agent {step} --run-id {record.run_id}"
    return _result(plan, record, notes, step, submitted=True, deduped=True)


def _plan_as_submitted(planned: PlannedRun, run_id: str, answer: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the plan that the jobs of a run have, and notes about what differs from this request."""
    notes = [
        f"array {name} was in the queue as job {answer['arrays'][name]['job_id']}: it was adopted, and not submitted again"
        for name in answer.get("adopted", [])
    ]
    if answer.get("plan_holds") is False:
        notes.append("an array of the run was accepted before: the tasks of its arrays stay as they were planned then")
    later = "it is in the run as it was before; list a log in .hpcignore"
    notes += [f"{name} grew while it was pushed: {later}" for name in answer.get("grown", [])]
    try:
        plan = plan_facts(read_run_sidecar(planned.frozen.repo, run_id))
    except errors.HpcError as error:
        fetch = f"'hpc-agent reconcile --run-id {run_id}' fetches it"
        return {"canary": False}, [*notes, f"the plan of the run is not known here ({error.message}); {fetch}"]
    return plan, [*notes, *differences(planned, plan), *kept_back(answer)]


def _code_changed(frozen: FrozenRun, run_id: str) -> list[str]:
    """Return a note when a run with another id has the same parameters."""
    earlier = find_run_by_cmd_sha(frozen.repo, frozen.tasks.cmd_sha)
    if earlier is None or earlier.run_id == run_id or earlier.cluster != frozen.cluster.name:
        return []
    if earlier.run_id.startswith(frozen.run_id()):
        return [f"the same as {earlier.run_id}, run again as asked"]
    changed = "the code changed" if earlier.tree_sha != frozen.tree.sha else "the command or its settings changed"
    if data := changes(earlier.inputs, frozen.inputs):
        changed = f"the inputs differ ({'; '.join(data[:3])})"
    return [f"same parameters as {earlier.run_id}, but {changed}: this is a new run"]
