"""Run a reducer once over the same tasks of a run: on the login node, or as a job after the arrays of the run."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from ..fold import reduce as program
from ..fold.combine import NOT_ENDED
from ..fold.reduce import GRACE_SEC, LOG_LINES, OUTPUT, Reduction, log_tail, result_of
from ..job import execute
from ..look.logs import SchedulerLogs
from ..look.run_status import ACTIVE, RunStatus
from ..schedulers.base import AccountingRow, Job, caller_environment
from ..shared import task_states
from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, write_bytes, write_json
from ..shared.ledger import PLANNED, REFUSED, SUBMITTED, Array, read_array, write_array
from ..shared.processes import signal_group
from ..shared.ranges import decode_ranges, ranges_of
from ..shared.run_folder import RunFolder, existing_run
from .submitter import RunLock, Submitter

RUNTIME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(RUNTIME, "templates", "reduce.sh")
# Modules and conda have this long to load on the login node.
START_SEC = 120.0
# The record of a job that left the queue, and its accounting, may come so late.
VANISHED_SEC = 90.0
INLINE_BYTES = 256 << 10
KEPT = ("command", "reducer", "extra_env", "files", "output_path", "cpus", "timeout_sec")  # of a request
_HELD = ("this reducer is being run", "Wait for its end, then run the same command again: its result is kept.")


class _ReductionSubmitter(Submitter):
    """Submits the job of a reducer; its script is that of the present runtime."""

    def _job(self, array: Array, barrier: int) -> Job:
        job = super(_ReductionSubmitter, self)._job(array, barrier)
        assert isinstance(self.folder, Reduction)
        own = _own_variables(self.folder.attempt(array.generation))
        return job._replace(script=SCRIPT, environment=dict(job.environment, **own))


def _own_variables(attempt: str) -> Dict[str, str]:
    return {"HPC_RUNTIME_DIR": RUNTIME, "HPC_PROGRAM": "reduce", "HPC_REDUCTION": attempt}


def reduce(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the result of a reducer, or the state of its job.

    Request: ``key`` (names the reducer and its code), ``command``, ``reducer`` and ``code`` (a script and its text),
    ``extra_env``, ``files``, ``output_path``, ``timeout_sec``, ``as_job``, ``force``; for a job ``job_prefix``,
    ``resources`` and ``placement``. An attempt over the tasks that are complete now is not repeated. A job that may be in
    the queue is looked up first.
    """
    for name in [*request["files"], request["output_path"] or "x"]:
        if not name or os.path.isabs(name) or ".." in name.split("/"):
            raise NodeError("spec_invalid", "%r is not inside the run's work folder" % name)
    folder = existing_run(request["root"], request["run_id"])
    reduction = Reduction(folder, request["key"])
    make_folder(reduction.jobs)
    with RunLock(reduction.lock, request["owner"], held=_HELD) as lock:
        return _Call(folder, reduction, request, lock).answer()


class _Call(object):
    """One request for the result of a reducer, under the reducer's lock."""

    def __init__(self, run: RunFolder, reduction: Reduction, request: Dict[str, Any], lock: RunLock) -> None:
        self.reduction, self.request, self.lock = reduction, request, lock
        self.status = RunStatus(run, request.get("site") or {})
        self.status.save()
        self.complete = ranges_of(self.status.state, task_states.COMPLETE)
        self.fresh = False

    def answer(self) -> Dict[str, Any]:
        number = (self.reduction.attempts() or [0])[-1]
        if number:
            array = read_array(self.reduction, "d%d" % number)
            if array and array.state in (PLANNED, REFUSED) and not self.request["as_job"]:
                write_array(self.reduction, array._replace(held="withdrawn"))  # it has no job, and gets none
                array = None
            waits = self._await_job(number, array) if array else self._await_orphan(number)
            if waits or not self._may_repeat(number, array is not None):
                return waits or self._told(number)
        self._check_tasks()
        number += 1
        self._write_attempt(number)
        self.fresh = True
        if not self.request["as_job"]:
            self._run_here(number)
            return self._told(number)
        name = "d%d" % number
        job = "%s%s-%s" % (self.request["job_prefix"], name, self.request["key"])
        array = Array(name, "0", job, 1, generation=number, order=number)
        return self._await_job(number, array) or self._told(number)

    def _is_open(self, array: Array) -> bool:
        states = self.status.state
        return any(states[task] in NOT_ENDED for task in decode_ranges(array.tasks))

    def _may_repeat(self, number: int, was_job: bool) -> bool:
        """Return True if the newest attempt is not the answer: other tasks, no end, another limit or way, or forced."""
        result = result_of(self.reduction.attempt(number))
        if result is None or self.request["force"] or result.get("included") not in (self.complete, None):
            return True
        longer = result["cause"] == execute.STOPPED and self.request["timeout_sec"] > self._limit(number)
        return not result["ok"] and (longer or was_job != self.request["as_job"])

    def _limit(self, number: int) -> float:
        """Return the seconds that an attempt on a login node was given."""
        return float(read_json(os.path.join(self.reduction.attempt(number), "request.json"))["timeout_sec"])

    def _check_tasks(self) -> None:
        """Raise NodeError ``precondition_failed`` when no task can be there for the reducer."""
        run_id = self.request["run_id"]
        kept_back = [array.array for array in self.status.arrays if not array.job_id]
        if self.request["as_job"] and kept_back:
            message = "%d arrays of the run are not submitted yet, so a job cannot wait for them" % len(kept_back)
            raise NodeError("precondition_failed", message, "Run 'hpc-agent monitor-flow --run-id %s' first." % run_id)
        if not self.complete and not (self.request["as_job"] and any(map(self._is_open, self.status.arrays))):
            remedy = "See 'hpc-agent status --run-id %s'." % run_id
            raise NodeError("precondition_failed", "no task of %s is complete yet" % run_id, remedy)

    def _write_attempt(self, number: int) -> None:
        """Make the folder of an attempt, in one step."""
        final = self.reduction.attempt(number)
        building = final + ".building"
        shutil.rmtree(building, ignore_errors=True)
        make_folder(os.path.join(building, "code"))
        kept = {name: self.request[name] for name in KEPT}
        write_json(os.path.join(building, "request.json"), kept)
        if self.request["reducer"]:
            path = os.path.join(building, "code", os.path.basename(self.request["reducer"]))
            write_bytes(path, self.request["code"].encode("utf-8"), mode=0o755)
        os.rename(building, final)

    def _run_here(self, number: int) -> None:
        """Run the reducer on this node, at a low priority, until its time is over."""
        attempt, timeout = self.reduction.attempt(number), float(self.request["timeout_sec"])
        environment = dict(caller_environment(), **read_json(self.reduction.submission)["job_environment"])
        environment.update(_own_variables(attempt), HPC_RUN_DIR=self.reduction.path, HPC_REDUCE_SEC=str(timeout))
        with open(os.path.join(attempt, "start.log"), "wb") as output, program.running_here(attempt) as mark:
            words = ["nice", "-n", "10", "/bin/bash", SCRIPT]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                cwd=self.reduction.work, start_new_session=True, pass_fds=[mark],
            )  # fmt: skip
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(START_SEC + timeout + GRACE_SEC)
            finally:
                if process.poll() is None:
                    signal_group(process.pid, 9)
                    process.wait()
        if result_of(attempt) is None:
            said = log_tail(attempt, "start.log")
            message = "the reducer could not be started (exit code %s)" % process.returncode
            program.write_failure(attempt, "environment", message, log_tail=said, included=self.complete)

    def _await_orphan(self, number: int) -> Optional[Dict[str, Any]]:
        """Return the state of a reducer on a login node that outlived its caller."""
        attempt = self.reduction.attempt(number)
        if result_of(attempt) is not None or not program.may_run(attempt, START_SEC + GRACE_SEC + self._limit(number)):
            return None
        return self._state("running", number, "on the login node; its caller was killed")

    def _await_job(self, number: int, array: Array) -> Optional[Dict[str, Any]]:
        """Return the state of an attempt's job while it may still give a result, which is read afterwards."""
        attempt = self.reduction.attempt(number)
        if result_of(attempt) is not None:
            return None
        submitter = _ReductionSubmitter(self.reduction, self.request, self.lock.check)
        message: Optional[str] = ""
        if array.state != SUBMITTED:
            # A refused request may be corrected, and jobs to wait for may have ended or begun since.
            after = [str(a.job_id) for a in self.status.arrays if a.job_id and self._is_open(a)]
            wanted = {name: self.request[name] for name in ("resources", "placement")}
            write_array(self.reduction, array._replace(held=None, after_jobs=after, **wanted))
            message = submitter.submit_open_arrays()["message"]
            array = read_array(self.reduction, array.array) or array
        if array.state == PLANNED:
            return self._state("waiting", number, message, array)
        rows = [r for r in submitter.scheduler.queue([str(array.job_id)]) if (r.name or array.name) == array.name]
        if rows:
            return self._state("running" if rows[0].state in ACTIVE else "queued", number, rows[0].reason, array)
        if result_of(attempt) is not None:  # it came between the two looks
            return None
        ended: List[AccountingRow] = []
        with suppress(NodeError):  # a site without accounting
            ended = submitter.scheduler.accounting([str(array.job_id)], array.at)
        cause = next((row for row in reversed(ended) if row.cause), None)
        if cause is None and time.time() - self._last_sign(number, array) < VANISHED_SEC:
            return self._state("ending", number, "the job has left the queue, and its result is not there yet", array)
        said = "job %s ended without a result%s" % (array.job_id, ": %s" % cause.raw if cause else "")
        log = log_tail(attempt) or SchedulerLogs(self.reduction).output([array], 0, LOG_LINES)
        code = cause.exit_code if cause else None
        kind = str(cause.cause if cause else "unknown")
        program.write_failure(attempt, kind, said, log_tail=log, exit_code=code, included=self.complete)
        return None

    def _last_sign(self, number: int, array: Array) -> float:
        signs = [array.submitted_at or array.at]
        for name in ("claim", "output.log"):
            with suppress(OSError):
                signs.append(os.stat(os.path.join(self.reduction.attempt(number), name)).st_mtime)
        return max(signs)

    def _state(self, state: str, number: int, message: Optional[str], array: Optional[Array] = None) -> Dict[str, Any]:
        return {
            "path": self.reduction.attempt(number),
            "state": state,
            "message": message or "",
            "job_id": array.job_id if array else None,
            "fresh": self.fresh,
            "failed": ranges_of(self.status.state, task_states.FAILED, task_states.LOST),
            "total": self.status.total,
            "stale": self.status.stale,
        }

    def _told(self, number: int) -> Dict[str, Any]:
        """Return the result of an attempt, with its output where that is small."""
        attempt = self.reduction.attempt(number)
        result = result_of(attempt)
        if result is None:
            raise NodeError("combiner_failed", "%s has no result" % attempt)
        array = read_array(self.reduction, "d%d" % number)
        text = None
        if any(name == OUTPUT and size <= INLINE_BYTES for name, size in result.get("files") or []):
            with open(os.path.join(attempt, OUTPUT), encoding="utf-8") as handle:
                text = handle.read()
        return dict(self._state("ended", number, "", array), **result, text=text)
