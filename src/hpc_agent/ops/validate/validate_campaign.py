"""``validate-campaign``: every check of a submission in one call."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.errors import ClusterTimeout, RemoteCommandFailed, SshUnreachable
from hpc_agent.ops.run.checks import (
    LOCAL_VALIDATORS,
    Finding,
    ValidationResult,
    check_remote_inputs,
    local_findings,
    refuse,
    verdict,
)
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.planned_run import PlannedRun, plan_run
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.validate.dry_run_local import VALIDATOR as DRY_RUN
from hpc_agent.ops.validate.dry_run_local import try_tasks
from hpc_agent.ops.validate.validators import QOS, room_for
from hpc_agent.world import World


class ValidateCampaignRequest(SubmitRequest):
    """The fields of submit, and the checks to run."""

    remote: Annotated[bool, doc("ask the cluster for limits, your jobs and inputs (one or two SSH)")] = False
    smoke: Annotated[bool, doc("run the first, middle and last task here")] = False
    smoke_timeout_sec: Annotated[float, doc("limit for those tasks together", gt=0, le=86400)] = 120.0


class ValidateCampaignResult(ValidationResult):
    run_id: str
    validators_run: list[str]


@primitive(stage="validate", effects=[Effect.SSH, Effect.FILES], errors=FREEZE_ERRORS, progress=True)
def validate_campaign(request: ValidateCampaignRequest, world: World) -> ValidateCampaignResult:
    """Return all findings about a submission before it is made. An error among them is the error of the call.

    Without ``remote`` and ``smoke`` the checks are those of submit. A check that cannot run is a finding.
    """
    with freeze(world, request) as frozen:
        planned = plan_run(frozen, request)
        findings, names = local_findings(world, planned), list(LOCAL_VALIDATORS)
        if request.remote:
            findings += _remote_findings(planned)
            names += [QOS]
        if request.smoke:
            findings += try_tasks(frozen, [], request.smoke_timeout_sec, world)
            names += [DRY_RUN]
        refuse(findings)
        return ValidateCampaignResult(
            overall=verdict(findings), findings=findings, run_id=frozen.run_id(), validators_run=names
        )


def _remote_findings(planned: PlannedRun) -> list[Finding]:
    """Ask the cluster about inputs and limits. A cluster that does not answer is a finding."""
    findings = []
    try:
        findings += check_remote_inputs(planned.frozen)
        findings += room_for(planned.frozen.node, planned.arrays.total_elements, 0.7)
    except (SshUnreachable, ClusterTimeout, RemoteCommandFailed) as error:
        message = f"the cluster could not be asked: {error.message}"
        findings.append(Finding(QOS, "warning", "not_asked", message, error.remediation))
    return findings
