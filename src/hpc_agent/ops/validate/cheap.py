"""What submit checks by itself: quick, and without a word to the cluster."""

from __future__ import annotations

from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.submit.planned import Planned
from hpc_agent.ops.submit.spec import SubmitRequest
from hpc_agent.ops.validate.checks import (
    DATASET,
    HISTORY,
    SIGNATURES,
    STOCHASTIC,
    check_history,
    check_inputs,
    check_series_axes,
    check_signatures,
    check_stochastic,
)
from hpc_agent.ops.validate.findings import Finding, refuse
from hpc_agent.state.journal import Journal
from hpc_agent.world import World


def cheap_findings(
    world: World, frozen: Frozen, request: SubmitRequest, planned: Planned
) -> tuple[list[Finding], list[str]]:
    """Findings, and the validators that made them."""
    runs = Journal(world, frozen.repo).all()[0] if request.campaign_id else []
    pack = planned.plan.pack
    findings = check_signatures(frozen, request.executor)
    findings += check_inputs(frozen) + check_series_axes(frozen)
    findings += check_history(request.resources.walltime_sec, planned.evidence, pack)
    findings += check_stochastic(request.campaign_id, frozen.tasks.cmd_sha, runs, frozen.run_id())
    return findings, [SIGNATURES, DATASET, HISTORY, STOCHASTIC]


def warnings_of(world: World, frozen: Frozen, request: SubmitRequest, planned: Planned) -> list[str]:
    """What submit tells its user. Raises SpecInvalid for an error, unless checks are skipped."""
    findings, _ = cheap_findings(world, frozen, request, planned)
    if not request.skip_validation:
        refuse(findings)
    return [finding.message for finding in findings if finding.severity != "info"]
