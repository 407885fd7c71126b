"""Files and folders that a run leaves on the cluster."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench import Bench, SideFailed
from benchmarks.product import Product
from benchmarks.registry import row


@row("files", "Files and folders that 1,000 packed no-ops leave on the cluster", aim_sec=15, site="slurm-ssh")
def files(bench: Bench) -> None:
    """1,000 `/bin/true` on SLURM, 500 to an element. The folder of the run is counted after the submission (kept back by
    `--hold`) and after the end; the difference is what the tasks left. The runtime lies in the
    snapshot, once for all its runs."""
    tasks = bench.size(1_000, 20)
    product = Product(bench.site("slurm-ssh"), bench.folder)
    repo = product.repo(f"def total(): return {tasks}\ndef resolve(i): return {{'x': i}}\n")
    submitted = product.held(repo, "/bin/true", "--pack", str(tasks // 2))
    folder = Path(submitted["remote_path"])
    before = entries(folder)
    product.release(submitted)
    ended = product.wait(repo, 50)
    if ended["last_status"]["complete"] != tasks:
        raise SideFailed(f"{ended['last_status']['complete']} of {tasks} tasks are complete")
    after = entries(folder)
    bench.take("all of the run's folder", len(after), unit="")
    bench.take("left by the tasks", len(after) - len(before), unit="", note="beside what the submission itself wrote")
    bench.take("left by the submission", len(before), unit="", note="plan, ledger, work folder")
    fullest = max(sum(1 for path in after if path.parent == folder) for folder in {path.parent for path in after})
    bench.take("entries of the fullest folder", fullest, unit="")


def entries(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
