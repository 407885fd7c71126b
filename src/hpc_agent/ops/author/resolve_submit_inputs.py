"""``resolve-submit-inputs``: complete a submit spec, and list the fields without a clear value."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.envelope import convert
from hpc_agent.contract.primitive import Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, ExecutorNotFound, NeedsResolution, SpecInvalid
from hpc_agent.ops.author.submit_inputs import Ambiguity, Choice, ResolveSubmitInputsRequest, SubmitInputs
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.freeze import freeze
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.world import World


class ResolveSubmitInputsResult(Result):
    spec: Annotated[dict[str, Any], doc("complete and checked: hpc-agent submit --spec -")]
    resolved: Annotated[list[Choice], doc("field, value, and the source of the value")]
    assumed: Annotated[list[Ambiguity], doc("the unclear fields that got their safe default")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], doc("arrays, waves, resources, and where each number came from")]
    notes: list[str]
    next_step: str


@primitive(stage="author", errors=[SpecInvalid, NeedsResolution, ClusterUnknown, ConfigInvalid, ExecutorNotFound])
def resolve_submit_inputs(request: ResolveSubmitInputsRequest, world: World) -> ResolveSubmitInputsResult:
    """Complete a submit spec from the given fields; an unclear field is ``needs_resolution`` with its candidates.

    Reads tasks.py, interview.json, earlier runs, clusters.yaml and the measured samples; asks no cluster and writes
    nothing. Every ambiguity names its candidates, what it depends on, a safe default and the evidence.
    """
    found = SubmitInputs(world, request)
    found.look_up()
    spec, resolved, open_ = found.spec, found.resolved, found.unresolved
    unsafe = [ambiguity for ambiguity in open_ if ambiguity.safe_default is None]
    if unsafe or (open_ and not request.accept_defaults):
        raise _unresolved(unsafe or open_, open_, resolved)
    assumed = {ambiguity.field: ambiguity.safe_default for ambiguity in open_}
    spec.update(assumed)
    submission = convert(spec, SubmitRequest, "submit")
    with freeze(world, submission) as frozen:
        plan = plan_run(frozen, submission).facts()
        run_id, notes = frozen.run_id(), frozen.notes
    for name in ("walltime_sec", "mem_mb"):
        resolved.append(Choice(f"resources.{name}", plan["resources"][name], plan["origin"][name]))
    return ResolveSubmitInputsResult(
        spec=spec,
        resolved=resolved,
        assumed=open_,
        run_id=run_id,
        total_tasks=plan["total_tasks"],
        plan=plan,
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
        details={"resolved": msgspec.to_builtins(resolved), "ambiguities": msgspec.to_builtins(open_)},
    )
