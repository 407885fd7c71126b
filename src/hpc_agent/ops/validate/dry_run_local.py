"""``dry-run-local``: a few tasks of the frozen run, really run on this machine by the run's own runtime."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.child_process import end_group
from hpc_agent.infra.remote import LAUNCHER, runtime_files
from hpc_agent.node.look import records
from hpc_agent.node.shared.files import write_json
from hpc_agent.node.shared.ranges import encode_ranges
from hpc_agent.node.shared.run_folder import RunFolder
from hpc_agent.ops.submit.freeze import Frozen, freeze
from hpc_agent.ops.submit.spec import RunRequest
from hpc_agent.ops.validate.findings import Finding, ValidationResult, result_of
from hpc_agent.world import World

VALIDATOR = "dry-run-local"


class DryRunLocalRequest(RunRequest, kw_only=True):
    """The fields of submit that make a run what it is, and how long to try."""

    cluster: Annotated[str, Meta(description="name in clusters.yaml; the tasks run here all the same")] = "local"
    task_ids: Annotated[list[int], Meta(description="tasks to run; the first, the middle and the last by default")] = (
        field(default_factory=list)
    )
    timeout_sec: Annotated[float, Meta(gt=0, le=86400, description="limit for all of them together")] = 120.0


@primitive(
    stage="validate",
    effects=[Effect.FILES],
    errors=[SpecInvalid, ExecutorNotFound, ClusterUnknown, ConfigInvalid],
    progress=True,
)
def dry_run_local(request: DryRunLocalRequest, world: World) -> ValidationResult:
    """Run the first, the middle and the last task here, in a frozen copy of the repo, and say how they ended.

    The copy holds what would be pushed and nothing else, so a file that is left out is missed here and not on the cluster. A
    task that fails makes the call fail, with the end of its log. Nothing is submitted or remembered.
    """
    with freeze(world, request) as frozen:
        return result_of(try_tasks(frozen, request, request.task_ids, request.timeout_sec, world))


def try_tasks(
    frozen: Frozen, request: RunRequest, task_ids: list[int], timeout_sec: float, world: World
) -> list[Finding]:
    """Findings of running these tasks (by default first, middle, last) in a folder that is removed again."""
    total = frozen.tasks.total
    tasks = sorted(set(task_ids)) or sorted({0, total // 2, total - 1})
    if tasks[-1] >= total or tasks[0] < 0:
        raise SpecInvalid(
            f"there is no task {tasks[-1]}: the run has tasks 0 to {total - 1}",
            field="task_ids",
            remediation="Correct --task-ids, then run 'hpc-agent dry-run-local' again.",
        )
    world.progress.update("trying", tasks=len(tasks))
    with tempfile.TemporaryDirectory(prefix="hpc-agent-dry-") as place:
        folder = RunFolder(str(Path(place) / "hpc-agent" / frozen.repo.remote_name / "runs" / "dry"))
        _assemble(folder, frozen, request, tasks)
        started = time.monotonic()
        noise = _run(folder, timeout_sec, world)
        return [_finding(folder, task, noise, time.monotonic() - started, timeout_sec) for task in tasks]


def _assemble(folder: RunFolder, frozen: Frozen, request: RunRequest, tasks: list[int]) -> None:
    """The run's folder as the cluster would have it: work folder, document, digests, one array."""
    work = Path(folder.work)
    for entry in frozen.tree.entries:
        target = work / entry[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry[0] == "l":
            target.symlink_to(entry[2])
        else:
            shutil.copyfile(frozen.tree.root / entry[1], target)
            target.chmod(0o755 if entry[3] else 0o644)
    for name in frozen.shared:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).symlink_to(frozen.repo.root / name)
    for name, text in runtime_files(frozen.node.backend).items():
        target = work / ".hpc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
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
    }
    array = {"array": "a0", "generation": 1, "tasks": encode_ranges(tasks), "pack": len(tasks)}
    Path(folder.jobs).mkdir(parents=True)
    write_json(folder.document, document)
    write_json(folder.job("a0"), array)
    Path(folder.digests).write_bytes(zlib.decompress(base64.b64decode(frozen.tasks.digests())))


def _run(folder: RunFolder, timeout_sec: float, world: World) -> str:
    """Start the dispatcher as a job template does; what it said on stderr."""
    env = {**world.env, "HPC_RUN_DIR": folder.path, "HPC_ARRAY": "a0", "HPC_ELEMENT": "0", "HPC_JOB_ID": "dry"}
    child = subprocess.Popen(
        [sys.executable, str(Path(folder.work) / ".hpc" / LAUNCHER), "task"],
        cwd=folder.work,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, noise = child.communicate(timeout=timeout_sec)
    except subprocess.TimeoutExpired:
        # The dispatcher hands SIGTERM on to the executor's own group, gives it its grace, and ends.
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(15)
        end_group(child)
        _, noise = child.communicate()
    return noise.decode(errors="replace")[-2000:]


def _finding(folder: RunFolder, task: int, noise: str, seconds: float, timeout_sec: float) -> Finding:
    record = records.read(folder, task)
    if record is None or record.get("cause") == "terminated":
        if seconds >= timeout_sec:
            message = f"task {task} had not ended after {timeout_sec:.0f} s; that may be right for a long task"
            return Finding(VALIDATOR, "warning", "not_ended", message, "Allow more with --timeout-sec.", {"task": task})
        message = f"task {task} left no record"
        return Finding(VALIDATOR, "error", "no_record", message, "Read the evidence.", {"task": task, "stderr": noise})
    evidence = {"task": task, **_kept(record)}
    if record["state"] != "complete":
        message = f"task {task} failed: {record.get('message')}"
        fix = "Correct what its log says; then run 'hpc-agent dry-run-local' again."
        return Finding(
            VALIDATOR, "error", "task_failed", message, fix, {**evidence, "log_tail": record.get("log_tail")}
        )
    if record.get("metrics_problem"):
        return Finding(
            VALIDATOR, "warning", "metrics_unreadable", f"task {task}: {record['metrics_problem']}", "", evidence
        )
    if not record.get("metrics"):
        message = f"task {task} ended well but wrote no metrics: the table will have none"
        fix = "Write a dict of numbers to $HPC_RESULT_DIR/metrics.json."
        return Finding(VALIDATOR, "warning", "no_metrics", message, fix, evidence)
    return Finding(
        VALIDATOR, "info", "task_complete", f"task {task} ended well in {record['seconds']:.1f} s", "", evidence
    )


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    names = ("kwargs", "seconds", "max_rss_mb", "exit_code", "metrics")
    return {name: record.get(name) for name in names if record.get(name) is not None}
