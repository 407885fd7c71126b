"""``setup``: the files for Claude Code on this machine, and a look at a cluster before the first submit."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, HpcError, PreconditionFailed, PreflightFailed, SpecInvalid
from hpc_agent.ops.agents.assets import Assets
from hpc_agent.ops.agents.install_commands import AssetsRequest, change_assets
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.setup.probe import raise_when_red, run_preflight
from hpc_agent.ops.setup.report import ProbeReport
from hpc_agent.world import World


class SetupRequest(AssetsRequest):
    """What to set up on this machine."""

    cluster: Annotated[str | None, doc("also log in to this cluster, and check what a submit will need")] = None


class SetupResult(Result):
    assets: Assets
    preflight: Annotated[ProbeReport | None, doc("what was found on the cluster; null without --cluster")]
    dry_run: bool
    deduped: Annotated[bool, doc("no file for Claude Code had to be changed, and no cluster was looked at")]
    next_step: str


@primitive(
    stage="setup",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH],
    errors=[ClusterUnknown, ConfigInvalid, PreconditionFailed, PreflightFailed, SpecInvalid],
    progress=True,
    brief="Claude files; check a cluster",
    example={"dry_run": True},
    next_verbs=["check-preflight", "suggest-setup-action", "submit"],
)
def setup(request: SetupRequest, world: World) -> SetupResult:
    """Install commands, skills, agent and hook for Claude Code; with ``cluster`` also check what a submit needs there.

    Files with changes of yours stay; the same call again changes nothing; ``uninstall`` removes what was installed. A
    cluster that is found in order is marked so for 24 hours (``check-preflight``); a red check is an error that has the line
    to paste. With ``dry_run`` no cluster is asked.
    """
    if request.cluster and request.uninstall:
        raise SpecInvalid("--uninstall removes files, and looks at no cluster", field="cluster")
    report = run_preflight(request.cluster, world) if request.cluster and not request.dry_run else None
    assets = change_assets(request, world)
    if report:
        try:
            raise_when_red(report)
        except HpcError as error:
            error.details["assets"] = msgspec.to_builtins(assets)
            raise
    return SetupResult(
        assets=assets,
        preflight=report,
        dry_run=request.dry_run,
        deduped=report is None and not (assets.wrote or assets.removed),
        next_step="hpc-agent suggest-setup-action" if report else "hpc-agent clusters-list",
    )
