"""The registry of faults: each is a function of a bench that says what was run twice, lost, or told wrongly.

pytest (test_faults.py) runs each a few times, benchmarks/faults.py many times.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fault_bench import Bench

SCHEDULERS = ("slurm-ssh", "sge-ssh")
MODULES = (
    "fault_kills",
    "fault_lies",
    "fault_queries",
    "fault_network",
    "fault_daemons",
    "fault_disks",
    "fault_journal",
    "fault_times",
)


@dataclass
class Outcome:
    """What a fault did to a run; each entry is a sentence of evidence. All empty is what we want."""

    duplicates: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> Outcome:
        self.duplicates += other.duplicates
        self.losses += other.losses
        self.wrong += other.wrong
        return self

    @property
    def clean(self) -> bool:
        return not (self.duplicates or self.losses or self.wrong)

    def __str__(self) -> str:
        named = (("duplicate", self.duplicates), ("loss", self.losses), ("wrong", self.wrong))
        return "\n".join(f"{name}: {sentence}" for name, sentences in named for sentence in sentences) or "clean"


Run = Callable[["Bench"], Outcome]


@dataclass(frozen=True)
class Fault:
    """One kind of trouble. ``tries`` is how often the benchmark does it on each site; ``in_tests``: quick enough for pytest."""

    name: str
    sites: tuple[str, ...]
    tries: int
    stops_daemons: bool
    in_tests: bool
    run: Run


FAULTS: list[Fault] = []


def fault(
    name: str,
    sites: tuple[str, ...] = SCHEDULERS,
    tries: int = 5,
    *,
    stops_daemons: bool = False,
    in_tests: bool = True,
) -> Callable[[Run], Run]:
    """Register a fault under its name."""

    def register(run: Run) -> Run:
        FAULTS.append(Fault(name, sites, tries, stops_daemons, in_tests, run))
        return run

    return register


def all_faults() -> list[Fault]:
    """Every fault, in the order of the modules."""
    for name in MODULES:
        importlib.import_module(name)
    return FAULTS


def attempt(chosen: Fault, site: str, folder: Path, seed: str) -> tuple[Outcome, float]:
    """One try on a bench of its own; the outcome and its seconds. A bench that breaks is a wrong state, never silence."""
    from fault_bench import Bench

    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    try:
        with Bench(site, folder, seed) as bench:
            outcome.add(chosen.run(bench)).add(bench.found)
    except Exception as error:  # noqa: BLE001 - the table must show it, and the other faults must still run
        outcome.wrong.append(f"the try ended early: {type(error).__name__}: {error}")
    return outcome, time.monotonic() - begun
