"""Full disks, here and over there: a small tmpfs with a filler that leaves a few pages. Needs root."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from pathlib import Path

from fault_bench import Bench, until
from faults import SCHEDULERS, Outcome, fault

PAGE = 4096


def small_disk(bench: Bench, folder: Path, size_kb: int) -> Path:
    """A file system of this size at ``folder``, owned by the site's user; unmounted with the bench."""
    folder.mkdir()
    owner = bench.scratch.stat().st_uid
    options = f"size={size_kb}k,uid={owner},gid={owner},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "faults", str(folder)], check=True, timeout=10)
    bench.undo.callback(subprocess.run, ["umount", "-l", str(folder)], check=False, timeout=10)
    return folder


def fill(folder: Path, pages_left: int = 0) -> Path:
    """Fill the disk up to so many pages; the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"x" * PAGE)
        except OSError:
            handle.truncate(max(0, handle.tell() - pages_left * PAGE))
    return filler


def expect_full(bench: Bench, answer) -> None:
    """A failure on a full disk says so; that there was room enough is no failure."""
    if not answer.ok and answer.error != "storage_full":
        bench.found.wrong.append(f"the disk is full, but submit says {answer}")


@fault("home is full when submit comes", ("local", *SCHEDULERS), tries=12)
def home_full(bench: Bench) -> Outcome:
    disk = small_disk(bench, bench.folder / "journal", 256)
    bench.env["HPC_JOURNAL_DIR"] = str(disk)
    filler = fill(disk, bench.dice.choice((0, 0, 1, 2, 3, 4, 5, 6)))
    exp = bench.experiment()
    expect_full(bench, bench.submit(exp))
    filler.unlink()
    bench.submit_until(exp)
    return bench.judge(exp)


@fault("home fills up after submit", tries=3)
def home_full_later(bench: Bench) -> Outcome:
    disk = small_disk(bench, bench.folder / "journal", 256)
    bench.env["HPC_JOURNAL_DIR"] = str(disk)
    exp = bench.experiment()
    bench.submit_until(exp)
    filler = fill(disk)
    bench.status(exp)
    filler.unlink()
    return bench.judge(exp)


def scratch_on_small_disk(bench: Bench) -> Path:
    disk = small_disk(bench, bench.scratch / "small", 4000)  # the runtime needs 3 MB, a run 200 KB
    bench.clusters(scratch=str(disk))
    return disk


@fault("scratch is full when submit comes", ("local", *SCHEDULERS), tries=12)
def scratch_full(bench: Bench) -> Outcome:
    disk = scratch_on_small_disk(bench)
    filler = fill(disk, bench.dice.randrange(0, 240, 6))
    exp = bench.experiment()
    expect_full(bench, bench.submit(exp))
    filler.unlink()
    bench.submit_until(exp)
    return bench.judge(exp)


def scratch_fills_up(bench: Bench, pages_left: int, pack: int = 1) -> Outcome:
    """Full while tasks run: their outcome waits for room, and is told once there is some. So does the next begin."""
    gate = bench.scratch / "seen" / "gate"
    disk = scratch_on_small_disk(bench)
    elements = 2 if bench.site.scheduler == "local" else 4  # all of them must have begun
    flags = ("--pack", str(pack)) if pack > 1 else ()
    exp = bench.experiment(elements * pack, middle=f"until [ -e {gate} ]; do sleep 0.1; done", flags=flags)
    bench.submit_until(exp)
    until(lambda: len(exp.lines("start")) == elements, 30)
    filler = fill(disk, pages_left)
    gate.touch()
    until(lambda: exp.done == elements, 20)
    bench.status(exp)
    time.sleep(2)
    filler.unlink()
    return bench.judge(exp)


for _pages in (0, 3):
    fault(f"scratch fills up under running tasks, {_pages} pages left", ("local", *SCHEDULERS), 3, in_tests=not _pages)(
        functools.partial(scratch_fills_up, pages_left=_pages)
    )
fault("scratch fills up under running tasks of packed elements", ("local", *SCHEDULERS), 3)(
    functools.partial(scratch_fills_up, pages_left=0, pack=2)
)


@fault("the folder of the journal is taken away and comes back", ("local",), tries=2)
def home_read_only(bench: Bench) -> Outcome:
    """As on a file server that is away: the journal cannot be read; nothing is submitted for the second time."""
    exp = bench.experiment()
    bench.submit_until(exp)
    place = Path(bench.env["HOME"]) / ".claude"
    away = place.with_name("away")
    os.rename(place, away)
    bench.submit(exp)
    shutil.rmtree(place, ignore_errors=True)
    os.rename(away, place)
    return bench.judge(exp)
