"""The submission of a campaign's trials, and what submit would say about it, before anything is asked."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hpc_agent.campaign.manifest import Manifest, manifest_path
from hpc_agent.campaign.space import value_at
from hpc_agent.contract.catalogue import flags_of, nested
from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.transport import quote
from hpc_agent.ops.campaign.known_campaign import campaign_command
from hpc_agent.ops.run.campaign_flags import settings_flags
from hpc_agent.ops.run.checks import local_findings, refuse
from hpc_agent.ops.run.freeze import freeze
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.run_request import SubmitRequest, Trials
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

NAME_LENGTH = 60


def submit_request(repo: RepoLayout, manifest: Manifest, tasks: list[dict[str, Any]], iteration: int) -> SubmitRequest:
    """Return the submission of an iteration. Raises SpecInvalid for fields of the manifest that submit does not take."""
    fields = nested(manifest.submit, flags_of(SubmitRequest, []))
    fixed, name = fields.pop("fixed_params", {}), manifest.campaign_id
    suffix = f"-{iteration}"
    document = {
        **fields,
        "experiment_dir": str(repo.root),
        "campaign_id": name,
        "run_name": name[: NAME_LENGTH - len(suffix)] + suffix,
        "tasks": [{**fixed, **task} for task in tasks],
        # the code was tried by the canary of the first iteration
        "canary": bool(fields.get("canary")) and iteration == 0,
    }
    try:
        return msgspec.convert(document, SubmitRequest)
    except msgspec.ValidationError as error:
        path = manifest_path(repo, name)
        remedy = f"Correct 'submit' in {path}, then run: {campaign_command(repo, name)}"
        if not path.exists():
            remedy = "Correct it, then run the same command again."
        raise SpecInvalid(f"'submit' of the manifest: {error}", field="submit", remediation=remedy) from error


def first_tasks(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the points to ask first, else the middle of the search space, with all parameters that tasks will see."""
    resource = {manifest.resource: manifest.strategy.params["max"]} if manifest.resource else {}
    middle = {name: value_at(parameter, 0.5) for name, parameter in manifest.space.items()}
    return [{**resource, **point} for point in manifest.start or [middle]]


def check_submission(
    world: World, repo: RepoLayout, manifest: Manifest, tasks: list[dict[str, Any]], begun: bool = False
) -> list[str]:
    """Return what submit would note about trials of a campaign; ``begun``: it has asked some. Asks no cluster.

    Raises the errors with which submit would refuse them.
    """
    # inputs on the cluster would be hashed there
    request = msgspec.structs.replace(submit_request(repo, manifest, tasks, 0), inputs=[], canary=False)
    rule = msgspec.to_builtins(manifest.early_stop)
    trials = Trials(0, list(range(len(tasks))), rule, campaign_command(repo, manifest.campaign_id))
    with freeze(world, request, trials) as frozen:
        findings = local_findings(world, plan_run(frozen, request))
    told = [
        msgspec.structs.replace(one, suggested_fix=pass_on(repo, manifest, one.evidence["command"], begun))
        if "command" in one.evidence
        else one
        for one in findings
    ]
    if not request.skip_validation:
        refuse(told, see="")
    return [
        f"{one.message}. {one.suggested_fix}" if "command" in one.evidence else one.message
        for one in told
        if one.severity != "info"
    ]


def pass_on(repo: RepoLayout, manifest: Manifest, command: str, begun: bool) -> str:
    """Return how a campaign's trials get another command: a campaign that has asked none is begun anew."""
    if begun:
        told = f'"executor": {json.dumps(command, ensure_ascii=False)}'
        path = manifest_path(repo, manifest.campaign_id)
        return f"Write {told} into 'submit' of {path}, then run: {campaign_command(repo, manifest.campaign_id)}"
    words = ["hpc-agent", "campaign-init", "--campaign-id", manifest.campaign_id, "--experiment-dir", str(repo.root)]
    seeds = ",".join(f"{one.experiment_dir}:{one.campaign_id}" for one in manifest.seed_from)
    words += ["--seed-from", seeds] if seeds else []
    words += ["--start", json.dumps(manifest.start)] if manifest.start else []
    other = msgspec.structs.replace(manifest, submit={**manifest.submit, "executor": command})
    return f"To pass it on, run: {quote([*words, *settings_flags(other)])}"


def for_campaign(repo: RepoLayout, manifest: Manifest, error: SpecInvalid) -> SpecInvalid:
    """Return a refusal of submit with the remedy of a campaign that has asked trials."""
    found = [one["evidence"] for one in error.details.get("findings", []) if "command" in one["evidence"]]
    if found:
        error.remediation = pass_on(repo, manifest, found[0]["command"], begun=True)
    return error
