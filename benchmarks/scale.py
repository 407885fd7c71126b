"""Cost at large task counts against the budgets, in one run on this machine; no scheduler is asked.

    python benchmarks/scale.py

Plan a million tasks (2 s, 200 MB, sidecar under 64 KB); status of 100,000 recorded tasks, first and unchanged (0.5 s,
10 KB of JSON);
recovery of 4,000 failures among 8,000 tasks, no two of them neighbours: decision, a look while they are queued again, one after
they were lost (5 s);
the dispatcher's overhead for a task (60 ms alone, 2 ms packed): a shell command that does nothing, and a registered
function whose file imports a library, beside a bare interpreter and one that imports the library.
"""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpc_agent.experiment.writing.tasks_file import CLI_SOURCE
from hpc_agent.infra.backends import get_backend
from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.remote import runtime_files
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, compute_submission_plan
from hpc_agent.node.look.run_status import RunStatus
from hpc_agent.node.schedulers.base import AccountingRow, QueueRow
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.node.shared.task_environment import digest
from hpc_agent.node.submission.resubmission import _decide
from hpc_agent.node.why.answers import with_causes

RECORDED, PACKED, SCATTERED = 100_000, 200, 4_000
LIBRARY = "asyncio.events, email.message, http.client, xml.dom.minidom, sqlite3, unittest.mock, decimal"
FUNCTION = f"import {LIBRARY}\n\n\ndef f(x):\n    return {{'x': x}}\n"


def report(what: str, seconds: float, budget: float, note: str = "") -> None:
    verdict = "ok" if seconds <= budget else "OVER"
    print(f"{what:<44} {seconds * 1000:9.1f} ms   budget {budget * 1000:7.0f} ms {verdict}   {note}")


def plan() -> None:
    begun = time.perf_counter()
    made = compute_submission_plan(WorkloadSpec(total_tasks=1_000_000, est_task_sec=60), parse_constraints({}))
    size = len(json.dumps(build_wave_map(made)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    report(
        "plan 1,000,000 tasks",
        time.perf_counter() - begun,
        2.0,
        f"{len(made.arrays)} arrays, wave map {size} B, peak {peak} MiB",
    )


def deployed(root: Path, run_id: str, tasks: int, pack: int, executor: str, **env: str) -> RunFolder:
    """A run's folder as a submission leaves it, without a scheduler."""
    folder = RunFolder(str(root / "runs" / run_id))
    for name, text in runtime_files(get_backend("local")).items():
        path = Path(folder.work) / ".hpc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = f"FLAGS = {{'f.py:f': []}}\ndef total(): return {tasks}\ndef resolve(i): return {{'x': i}}\n"
    shutil.copy(CLI_SOURCE, Path(folder.work) / ".hpc" / "cli.py")
    (Path(folder.work) / "f.py").write_text(FUNCTION)
    (Path(folder.work) / ".hpc" / "tasks.py").write_text(source)
    document = {
        "run_id": run_id, "task_count": tasks, "cmd_sha": "0", "executor": executor, "result_dir_template": "results/{task_id}",
        "scheduler": "local", "resources": {"cpus": 1}, "env": env,
    }  # fmt: skip
    Path(folder.digests).write_bytes(b"".join(digest({"x": i}) for i in range(tasks)))
    write_json(folder.document, document)
    make_folder(folder.jobs)
    entry = {
        "array": "a0",
        "tasks": f"0-{tasks - 1}",
        "pack": pack,
        "elements": -(-tasks // pack),
        "wave": 0,
        "generation": 1,
    }
    write_json(folder.job("a0"), {**entry, "state": "submitted", "job_id": "1", "at": time.time()})
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder.work], check=True)
    return folder


def status(root: Path) -> None:
    folder = deployed(root, "big", RECORDED, 1, "true")
    for task in range(RECORDED):
        path = Path(folder.record(task))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"task": task, "state": "complete", "generation": 1, "seconds": 1.0}))
    time.sleep(3.5)
    launcher = f"{folder.work}/.hpc/_hpc_dispatch.py"
    request = json.dumps({"root": str(root), "run_id": "big", "site": {"local_state": str(root / "none")}})
    for what, budget in (("status of 100,000 tasks, first", 30.0), ("status of 100,000 tasks, unchanged", 0.5)):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, launcher, "report", "n"], input=request, capture_output=True, text=True, check=True
        )
        report(what, time.perf_counter() - begun, budget, f"{len(done.stdout)} B of JSON")


class Answers:
    """A scheduler that says what it is told to."""

    def __init__(self) -> None:
        self.rows: list[QueueRow] = []
        self.ended: list[AccountingRow] = []

    def queue(self, _jobs: list[str]) -> list[QueueRow]:
        return self.rows

    def accounting(self, _jobs: list[str], _since: float) -> list[AccountingRow]:
        return self.ended


def scattered(root: Path) -> None:
    folder, scheduler = deployed(root, "scattered", 2 * SCATTERED, 1, "true"), Answers()
    for task in range(2 * SCATTERED):
        failed = {"state": "failed", "cause": "out_of_memory", "job": "1", "element": task, "array": "a0", "attempt": 1}
        record = {"task": task, "generation": 1, **(failed if task % 2 else {"state": "complete"})}
        for path, text in ((folder.record(task), json.dumps(record)), (folder.log(task, 1), "MemoryError\n")):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
    make_folder(folder.scheduler_logs)
    for task in range(2 * SCATTERED):
        Path(folder.scheduler_logs, f"r.a0.o1.{task + 1}").write_text("\n")
    begun = time.perf_counter()
    request = {"request_id": "q", "job_prefix": "r.", "max_array_size": 2 * SCATTERED}
    (array,) = _decide(folder, scheduler, request)["arrays"]  # type: ignore[arg-type]
    write_json(folder.job(array["array"]), {**array, "job_id": "2", "state": "submitted", "at": 1.0})
    scheduler.rows = [QueueRow("2", str(one), "running", "", "R", name=array["name"]) for one in range(SCATTERED)]
    RunStatus(folder, {}, scheduler).save()
    scheduler.rows = []
    scheduler.ended = [AccountingRow("2", one, "out_of_memory", "OUT_OF_MEMORY") for one in range(SCATTERED)]
    with_causes(RunStatus(folder, {}, scheduler))
    report(f"recovery of {SCATTERED:,} scattered failures", time.perf_counter() - begun, 5.0)


def interpreter(code: str) -> float:
    """Seconds of a bare interpreter that does this."""
    begun = time.perf_counter()
    for _ in range(10):
        subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - begun) / 10


def overhead(root: Path) -> None:
    env = {**os.environ, "HPC_ARRAY": "a0", "HPC_ELEMENT": "0", "HPC_JOB_ID": "1"}
    bare, library = interpreter("pass"), interpreter(f"import {LIBRARY}")
    print(f"an interpreter {bare * 1000:.0f} ms, with {LIBRARY} {library * 1000:.0f} ms")
    function = f"{shlex.quote(sys.executable)} .hpc/cli.py"
    for what, run_id, tasks, pack, budget, executor, switch in (
        ("command, alone", "one", 10, 1, 0.06, "exit 0", {}),
        ("command, packed", "many", PACKED, PACKED, 0.002, "exit 0", {}),
        ("function, alone", "f-one", 10, 1, 0.06 + library, function, {}),
        ("function, packed, each by itself", "f-exec", 20, 20, 0.06 + library, function, {"HPC_NO_FORK": "1"}),
        ("function, packed", "f-many", PACKED, PACKED, 0.002, function, {}),
    ):
        folder = deployed(root, run_id, tasks, pack, executor, **switch)
        launcher = f"{folder.work}/.hpc/_hpc_dispatch.py"
        begun = time.perf_counter()
        for element in range(tasks // pack):
            run_env = {**env, "HPC_RUN_DIR": folder.path, "HPC_ELEMENT": str(element)}
            subprocess.run([sys.executable, launcher, "task"], env=run_env, check=True)
        each = (time.perf_counter() - begun) / tasks
        report(what, each, budget, f"{each / bare:.1f}x a bare interpreter")


def main() -> None:
    plan()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hpc-agent" / "bench"
        overhead(root)
        status(root)
        scattered(root)


if __name__ == "__main__":
    main()
