"""Every fault of tests/faults, many times, on real schedulers: a table that must be all zeros.

    python benchmarks/faults.py [--site slurm-ssh ...] [--only WORDS] [--tries-factor N] [--kills 100] [--workers 3] [--json]
                                [--write docs/reliability.md] [--seed WORD]

One process a scheduler may run at the same time. Needs root and the test bed (sudo testbed/up). Exit code 1 unless no task ran
twice, none was lost, and every answer was true.
"""

import argparse
import contextlib
import json
import math
import shutil
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "faults"), str(ROOT / "tests")]

from fault_scheduler import bring_back  # noqa: E402
from faults import SCHEDULERS, Fault, Outcome, all_faults, attempt  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = "| fault | scheduler | tries | duplicates | losses | wrong states | seconds |\n|---|---|--:|--:|--:|--:|--:|"


@dataclass
class Row:
    """One fault on one site, all tries together."""

    fault: Fault
    site: str
    tries: int
    outcome: Outcome = field(default_factory=Outcome)
    seconds: float = 0.0

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.outcome.duplicates), len(self.outcome.losses), len(self.outcome.wrong)

    @property
    def cells(self) -> list[object]:
        return [self.fault.name, self.site.removesuffix("-ssh"), self.tries, *self.counts, round(self.seconds)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", action="append", choices=["local", *SCHEDULERS], help="more than once for several")
    parser.add_argument("--only", default="", help="faults whose name holds these words")
    parser.add_argument("--tries-factor", type=float, default=1.0, help="times the tries of each fault, kills excepted")
    parser.add_argument("--kills", type=int, default=100, help="random kills of the client on each site")
    parser.add_argument("--workers", type=int, default=3, help="tries at once, of faults that stop no daemon")
    parser.add_argument("--seed", default="", help="another choice of instants")
    parser.add_argument("--json", action="store_true", help="JSON with all evidence instead of the table")
    parser.add_argument("--write", type=Path, help="replace the table between the markers in this file")
    return parser.parse_args()


def planned(options: argparse.Namespace) -> list[Row]:
    rows = []
    for fault in all_faults():
        for site in fault.sites:
            if options.only in fault.name and site in (options.site or ["local", *SCHEDULERS]):
                random_kills = "random instant" in fault.name
                tries = options.kills if random_kills else math.ceil(fault.tries * options.tries_factor)
                rows.append(Row(fault, site, max(1, tries)))
    return rows


def run(rows: list[Row], options: argparse.Namespace, folder: Path) -> None:
    """Faults that stop daemons have their scheduler to themselves; the others share it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<70.70}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("faults", total=sum(row.tries for row in rows))
        for alone in (False, True):
            with ThreadPoolExecutor(1 if alone else options.workers) as pool:
                futures: dict[Future[tuple[Outcome, float]], Row] = {}
                for row in rows:
                    for number in range(row.tries if row.fault.stops_daemons == alone else 0):
                        place = folder / f"{rows.index(row)}-{number}"
                        futures[pool.submit(one, row, place, f"{options.seed}{number}")] = row
                for future in as_completed(futures):
                    row = futures[future]
                    outcome, seconds = future.result()
                    row.outcome.add(outcome)
                    row.seconds += seconds
                    progress.update(bar, advance=1, description=f"{row.site}: {row.fault.name}")
                    if not console.is_terminal:
                        print(
                            json.dumps({"site": row.site, "fault": row.fault.name, "clean": outcome.clean}),
                            file=sys.stderr,
                        )
                    if not outcome.clean:
                        console.print(f"[red]{row.site}: {row.fault.name}[/red]", highlight=False)
                        console.print(str(outcome), markup=False, highlight=False)


def one(row: Row, place: Path, seed: str) -> tuple[Outcome, float]:
    try:
        return attempt(row.fault, row.site, place, f"{seed} {row.fault.name} {row.site}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def table(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(str(cell) for cell in row.cells) + " |" for row in rows]
    sums = [sum(int(row.cells[column]) for row in rows) for column in range(2, 7)]  # type: ignore[call-overload]
    lines.append("| **all** | | " + " | ".join(f"**{number}**" for number in sums) + " |")
    return "\n".join([HEAD, *lines])


def write_table(path: Path, text: str) -> None:
    """Put the table between the two markers. Raises ValueError where they are not."""
    before, begun, rest = path.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> int:
    options = arguments()
    rows = planned(options)
    if not rows:
        print("no fault of that name", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            run(rows, options, Path(folder))
        finally:
            for scheduler in {row.site.removesuffix("-ssh") for row in rows if row.fault.stops_daemons}:
                with contextlib.suppress(Exception):
                    bring_back(scheduler)
    if options.json:
        keys = ("fault", "scheduler", "tries", "duplicates", "losses", "wrong", "seconds")
        print(json.dumps([{**dict(zip(keys, row.cells, strict=True)), "evidence": vars(row.outcome)} for row in rows]))
    else:
        print(table(rows))
    if options.write:
        write_table(options.write, table(rows))
    return 1 if any(any(row.counts) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
