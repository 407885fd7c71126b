"""300 tasks that fail in every way at once: each is named rightly, what can be mended is, nothing finished runs again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from experiment import make_repo, submit

pytestmark = pytest.mark.usefixtures("clusters_file")
TASKS = 300
MEMORY, TIME, RAISES, NODE, DELETED = range(40, 45), range(1, 4), (60, 61), 0, 298
# Walltime, just below it, and above it but below its double. SLURM looks twice a minute only.
WALLTIME, LONG, TOO_LONG = 60, 57, 110
GRID_ENGINE = {**os.environ, "SGE_ROOT": "/var/lib/gridengine", "SGE_CELL": "default"}
TESTBED = Path(__file__).parents[2] / "testbed"

EXECUTOR = """
import json, os, sys, time
mode, attempt, task = os.environ["MODE"], int(os.environ["HPC_ATTEMPT"]), os.environ["HPC_TASK_ID"]
with open(os.environ["WITNESS"], "a") as witness:
    witness.write("begin %s %d\\n" % (task, attempt))
if mode == "memory":
    block = b"x" * (95 << 20)
elif mode == "time":
    time.sleep(float(os.environ["TOO_LONG"]))
elif mode == "raises":
    raise ValueError("horizon %s is not in the index" % task)
elif mode in ("node", "deleted") and attempt == 1:
    time.sleep(float(os.environ["LONG"]))
json.dump({"y": int(task)}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
with open(os.environ["WITNESS"], "a") as witness:
    witness.write("end %s %d\\n" % (task, attempt))
"""


def mode(task):
    if task in MEMORY:
        return "memory"
    if task in TIME:
        return "time"
    if task in RAISES:
        return "raises"
    return {NODE: "node", DELETED: "deleted"}.get(task, "fine")


@pytest.mark.slow(reason="300 tasks, of which some exceed a walltime of a minute and run again with more")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh"], indirect=True)
def test_each_is_named_and_the_fixable_are_mended(site, run_cli, tmp_path):
    witness = site.scratch / "witness"
    witness.touch()
    witness.chmod(0o666)
    common = {"witness": str(witness), "long": LONG, "too_long": TOO_LONG}
    tasks = [{"mode": mode(task), **common} for task in range(TASKS)]
    repo = make_repo(tmp_path / "repo", tasks, **{"work.py": EXECUTOR})
    flags = ["--walltime-sec", str(WALLTIME), "--mem-mb", "64", "--max-running", "1"]
    flags += ["--extra-flags=--no-requeue"] if site.scheduler == "slurm" else []
    sent = submit(run_cli, repo, "/usr/bin/python3 work.py", *flags)
    job = sent["job_ids"][0]
    # The node dies under its one task; then the throttle is opened for all the others.
    _wait_for(lambda: _began(witness, NODE), 60)
    with _lost_node(site, sent["remote_path"], NODE):
        _wait_until(run_cli, repo, 180, lambda counts: counts["failed"] == 1)
    site.run(*_open_throttle(site, job))
    _wait_for(lambda: _began(witness, DELETED), 600)  # a busy machine starts two elements a second
    site.run(*(["scancel", f"{job}_{DELETED}"] if site.scheduler == "slurm" else ["qdel", f"{job}.{DELETED + 1}"]))
    _wait_until(run_cli, repo, 480, lambda counts: counts["failed"] == 12 and counts["complete"] == TASKS - 12)
    failures = run_cli("failures", "--full", cwd=repo).data
    named = {cluster["class"]: cluster["tasks"] for cluster in failures["clusters"]}
    assert named == {
        "out_of_memory": "40-44", "walltime": "1-3", "code_error": "60-61", "node_failure": "0", "cancelled": "298"
    }, failures  # fmt: skip
    raising = next(cluster for cluster in failures["clusters"] if cluster["class"] == "code_error")
    assert (raising["sample"]["exception"], raising["sample"]["frame"]) == ("ValueError", "work.py:11 in <module>")
    assert (raising["count"], raising["confidence"]) == (2, "certain")

    ended = run_cli("monitor-flow", "--auto-resubmit", "--wall-clock-budget-seconds", "400", cwd=repo, timeout=460).data
    assert (ended["lifecycle_state"], ended["resubmitted"]) == ("failed", 9), ended
    assert {name: ended["last_status"][name] for name in ("complete", "failed")} == {"complete": 297, "failed": 3}
    assert {blocked["class"]: blocked["tasks"] for blocked in ended["blocked"]} == {
        "code_error": "60-61", "cancelled": "298"
    }  # fmt: skip
    begun = Counter(line.split()[1] for line in witness.read_text().splitlines() if line.startswith("begin"))
    again = {str(task) for task in (*MEMORY, *TIME, NODE)}
    assert {task for task, times in begun.items() if times > 1} == again
    assert max(begun.values()) == 2
    assert len(begun) == TASKS


def _began(witness, *tasks):
    return {f"begin {task} 1" for task in tasks} <= set(witness.read_text().splitlines())


def _wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.5)


def _open_throttle(site, job):
    if site.scheduler == "slurm":
        return ["scontrol", "update", f"JobId={job}", "ArrayTaskThrottle=0"]
    return ["qalter", "-tc", str(TASKS), job]


def _wait_until(run_cli, repo, seconds, reached):
    def there():
        # What an administrator does: a task that lost its shepherd leaves the queue in error.
        subprocess.run(["qmod", "-cq", "all.q"], env=GRID_ENGINE, capture_output=True, timeout=20, check=False)
        latest.update(run_cli("status", cwd=repo).data)
        return reached(latest["last_status"])

    latest = {}
    try:
        _wait_for(there, seconds)
    except AssertionError as error:
        raise AssertionError(f"{latest}\n{run_cli('failures', cwd=repo).envelope}") from error


@contextlib.contextmanager
def _lost_node(site, run_path, element):
    """The daemon of the task's node dies, and with it the task and what watches over it; then the daemon comes back."""
    dispatcher, executors = _processes(run_path, element)
    keeper = int(Path(f"/proc/{dispatcher}/stat").read_text().rpartition(")")[2].split()[1])
    if site.scheduler == "slurm":
        environment = Path(f"/proc/{dispatcher}/environ").read_bytes().split(b"\0")
        node = next(word.partition(b"=")[2].decode() for word in environment if word.startswith(b"SLURMD_NODENAME="))
        daemons = subprocess.run(
            ["pgrep", "-f", f"slurmd.*-N *{node}( |$)"], capture_output=True, text=True, check=True
        )
        daemon = [int(pid) for pid in daemons.stdout.split()]
    else:
        daemon = [int(subprocess.run(["pgrep", "-x", "sge_execd"], capture_output=True, text=True, check=True).stdout)]
    for pid in (*daemon, keeper, dispatcher, *executors):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if site.scheduler == "sge":
        subprocess.run([TESTBED / "sge-up"], capture_output=True, timeout=120, check=True)
    try:
        yield
    finally:
        up = TESTBED / ("slurm-up" if site.scheduler == "slurm" else "sge-up")
        subprocess.run([up], capture_output=True, timeout=180, check=True)


def _processes(run_path, element):
    """The dispatcher of an element of the run, and what it has started."""
    wanted = {b"HPC_RUN_DIR=" + str(run_path).encode(), b"HPC_ELEMENT=%d" % element}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.append((int(folder.name), (folder / "cmdline").read_bytes()))
    dispatchers = [pid for pid, command in found if b"_hpc_dispatch.py" in command]
    return dispatchers[0], [pid for pid, _ in found if pid not in dispatchers]
