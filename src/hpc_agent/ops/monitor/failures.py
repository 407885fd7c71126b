"""``failures``: the causes of failed tasks, in groups of the same failure with evidence and one remedy."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, RunScoped, known_run
from hpc_agent.ops.run.run_status import stale_errors
from hpc_agent.world import World


class FailuresRequest(RunScoped):
    """The run, and the part of a log to show."""

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
    """Explain why tasks failed: clusters of the same failure, each with a cause, its evidence, and one remedy.

    The class of a task comes from its own record, from the scheduler's accounting and from the end of its log, in this
    order of trust. ``confidence`` says how certain the class is.
    """
    run = known_run(world, request)
    run_id = run.record.run_id
    answer = run.node.ask("failures", run_id, {"lines": request.lines})
    classes: dict[str, int] = {}
    for cluster in answer["clusters"]:
        cluster["remedy"] = cluster["remedy"].replace("RUN", run_id)
        classes[cluster["class"]] = classes.get(cluster["class"], 0) + cluster["count"]
    return FailuresResult(
        run_id=run_id,
        classes=dict(sorted(classes.items(), key=lambda item: -item[1])),
        next_step=_next_step(run_id, answer),
        partial_errors=stale_errors(answer["stale"]),
        **{name: answer[name] for name in ("failed", "clusters", "more_clusters", "stale")},
    )


def _next_step(run_id: str, answer: dict[str, Any]) -> str:
    """Return the command that fits the failures."""
    if not answer["failed"]:
        return f"hpc-agent status --run-id {run_id}"
    if any(cluster["action"] not in ("fix", "ask") for cluster in answer["clusters"]):
        return f"hpc-agent resubmit --run-id {run_id}"
    return f"hpc-agent logs --run-id {run_id} --task-id {answer['clusters'][0]['sample']['task']}"
