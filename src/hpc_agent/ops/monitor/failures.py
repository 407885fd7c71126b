"""``failures``: why tasks failed, in groups of the same failure, each with its evidence and one remedy."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, PartialError, Result, primitive
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.world import World


class FailuresRequest(RunScoped):
    """Whose failures, and how much of a log to show."""

    lines: Annotated[int, doc("last lines of the sample's log", gt=0, le=1000)] = 15


class FailuresResult(Result):
    run_id: str
    failed: Annotated[int, doc("failed tasks in all")]
    classes: Annotated[dict[str, int], doc("failed tasks of each class; see docs/reference/failures.md")]
    clusters: Annotated[
        list[dict[str, Any]],
        doc(
            "the most frequent first: class, count, tasks (ranges), confidence (certain, likely, guess), evidence, "
            "fingerprint, sample, hosts, remedy, action, how often it was resubmitted"
        ),
    ]
    more_clusters: Annotated[int, doc("clusters beyond the first 50")] = 0
    stale: Annotated[dict[str, Any] | None, doc("set when the scheduler could not be asked")] = None
    next_step: str = ""


@primitive(stage="monitor", effects=[Effect.SSH], errors=RUN_ERRORS)
def failures(request: FailuresRequest, world: World) -> FailuresResult:
    """Why tasks failed: clusters of the same failure, each with a cause, the evidence for it, and one remedy.

    The class of a task comes from its own record, from the scheduler's accounting and from the end of its log, in this
    order of trust for each kind of question; ``confidence`` says how sure it is.
    """
    run = known_run(world, request)
    return explain(run, run.node.ask("failures", run.record.run_id, {"lines": request.lines}))


def explain(run: KnownRun, answer: dict[str, Any]) -> FailuresResult:
    """The node's answer with the run's id in every remedy."""
    run_id = run.record.run_id
    classes: dict[str, int] = {}
    for cluster in answer["clusters"]:
        cluster["remedy"] = cluster["remedy"].replace("RUN", run_id)
        classes[cluster["class"]] = classes.get(cluster["class"], 0) + cluster["count"]
    stale = answer["stale"]
    return FailuresResult(
        run_id=run_id,
        failed=answer["failed"],
        classes=dict(sorted(classes.items(), key=lambda item: -item[1])),
        clusters=answer["clusters"],
        more_clusters=answer["more_clusters"],
        stale=stale,
        next_step=_next_step(run_id, answer),
        partial_errors=[PartialError(code=stale["code"], detail=stale["error"])] if stale else [],
    )


def _next_step(run_id: str, answer: dict[str, Any]) -> str:
    if not answer["failed"]:
        return f"hpc-agent status --run-id {run_id}"
    if any(cluster["action"] not in ("fix", "ask") for cluster in answer["clusters"]):
        return f"hpc-agent resubmit --run-id {run_id}"
    return f"hpc-agent logs --run-id {run_id} --task-id {answer['clusters'][0]['sample']['task']}"
