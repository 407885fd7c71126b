"""``setup``: the files for Claude Code, and the settings of an experiment."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.contract.vocabulary import doc
from hpc_agent.errors import PreconditionFailed
from hpc_agent.ops.agents.assets import Assets
from hpc_agent.ops.agents.install_commands import AssetsRequest, change_assets
from hpc_agent.world import World


class SetupRequest(AssetsRequest):
    """What to set up on this machine."""


class SetupResult(Result):
    assets: Assets
    dry_run: bool
    deduped: Annotated[bool, doc("nothing had to be changed")]
    next_step: str


@primitive(
    stage="setup",
    effects=[Effect.FILES],
    errors=[PreconditionFailed],
    brief="this machine: Claude, cluster",
    example={"dry_run": True},
    next_verbs=["clusters-list", "suggest-setup-action", "submit"],
)
def setup(request: SetupRequest, world: World) -> SetupResult:
    """Install the commands, skills, agent and hook for Claude Code. Files with changes of yours stay.

    The same call again changes nothing; ``uninstall`` removes what it installed.
    """
    assets = change_assets(request, world)
    unchanged = not (assets.wrote or assets.removed)
    step = "hpc-agent clusters-list"
    return SetupResult(assets=assets, dry_run=request.dry_run, deduped=unchanged, next_step=step)
