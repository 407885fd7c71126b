"""Push of a repo with many files."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.bench import Bench, SideFailed
from benchmarks.budgets import US
from benchmarks.product import Product, seconds_of
from benchmarks.registry import row

FOLDERS = 100
RSYNC = "rsync -a"


@row("push", "`submit` of a repo of 20,000 files: first, and with nothing changed", aim_sec=60, site="slurm-ssh")
def push(bench: Bench) -> None:
    """20,000 files of 1 KB in 100 folders, over SSH. A submission hashes them, copies what the cluster lacks, makes the snapshot
    and submits one element, kept back by `--hold`; rsync only copies. Each round has a new place on the cluster."""
    files = bench.size(20_000, 200)
    site = bench.site("slurm-ssh")
    product = Product(site, bench.folder)
    for number in range(bench.size(2, 1)):
        bench.step(f"writing {files:,} files")
        repo = product.repo("def total(): return 1\ndef resolve(i): return {'x': i}\n")
        fill(repo, files)
        for which in ("first", "unchanged"):
            bench.step(f"{which}, round {number + 1}")
            name = f"{which}-{number}"  # another name is another run of the same files
            bench.take(f"{US}, {which}", seconds_of(product.held, repo, "/bin/true", "--run-name", name))
            bench.take(f"{RSYNC}, {which}", seconds_of(rsync, site, repo, f"plain-{number}"))
        shutil.rmtree(repo)


def fill(repo: Path, files: int) -> None:
    for number in range(files):
        folder = repo / "data" / f"{number % FOLDERS:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"{number:08d}\n" * 113)


def rsync(site: object, repo: Path, name: str) -> None:
    """Copy the repo as a user would without any tool."""
    import subprocess

    entry = site.cluster  # type: ignore[attr-defined]
    there = f"{entry['user']}@{entry['host']}:{entry['scratch']}/{name}/"
    words = ["rsync", "-a", "-e", f"ssh -F {entry['ssh_config']}", f"{repo}/", there]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SideFailed(f"rsync: {done.stderr[-200:]}")
