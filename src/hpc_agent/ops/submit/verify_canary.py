"""``verify-canary``: check the result of the first task, then submit the other tasks."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import CanaryFailed, ClusterTimeout, SchedulerRefused, SubmissionUnknown
from hpc_agent.ops.run.fields import PositiveFloat, doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.outage import patiently
from hpc_agent.ops.run.patience import Patience
from hpc_agent.ops.run.submission import advance
from hpc_agent.world import World

# Above these shares of the request, the other tasks may exceed the request.
TIGHT_TIME, TIGHT_MEMORY = 0.8, 0.9
WASTEFUL = 0.1
# A shorter canary spends its time on starting: its time and memory are no ground to ask for less.
TELLING_SEC = 60.0
LEFT_OUT_SHOWN = 5
SLOWEST_POLL_SEC = 60.0


class VerifyCanaryRequest(RunScoped):
    """The run, the output that its canary must write, and the time to wait."""

    expect_output: Annotated[str | None, doc("a file that the canary must write into its result folder")] = None
    release: Annotated[bool, doc("submit the other arrays when the canary is in order")] = True
    poll_interval_sec: Annotated[PositiveFloat | None, doc("pause between looks; min_poll_sec is the least")] = None
    wait_budget_sec: Annotated[float, doc("limit of the wait for the canary", gt=0)] = 1800.0


class VerifyCanaryResult(Result):
    run_id: str
    ok: bool
    state: str
    measured: Annotated[dict[str, Any], doc("seconds, max_rss_mb, cpu_seconds, host")]
    asked: Annotated[dict[str, Any], doc("walltime_sec, mem_mb, cpus")]
    metrics: dict[str, Any] | None
    warnings: Annotated[list[str], doc("tight or wasteful requests, missing metrics")]
    released: Annotated[int, doc("arrays submitted now")]
    waited_seconds: float
    next_step: str


@primitive(
    stage="submit",
    effects=[Effect.SSH, Effect.JOURNAL, Effect.SUBMIT],
    errors=[*RUN_ERRORS, CanaryFailed, SchedulerRefused, SubmissionUnknown],
    progress=True,
    brief="check task 0, go on",
    example={"run_id": "latest"},
    next_verbs=["monitor-flow"],
)
def verify_canary(request: VerifyCanaryRequest, world: World) -> VerifyCanaryResult:
    """Wait for the canary, check its result, and submit the other arrays if the result is in order.

    In order means: finished with its own record, readable metrics, the expected output. The verb compares its walltime
    and memory with the request. After a broken canary no array is submitted; the error names the cause.
    """
    run = known_run(world, request)
    run_id, started = run.record.run_id, world.awake()
    least = 0.5 if run.node.cluster.scheduler == "local" else float(run.node.cluster.min_poll_sec)
    pause = max(least, request.poll_interval_sec or min(least, 10.0))
    ticks, patience = 0, Patience(world)

    def ask() -> dict[str, Any]:
        return run.node.ask("canary", run_id, {"expect_output": request.expect_output, **patience.question()})

    while True:
        seen = patiently(world, ask, ticks > 0, started + request.wait_budget_sec)
        ticks += 1
        patience.saw(seen, int(seen["state"] in ("complete", "failed")))
        world.progress.update("canary", state=seen["state"])
        if seen["state"] in ("complete", "failed") and not seen["unexplained"]:
            break
        if world.awake() - started >= request.wait_budget_sec or seen["lifecycle_state"] == "abandoned":
            why = f": {seen['waiting'][0]['sentence']}" if seen["waiting"] and seen["state"] == "pending" else ""
            message = f"the canary of {run_id} is {seen['state']} after {request.wait_budget_sec:.0f} s{why}"
            remedy = f"Call 'hpc-agent verify-canary --run-id {run_id}' again later; the other arrays wait for it."
            details = {"state": seen["state"], "waiting": seen["waiting"]}
            raise ClusterTimeout(message, remediation=remedy, details=details)
        patience.pause(pause)
        pause = min(pause * 1.3, max(SLOWEST_POLL_SEC, least))
    _judge(run, seen, request)
    released = advance(run, release_canary=True)[0] if request.release and seen["held"] else 0
    return VerifyCanaryResult(
        run_id=run_id,
        ok=True,
        **{name: seen[name] for name in ("state", "measured", "asked", "metrics")},
        warnings=warnings(seen),
        released=released,
        waited_seconds=round(world.awake() - started, 3),
        next_step=f"hpc-agent monitor-flow --run-id {run_id}",
    )


def _stopped_early(seen: dict[str, Any]) -> bool:
    """Return True for a canary that left a checkpoint at its walltime: the next segment of the chain continues it."""
    return bool(seen["failure"]) and seen["failure"]["class"] == "checkpointed"


def _judge(run: KnownRun, seen: dict[str, Any], request: VerifyCanaryRequest) -> None:
    """Raise CanaryFailed with the cause when the canary is not in order."""
    kept = {key: seen[key] for key in ("measured", "asked", "metrics")}
    run_id = run.record.run_id
    nothing_else = f"{seen['held']} arrays were not submitted" if seen["held"] else "nothing else was waiting for it"
    remedy = f"Correct the executor; 'hpc-agent logs --run-id {run_id} --task-id 0' shows what it printed."
    if _stopped_early(seen):
        return
    if seen["state"] == "failed":
        failure = kept["failure"] = seen["failure"]
        kind, sample, remedy = failure["class"], failure["sample"], run.remedy(failure["remedy"], 0)
        problem = f"failed ({kind}): {sample['line'] or sample['message']}"
        again = f"hpc-agent resubmit --run-id {run_id} --task-id 0 && hpc-agent verify-canary --run-id {run_id}"
        remedy = remedy.partition(": hpc-agent resubmit ")[0].rstrip(".")
        remedy = f"{remedy}. Where the cause was mended outside the code, run the canary again: {again}"
    elif seen["metrics_problem"]:
        kind, problem = "metrics_unreadable", f"ended well, but its metrics cannot be read: {seen['metrics_problem']}"
    elif seen["missing_output"]:
        kind, problem = "missing_output", f"ended well, but it did not write {request.expect_output}"
    else:
        return
    message = f"the canary of {run_id} {problem}; {nothing_else}"
    raise CanaryFailed(message, remediation=remedy, details={"failure_kind": kind, **kept})


def warnings(seen: dict[str, Any]) -> list[str]:
    """Return warnings about a tight or wasteful request, and about missing metrics."""
    found = ["the canary stopped with a checkpoint; it goes on in the next segment"] if _stopped_early(seen) else []
    measured, asked = seen["measured"], seen["asked"]
    for name, used, given, unit, tight in (
        ("walltime", measured["seconds"], asked["walltime_sec"], "s", TIGHT_TIME),
        ("memory", measured["max_rss_mb"], asked["mem_mb"], "MiB", TIGHT_MEMORY),
    ):
        if not used or not given:
            continue
        if used > tight * given:
            found.append(f"{name} is tight: the canary used {used:.0f} of {given} {unit}")
        elif used < WASTEFUL * given and (measured["seconds"] or 0.0) >= TELLING_SEC:
            found.append(f"{name} is generous: the canary used {used:.3g} of {given} {unit}; less would start sooner")
    if kills := measured.get("oom_kills"):
        found.append(f"the kernel killed {kills} processes of the canary for memory: ask for more --mem-mb")
    if seen["metrics"] in (None, {}) and not _stopped_early(seen):
        found.append("the canary wrote no metrics: 'hpc-agent aggregate' would have nothing to reduce")
    found += [
        f"metric {told['field']} of the canary ({told['value']}) {told['message']}"
        for told in (seen.get("metrics_left_out") or [])[:LEFT_OUT_SHOWN]
    ]
    return found
