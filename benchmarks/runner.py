"""Run rows, each in a process of its own with its time-out, and keep what it told before it ended."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

import hpc_agent
from benchmarks import leftovers
from benchmarks.bench import ROOT, testbed
from benchmarks.registry import Row
from benchmarks.results import PAGE, RESULTS, Measure, Result, Skipped

GRACE_SEC = 10.0


@dataclass(frozen=True)
class Options:
    quick: bool = False
    without_peers: bool = False


def measure(row: Row, options: Options, progress: Callable[[str], None]) -> Result:
    """Return what the row measured, also when it was broken off by its time-out or an error."""
    result = Result(row.id, taken_at=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC", commit=commit())
    result.versions["hpc-agent"] = hpc_agent.__version__
    sites: list[testbed.Site] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hpc-benchmark-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "benchmarks.one_row", row.id, "--folder", folder]
        command += ["--aim-sec", str(row.aim_sec), "--limit-sec", str(row.limit_sec)]
        command += ["--quick"] * options.quick + ["--without-peers"] * options.without_peers
        log = Path(folder) / "row.log"
        with log.open("wb") as errors:
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                     start_new_session=True)  # fmt: skip
        try:
            for event in _events(child, begun + row.limit_sec):
                _keep(result, event, sites, progress)
            code = _ended(child, begun + row.limit_sec + GRACE_SEC)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for site in sites:
                leftovers.end(site)
        if code is None:
            result.broken_off = f"it took over {row.limit_sec} s"
        elif code and not result.broken_off:
            lines = log.read_text(errors="replace").strip().splitlines()
            result.broken_off = f"an error: {lines[-1] if lines else f'exit code {code}'}"[:400]
    result.seconds = round(time.monotonic() - begun, 1)
    return result


def _events(child: subprocess.Popen[bytes], end: float) -> Any:
    """Yield what the row tells, until it closes its output or its time is over."""
    assert child.stdout is not None
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if not selector.select(left):
                return
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            yield from map(json.loads, lines)


def _ended(child: subprocess.Popen[bytes], end: float) -> int | None:
    """Return the exit code of a row that has closed its output; None for one whose time is over."""
    if time.monotonic() >= end - GRACE_SEC:
        return child.poll()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(GRACE_SEC)
    return None


def _keep(result: Result, event: dict[str, Any], sites: list[testbed.Site], progress: Callable[[str], None]) -> None:
    """Add one event to the result."""
    (kind, value), *_ = event.items()
    if kind == "step":
        progress(value)
    elif kind == "measure":
        result.add(msgspec.convert(value, Measure))
    elif kind == "skipped":
        result.skipped.append(msgspec.convert(value, Skipped))
    elif kind == "site":
        sites.append(testbed.Site(**value))
    elif kind == "broken_off":
        result.broken_off = value
    else:
        getattr(result, kind).update(value)


def commit() -> str:
    """The commit that is measured, marked where the tree has changes beside the results themselves."""
    said = _git("describe", "--always")
    own = [f":(exclude)benchmarks/{path.name}" for path in (RESULTS, PAGE)]
    return f"{said}-dirty" if said and _git("status", "--porcelain", "-uno", "--", ".", *own) else said


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> dict[str, str]:
    """What the machine is, in a few words."""
    model = _first_line("/proc/cpuinfo", "model name").partition(":")[2].strip()
    memory = int((_first_line("/proc/meminfo", "MemTotal").split() or ["", "0"])[1]) >> 20
    return {"cores": str(os.cpu_count()), "CPU": model or platform.machine(), "memory": f"{memory} GiB",
            "kernel": platform.release(), "Python": platform.python_version()}  # fmt: skip


def _first_line(path: str, word: str) -> str:
    with contextlib.suppress(OSError), open(path) as handle:  # noqa: PTH123
        return next((line for line in handle if line.startswith(word)), "")
    return ""
