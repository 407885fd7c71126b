"""``resubmit``: submit failed tasks again, with more of the resource that they lacked."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.errors import NeedsResolution, SchedulerRefused, SpecInvalid, SubmissionUnknown
from hpc_agent.node.shared.failure_classes import AT_LIMIT, CATALOGUE
from hpc_agent.ops.run.fields import Positive, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.resubmission import ResubmitResult, command_of, limits_of, resubmit_failed
from hpc_agent.world import World

CLASSES = tuple(kind.name for kind in CATALOGUE)


class ResubmitRequest(RunScoped):
    """The failed tasks and their new resources. By default all failures that need no person."""

    task_id: Annotated[list[int], doc("only these tasks, also of classes that are otherwise left out")] = []
    classes: Annotated[list[str], doc("only failures of these classes, also of those that are otherwise left out")] = []
    mem_mb: Annotated[Positive | None, doc("memory of an element, MiB, instead of a multiple")] = None
    walltime_sec: Annotated[Positive | None, doc("limit of an element, seconds, instead of a multiple")] = None
    cpus: Annotated[Positive | None, doc("CPUs of an element")] = None
    gpus: Annotated[Annotated[int, Meta(ge=0)] | None, doc("GPUs of an element")] = None
    max_attempts: Annotated[Positive | None, doc("resubmissions of a task at most; by default from its class")] = None
    force: Annotated[bool, doc("also tasks with a repeated failure, or without attempts left")] = False
    dry_run: Annotated[bool, doc("decide only, submit nothing")] = False


@primitive(
    stage="recover",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*RUN_ERRORS, SpecInvalid, NeedsResolution, SchedulerRefused, SubmissionUnknown],
    aliases=["resubmit-failed"],
    brief="failed tasks again, once",
    example={"run_id": "latest", "dry_run": True},
    next_verbs=["monitor-flow", "status"],
)
def resubmit(request: ResubmitRequest, world: World) -> ResubmitResult:
    """Submit the failed tasks again, exactly once; tasks that finished never run again.

    Tasks that ran out of memory or time ask for more (up to the cluster's limits), tasks that lost their node avoid that
    node, preempted tasks keep their request. Failures of the code are left out: they would fail again. When every failure
    needs a person the error is ``needs_resolution``. After a kill the same command goes on where it stopped.
    """
    run = known_run(world, request)
    unknown = [name for name in request.classes if name not in CLASSES]
    if unknown:
        raise SpecInvalid(
            f"{unknown[0]!r} is no class of failures ({', '.join(CLASSES)})",
            field="classes",
            remediation="'hpc-agent failures' names the class of each failure.",
        )
    run.refuse_unknown_tasks(request.task_id)
    overrides = {name: getattr(request, name) for name in ("mem_mb", "walltime_sec", "cpus", "gpus")}
    policy = {
        "tasks": request.task_id,
        "classes": request.classes,
        "overrides": {name: value for name, value in overrides.items() if value is not None},
        "caps": limits_of(run),
        "max_attempts": request.max_attempts,
        "force": request.force,
    }
    answer = resubmit_failed(run, policy, request.dry_run)
    if not answer.groups and answer.blocked and not answer.deduped:
        first = answer.blocked[0]
        tasks = sum(refusal["count"] for refusal in answer.blocked)
        line = (first["sample"].get("line") or first["sample"].get("message") or "")[:200]
        line = f"for example {line}" if line and first["count"] > 1 else line
        raise NeedsResolution(
            f"{tasks} failed tasks need a person; {first['count']} of them are {first['class']} ({line}): {first['why']}",
            remediation=_remedy(run.record.run_id, first, policy),
            details={"blocked": answer.blocked[:20], "run_id": answer.run_id},
        )
    return answer


def _remedy(run_id: str, refusal: dict[str, Any], policy: dict[str, Any]) -> str:
    """Return the remedy of the class, and the command that sends the tasks again as they are where it would be heeded."""
    remedy: str = refusal["remedy"]
    is_named = bool(policy["tasks"] or policy["classes"])
    offers_it = "hpc-agent resubmit" in remedy and not is_named
    if policy["force"] or offers_it or refusal["why"].startswith(AT_LIMIT):
        return remedy
    classes = policy["classes"] if is_named else [refusal["class"]]
    command = command_of(run_id, {**policy, "classes": classes, "force": True})
    return f"Where the cause lay outside of the code and is mended: '{command}'. Otherwise: {remedy}"
