"""``resubmit``: run what failed again, with more of what it lacked, and never what finished."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import (
    NeedsResolution,
    SchedulerRefused,
    SpecInvalid,
    SubmissionUnknown,
)
from hpc_agent.node.shared.failure_classes import CATALOGUE
from hpc_agent.ops.monitor.status import ERRORS
from hpc_agent.ops.runs import KnownRun, RunScoped, known_run
from hpc_agent.ops.submit.answers import SUBMIT_TIMEOUT_SEC, owner
from hpc_agent.ops.submit.layout import job_name
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

CLASSES = tuple(kind.name for kind in CATALOGUE)


class ResubmitRequest(RunScoped):
    """Which failed tasks, and what to change. Without anything: all that can be mended without a person."""

    task_id: Annotated[
        list[int], Meta(description="only these tasks, also of classes that are otherwise left alone")
    ] = []
    classes: Annotated[
        list[str], Meta(description="only failures of these classes, also of those that are otherwise left alone")
    ] = []
    mem_mb: Annotated[
        Annotated[int, Meta(gt=0)] | None, Meta(description="memory of an element, MiB, instead of a multiple")
    ] = None
    walltime_sec: Annotated[
        Annotated[int, Meta(gt=0)] | None, Meta(description="limit of an element, seconds, instead of a multiple")
    ] = None
    cpus: Annotated[Annotated[int, Meta(gt=0)] | None, Meta(description="CPUs of an element")] = None
    gpus: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="GPUs of an element")] = None
    max_attempts: Annotated[
        Annotated[int, Meta(gt=0)] | None,
        Meta(description="resubmissions of a task at most; by default its class says"),
    ] = None
    force: Annotated[bool, Meta(description="also what failed in the same way before, or has no attempts left")] = False
    dry_run: Annotated[bool, Meta(description="decide only: nothing is submitted")] = False


class ResubmitResult(Result):
    run_id: str
    request_id: str
    deduped: Annotated[
        bool, Meta(description="true: this very resubmission had been begun before; it was finished now")
    ]
    resubmitted: Annotated[int, Meta(description="tasks that were submitted again")]
    groups: Annotated[
        list[dict[str, Any]], Meta(description="tasks (ranges), classes, and what the new attempt asks for")
    ]
    blocked: Annotated[
        list[dict[str, Any]], Meta(description="failed tasks that were left alone: class, why, remedy, tasks, sample")
    ]
    job_ids: list[str]
    lifecycle_state: str
    next_step: str
    waiting: Annotated[int, Meta(description="arrays that a limit keeps back; monitor-flow sends them")] = 0


@primitive(
    stage="recover",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*ERRORS, SpecInvalid, NeedsResolution, SchedulerRefused, SubmissionUnknown],
    aliases=["resubmit-failed"],
)
def resubmit(request: ResubmitRequest, world: World) -> ResubmitResult:
    """Submit the failed tasks again, exactly once; tasks that finished never run again.

    Tasks that ran out of memory or time ask for more (up to the cluster's limits), those that lost their node avoid it,
    preempted ones go as they are. Failures of the code are left alone: the same failure would come back. When nothing
    can be mended without a person the answer is ``needs_resolution``. Killed at any point, the same command goes on.
    """
    run = known_run(world, request)
    _check(request)
    answer = send(run, policy_of(run, request), request.dry_run)
    if not answer.groups and answer.blocked and not answer.deduped:
        raise needs_resolution(answer)
    return answer


def _check(request: ResubmitRequest) -> None:
    unknown = [name for name in request.classes if name not in CLASSES]
    if unknown:
        raise SpecInvalid(
            f"{unknown[0]!r} is no class of failures ({', '.join(CLASSES)})",
            field="classes",
            remediation="'hpc-agent failures' names the class of each failure.",
        )


def policy_of(run: KnownRun, request: ResubmitRequest) -> dict[str, Any]:
    """The request and the cluster's limits as the node side takes them."""
    overrides = {name: getattr(request, name) for name in ("mem_mb", "walltime_sec", "cpus", "gpus")}
    return {
        "tasks": request.task_id,
        "classes": request.classes,
        "overrides": {name: value for name, value in overrides.items() if value is not None},
        "caps": caps(run),
        "max_attempts": request.max_attempts,
        "force": request.force,
    }


def caps(run: KnownRun) -> dict[str, Any]:
    """The most that an element may ask for on the run's cluster."""
    cluster = run.node.cluster
    return {"mem_mb": cluster.max_node_mem_mb, "walltime_sec": cluster.max_walltime_sec}


def send(run: KnownRun, policy: dict[str, Any], dry_run: bool = False) -> ResubmitResult:
    """Journal the intent, let the cluster decide and submit, journal the outcome.

    An intent without an outcome was cut off: its request id is used again, so the cluster finishes that one first.
    """
    run_id = run.record.run_id
    policy_sha = hashlib.sha256(repr(sorted(policy.items())).encode()).hexdigest()[:8]
    request_id = run.record.open_resubmit or f"{policy_sha}-{secrets.token_hex(4)}"
    if not dry_run and not run.record.open_resubmit:
        run.journal.append(run_id, "resubmitting", request_id=request_id)
    question = {
        "request_id": request_id,
        "owner": owner(),
        "policy": policy,
        "dry_run": dry_run,
        "job_prefix": job_name(run_id, ""),
        "max_array_size": max_array_size(run),
    }
    answer = run.node.ask("resubmit", run_id, question, SUBMIT_TIMEOUT_SEC)
    jobs = [str(job) for job in answer["jobs"].values() if job]
    if not dry_run:
        run.journal.append(run_id, "resubmitted", request_id=request_id, jobs=jobs)
    for refusal in answer["blocked"]:
        refusal["remedy"] = refusal["remedy"].replace("RUN", run_id)
    count = sum(group["count"] for group in answer["groups"])
    return ResubmitResult(
        run_id=run_id,
        request_id=request_id,
        deduped=answer["deduped"],
        resubmitted=0 if dry_run else count,
        groups=answer["groups"],
        blocked=answer["blocked"],
        job_ids=jobs,
        waiting=answer["waiting"],
        lifecycle_state="in_flight" if count and not dry_run else answer["lifecycle_state"],
        next_step=f"hpc-agent monitor-flow --run-id {run_id}" if count else f"hpc-agent failures --run-id {run_id}",
    )


def max_array_size(run: KnownRun) -> int:
    """As when the run was submitted; another machine that adopted it has the sidecar too."""
    sidecar = read_run_sidecar(run.repo, run.record.run_id)
    return int(sidecar.constraints.get("max_array_size") or 1000)


def needs_resolution(answer: ResubmitResult) -> NeedsResolution:
    first = answer.blocked[0]
    tasks = sum(refusal["count"] for refusal in answer.blocked)
    line = first["sample"].get("line") or first["sample"].get("message") or ""
    return NeedsResolution(
        f"{tasks} failed tasks were left alone; {first['count']} of them are {first['class']} ({line[:200]}): {first['why']}",
        remediation=first["remedy"],
        details={"blocked": answer.blocked[:20], "run_id": answer.run_id},
    )
