"""The surroundings of a call, which tests replace: clock, folders, environment, standard input, progress output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Progress:
    """Progress that is not shown; ``view/progress.py`` has a terminal bar and JSON records on stderr."""

    def update(self, event: str, **facts: Any) -> None: ...

    def say(self, text: str) -> None: ...

    def show(self, text: str) -> None:
        """Show what only a person reads: on a terminal."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class World:
    """Everything that a primitive takes from outside its request. No module reads these globally."""

    cwd: Path = field(default_factory=Path.cwd)
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    now: Callable[[], float] = time.time
    awake: Callable[[], float] = time.monotonic  # seconds, without those that the machine slept
    sleep: Callable[[float], None] = time.sleep
    stdin: Callable[[], bytes] = lambda: sys.stdin.buffer.read()
    progress: Progress = field(default_factory=Progress)

    @property
    def home(self) -> Path:
        return Path(self.env.get("HOME") or Path.home())

    @property
    def journal_root(self) -> Path:
        return journal_root(self.env, self.home)


def journal_root(env: Mapping[str, str], home: Path) -> Path:
    """Return ``HPC_JOURNAL_DIR``, else ``~/.claude/hpc``."""
    override = env.get("HPC_JOURNAL_DIR")
    return Path(override) if override else home / ".claude" / "hpc"
