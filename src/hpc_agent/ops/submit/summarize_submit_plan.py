"""``summarize-submit-plan``: the plan of a submission as text, and the question that a person confirms."""

from __future__ import annotations

import collections
from typing import Annotated, Any

from hpc_agent.contract.primitive import Result, primitive
from hpc_agent.infra.throughput import counted, format_duration
from hpc_agent.ops.run.fields import EXAMPLE_RUN, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.submit.submit import SubmitResult, dry_run, planned_run
from hpc_agent.world import World

MANY_TASKS = 1000
MANY_CORE_HOURS = 1000.0


class SummarizeSubmitPlanResult(Result):
    run_id: str
    headline: str
    body: Annotated[str, doc("a few lines of plain text")]
    confirm_prompt: Annotated[str, doc("the question; large sizes, GPUs and core hours are in it")]
    total_tasks: int
    deduped: Annotated[bool, doc("true: this run was submitted before")]
    plan: dict[str, Any]


@primitive(
    stage="plan",
    errors=FREEZE_ERRORS,
    brief="what a submit would do",
    example=EXAMPLE_RUN,
    next_verbs=["submit"],
)
def summarize_submit_plan(request: SubmitRequest, world: World) -> SummarizeSubmitPlanResult:
    """Summarize a submission before it is made, with the same bytes for the same request. Submits nothing."""
    with freeze(world, request) as frozen:
        planned = dry_run(world, planned_run(frozen, request))
        kwargs = frozen.tasks.kwargs()
        first = next(kwargs)
        last = collections.deque(kwargs, maxlen=1)
    return SummarizeSubmitPlanResult(
        run_id=planned.run_id,
        headline=f"{planned.run_id}: {counted(planned.total_tasks, 'task')} on {planned.cluster}",
        body="\n".join(_body(request, planned, first, last[0] if last else first)),
        confirm_prompt=_question(planned),
        total_tasks=planned.total_tasks,
        deduped=planned.deduped,
        plan=planned.plan,
    )


def _body(request: SubmitRequest, planned: SubmitResult, first: dict[str, Any], last: dict[str, Any]) -> list[str]:
    plan = planned.plan
    lines = [f"command    {request.executor}", f"first task {_kwargs(first)}"]
    if planned.total_tasks > 1:
        lines.append(f"last task  {_kwargs(last)}")
    if "strategy" not in plan:
        return [*lines, "plan       as submitted; its shape is not recorded here"]
    lines.append(f"plan       {plan['strategy']}")
    if plan["canary"]:
        lines.append("canary     task 0 runs first, alone; the rest follows when it is in order")
    lines += [f"resources  {line}" for line in _resources(plan)]
    if plan["est_total_wall_sec"] is not None:
        bound = format_duration(round(plan["lower_bound_sec"]))
        estimate = format_duration(round(plan["est_total_wall_sec"]))
        lines.append(f"estimate   {estimate} (at least {bound}), {plan['est_core_hours']:.1f} core hours")
    return lines


def _kwargs(kwargs: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in sorted(kwargs.items()))
    return text if len(text) <= 100 else text[:97] + "..."


def _resources(plan: dict[str, Any]) -> list[str]:
    asked, origin = plan["resources"], plan["origin"]
    lines = [f"walltime {format_duration(round(asked['walltime_sec']))} ({origin['walltime_sec']})"]
    memory = f"{asked['mem_mb']} MiB" if asked["mem_mb"] else "memory"
    lines.append(f"{memory} ({origin['mem_mb']}), {counted(asked['cpus'], 'CPU')}")
    if asked["gpus"]:
        lines.append(f"{counted(asked['gpus'], 'GPU')} {asked['gpu_type'] or ''}".rstrip())
    if plan.get("at_once", 1) > 1:
        lines.append(f"of each task; an element runs {plan['at_once']} at once, and asks for so many times as much")
    if plan.get("isolate", "warm") != "warm":
        lines.append(f"isolate {plan['isolate']} (request)")
    lines += [f"{name} {value} ({origin.get(name, 'request')})" for name, value in sorted(plan["placement"].items())]
    return lines


def _question(planned: SubmitResult) -> str:
    if planned.deduped:
        return f"{planned.run_id} was submitted already; submitting it again returns that run. Go on?"
    large = []
    if planned.total_tasks > MANY_TASKS:
        large.append(f"{planned.total_tasks:,} tasks, more than {MANY_TASKS:,}")
    if planned.plan["resources"]["gpus"]:
        large.append(f"{planned.plan['resources']['gpus']} GPU each")
    hours = planned.plan["est_core_hours"]
    if hours is not None and hours > MANY_CORE_HOURS:
        large.append(f"{hours:,.0f} core hours")
    return f"Submit {planned.run_id} to {planned.cluster}" + (f" ({'; '.join(large)})" if large else "") + "?"
