"""Run a reducer of the user over the results of a run. reduce.sh starts this module, in a job or on the login node.

A reducer has the folder ``reductions/<key>`` of its run: a ledger, and a folder for each attempt:
request.json (the command), tasks.jsonl (the complete tasks), output.log, aggregated.json, files/, and last result.json.
"""

import fcntl
import glob
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Tuple

from ..job import execute
from ..job.outputs import Log
from ..look.attempts import Attempts
from ..shared import task_environment, task_states
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_bytes, read_json, tail, write_bytes, write_json
from ..shared.ranges import ranges_of
from ..shared.run_folder import RunFolder, check_id
from ..shared.task_record import COMPLETE, FAILED, TaskRecord

OUTPUT = "aggregated.json"
GRACE_SEC = 10.0
LOG_LINES, LOG_BYTES = 40, 4000
MAX_OUTPUT_BYTES = 32 << 20
OF_RECORD = ("cause", "message", "exit_code", "seconds", "max_rss_mb", "host", "ended_at")
OF_ONE_TASK = ("HPC_TASK_ID", "HPC_KW_JSON", "HPC_RESULT_DIR", "RESULT_DIR", "HPC_TRIAL")


class Reduction(RunFolder):
    """The folder of one reducer. To the submitter it is a run with a ledger of its own and the work folder of its run."""

    def __init__(self, run: RunFolder, key: str) -> None:
        super(Reduction, self).__init__(run.path)
        self.home = os.path.join(run.path, "reductions", check_id(key))
        self.jobs = os.path.join(self.home, "jobs")
        self.new_plan = os.path.join(self.home, "new_plan.json")
        self.lock = os.path.join(self.home, "lock")

    def claim(self, task: int, generation: int) -> str:
        """Return the file that names the job of an attempt; a reducer is task 0 of its array."""
        del task
        return os.path.join(self.attempt(generation), "claim")

    def attempt(self, number: int) -> str:
        return os.path.join(self.home, "d%d" % number)

    def attempts(self) -> List[int]:
        """Return the numbers of the attempts, oldest first."""
        names = os.listdir(self.home) if os.path.isdir(self.home) else []
        return sorted(int(name[1:]) for name in names if name[:1] == "d" and name[1:].isdigit())


def result_of(attempt: str) -> Any:
    """Return the result of an attempt (an object), None before its end."""
    return read_json(os.path.join(attempt, "result.json"))


@contextmanager
def running_here(attempt: str) -> Iterator[int]:
    """Mark an attempt as one that runs on this host; a process that inherits the descriptor keeps the mark."""
    path = os.path.join(attempt, "runs_here")
    write_bytes(path, ("%s %d" % (os.uname()[1], time.time())).encode())
    with open(path, "r+") as handle:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle.fileno()


def may_run(attempt: str, within: float) -> bool:
    """Return True if the process of an attempt without a job still runs, though its caller was killed.

    It has ``within`` seconds. On another host nobody knows: there it may run for all of them.
    """
    try:
        handle = open(os.path.join(attempt, "runs_here"), "r+")
    except FileNotFoundError:
        return False
    with handle:
        host, at = handle.read().rsplit(" ", 1)
        if time.time() > int(at) + within:
            return False
        with suppress(OSError):  # held by that process, or a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return host != os.uname()[1]
    return True


def write_failure(attempt: str, cause: str, message: str, **facts: Any) -> None:
    """Write the result of an attempt that ended without one of its own."""
    write_json(os.path.join(attempt, "result.json"), dict(facts, ok=False, cause=cause, message=message[:1000]))


def log_tail(attempt: str, name: str = "output.log") -> str:
    return tail(os.path.join(attempt, name), LOG_LINES, LOG_BYTES)


def main(arguments: List[str]) -> int:
    """Run the reducer of the attempt that HPC_REDUCTION names; return 0 when it gave its output."""
    attempt = os.environ["HPC_REDUCTION"]
    if result_of(attempt) is not None:  # a requeued job
        return 0
    claim = "%s:%s:0\n" % (os.environ.get("HPC_JOB_ID", ""), os.path.basename(attempt))
    write_bytes(os.path.join(attempt, "claim"), claim.encode())
    status = Attempts(RunFolder(os.environ["HPC_RUN_DIR"]))
    if arguments[:1] == ["--environment-failed"]:
        included = ranges_of(status.state, task_states.COMPLETE)
        write_failure(attempt, "environment", " ".join(arguments[1:]), included=included)
        return 1
    result = _reduce(status, attempt)
    write_json(os.path.join(attempt, "result.json"), result)
    return 0 if result["ok"] else 1


def _reduce(status: Attempts, attempt: str) -> Dict[str, Any]:
    """Run the command and return the result: its end, the tasks that were there, its output."""
    request = read_json(os.path.join(attempt, "request.json"))
    folder = status.folder
    write_bytes(os.path.join(attempt, "tasks.jsonl"), _tasks(status))
    base, name = (folder.work, request["output_path"]) if request["output_path"] else (attempt, OUTPUT)
    output = os.path.join(base, name)
    env, sent = _environment(status, attempt, request, output)
    before = {path: _stamp(path) for path in [output, *(path for _, path in _matches(folder.work, request["files"]))]}
    limit = os.environ.get("HPC_REDUCE_SEC")
    stop_at = time.time() + float(limit) if limit else None
    record = TaskRecord(0, FAILED, host=os.uname()[1])
    log = Log(os.path.join(attempt, "output.log"))
    record = execute.run(record, request["command"], env, folder.work, log, GRACE_SEC, stop_at)
    log.close()
    facts = {name: getattr(record, name) for name in OF_RECORD}
    facts.update(
        ok=record.state == COMPLETE,
        sent=sent,  # the reducer differs from that of the run's snapshot, and came with the request
        included=ranges_of(status.state, task_states.COMPLETE),
        log_tail=log_tail(attempt),
        output_path=output,
    )
    if record.state == COMPLETE:
        try:
            facts.update(_collect(folder, attempt, request, output, before))
        except (ValueError, OSError) as error:
            facts.update(ok=False, cause="no_output", message=str(error))
    return facts


def _tasks(status: Attempts) -> bytes:
    """Return a line of JSON for each complete task: its id, its parameters and its result folder."""
    lines = []
    for task, state in enumerate(status.state):
        if state != task_states.COMPLETE:
            continue
        record = status.reader.read(task)
        if record is None:
            raise NodeError("combiner_failed", "the record of task %d cannot be read" % task)
        place = os.path.join(status.folder.path, record.result_dir or _result_folder(status, record))
        line = {"task": task, "kwargs": record.kwargs, "result_dir": place, "metrics": record.metrics}
        lines.append(json.dumps(line, sort_keys=True) + "\n")
    return "".join(lines).encode("utf-8")


def _result_folder(status: Attempts, record: TaskRecord) -> str:
    """Return the result folder that a task which wrote no file would have."""
    run = status.run
    return task_environment.result_folder(run.result_dir_template, run.run_id, record.task, record.kwargs or {})


def _environment(status: Attempts, attempt: str, request: Dict[str, Any], output: str) -> Tuple[Dict[str, str], bool]:
    """Return the variables of the reducer, and True when the script that came with the request replaces the run's own."""
    folder = status.folder
    run = status.run._replace(resources={"cpus": request["cpus"]})
    env = task_environment.build(run, folder.path, 0, {}, attempt, dict(os.environ))
    env = {name: value for name, value in env.items() if name not in OF_ONE_TASK}
    env.update(
        HPC_RESULTS_DIR=folder.results, HPC_AGGREGATED_OUTPUT=output, HPC_TASKS=os.path.join(attempt, "tasks.jsonl")
    )
    sent, name = False, request["reducer"]
    if name:
        frozen, given = os.path.join(folder.work, name), os.path.join(attempt, "code", os.path.basename(name))
        own = read_bytes(frozen)
        env["HPC_REDUCER"] = frozen
        if own != read_bytes(given):  # modules beside the script are found as if it lay in its place
            env["HPC_REDUCER"] = given
            env["PYTHONPATH"] += os.pathsep + os.path.dirname(frozen)
            sent = own is not None
    env.update(request["extra_env"])
    return env, sent


def _stamp(path: str) -> Any:
    """Return a value that changes when the file is written."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _collect(
    folder: RunFolder, attempt: str, request: Dict[str, Any], output: str, before: Dict[str, Any]
) -> Dict[str, Any]:
    """Bring the output into the attempt's folder. Return its files [path, bytes]. Raises ValueError, OSError.

    ``before`` has the stamps of files that were there already: what has the same stamp now is another reducer's.
    """
    data = None
    if _stamp(output) != before[output]:
        size = os.path.getsize(output)
        if size > MAX_OUTPUT_BYTES:
            raise ValueError("%s has %d bytes, more than the %d of a table" % (output, size, MAX_OUTPUT_BYTES))
        data = read_bytes(output)
    elif not request["files"]:
        data = tail(os.path.join(attempt, "output.log"), 1, MAX_OUTPUT_BYTES).encode("utf-8")
        if data[:1] not in (b"{", b"["):
            told = "%s was not written by this reducer" if before[output] else "the reducer did not write %s"
            raise ValueError("%s, and its last line of output is no JSON" % (told % output))
    files = []
    if data is not None:
        try:
            json.loads(data.decode("utf-8"))
        except ValueError as error:
            raise ValueError("%s is no JSON: %s" % (os.path.basename(output), error)) from error
        if data != read_bytes(os.path.join(attempt, OUTPUT)):
            write_bytes(os.path.join(attempt, OUTPUT), data)
        files.append([OUTPUT, len(data)])
    results = os.path.realpath(folder.results) + os.sep
    for pattern in request["files"]:
        there = _matches(folder.work, [pattern])
        found = [
            (name, path)
            for name, path in there
            if before.get(path) != _stamp(path) or os.path.realpath(path).startswith(results)
        ] or _matches(attempt, [pattern])
        if not found and there:
            raise ValueError("%s was there before this reducer, which did not write it" % there[0][0])
        if not found:
            raise ValueError("no file matches %s, in the run's work folder or beside HPC_AGGREGATED_OUTPUT" % pattern)
        for name, path in found:
            place = os.path.join("files", name)
            target = os.path.join(attempt, place)
            make_folder(os.path.dirname(target))
            shutil.copyfile(path, target)
            files.append([place, os.path.getsize(target)])
    return {"files": sorted(map(list, {(name, size) for name, size in files}))}


def _matches(base: str, patterns: List[str]) -> List[Tuple[str, str]]:
    """Return the files of a folder that match: name there, path."""
    found = (sorted(glob.glob(os.path.join(glob.escape(base), pattern), recursive=True)) for pattern in patterns)
    return [(os.path.relpath(path, base), path) for paths in found for path in paths if os.path.isfile(path)]
