"""What one server holds: its settings, the folder and environment of its calls, work under way, and the budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hpc_agent.mcp_server.budget import Budget
from hpc_agent.mcp_server.work import Work, Works
from hpc_agent.world import World

if TYPE_CHECKING:
    from hpc_agent.mcp_server.watching import Watcher


@dataclass(frozen=True)
class Settings:
    """The options of ``hpc-agent mcp``."""

    allow_submit: bool = False
    ask_user: bool = False
    budget_core_hours: float | None = None
    answer_within: float = 45.0


@dataclass
class Session:
    """The state of a server: work under way, the pace of its looks, and the budget. All else is on disk."""

    settings: Settings
    world: World
    works: Works = field(default_factory=Works)
    watchers: dict[str, Watcher] = field(default_factory=dict)  # by the journal's folder
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.settings.budget_core_hours)

    def world_of(self, work: Work) -> World:
        """Return the world of one call: nothing on standard input, progress kept, sleep that ends when the work is stopped."""
        return replace(
            self.world,
            stdin=lambda: b"",
            progress=work.progress,
            sleep=work.sleep,
            output_files=lambda: set(),
        )
