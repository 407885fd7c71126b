"""``setup``: the files for Claude Code, and the settings of an experiment."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.contract.vocabulary import doc
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, HpcError, PreconditionFailed, PreflightFailed, SpecInvalid
from hpc_agent.ops.agents.assets import Assets
from hpc_agent.ops.agents.install_commands import AssetsRequest, change_assets
from hpc_agent.ops.setup.probe import known_cluster, raise_when_red, run_preflight
from hpc_agent.ops.setup.report import ProbeReport
from hpc_agent.world import World


class SetupRequest(AssetsRequest):
    """What to set up on this machine."""

    cluster: Annotated[
        str | None, doc("log in to this cluster and check what a run needs there; the result counts for 24 hours")
    ] = None


class SetupResult(Result, kw_only=True):
    assets: Assets
    dry_run: bool
    deduped: Annotated[bool, doc("no file for Claude Code had to be changed, and no cluster was looked at")]
    preflight: Annotated[ProbeReport | None, doc("what the login to the cluster found; null without a cluster")] = None
    next_step: str


@primitive(
    stage="setup",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH],
    errors=[ClusterUnknown, ConfigInvalid, PreconditionFailed, PreflightFailed, SpecInvalid],
    progress=True,
    brief="this machine: Claude, cluster",
    example={"dry_run": True},
    next_verbs=["clusters-list", "suggest-setup-action", "submit"],
)
def setup(request: SetupRequest, world: World) -> SetupResult:
    """Install the commands, skills, agent and hook for Claude Code, and check a cluster. Files with changes of yours stay.

    The same call again changes nothing; ``uninstall`` removes what it installed. With ``cluster``: one login as a submit
    makes it, then keys, host key, shell, scheduler, limits, Python, scratch, quota, clock, locale, modules, and a file
    there and back with rsync. A red check is the error preflight_failed: 'details.red' has what was found and the line to
    paste. Without one a marker is written, which counts for 24 hours ('check-preflight' reads it).
    """
    if request.cluster and request.uninstall:
        raise SpecInvalid("--uninstall removes files, and looks at no cluster", field="cluster")
    if request.cluster:
        known_cluster(request.cluster, world)
    assets = change_assets(request, world)
    report = None
    if request.cluster and not request.dry_run:
        world.progress.say(f"checking {request.cluster}")
        report = run_preflight(request.cluster, world)
        try:
            raise_when_red(report)
        except HpcError as error:
            error.details["assets"] = msgspec.to_builtins(assets)
            raise
    unchanged = report is None and not (assets.wrote or assets.removed)
    step = "hpc-agent suggest-setup-action" if report else "hpc-agent clusters-list"
    return SetupResult(assets=assets, dry_run=request.dry_run, deduped=unchanged, preflight=report, next_step=step)
