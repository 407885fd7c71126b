"""The interface of a scheduler adapter: one class per scheduler, which runs on the cluster (Python 3.6, standard library).

Element indices count from 0 here and in every module above; only an adapter knows its scheduler's own first index.
"""

import os
import re
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Pattern, Sequence, Tuple

from ..shared.commands import run_command
from ..shared.errors import NodeError

# States of an element in the queue.
QUEUE_STATES = ("pending", "held", "running", "suspended", "completing", "error")

# Variables that change the output or the defaults of the scheduler's tools, or leak the caller's environment into jobs.
_DROPPED = re.compile(
    r"^(S(LURM|BATCH|QUEUE|ACCT|INFO|CONTROL|RUN)_|SGE_O_|SGE_TASK|JOB_|CONDA_|_CE_|VIRTUAL_ENV|PYTHON(PATH|HOME|STARTUP)$|BASH_FUNC_)"
)
_KEPT = ("SLURM_CONF",)

_INDICES = re.compile(r"^([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?$")

# Above the limit of any scheduler: a damaged list must not fill the memory.
_HIGHEST_INDEX = 5000000

# How far the clocks of the login node, the controller and the database may disagree, in seconds.
CLOCK_SKEW = 300.0

# Local times of sacct and qstat, of qacct, and of Univa's qacct.
_TIME_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S")

# days-hours[:minutes[:seconds]], hours:minutes:seconds or minutes[:seconds]
_WALLTIME = re.compile(r"^(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?$")

_THEN = ", then run 'hpc-agent submit' again."


class Rule(NamedTuple):
    """A message of a submission tool that printed no job id: its pattern, the remedy, and the code of the error."""

    pattern: str
    remedy: str
    retry_later: bool = False  # True where waiting, not correcting, is the remedy
    code: str = "scheduler_refused"


class Job(NamedTuple):
    """One array to submit."""

    name: str  # unique token of the array; stands in the scheduler's job name and, where there is one, its comment
    count: int  # type: ignore[assignment]  # number of elements
    script: str  # absolute path of the job script, which takes no arguments
    log_folder: str  # absolute folder for the scheduler's own output
    working_directory: str  # absolute folder in which an element starts
    environment: Dict[str, str] = {}  # for the script; values may hold commas and spaces, never NUL or newline
    after: List[str] = []  # ids of jobs that must have ended, in any state, before this one starts
    max_running: Optional[int] = None  # elements that may run at once; None is no limit
    # walltime_sec, mem_mb (of an element, all cores together), cpus, gpus, gpu_type, nodes, exclusive; None: no request
    resources: Dict[str, Any] = {}
    # partition, account, qos, constraint, exclude_nodes (list), extra_flags (argv words)
    placement: Dict[str, Any] = {}
    site: Dict[str, Any] = {}  # settings of clusters.yaml (parallel_environment, sge_memory_resource, ...)
    barrier: Optional[int] = None  # a descriptor that the submission tool keeps open for as long as it lives


class QueueRow(NamedTuple):
    """Elements of a job that are queued or running. All pending elements of an array are one row."""

    job: str
    elements: str  # ranges, "0-9,12"
    state: str  # one of QUEUE_STATES
    reason: str = ""
    raw: str = ""  # the scheduler's word for the state
    host: str = ""
    name: str = ""  # the job's name


class AccountingRow(NamedTuple):
    """The end of the newest attempt of an element.

    ``cause`` is None for an element that ended well, else one of "timeout", "out_of_memory", "node_failure", "preempted",
    "cancelled", "environment", "never_started", "exit", "signal", "unknown".
    """

    job: str
    element: int
    cause: Optional[str]
    raw: str  # the scheduler's words
    exit_code: Optional[int] = None
    signal: Optional[int] = None
    host: str = ""
    seconds: Optional[float] = None
    max_rss_mb: Optional[float] = None

    @property
    def state(self) -> str:
        return "failed" if self.cause else "complete"


# Runs a command (its words are the arguments) and returns its output; the output of a command that failed is an empty text.
Query = Callable[..., str]


class Gpus(NamedTuple):
    """The GPUs of one type in a partition; ``idle`` is None where the scheduler does not count them."""

    type: str
    total: int
    idle: Optional[int] = None


class Partition(NamedTuple):
    """A partition or queue. ``cpus_node`` and ``mem_mb`` (MiB) are those of its largest node; None is not known."""

    name: str
    state: str = "unknown"  # "up", or another word of the scheduler
    default: bool = False
    max_walltime_sec: Optional[int] = None
    nodes: int = 0
    cpus_total: int = 0
    cpus_idle: int = 0
    cpus_node: Optional[int] = None
    mem_mb: Optional[int] = None
    gpus: List[Gpus] = []
    priority_tier: Optional[int] = None
    pending_jobs: Optional[int] = None


class Limit(NamedTuple):
    """A limit that holds for a job of the user. ``kind``: "submitted", "running", "array_size" (in elements), or "jobs"."""

    name: str
    scope: str
    kind: str
    limit: int
    used: Optional[int] = None  # elements in the queue that count towards it; None is not known


class Scheduler(object):
    """Builds commands, parses their output, and runs them."""

    submit_tool = ""
    query_environment: Dict[str, str] = {}  # variables of every query
    job_id: Pattern[str]  # a line of the submission tool; the last group that matches is the id
    prefix: Pattern[str]  # the start of a line of an error, left out of our message
    refusals: Sequence[Rule] = ()
    unreachable: Pattern[str]  # an error of a query that did not reach the scheduler
    # What joins several constraints of a job, such as features; None: what a waiting job asks for cannot be changed.
    constraint_separator: Optional[str] = None
    changes_whole_jobs = False  # True where a change of a job would also hold for its running elements
    command_timeout = float(os.environ.get("HPC_SCHEDULER_TIMEOUT_SEC") or 60.0)

    @classmethod
    def for_site(cls, site: Dict[str, Any]) -> "Scheduler":
        """Return the adapter, set up with the cluster's settings (clusters.yaml)."""
        del site
        return cls()

    def submit_command(self, job: Job) -> List[str]:
        """Return the argv of the submission; the job's environment variables are in the process environment."""
        raise NotImplementedError

    def parse_submit(self, code: int, out: str, err: str) -> str:
        """Return the one job id that the submission tool printed.

        Raises NodeError of the first rule whose pattern occurs in the message: ``scheduler_refused`` or
        ``scheduler_throttled`` (surely not submitted), ``cluster_timeout`` (the scheduler cannot be reached); without a
        rule ``submission_unknown``. The last two call for a look-up before another attempt. A tool that ended by itself,
        with words that no rule knows (a filter of the site, a wrapper), has refused if the look-up finds no job: the error
        then has ``ended_by_itself`` in its details.
        """
        ids = {match.group(match.lastindex or 0) for match in map(self.job_id.match, out.splitlines()) if match}
        output = err.strip() or out.strip()
        if code == 0 and len(ids) == 1:
            return ids.pop()
        if code == 0 or ids:
            outcome = "%s ended with exit code %d and named %d jobs" % (self.submit_tool, code, len(ids))
            raise NodeError("submission_unknown", "%s: %s" % (outcome, self.summary(output)))
        message = "%s: %s" % (self.submit_tool, self.summary(output) or "exit code %d without a message" % code)
        for rule in self.refusals:
            if re.search(rule.pattern, output, re.IGNORECASE | re.MULTILINE):
                details = {"scheduler": output, "retry_later": rule.retry_later}
                raise NodeError(rule.code, message, rule.remedy + _THEN, details)
        # Not a tool that was killed: a shell tells of a signal by a code above 128.
        details = {"scheduler": output, "ended_by_itself": bool(output) and 0 < code <= 128}
        raise NodeError("submission_unknown", message, None, details)

    def summary(self, output: str) -> str:
        """Return the lines of a tool's message as one line, without their prefixes."""
        lines = (self.prefix.sub("", line.strip()) for line in output.splitlines())
        return "; ".join(dict.fromkeys(filter(None, lines)))[:500]

    def query_error(self, tool: str, code: int, err: str) -> NodeError:
        """Return the error of a query that failed: ``cluster_timeout`` where the scheduler could not be reached."""
        kind = "cluster_timeout" if self.unreachable.search(err) else "remote_command_failed"
        message = "%s: %s" % (tool, self.summary(err) or "exit code %d" % code)
        return NodeError(kind, message, None, {"command": tool, "stderr_tail": err[-2000:]})

    def submit(self, job: Job) -> str:
        """Submit one array and return its job id."""
        argv, env = self.submit_command(job), {**caller_environment(), **job.environment}
        inherit = [job.barrier] if job.barrier is not None else []
        try:
            code, out, err = run_command(
                argv, self.command_timeout, env=env, cwd=job.working_directory, inherit=inherit
            )
        except NodeError as error:
            if error.code == "cluster_timeout":  # the request may have been accepted before the tool was killed
                error.code = "submission_unknown"
            raise
        return self.parse_submit(code, out, err)

    def change_command(self, job_id: str, waiting: str, job: Job, fields: Sequence[str]) -> List[str]:
        """Return the argv that gives ``fields`` of ``job`` to the ``waiting`` elements (ranges) of a job in the queue.

        Fields: "constraint", "partition", "walltime_sec".
        """
        raise NotImplementedError

    def change_waiting(self, job_id: str, waiting: str, job: Job, fields: Sequence[str]) -> None:
        """Change waiting elements. Raises NodeError: ``scheduler_refused``, or that of a query which failed."""
        argv = self.change_command(job_id, waiting, job, fields)
        code, out, err = run_command(argv, self.command_timeout, env=clean_environment())
        if code == 0:
            return
        words = err.strip() or out.strip()
        if self.unreachable.search(words):
            raise self.query_error(argv[0], code, words)
        raise NodeError("scheduler_refused", "%s: %s" % (argv[0], self.summary(words) or "exit code %d" % code))

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        """Return the rows of the jobs that are queued or running, and of no other jobs. Raises NodeError (the query failed)."""
        raise NotImplementedError

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        """Return the elements that have ended, of jobs submitted at or after ``since`` (epoch seconds).

        Raises NodeError when the query failed (a database that is down is not an empty answer).
        """
        raise NotImplementedError

    def find(self, name: str, since: float) -> List[str]:
        """Return the ids of the user's jobs called ``name``, queued or ended, submitted at or after ``since``; newest last."""
        raise NotImplementedError

    def submitted_elements(self) -> int:
        """Count the pending and running elements of all of the user's jobs. Raises NodeError."""
        raise NotImplementedError

    def usable_nodes(self) -> List[str]:
        """Return the names of the nodes that take jobs now; empty where they are not known. Raises NodeError."""
        return []

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[Limit]]:
        """Return the partitions of the cluster and the limits that hold for the user; ``query`` runs the commands."""
        del query
        return [], []


def caller_environment() -> Dict[str, str]:
    """Return the environment, in the caller's locale, without variables that change the scheduler's output or leak into a job."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or not _DROPPED.match(name)}


def clean_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """Return the environment of a query, whose answer must not depend on the caller's locale. It is not for jobs."""
    return {**caller_environment(), "LC_ALL": "C", **(extra or {})}


def parse_indices(text: str, first: int = 0) -> List[int]:
    """Return ``"3,7,12-14"`` or ``"1-2999:2"`` as element indices from 0, where the scheduler counts from ``first``.

    Raises ValueError on anything else, such as a list that the scheduler's tool cut short.
    """
    elements: List[int] = []
    for part in text.split(","):
        match = _INDICES.match(part)
        if match is None:
            raise ValueError("not an index range: %r" % part)
        start, step = int(match.group(1)), int(match.group(3) or 1)
        stop = int(match.group(2) or start)
        if start < first or step == 0 or stop > _HIGHEST_INDEX:
            raise ValueError("not an index range: %r" % part)
        elements.extend(range(start - first, stop - first + 1, step))
    return elements


@lru_cache(maxsize=4096)
def epoch(text: str, otherwise: float) -> float:
    """Return the seconds since the epoch, from a number or from a local time as a scheduler's tool prints it."""
    if text.isdigit():
        return float(text)
    for form in _TIME_FORMATS:
        with suppress(ValueError):
            return time.mktime(time.strptime(text.partition(".")[0], form))
    return otherwise


def walltime_seconds(text: str) -> Optional[int]:
    """Return the seconds of ``7-00:00:00``, ``1:00:00``, ``10:00`` (ten minutes) or ``30`` (minutes); else None: no limit."""
    match = _WALLTIME.match(text.strip())
    if match is None:
        return None
    days, first, second, third = (int(number or 0) for number in match.groups())
    if match.group(1) or match.group(4):
        return days * 86400 + first * 3600 + second * 60 + third
    return first * 60 + second


def parse_config(text: str) -> Dict[str, str]:
    """Return the settings in lines ``name = value`` or ``name   value``."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        words = line.split(None, 1)
        if equals:
            found[name.strip()] = value.strip()
        elif len(words) == 2:
            found[words[0]] = words[1].strip()
    return found
