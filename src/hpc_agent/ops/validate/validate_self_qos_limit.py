"""``validate-self-qos-limit``: the scheduler's own limits, read live, with all of the user's jobs counted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from hpc_agent.contract.primitive import Effect, Request, primitive
from hpc_agent.infra.remote import Node
from hpc_agent.infra.site import SiteFacts, ask_site
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.findings import Finding, ValidationResult, result_of
from hpc_agent.ops.run.known_run import SITE_ERRORS, node_of
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World

QOS = "validate-self-qos-limit"


class ValidateSelfQosLimitRequest(Request):
    """How many elements would be submitted."""

    cluster: Annotated[str, doc("name in clusters.yaml; its limits and your jobs are read live")]
    new_array_size: Annotated[int, doc("elements that are to be submitted", gt=0)]
    warn_at_pct: Annotated[float, doc("share of a limit from which on to warn", gt=0, le=1)] = 0.7
    experiment_dir: ExperimentDir = "."


@primitive(stage="validate", effects=[Effect.SSH], errors=SITE_ERRORS)
def validate_self_qos_limit(request: ValidateSelfQosLimitRequest, world: World) -> ValidationResult:
    """Whether the scheduler's own limits leave room for so many more elements, with all of your jobs counted."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    return result_of(room_for(node_of(world, repo, request.cluster), request.new_array_size, request.warn_at_pct))


def room_for(node: Node, elements: int, warn_at: float) -> list[Finding]:
    """Findings from the live limits. A limit on submitted jobs is no error: what is above it is sent later."""
    found = []
    for row in headroom(ask_site(node), elements, warn_at):
        severity: Literal["warning", "info"] = "info" if row["state"] == "ok" else "warning"
        fix = "Set max_submitted of the cluster's constraints: the rest is then sent when there is room."
        found.append(
            Finding(QOS, severity, f"limit_{row['state']}", row["sentence"], fix if severity == "warning" else "", row)
        )
    return found or [Finding(QOS, "info", "no_limit", "the scheduler names no limit for you")]


def headroom(facts: SiteFacts, elements: int, warn_at: float = 0.7) -> list[dict[str, Any]]:
    """Each limit against what is there and what would come: state ok, warn or over, and a sentence."""
    rows = []
    for limit in facts.limits:
        used = 0 if limit.kind == "array_size" else facts.submitted or 0
        after = used + elements
        state = "over" if after > limit.limit else "warn" if after > limit.limit * warn_at else "ok"
        there = f"{used} are there and " if limit.kind != "array_size" else ""
        what = {"running": "run at once", "submitted": "be submitted", "array_size": "be in one array"}.get(
            limit.kind, limit.kind
        )
        sentence = f"{limit.name} ({limit.scope}): at most {limit.limit} may {what}; {there}{elements} would come"
        rows.append({"limit": limit.name, "scope": limit.scope, "kind": limit.kind, "used": used, "asked": elements,
                     "most": limit.limit, "state": state, "sentence": sentence})  # fmt: skip
    return rows
