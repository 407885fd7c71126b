"""End what a side has left running: its jobs, and on this machine the processes of its scratch folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from benchmarks.bench import testbed

TRIES = 20


def end(site: testbed.Site) -> None:
    """Cancel the site's jobs, end its processes, remove its scratch folder."""
    if site.scheduler == "local":
        end_processes(str(site.scratch))
        shutil.rmtree(site.scratch, ignore_errors=True)
    else:
        site.clean_up()


def cancel(site: testbed.Site) -> None:
    """Cancel the site's jobs, of any side, as hpc-agent never does; its scratch folder stays."""
    if site.scheduler == "local":
        end_processes(str(site.scratch))
        return
    jobs = testbed.jobs_of(site)
    if jobs:
        site.run("scancel" if site.scheduler == "slurm" else "qdel", *jobs)


def end_processes(words: str) -> None:
    """Kill every process that names these words, the path of a folder of ours, in its command or environment."""
    for _ in range(TRIES):
        running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = [process for process in running if _names(process, words)]
        if not found:
            return
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _names(process: int, words: str) -> bool:
    if process == os.getpid():
        return False
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            if words.encode() in Path(f"/proc/{process}/{name}").read_bytes():
                return True
    return False
