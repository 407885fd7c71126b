"""Print ratios side by side, and write RESULTS.md and results.json.

    python -m benchmarks [ROW...] [--list] [--quick] [--without-peers] [--page]

From the root of a checkout, with the interpreter that has hpc-agent; rows on SLURM and Grid Engine need the test bed (sudo
testbed/up). A ROW is an id or a shell pattern ('noops-*-local'); without one every row is measured, in some 35 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import peer
from benchmarks.budgets import US, reasons
from benchmarks.registry import Row, all_rows, chosen
from benchmarks.results import Book, Result, load, save
from benchmarks.results_page import page, row_section
from benchmarks.runner import Options, machine, measure

QUICK = "\nTried with fewer tasks than this text says, to see that the row works: these are no measurements.\n"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="ids or shell patterns; all by default")
    parser.add_argument(
        "--list", action="store_true", help="name the rows, the seconds that each should take, their sites"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that a row works; nothing is written")
    parser.add_argument(
        "--page", action="store_true", help="only write RESULTS.md again, from results.json and why.yaml"
    )
    parser.add_argument("--without-peers", action="store_true", help="neither install nor run other tools")
    return parser.parse_args(words)


@contextlib.contextmanager
def shown(total: int) -> Iterator[tuple[Callable[[Row], None], Callable[[str], None]]]:
    """Progress on a terminal; elsewhere a line of JSON a row on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda row: print(json.dumps({"row": row.id}), file=sys.stderr, flush=True), lambda _text: None
        return
    columns = (TextColumn("{task.description:<45.45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as progress:
        bar, current = progress.add_task("benchmarks", total=total), [""]

        def begin(row: Row) -> None:
            progress.update(bar, advance=1 if current[0] else 0, description=row.id)
            current[0] = row.id

        yield begin, lambda text: progress.update(bar, description=f"{current[0]}: {text}")


def tell(section: str) -> None:
    """Print what a row measured: as a table on a terminal, elsewhere as it stands in RESULTS.md."""
    if sys.stdout.isatty():
        Console().print(Markdown(section))
    else:
        print(section, flush=True)


def keep(book: Book, rows: Sequence[Row], result: Result) -> bool:
    """Put a row's result into both files. A row that measured nothing does not replace what is known of it."""
    if not result.measures and result.row in book.rows:
        return False
    book.machine = machine()
    book.rows[result.row] = result
    save(book, page(book, rows, reasons()))
    return True


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(sys.argv[1:] if words is None else words)
    rows = all_rows()
    try:
        wanted = chosen(rows, options.rows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        for row in wanted:
            print(f"{row.id:<34} {row.aim_sec:>4} s  {row.site or '-':<10} {row.title}")
        return 0
    if options.page:
        book = load()
        save(book, page(book, rows, reasons()))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a row's jobs are cancelled
    broken = []
    with shown(len(wanted)) as (begin, step):
        if not options.without_peers and any(row.peers for row in wanted):
            peer.install(step)
        for row in wanted:
            begin(row)
            result = measure(row, Options(options.quick, options.without_peers), step)
            tell(row_section(row, result) + (QUICK if options.quick else ""))
            ours = [one for one in result.skipped if one.name == US]
            broken += [f"{row.id}: {why}" for why in (result.broken_off, *(one.why for one in ours)) if why]
            if not options.quick and not keep(load(), rows, result):
                broken.append(f"{row.id}: what was measured before stays in RESULTS.md")
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
