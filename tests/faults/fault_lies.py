"""sbatch and qsub that lie once: wrappers stand first on the cluster side's PATH, through ``shell_init``."""

from __future__ import annotations

import functools
import shutil
import time

from fault_bench import COMMAND_LIMIT_SEC, Bench
from faults import Outcome, fault

# A lie happens once; from then on the wrapper is the tool itself.
ONCE = """#!/bin/bash
real={real}
mkdir {marker} 2>/dev/null || exec "$real" "$@"
{lie}
"""
TIMED_OUT = {
    "slurm": "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sge": 'error: commlib error: got read error (closing "node/qmaster/1")\nUnable to run job: failed receiving gdi '
    "request response for mid=1 (got no response)..\nExiting.",
}
REFUSED = {
    "slurm": "sbatch: error: Batch job submission failed: Requested node configuration is not available",
    "sge": "Unable to run job: job rejected: the requested project does not exist.\nExiting.",
}
STRANGE = {"slurm": "sbatch: error: plugin prolog said: 42", "sge": "jsv: 42"}


def wrap(bench: Bench, tool: str, lie: str, template: str = ONCE) -> None:
    """Put a wrapper of a scheduler's tool in place; ``$real`` is the tool itself."""
    path = bench.lies / tool
    real, marker = shutil.which(tool), bench.lies / f"told-{tool}"
    path.write_text(template.format(real=real, marker=marker, lie=lie))
    path.chmod(0o755)


def submitter(bench: Bench) -> str:
    return "sbatch" if bench.slurm else "qsub"


def told(bench: Bench, lie: str, jobs: int = 1) -> Outcome:
    """Submit through the lie as often as it takes, and judge."""
    wrap(bench, submitter(bench), lie)
    exp = bench.experiment()
    bench.submit_until(exp)
    if not (bench.lies / f"told-{submitter(bench)}").exists():
        bench.found.wrong.append("the wrapper was never asked: this try proves nothing")
    return bench.judge(exp, jobs=jobs)


def saying(words: dict[str, str], bench: Bench, *, accepted: bool, code: int = 1) -> Outcome:
    """A message and an exit code, after the tool did its work or without it."""
    work = '"$real" "$@" >/dev/null 2>&1\n' if accepted else ""
    text = words["slurm" if bench.slurm else "sge"]
    return told(bench, f"{work}cat >&2 <<'END'\n{text}\nEND\nexit {code}")


for _name, _words in (("a time-out", TIMED_OUT), ("a plain refusal", REFUSED), ("something strange", STRANGE)):
    fault(f"submission tool exits 1 with {_name} though it accepted", tries=10)(
        functools.partial(saying, _words, accepted=True)
    )
    fault(f"submission tool exits 1 with {_name} and did nothing", tries=5, in_tests="time-out" in _name)(
        functools.partial(saying, _words, accepted=False)
    )


@fault("submission tool is silent with exit 0 though it accepted", tries=5)
def silent(bench: Bench) -> Outcome:
    return told(bench, '"$real" "$@" >/dev/null 2>&1')


@fault("submission tool prints banners around the id", tries=5, in_tests=False)
def banners(bench: Bench) -> Outcome:
    noise = "echo '*** 12 nodes are down ***'; echo 4711 jobs are queued; echo welcome >&2"
    return told(bench, f'{noise}\n"$real" "$@"\ncode=$?\n{noise}\nexit $code')


@fault("submission tool prints a foreign number beside the id", tries=5)
def two_numbers(bench: Bench) -> Outcome:
    return told(bench, 'echo 4711\n"$real" "$@"')


@fault("submission tool hangs and does nothing", tries=3, in_tests=False)
def hangs_before(bench: Bench) -> Outcome:
    return told(bench, "sleep 75\nexit 1")


@fault("submission tool accepted, then hangs", tries=3)
def hangs_after(bench: Bench) -> Outcome:
    return told(bench, '"$real" "$@" >/dev/null 2>&1\nsleep 75\nexit 1')


@fault("submission tool hangs past its limit, accepted a second later", tries=3, in_tests=False)
def accepted_a_second_late(bench: Bench) -> Outcome:
    detached = (
        f'setsid -f bash -c \'sleep {COMMAND_LIMIT_SEC + 1}; exec "$@"\' - "$real" "$@" >/dev/null 2>&1 </dev/null'
    )
    return told(bench, f"{detached}\nsleep 75\nexit 1")


@fault(
    "submission tool hangs past its limit, accepted after the look-up: two jobs, no task twice", tries=2, in_tests=False
)
def accepted_too_late(bench: Bench) -> Outcome:
    """Nobody can know of a job that is accepted a quarter of a minute later. The claims keep its tasks from running twice."""
    begun = time.monotonic()
    wait = COMMAND_LIMIT_SEC + 12
    detached = f'setsid -f bash -c \'sleep {wait}; exec "$@"\' - "$real" "$@" >/dev/null 2>&1 </dev/null'
    wrap(bench, submitter(bench), f"{detached}\nsleep 75\nexit 1")
    exp = bench.experiment(middle="sleep 2")
    bench.submit_until(exp)
    time.sleep(max(0.0, wait + 6 - (time.monotonic() - begun)))
    return bench.judge(exp, jobs=2)


for _signal in ("TERM", "KILL", "SEGV"):
    fault(f"submission tool dies by SIG{_signal} before it accepted", tries=3, in_tests=False)(
        functools.partial(told, lie=f"kill -{_signal} $$")
    )
    fault(f"submission tool dies by SIG{_signal} after it accepted", tries=5, in_tests=_signal == "KILL")(
        functools.partial(told, lie=f'"$real" "$@" >/dev/null 2>&1\nkill -{_signal} $$')
    )
