"""Records that come late, clocks that are wrong, and a laptop that slept for a day."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time

from fault_bench import Bench, until
from faults import SCHEDULERS, Outcome, fault

LATE_SEC = 20.0
# A machine that slept for a day: the wall clock is a day on, the monotonic clock is not. libfaketime cannot do that: with the
# real monotonic clock, it breaks sleeps that have an absolute end.
SLEPT = """
import os, time
wall = time.time
time.time = lambda: wall() + 86400 * os.path.exists(os.environ["SLEPT_FILE"])
"""


def late_record(bench: Bench, *, path: str, flags: tuple[str, ...] = ()) -> Outcome:
    """As on a file server whose clients lag: neither complete nor failed meanwhile."""
    exp = bench.experiment(middle="sleep 1", flags=flags)
    bench.submit_until(exp)
    if not until(lambda: bench.there(exp, path), 40, 0.005):
        bench.found.wrong.append("no record to hold back: this try proves nothing")
        return bench.judge(exp)
    [record] = bench.there(exp, path)
    away = bench.scratch / "seen" / "held-back"
    record.rename(away)
    end = time.monotonic() + LATE_SEC
    while time.monotonic() < end:
        state = bench.status(exp).data.get("lifecycle_state")
        if state != "in_flight":
            bench.found.wrong.append(f"without the record of task 2 the run is {state}")
        time.sleep(2)
    away.rename(record)
    return bench.judge(exp)


fault("a task's record appears twenty seconds late", tries=2)(
    functools.partial(late_record, path="runs/*/tasks/00000/2.json")
)
fault("the records of a packed element appear twenty seconds late", tries=2)(
    functools.partial(late_record, path="runs/*/elements/a0/00000/1.rec", flags=("--pack", "2"))
)


def skewed(minutes: int, bench: Bench) -> Outcome:
    """The client's clock is wrong, the cluster's is right; killed between, so that a look-up by time is needed too."""
    if not shutil.which("faketime"):
        bench.found.wrong.append("faketime is not installed: sudo testbed/up")
        return bench.found
    clock = ("faketime", "-f", f"{minutes:+d}m")
    exp = bench.experiment(middle="sleep 1")
    if not bench.submit(exp, before=clock).ok:
        bench.found.wrong.append(f"submit failed with a clock that is {minutes} minutes off: {exp.calls}")
    bench.call(exp, "status", before=clock)
    bench.call(exp, "monitor-flow", "--wall-clock-budget-seconds", "30", before=clock)
    return bench.judge(exp)


for _minutes in (7, -7):
    fault(f"the client's clock is {_minutes:+d} minutes off", tries=3, in_tests=_minutes < 0)(
        functools.partial(skewed, _minutes)
    )


def asleep(bench: Bench, *, a_day: bool) -> Outcome:
    """A laptop is closed in the middle of monitor-flow and opened when the run is over: the watch ends with the truth."""
    gate = bench.scratch / "seen" / "awake"
    exp = bench.experiment(middle=f"while [ ! -e {gate} ]; do sleep 0.2; done")
    bench.submit_until(exp)
    (bench.folder / "sitecustomize.py").write_text(SLEPT)
    paths = [str(bench.folder), *filter(None, [bench.env.get("PYTHONPATH")])]
    slept = {"PYTHONPATH": os.pathsep.join(paths), "SLEPT_FILE": str(bench.folder / "slept")}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        client = bench.client(exp, "monitor-flow", env=slept if a_day else None, stdout=out, stderr=err)
        if not until(lambda: b'"event":"status"' in os.pread(err.fileno(), 1 << 16, 0), 60):
            bench.found.wrong.append("the watch never looked: this try proves nothing")
        os.kill(client.pid, signal.SIGSTOP)
        gate.touch()
        until(lambda: exp.done == exp.tasks, 30)
        time.sleep(1)
        (bench.folder / "slept").touch()
        os.kill(client.pid, signal.SIGCONT)
        try:
            code = client.wait(60)
        except subprocess.TimeoutExpired:
            code = None
        out.seek(0)
        err.seek(0)
        answer = bench.checked(exp, "monitor-flow", code, out.read().decode(), err.read().decode(errors="replace"))
    if answer.data.get("lifecycle_state") != "complete":
        bench.found.wrong.append(f"the watch ended with {answer}")
    return bench.judge(exp)


fault("the client sleeps in the middle of monitor-flow", tries=3, in_tests=False)(
    functools.partial(asleep, a_day=False)
)
fault("the client sleeps for a day in the middle of monitor-flow", SCHEDULERS, tries=3)(
    functools.partial(asleep, a_day=True)
)
