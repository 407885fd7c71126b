"""The surroundings of a call, which tests replace: clock, folders, environment, standard input, progress output."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Set in the environment of a worker of ``run``: PLANS where no person has agreed to a submission, else "1".
WORKER = "HPC_AGENT_WORKER"
PLANS = "plan"


class Progress:
    """Progress that is not shown; ``view/progress.py`` has a terminal bar and JSON records on stderr."""

    view_follows = False  # the answer will stand on the same terminal as a view

    def update(self, event: str, **facts: Any) -> None: ...

    def say(self, text: str) -> None: ...

    def show(self, text: str) -> None:
        """Show what only a person reads: on a terminal."""

    def close(self) -> None: ...


def output_files() -> set[tuple[int, int]]:
    """Return device and inode of the files that this command's output goes to: ``> run.log``, also ``| tee run.log``.

    The files behind a pipe are known on Linux only.
    """
    found = set()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode):
                found.add((facts.st_dev, facts.st_ino))
            elif stat.S_ISFIFO(facts.st_mode):
                found |= _written_by_readers(f"pipe:[{facts.st_ino}]")
    return found


def _written_by_readers(pipe: str) -> set[tuple[int, int]]:
    """Return the regular files that the readers of a pipe in this process group have open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        # a process may end, or belong to somebody else
        with contextlib.suppress(OSError):
            if os.getpgid(int(process.name)) == os.getpgrp() and str((process / "fd/0").readlink()) == pipe:
                opened = [descriptor.stat() for descriptor in (process / "fd").iterdir()]
                found |= {(facts.st_dev, facts.st_ino) for facts in opened if stat.S_ISREG(facts.st_mode)}
    return found


@dataclass(frozen=True)
class World:
    """Everything that a primitive takes from outside its request. No module reads these globally."""

    cwd: Path = field(default_factory=Path.cwd)
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    now: Callable[[], float] = time.time
    awake: Callable[[], float] = time.monotonic  # seconds, without those that the machine slept
    sleep: Callable[[float], None] = time.sleep
    hold_sec: float = 30.0  # a look may wait so long on the cluster; 0 where time passes by the clock of a test
    stdin: Callable[[], bytes] = lambda: sys.stdin.buffer.read()
    progress: Progress = field(default_factory=Progress)
    output_files: Callable[[], set[tuple[int, int]]] = output_files

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
