"""What a scheduler adapter answers. One class per scheduler; it runs on the cluster, under Python 3.6, standard library
only.

Element indices are 0-based here and everywhere above; an adapter alone knows what its scheduler counts from.
"""

import os
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..shared.commands import run_command
from ..shared.errors import NodeError

# States of an element that the queue still knows.
QUEUE_STATES = ("pending", "held", "running", "suspended", "completing", "error")

# Variables that would change what the scheduler's tools print or default to, or leak the caller's environment into
# jobs.
_DROPPED = re.compile(
    r"^(S(LURM|BATCH|QUEUE|ACCT|INFO|CONTROL|RUN)_|SGE_O_|SGE_TASK|JOB_|CONDA_|_CE_|VIRTUAL_ENV|PYTHON(PATH|HOME|STARTUP)$|BASH_FUNC_)"
)
_KEPT = ("SLURM_CONF",)

_INDICES = re.compile(r"^([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?$")

# Above what any scheduler allows: a damaged list must not fill the memory.
_HIGHEST_INDEX = 5000000

# How far the clocks of the login node, the controller and the database may disagree, in seconds.
CLOCK_SKEW = 300.0

# One line of an adapter's table of refusals: pattern, error code, whether waiting helps, what to do.
Rule = Tuple[str, str, bool, str]


class Job(object):
    """One array to submit. Every field is plain data that the client validated.

    name         unique token of the array; stands in the scheduler's job name and, where there is one, its comment
    count        number of elements, 0..count-1
    script       absolute path of the job script; takes no arguments
    environment  variables the script needs (values may hold commas and spaces, never NUL or newline)
    log_folder   absolute folder for the scheduler's own output
    after        ids of jobs that must have ended, in whatever state, before this one starts
    max_running  at most so many elements at once; None is no limit
    resources    walltime_sec, mem_mb (of an element, all cores together), cpus, gpus, gpu_type, nodes, exclusive;
                 missing or None is not asked for
    placement    partition (or queue), account, qos, constraint, exclude_nodes (list), extra_flags (argv words)
    site         knobs of the cluster from clusters.yaml (parallel_environment, sge_memory_resource, ...)
    working_directory  absolute folder the element starts in
    """

    def __init__(self, document: Dict[str, Any]) -> None:
        self.name = str(document["name"])
        self.count = int(document["count"])
        self.script = str(document["script"])
        self.environment: Dict[str, str] = dict(document.get("environment") or {})
        self.log_folder = str(document["log_folder"])
        self.after: List[str] = [str(job) for job in document.get("after") or []]
        self.max_running: Optional[int] = document.get("max_running")
        self.resources: Dict[str, Any] = dict(document.get("resources") or {})
        self.placement: Dict[str, Any] = dict(document.get("placement") or {})
        self.site: Dict[str, Any] = dict(document.get("site") or {})
        self.working_directory = str(document["working_directory"])
        # A descriptor that the submission tool keeps open for as long as it lives; None: nobody waits for that.
        self.barrier: Optional[int] = None


class Scheduler(object):
    """The questions a run asks of a scheduler. Pure builders and parsers, and the few methods that run them."""

    name = ""
    command_timeout = float(os.environ.get("HPC_SCHEDULER_TIMEOUT_SEC") or 60.0)

    @classmethod
    def for_site(cls, site: Dict[str, Any]) -> "Scheduler":
        """The adapter set up with the cluster's own knobs (clusters.yaml)."""
        del site
        return cls()

    def submit_command(self, job: Job) -> List[str]:
        """Argv of the submission; the job's environment variables are in the process environment."""
        raise NotImplementedError

    def parse_submit(self, code: int, out: str, err: str) -> str:
        """The job id.

        Raises NodeError ``scheduler_refused`` or ``scheduler_throttled`` (surely not submitted), ``cluster_timeout`` (the
        scheduler cannot be reached) or ``submission_unknown``; the last two call for a look-up before another attempt.
        """
        raise NotImplementedError

    def submit(self, job: Job) -> str:
        """Submit one array and return its job id."""
        command = self.submit_command(job)
        try:
            code, out, err = run_command(
                command,
                self.command_timeout,
                env=clean_environment(job.environment),
                cwd=job.working_directory,
                inherit=[job.barrier] if job.barrier is not None else [],
            )
        except NodeError as error:
            if error.code != "cluster_timeout":
                raise
            # The request may have been sent and accepted before the tool was killed.
            raise NodeError("submission_unknown", error.message) from error
        return self.parse_submit(code, out, err)

    def queue(self, job_ids: Sequence[str]) -> List[Dict[str, Any]]:
        """Rows of what is still queued or running.

        Each row: {"job": id, "elements": "0-9,12" (ranges), "state": one of QUEUE_STATES, "reason": text or "",
        "raw": the scheduler's own state, "host": text or "", "name": the job's name}. Pending elements of an array come as
        one row, however many they are. An answer without a job means the queue does not have it. Raises NodeError when the query
        itself failed.
        """
        raise NotImplementedError

    def accounting(self, job_ids: Sequence[str], since: float) -> List[Dict[str, Any]]:
        """Rows of what accounting says has ended, submitted at or after ``since`` (epoch seconds).

        Each row: {"job": id, "element": int, "state": "complete" | "failed", "cause": None | "timeout" |
        "out_of_memory" | "node_failure" | "preempted" | "cancelled" | "environment" | "never_started" | "exit" |
        "signal", "raw": the scheduler's own words, "exit_code": int or None, "signal": int or None, "host": text,
        "seconds": float or None, "max_rss_mb": float or None}. Only the newest attempt of an element. Raises
        NodeError when the query itself failed (a database that is down is not an empty answer).
        """
        raise NotImplementedError

    def find(self, name: str, since: float) -> List[str]:
        """Ids of the user's jobs called ``name``, in the queue or in accounting, submitted at or after ``since``;
        newest last.
        """
        raise NotImplementedError

    def submitted_elements(self) -> int:
        """How many elements of all of the user's jobs are pending or running. Raises NodeError."""
        raise NotImplementedError

    def usable_nodes(self) -> List[str]:
        """Names of the nodes that take jobs now; empty where that is not known. Raises NodeError."""
        return []


def clean_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """The caller's environment without what would change the scheduler's answers or leak into a job."""
    env = {k: v for k, v in os.environ.items() if k in _KEPT or not _DROPPED.match(k)}
    env["LC_ALL"] = "C"
    env.update(extra or {})
    return env


def parse_indices(text: str, first: int = 0) -> List[int]:
    """``"3,7,12-14"`` or ``"1-2999:2"`` as element indices from 0, where the scheduler counts from ``first``.

    Raises ValueError on anything else, and so on a list that the scheduler's tool cut short.
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


def refusal(rules: Sequence[Rule], said: str, message: str) -> NodeError:
    """The error for a submission that gave no job id: the first rule whose pattern occurs in what was ``said``.

    Without a rule it is not known what happened: ``submission_unknown``, never an invitation to send it again.
    ``details`` has the scheduler's words and ``retry_later``: true where waiting, not correcting, is the remedy.
    """
    for pattern, code, retry_later, remediation in rules:
        if re.search(pattern, said, re.IGNORECASE | re.MULTILINE):
            return NodeError(code, message, remediation, {"scheduler": said, "retry_later": retry_later})
    return NodeError("submission_unknown", message, None, {"scheduler": said, "retry_later": True})


def first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else ""


Parsed = Tuple[int, str, str]
