"""``install-commands``: the files for Claude Code alone, without a look at a cluster."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.contract.vocabulary import doc
from hpc_agent.errors import PreconditionFailed, SpecInvalid
from hpc_agent.ops.agents.assets import Assets, Installation, claude_dir_of
from hpc_agent.world import World


class AssetsRequest(Request):
    claude_dir: Annotated[str | None, doc("folder of Claude Code; CLAUDE_CONFIG_DIR or ~/.claude by default")] = None
    force: Annotated[bool, doc("take the new version of files with changes of yours; yours is kept as FILE.mine")] = (
        False
    )
    uninstall: Annotated[bool, doc("remove the installed files; those with changes of yours stay")] = False
    dry_run: Annotated[bool, doc("tell what would be done; nothing is written")] = False


class InstallCommandsRequest(AssetsRequest):
    """Where to, and how."""


class InstallCommandsResult(Result):
    assets: Assets
    dry_run: bool
    deduped: Annotated[bool, doc("nothing had to be changed")]


@primitive(
    stage="setup",
    effects=[Effect.FILES],
    errors=[PreconditionFailed, SpecInvalid],
    brief="slash commands, skills, hook",
    example={"dry_run": True},
    next_verbs=["setup"],
)
def install_commands(request: InstallCommandsRequest, world: World) -> InstallCommandsResult:
    """Install the slash commands, skills, agent and hook for Claude Code, or remove them. Your changed files stay.

    They go into ~/.claude/{commands,skills,agents,hooks}. The same call again changes nothing.
    """
    assets = change_assets(request, world)
    return InstallCommandsResult(assets=assets, dry_run=request.dry_run, deduped=not (assets.wrote or assets.removed))


def change_assets(request: AssetsRequest, world: World) -> Assets:
    """Install or remove the files. Raises PreconditionFailed for a folder that cannot be used."""
    root = claude_dir_of(request.claude_dir, world.env.get("CLAUDE_CONFIG_DIR"), world.home, world.cwd)
    installation = Installation(root, dry_run=request.dry_run, force=request.force)
    return installation.uninstall() if request.uninstall else installation.install()
