"""``resolve-submit-inputs``: from wishes, even none, to a complete submit spec; what cannot be told is a short list."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, ExecutorNotFound, NeedsResolution, SpecInvalid
from hpc_agent.ops.author.choices import Ambiguity, Choice, Looker
from hpc_agent.ops.plan.resources import Resources
from hpc_agent.ops.submit.freeze import freeze
from hpc_agent.ops.submit.layout import plan_facts
from hpc_agent.ops.submit.planned import plan_run
from hpc_agent.ops.submit.spec import Name, SubmitRequest
from hpc_agent.world import World


class ResolveSubmitInputsRequest(Request):
    """What is wished; everything else is looked up."""

    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."
    cluster: Annotated[str | None, Meta(description="name in clusters.yaml")] = None
    executor: Annotated[str | None, Meta(description="shell command of a task, instead of .hpc/cli.py")] = None
    run_name: Annotated[Name | None, Meta(description="first part of the run id")] = None
    campaign_id: Annotated[Name | None, Meta(description="tag of a series of runs")] = None
    conda_env: Annotated[str | None, Meta(description="conda environment")] = None
    shared_paths: Annotated[
        list[str] | None, Meta(description="big folders that are linked, not frozen; [] to freeze all of them")
    ] = None
    partition: Annotated[str | None, Meta(description="partition (SLURM) or queue (Grid Engine)")] = None
    account: Annotated[str | None, Meta(description="account (SLURM) or project (Grid Engine)")] = None
    resources: Resources = field(default_factory=Resources)
    est_task_sec: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="expected seconds of a task")] = None
    canary: Annotated[
        bool | None, Meta(description="task 0 first, alone; an executor never run there is pointed out")
    ] = None
    accept_defaults: Annotated[bool, Meta(description="take the safe default of everything that cannot be told")] = (
        False
    )


class ResolveSubmitInputsResult(Result):
    spec: Annotated[dict[str, Any], Meta(description="complete and checked: hpc-agent submit --spec -")]
    resolved: Annotated[list[Choice], Meta(description="field, value, and what it was taken from")]
    assumed: Annotated[list[Ambiguity], Meta(description="what could not be told and got its safe default")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], Meta(description="arrays, waves, resources, and where each number came from")]
    notes: list[str]
    next_step: str


@primitive(stage="author", errors=[SpecInvalid, NeedsResolution, ClusterUnknown, ConfigInvalid, ExecutorNotFound])
def resolve_submit_inputs(request: ResolveSubmitInputsRequest, world: World) -> ResolveSubmitInputsResult:
    """A complete submit spec from whatever is wished; what cannot be told is ``needs_resolution`` with its candidates.

    Looks at tasks.py, interview.json, earlier runs, clusters.yaml and the measured samples; asks no cluster and writes
    nothing. Every ambiguity names its candidates, what it depends on, a safe default and the evidence.
    """
    looker = Looker(world, request)
    spec, resolved, open_ = looker.look()
    unsafe = [ambiguity for ambiguity in open_ if ambiguity.safe_default is None]
    if unsafe or (open_ and not request.accept_defaults):
        raise _unresolved(unsafe or open_, open_, resolved)
    assumed = {ambiguity.field: ambiguity.safe_default for ambiguity in open_}
    spec.update(assumed)
    submission = convert(spec, SubmitRequest, "submit")
    with freeze(world, submission) as frozen:
        planned = plan_run(frozen, submission)
        ask, plan = planned.ask, planned.plan
        facts = plan_facts(plan, ask)
        run_id, notes = frozen.run_id(), frozen.notes
    resolved += [
        Choice(f"resources.{name}", ask.resources.get(name), ask.origin[name]) for name in ("walltime_sec", "mem_mb")
    ]
    return ResolveSubmitInputsResult(
        spec=spec,
        resolved=resolved,
        assumed=open_,
        run_id=run_id,
        total_tasks=facts["total_tasks"],
        plan=facts,
        notes=notes,
        next_step="hpc-agent submit-and-verify --spec -" if spec.get("canary") else "hpc-agent submit --spec -",
    )


def _unresolved(first: list[Ambiguity], open_: list[Ambiguity], resolved: list[Choice]) -> NeedsResolution:
    fields = ", ".join(ambiguity.field for ambiguity in open_)
    remedy = first[0].remedy
    if all(ambiguity.safe_default is not None for ambiguity in open_):
        remedy += " Or take the safe defaults: 'hpc-agent resolve-submit-inputs --accept-defaults'."
    return NeedsResolution(
        f"{fields}: {first[0].context}",
        field=first[0].field,
        remediation=remedy,
        details={
            "resolved": msgspec.to_builtins(resolved),
            "ambiguities": msgspec.to_builtins(open_),
        },
    )
