"""The budgets, as data: which sides of which row, and what their ratio or value must not exceed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from benchmarks.figures import median, ratio, rounded, written
from benchmarks.results import Book

US = "hpc-agent"
WHY = Path(__file__).resolve().with_name("why.yaml")


class Budget(msgspec.Struct, frozen=True):
    """``of``, or ``of`` over the sum of the sides ``to``, is at most (or at least) so much."""

    id: str
    what: str
    row: str
    of: str
    to: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None
    unit: str = "x"

    def figure(self, book: Book) -> float | None:
        """Return the value or ratio; None where a side of it was not measured."""
        result = book.rows.get(self.row)
        sides = [result.values(name) for name in (self.of, *self.to)] if result else [[]]
        if not all(sides):
            return None
        return ratio(sides[0], *sides[1:]) if self.to else median(sides[0])

    def met(self, figure: float) -> bool:
        return (self.at_most is None or figure <= self.at_most) and (self.at_least is None or figure >= self.at_least)

    def limit(self) -> str:
        word, value = ("at most", self.at_most) if self.at_most is not None else ("at least", self.at_least)
        return f"{word} {self.shown(value or 0.0)}"

    def shown(self, figure: float) -> str:
        if self.unit == "x":
            return f"{rounded(figure)} x"
        return written(figure, self.unit)


def _ahead(row: str, tasks: str, *peers: str) -> list[Budget]:
    return [
        Budget(f"{row}.{peer.lower()}", f"{tasks}: ahead of {peer}", row, US, (peer,), at_most=1.0) for peer in peers
    ]


_PROCESSES = "noops-processes-slurm-1000"
_RIVALS = ("HyperQueue", "dask-jobqueue", "Parsl")
BUDGETS: tuple[Budget, ...] = (
    Budget("processes.loop", "1,000 no-op processes on SLURM, packed, beside the loop in one job plus one scheduling cycle",
           _PROCESSES, US, ("loop in one job", "an empty job"), at_most=1.5),
    Budget("processes.submitit", "1,000 no-op processes on SLURM: submitit's time over ours",
           "noops-submitit-slurm", "submitit", (US,), at_least=40.0),
    *_ahead(_PROCESSES, "1,000 no-op processes on SLURM", *_RIVALS),
    *(
        budget
        for site, name in (("slurm", "SLURM"), ("sge", "Grid Engine"))
        for size in (1_000, 10_000)
        for budget in _ahead(f"noops-functions-{site}-{size}", f"{size:,} no-op functions on {name}", "Parsl", "dask-jobqueue")
    ),
    Budget("cpu.warm", "CPU of a warm function, its record included", "cpu-per-task", "function, warm: whole tree",
           at_most=0.0005, unit="s"),
    Budget("cpu.fork", "CPU of a forked function, its record included", "cpu-per-task", "function, fork: whole tree",
           at_most=0.0015, unit="s"),
    Budget("cpu.shell", "CPU of a packed shell command, its record included", "cpu-per-task", "shell command: whole tree",
           at_most=0.005, unit="s"),
    Budget("alone", "a task alone beside an element of a plain array", "alone-slurm", US, ("plain array",), at_most=1.5),
    Budget("files", "files and folders left by 1,000 packed no-ops", "files", "all of the run's folder", at_most=40, unit=""),
    *(
        Budget(f"status.{key}", f"status of 100,000 tasks, {words}: seconds on the cluster", "status", f"100,000 tasks, {words}",
               at_most=most, unit="s")
        for key, words, most in (
            ("unchanged", "nothing changed", 0.1), ("changed", "1 % changed", 0.5), ("first", "first look", 2.0)
        )
    ),
    Budget("status.ssh", "status of 100,000 tasks: SSH commands", "status", "SSH commands of a status", at_most=1, unit=""),
    Budget("status.bytes", "status of 100,000 tasks: bytes of the answer", "status", "bytes of a status", at_most=4096, unit="B"),
    *(
        Budget(f"combine.{key}.{part}", f"combine and aggregate 100,000 tasks x 10 metrics, {name}: {words}", "combine",
               f"{name}: {side}", at_most=most, unit=unit)
        for key, name in (("points", "a row a point"), ("tasks", "a row a task"))
        for part, words, side, most, unit in (
            ("seconds", "seconds on the cluster", "on the cluster", 20.0, "s"), ("bytes", "bytes pulled", "pulled", 1e6, "B")
        )
    ),
    Budget("recovery", "recovery of 10,000 scattered failures: seconds on the cluster", "recovery",
           "10,000 failures: on the cluster", at_most=2.0, unit="s"),
    Budget("startup.version", "start-up: CPU of `--version`", "startup", "hpc-agent --version", at_most=0.040, unit="s"),
    Budget("startup.query", "start-up: CPU of `list-in-flight`", "startup", "hpc-agent list-in-flight", at_most=0.150, unit="s"),
    Budget("planning.million", "planning 1,000,000 tasks", "planning", "1,000,000 tasks", at_most=2.0, unit="s"),
)  # fmt: skip


def reasons(path: Path = WHY) -> dict[str, str]:
    """Why a budget is not met, and what would change it: texts by the id of the budget."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
