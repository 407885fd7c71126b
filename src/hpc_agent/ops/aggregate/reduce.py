"""``cluster-reduce``: run the user's own reducer on the cluster, once over the same tasks; only its output travels."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import CombinerFailed, HpcError, OutputsMissing, SpecInvalid
from hpc_agent.experiment.reading.discovery import find_reducers
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.node.shared.ranges import count
from hpc_agent.ops.aggregate.output_files import check_inside, output_folder, pull_within
from hpc_agent.ops.aggregate.rows import first_ranges
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.fields import Positive, doc
from hpc_agent.ops.run.freeze import check_env
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.ops.run.ledger_summary import owner
from hpc_agent.ops.run.planned_run import job_name
from hpc_agent.ops.run.run_status import stale_errors
from hpc_agent.state.repo_files import local_path, save
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

START_SEC = 200.0  # for modules, conda, the scheduler and the connection
SHOWN_BYTES = 1500
FILES_SHOWN = 10
CODE_BYTES = 1 << 20
TIMEOUT_SEC = 1800
OF_JOB = ("walltime_sec", "mem_mb", "cpus")


class ReducerChoice(RunScoped):
    """The run and its reducer."""

    aggregate_cmd: Annotated[
        str | None,
        doc(
            "shell command, run in the run's work folder on the cluster; submit's, or 'python3 $HPC_REDUCER', by default"
        ),
    ] = None
    reducer: Annotated[
        str | None,
        doc("script of the repo, sent as it is now; submit's, or the first of discover-reducers, without a command"),
    ] = None
    as_job: Annotated[bool, doc("run it as a job after the run's arrays, not on the login node")] = False


class ClusterReduceRequest(ReducerChoice):
    """The run, its reducer, and where and how long it runs."""

    files: Annotated[
        list[str], doc("more files of its output to fetch: names or patterns, in the run's work folder")
    ] = []
    output_path: Annotated[
        str | None, doc("file in the work folder that the reducer writes; HPC_AGGREGATED_OUTPUT names it")
    ] = None
    local_dir: Annotated[
        str | None, doc("folder of the output; results/<run_id>/reduced/<reducer> in the repo by default")
    ] = None
    extra_env: Annotated[dict[str, str], doc("more variables for the reducer")] = {}
    timeout_sec: Annotated[Positive, doc("limit on the login node; of a job: walltime_sec")] = TIMEOUT_SEC
    walltime_sec: Annotated[Positive | None, doc("of the job; as the run's tasks by default")] = None
    mem_mb: Annotated[Positive | None, doc("of the job; as the run's tasks by default")] = None
    cpus: Annotated[Positive | None, doc("of the job; as the run's tasks by default")] = None
    max_mb: Annotated[Positive, doc("files that are larger together stay on the cluster")] = 100
    require_complete: Annotated[bool, doc("fail when a task is not complete")] = False
    force: Annotated[bool, doc("run it again, also over the same tasks")] = False


class ClusterReduceResult(Result, omit_defaults=True, kw_only=True):
    """Fields that are empty are left out."""

    ok: Annotated[bool, doc("the reducer has ended and gave its output; false: its job has not ended")]
    run_id: str
    state: Annotated[str, doc("ended; of a job also waiting, queued, running, ending")]
    fresh: Annotated[bool, doc("this call ran or submitted it; false: over these tasks it was run before")] = False
    job_id: str | None = None
    reducer: Annotated[str, doc("the script or the command")]
    exit_code: int | None = None
    seconds: float | None = None
    total_tasks: int
    included_tasks: Annotated[int | None, doc("tasks that were complete for the reducer; HPC_TASKS lists them")] = None
    failed_count: int = 0
    failed_tasks: Annotated[str, doc("ranges of failed tasks, the first 100 characters")] = ""
    missing_count: Annotated[int, doc("tasks that had neither failed nor were complete for the reducer")] = 0
    output_path_remote: str = ""
    output_path_local: str = ""
    reduced: Annotated[Any, doc("the reducer's JSON where it has at most 1,500 bytes")] = None
    files: Annotated[list[dict[str, Any]], doc("the first 10 files: path, bytes")] = []
    file_count: int = 0
    total_bytes: int = 0
    stderr_tail: Annotated[str, doc("the end of the reducer's output")] = ""
    notes: list[str] = []
    truncated: bool = False
    next_step: str = ""


@primitive(
    stage="aggregate",
    effects=[Effect.SSH, Effect.SUBMIT, Effect.JOURNAL, Effect.FILES],
    errors=[*RUN_ERRORS, CombinerFailed, OutputsMissing, SpecInvalid],
    progress=True,
    brief="run your own reducer",
    example={"run_id": "latest", "aggregate_cmd": "cat results/0/metrics.json"},
    next_verbs=["report"],
)
def cluster_reduce(request: ClusterReduceRequest, world: World) -> ClusterReduceResult:
    """Run your own reducer over a run's results, on the cluster; its JSON and named files are fetched.

    It starts in the run's work folder, in the environment of the tasks, and writes JSON into the file that
    HPC_AGGREGATED_OUTPUT names, or prints it as its last line. HPC_RESULTS_DIR is the folder of results; HPC_TASKS a file
    with a line of JSON for each complete task: task, kwargs, result_dir, metrics. Over the same tasks the same reducer runs
    once; the next call returns what it gave, also where it failed, unless force is set.
    """
    return reduce_on_cluster(known_run(world, request), request, world)


def reduce_on_cluster(run: KnownRun, request: ClusterReduceRequest, world: World) -> ClusterReduceResult:
    """Run the reducer of a request, or return what it gave before. Raises CombinerFailed when it failed."""
    _check_limits(request)
    run_id = run.record.run_id
    world.progress.update("reducing", run=run_id)
    named = request.aggregate_cmd or request.reducer
    request = msgspec.structs.replace(request, run_id=run_id, **({} if named else reducer_of(run)))
    question = _question(run, request)
    answer = run.ask_this_version("reduce", request.timeout_sec + START_SEC, **question)
    result = _result(run_id, question, answer)
    if answer["state"] == "ended" and answer["fresh"]:
        run.journal.append(run_id, "reduced", reducer=result.reducer, ok=answer["ok"], key=question["key"])
    if answer["state"] != "ended":
        result.next_step = command_line("cluster-reduce", msgspec.structs.replace(request, force=False))
        return result
    if not answer["ok"]:
        raise _failure(request, answer, result)
    if request.require_complete and result.included_tasks != result.total_tasks:
        details = {"failed_tasks": answer["failed"], "included_tasks": answer["included"]}
        raise incomplete(run_id, result.included_tasks or 0, result.total_tasks, details)
    name = f"command-{question['key'][:8]}" if request.aggregate_cmd else question["reducer"].removesuffix(".py")
    folder = run.repo.aggregate(run_id) / "reduced" / re.sub(r"[^A-Za-z0-9._-]", "_", name)
    folder = output_folder(world, request.local_dir, folder, "local_dir")
    _fetch(run, request, answer, folder, result)
    return result


def _check_limits(request: ClusterReduceRequest) -> None:
    """Raise SpecInvalid for a limit of the login node that is given for a job, and for one of a job without a job."""
    if request.as_job and request.timeout_sec != TIMEOUT_SEC:
        limit = request.walltime_sec or request.timeout_sec
        right = msgspec.structs.replace(request, timeout_sec=TIMEOUT_SEC, walltime_sec=limit)
        told, field = "timeout_sec is the limit on the login node; that of a job is walltime_sec", "timeout_sec"
    elif not request.as_job and (given := [name for name in OF_JOB if getattr(request, name)]):
        right, field = msgspec.structs.replace(request, as_job=True), given[0]
        told = f"{field} is of a job, and without --as-job the reducer runs on the login node"
    else:
        return
    raise SpecInvalid(told, field=field, remediation=f"Run: {command_line('cluster-reduce', right)}")


def reducer_of(run: KnownRun) -> dict[str, str]:
    """Return the reducer that the run was submitted with, as far as it was named: aggregate_cmd, reducer."""
    with contextlib.suppress(HpcError):  # the sidecar is gone or cannot be read
        results = read_run_sidecar(run.repo, run.record.run_id).results
        return {name: results[name] for name in ("aggregate_cmd", "reducer") if results.get(name)}
    return {}


def incomplete(run_id: str, included: int, total: int, details: dict[str, Any]) -> OutputsMissing:
    """Return the error of --require-complete."""
    return OutputsMissing(
        f"{total - included} of {total} tasks of {run_id} are not complete",
        details=details,
        remediation=f"See 'hpc-agent logs --run-id {run_id} --all-failed', or leave out --require-complete.",
    )


def _question(run: KnownRun, request: ClusterReduceRequest) -> dict[str, Any]:
    """Return the request to the node side. ``key`` names the reducer with its code and all that may change its output."""
    sidecar = read_run_sidecar(run.repo, run.record.run_id)
    reducer = request.reducer or ("" if request.aggregate_cmd else _found_reducer(run, request, sidecar.executor))
    code = _code(local_path(run.repo.root, reducer, "reducer"), reducer) if reducer else ""
    check_env(request.extra_env, "extra_env")
    for field, name in [*(("files", name) for name in request.files), ("output_path", request.output_path or "x")]:
        check_inside(field, name, "the run's work folder")
    asked = {name: getattr(request, name) for name in OF_JOB if getattr(request, name)}
    resources = {**sidecar.resources, "gpus": None, "gpu_type": None, **asked}
    identity: dict[str, Any] = {
        "command": request.aggregate_cmd or f'{_python(sidecar.executor)} "$HPC_REDUCER"',
        "reducer": reducer,
        "code": code,
        "extra_env": request.extra_env,
        "files": request.files,
        "output_path": request.output_path or "",
    }
    return {
        **identity,
        "key": hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:12],
        "owner": owner(),
        "as_job": request.as_job,
        "force": request.force,
        "timeout_sec": request.timeout_sec,
        "cpus": (resources.get("cpus") or 1) if request.as_job else 1,
        "job_prefix": job_name(run.record.run_id, ""),
        "resources": {name: value for name, value in resources.items() if value is not None},
        "placement": sidecar.placement,
    }


def _python(executor: str) -> str:
    """Return the interpreter that starts the run's executor; python3 where another program does."""
    try:
        first = shlex.split(executor)[:1]
    except ValueError:
        first = []
    return shlex.quote(first[0]) if first and Path(first[0]).name.startswith("python") else "python3"


def _found_reducer(run: KnownRun, request: ClusterReduceRequest, executor: str) -> str:
    """Return the path of the script in the repo that is most likely the reducer. Raises SpecInvalid."""
    scripts = find_reducers(run.repo.root)[0]
    found = [facts for facts in scripts if facts.path.endswith(".py") and facts.path not in executor]
    if not found:
        message = "the repo has no script that seems to reduce results"
        command = f"hpc-agent cluster-reduce --run-id {run.record.run_id} --aggregate-cmd 'python3 reduce.py'"
        raise SpecInvalid(message, field="reducer", remediation=f"Name a command: {command}")
    best = [facts.path for facts in found if facts.score == found[0].score]
    if len(best) > 1:
        ways = [command_line("cluster-reduce", msgspec.structs.replace(request, reducer=path)) for path in best[:3]]
        message = f"{len(best)} scripts may be the reducer: {', '.join(best[:5])}"
        raise SpecInvalid(message, field="reducer", remediation="Run one of: " + "; ".join(ways))
    return best[0]


def _code(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message, remedy = f"the reducer {name} cannot be read: {error}", "See 'hpc-agent discover-reducers'."
        raise SpecInvalid(message, field="reducer", remediation=remedy) from error
    if len(text) > CODE_BYTES:
        message = f"the reducer {name} has more than 1 MiB"
        raise SpecInvalid(message, field="reducer", remediation="Name it by --aggregate-cmd, as a file of the run.")
    return text


def _result(run_id: str, question: dict[str, Any], answer: dict[str, Any]) -> ClusterReduceResult:
    """Return the answer's facts, without its files."""
    failed, included = answer["failed"], answer.get("included")
    shown = first_ranges(failed)
    same: dict[str, Any] = {name: answer.get(name) for name in ("state", "fresh", "job_id", "exit_code", "seconds")}
    result = ClusterReduceResult(
        **same,
        ok=bool(answer.get("ok")),
        run_id=run_id,
        reducer=question["reducer"] or question["command"],
        total_tasks=answer["total"],
        included_tasks=None if included is None else count(included),
        failed_count=count(failed),
        failed_tasks=shown,
        output_path_remote=f"{answer['path']}/aggregated.json",
        truncated=shown != failed,
        partial_errors=stale_errors(answer["stale"]),
    )
    if included is not None:
        result.missing_count = answer["total"] - count(included) - count(failed)
        if result.included_tasks != answer["total"]:
            verb = "failures" if failed else "monitor-flow"
            result.next_step = f"hpc-agent {verb} --run-id {run_id}"
    if answer.get("sent"):
        result.notes.append(f"{result.reducer} is not the file that the run was submitted with: the present one ran")
    if answer["state"] != "ended":
        who = "the reducer's job" if result.job_id else "the reducer"
        result.notes.append(f"{who} is {answer['state']}: {answer['message']}".rstrip(": "))
    return result


def _failure(request: ClusterReduceRequest, answer: dict[str, Any], result: ClusterReduceResult) -> CombinerFailed:
    why, again = answer["message"], msgspec.structs.replace(request, force=True)
    remedy = "Correct what details.stderr_tail says, then run"
    if answer["cause"] == "terminated" and not request.as_job:
        why = f"stopped after {request.timeout_sec} s on the login node"
        again = msgspec.structs.replace(request, as_job=True, force=False, timeout_sec=TIMEOUT_SEC)
        remedy = "Run it as a job"
    elif answer["cause"] in ("timeout", "terminated", "out_of_memory"):
        remedy = "Give the job more with --walltime-sec or --mem-mb"
    # The end of a job is told for the first time by a later call.
    before = "" if answer["fresh"] or answer.get("job_id") else ", and was not run again over the same tasks"
    return CombinerFailed(
        f"the reducer {result.reducer} of {result.run_id} failed: {why}{before}",
        details={
            **{name: answer.get(name) for name in ("exit_code", "cause", "job_id")},
            "stderr_tail": answer.get("log_tail", ""),
            "log": f"{answer['path']}/output.log",
            "included_tasks": result.included_tasks,
            "failed_tasks": result.failed_tasks,
        },
        remediation=f"{remedy}: {command_line('cluster-reduce', again)}",
    )


def _fetch(
    run: KnownRun, request: ClusterReduceRequest, answer: dict[str, Any], folder: Path, result: ClusterReduceResult
) -> None:
    """Bring the output here, write reduction.json beside it, and fill in the result."""
    files: dict[str, int] = dict(answer["files"])
    result.file_count, result.total_bytes = len(files), sum(files.values())
    result.files = [{"path": name, "bytes": size} for name, size in answer["files"][:FILES_SHOWN]]
    result.truncated = result.truncated or len(files) > FILES_SHOWN
    text = answer["text"]
    if answer["log_tail"] != text:  # JSON that was printed
        result.stderr_tail = "\n".join(answer["log_tail"].splitlines()[-3:])[-300:]
    folder.mkdir(parents=True, exist_ok=True)
    if text is not None:
        write_bytes(str(folder / "aggregated.json"), text.encode())
        result.output_path_local = str(folder / "aggregated.json")
        if len(text) <= SHOWN_BYTES:
            try:
                result.reduced = msgspec.json.decode(text)
            except msgspec.DecodeError:
                result.reduced = text
                result.notes.append("the JSON has NaN or infinite numbers, which JSON does not know: shown as text")
    rest = {name: size for name, size in files.items() if name != "aggregated.json" or text is None}
    if stayed := pull_within(run, answer["path"], rest, folder, request.max_mb):
        result.truncated = True
        result.notes.append(stayed)
    elif "aggregated.json" in rest:
        result.output_path_local = str(folder / "aggregated.json")
    if result.output_path_local and (text is None or len(text) > SHOWN_BYTES):
        result.truncated = True
        result.notes.append(f"the JSON has {files['aggregated.json']} bytes: read {result.output_path_local}")
    here = {"aggregated.json"} if text is not None else set()
    _remove_earlier(folder, here if stayed else {*here, *rest})
    names = ("included", "failed", "exit_code", "seconds", "host", "job_id", "files")
    document = {name: answer.get(name) for name in names}
    save(folder / "reduction.json", {"run_id": run.record.run_id, "reducer": result.reducer, **document})


def _remove_earlier(folder: Path, kept: set[str]) -> None:
    """Remove the files of the reduction before: they must not be taken for those of this one."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError):
        for name, _ in msgspec.json.decode((folder / "reduction.json").read_bytes())["files"]:
            if name not in kept and ".." not in Path(name).parts and not Path(name).is_absolute():
                (folder / name).unlink(missing_ok=True)
