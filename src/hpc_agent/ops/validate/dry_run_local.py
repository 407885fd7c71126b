"""``dry-run-local``: run a few tasks of the frozen run on this machine, with the run's own runtime."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.infra.remote import LAUNCHER, runtime_files
from hpc_agent.node.shared.files import write_json
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.node.shared.run_folder import LAYOUT, RunFolder
from hpc_agent.node.shared.task_record import TaskRecord
from hpc_agent.node.shared.task_records import Records
from hpc_agent.ops.run.checks import Finding, Severity, ValidationResult, result_of
from hpc_agent.ops.run.fields import EXAMPLE_EXECUTOR, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, FrozenRun, freeze
from hpc_agent.ops.run.run_request import RunRequest
from hpc_agent.world import World

VALIDATOR = "dry-run-local"
KEPT = ("kwargs", "seconds", "max_rss_mb", "exit_code", "metrics", "metrics_left_out")


class DryRunLocalRequest(RunRequest, kw_only=True):
    """The fields of submit that identify a run, the tasks to run, and their time limit."""

    cluster: Annotated[str, doc("name in clusters.yaml; the tasks run here")] = "local"
    task_ids: Annotated[list[int], doc("tasks to run; the first, the middle and the last by default")] = []
    timeout_sec: Annotated[float, doc("limit for all of them together", gt=0, le=86400)] = 120.0


@primitive(
    stage="validate",
    effects=[Effect.FILES],
    errors=FREEZE_ERRORS,
    progress=True,
    brief="try some tasks here",
    example={"executor": EXAMPLE_EXECUTOR, "task_ids": [0]},
    next_verbs=["submit"],
)
def dry_run_local(request: DryRunLocalRequest, world: World) -> ValidationResult:
    """Run the first, the middle and the last task here, in a frozen copy of the repo, and report their ends.

    The copy holds exactly the files of a push, so a missing file shows here and not on the cluster. The call fails when a
    task fails, with the end of the task's log. Submits nothing.
    """
    with freeze(world, request) as frozen:
        return result_of(try_tasks(frozen, request.task_ids, request.timeout_sec, world))


def try_tasks(frozen: FrozenRun, task_ids: list[int], timeout_sec: float, world: World) -> list[Finding]:
    """Run these tasks (by default first, middle, last) in a temporary folder, and return findings."""
    total = frozen.tasks.total
    tasks = sorted(set(task_ids)) or sorted({0, total // 2, total - 1})
    if tasks[-1] >= total or tasks[0] < 0:
        message = f"there is no task {tasks[-1]}: the run has tasks 0 to {total - 1}"
        remedy = "Correct --task-ids, then run 'hpc-agent dry-run-local' again."
        raise SpecInvalid(message, field="task_ids", remediation=remedy)
    world.progress.update("trying", tasks=len(tasks))
    with tempfile.TemporaryDirectory(prefix="hpc-agent-dry-") as place:
        folder = RunFolder(str(Path(place) / "hpc-agent" / frozen.repo.remote_name / "runs" / "dry"))
        _assemble(folder, frozen, tasks)
        started = time.monotonic()
        stderr = _run(folder, timeout_sec, world)
        reader, seconds = Records(folder), time.monotonic() - started
        return [_finding(reader.read(task), task, stderr, seconds, timeout_sec) for task in tasks]


def _assemble(folder: RunFolder, frozen: FrozenRun, tasks: list[int]) -> None:
    """Write the run's folder as on the cluster: work folder, document, digests, one array."""
    request, work = frozen.request, Path(folder.work)
    runtime = {f".hpc/{name}": text for name, text in runtime_files(frozen.node.backend).items()}
    for name in (*(entry[1] for entry in frozen.tree.entries), *frozen.shared, *runtime):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
    for kind, name, *facts in frozen.tree.entries:
        if kind == "l":
            (work / name).symlink_to(facts[0])
        else:
            shutil.copyfile(frozen.tree.root / name, work / name)
            (work / name).chmod(0o755 if facts[1] else 0o644)
    for name in frozen.shared:
        (work / name).symlink_to(frozen.repo.root / name)
    for name, text in runtime.items():
        (work / name).write_text(text, encoding="utf-8")
    for name in request.outputs:
        (work / name).mkdir(parents=True, exist_ok=True)
    document = {
        "run_id": "dry",
        "executor": request.executor,
        "result_dir_template": request.result_dir_template,
        "task_count": frozen.tasks.total,
        "cmd_sha": frozen.tasks.cmd_sha,
        "env": request.env,
        "results": msgspec.to_builtins(request.results),
        "resources": {"cpus": 1},
        "inline_tasks": request.tasks is not None,
        "layout": LAYOUT,
    }
    array = {"array": "a0", "generation": 1, "tasks": encode_ranges(tasks), "pack": len(tasks)}
    Path(folder.jobs).mkdir(parents=True)
    write_json(folder.document, document)
    write_json(folder.job("a0"), array)
    Path(folder.digests).write_bytes(zlib.decompress(base64.b64decode(frozen.tasks.digests())))
    if request.tasks is not None:
        shutil.copyfile(frozen.tasks.path, folder.given_tasks)


def _run(folder: RunFolder, timeout_sec: float, world: World) -> str:
    """Start the dispatcher as a job template does. Return the end of its standard error."""
    env = {**world.env, "HPC_RUN_DIR": folder.path, "HPC_ARRAY": "a0", "HPC_ELEMENT": "0", "HPC_JOB_ID": "dry"}
    command = [sys.executable, f"{folder.work}/.hpc/{LAUNCHER}", "task"]
    child = Popen(command, cwd=folder.work, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True)
    try:
        _, stderr = child.communicate(timeout=timeout_sec)
    except TimeoutExpired:
        # The dispatcher passes SIGTERM to the executor's process group, waits for its grace, and ends.
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutExpired):
            child.wait(15)
        end_group(child)
        _, stderr = child.communicate()
    return stderr.decode(errors="replace")[-2000:]


def _finding(record: TaskRecord | None, task: int, stderr: str, seconds: float, timeout_sec: float) -> Finding:
    """Return the finding about one task's record."""

    def finding(severity: Severity, code: str, message: str, fix: str = "", **facts: Any) -> Finding:
        return Finding(VALIDATOR, severity, code, f"task {task}{message}", fix, {"task": task, **facts})

    if record is None or record.cause == "terminated":
        if seconds >= timeout_sec:
            message = f" had not ended after {timeout_sec:.0f} s; that may be right for a long task"
            return finding("warning", "not_ended", message, "Allow more with --timeout-sec.")
        return finding("error", "no_record", " left no record", "Read the evidence.", stderr=stderr)
    facts = {name: value for name in KEPT if (value := getattr(record, name)) is not None}
    if record.state != "complete":
        fix = "Correct what its log says; then run 'hpc-agent dry-run-local' again."
        return finding("error", "task_failed", f" failed: {record.message}", fix, **facts, log_tail=record.log_tail)
    if record.metrics_problem:
        return finding("warning", "metrics_unreadable", f": {record.metrics_problem}", **facts)
    if record.metrics_left_out:
        first = record.metrics_left_out[0]
        message = f": metric {first['field']} ({first['value']}) {first['message']}"
        return finding("warning", "metrics_left_out", message, **facts)
    if not record.metrics:
        fix = "Write a dict of numbers to $HPC_RESULT_DIR/metrics.json."
        message = " ended well but wrote no metrics: the table will have none"
        return finding("warning", "no_metrics", message, fix, **facts)
    return finding("info", "task_complete", f" ended well in {record.seconds or 0.0:.1f} s", **facts)
