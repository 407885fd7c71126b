"""SLURM: sbatch, squeue and sacct, checked against a real 22.05.8 (tests/data/slurm/README.md).

Meanings of states and exit codes are those of the squeue, sacct and sbatch manual pages.
"""

import math
import os
import pwd
import re
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from ...shared.commands import run_command
from ...shared.errors import NodeError
from ...shared.ranges import encode_ranges
from .. import base
from ..base import AccountingRow, Limit, Partition, Query, QueueRow, Rule
from . import site
from .job_ids import ROW_ID, elements
from .limits import limits, parse_queued

# squeue's long states. One that is neither here nor in _CAUSES is new: the job is still there, so pending.
_QUEUE_STATES = {
    "PENDING": "pending", "REQUEUED": "pending", "REQUEUE_FED": "pending", "EXPEDITING": "pending",
    "REQUEUE_HOLD": "held", "RESV_DEL_HOLD": "held", "SPECIAL_EXIT": "held",
    "CONFIGURING": "running", "POWER_UP_NODE": "running", "RESIZING": "running", "RUNNING": "running",
    "SIGNALING": "running", "STOPPED": "suspended", "SUSPENDED": "suspended",
    "COMPLETING": "completing", "STAGE_OUT": "completing", "UPDATE_DB": "completing",
}  # fmt: skip
_HELD_REASON = re.compile(r"^JobHeld\w+$|\bheld\b", re.IGNORECASE)

# sacct's final states. A job in any other state has not ended.
_CAUSES: Dict[str, Optional[str]] = {
    "COMPLETED": None, "TIMEOUT": "timeout", "DEADLINE": "timeout", "OUT_OF_MEMORY": "out_of_memory",
    "NODE_FAIL": "node_failure", "BOOT_FAIL": "node_failure", "LAUNCH_FAILED": "node_failure",
    "RECONFIG_FAIL": "node_failure", "PREEMPTED": "preempted", "CANCELLED": "cancelled",
    "REVOKED": "cancelled", "FAILED": "exit",
}  # fmt: skip

# slurmd reports "FAILED 0:53" when it could not open the output file. Above 64 there are no signals.
_LAUNCH_SIGNAL = 53
_HIGHEST_SIGNAL = 64

# Without the first, index lists are cut short; without the second, a time is local and ambiguous once a year.
# A slurm that does not heed the second prints local times.
_QUERY_ENVIRONMENT = {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "%s"}
# sacct by name leaves out jobs cancelled before they were eligible, unless it is given states and an end.
_SEARCHED_STATES = "CA,CD,F,TO,NF,PR,R,PD,S"
_DAY = 86400.0

_RULES = (
    Rule(r"Socket timed out|Zero Bytes were|Unexpected message|Transport endpoint|Connection (reset|timed out|failure)"
         r"|in standby",
         "The job may have been submitted: wait a minute", True, "submission_unknown"),
    Rule(r"rate limit|temporarily unable to accept|Resource temporarily unavailable",
         "The controller limits the rate of requests: wait a minute", True, "scheduler_throttled"),
    Rule(r"Unable to contact slurm|configuration source|authentication error|Munge \w+ failed",
         "The controller or munge is down (see 'scontrol ping' on the cluster): wait", True, "cluster_timeout"),
    Rule(r"(Max|Grp)\w*Submit",
         "You have as many jobs submitted as you may: wait until some have ended ('squeue --me' lists them), or lower "
         "max_concurrent_jobs in clusters.yaml", True),
    Rule(r"invalid partition|group not permitted",
         "Name a partition that you may use ('sinfo -s' on the cluster lists them)"),
    Rule(r"Invalid job array",
         "Set max_array_size in clusters.yaml to the value of 'scontrol show config | grep MaxArraySize'"),
    Rule(r"Invalid account|account/partition",
         "Name an account that 'sacctmgr show assoc user=$USER format=account,partition' lists"),
    Rule(r"Invalid qos", "Name a QOS that 'sacctmgr show assoc user=$USER format=account,qos' lists"),
    Rule(r"generic resource", "Ask for GPUs as 'sinfo -o \"%P %G\"' on the cluster names them"),
    Rule(r"Invalid feature|Invalid node name",
         "Correct the constraint or the excluded nodes ('sinfo -N -o \"%N %f\"' lists both)"),
    Rule(r"time limit|violates accounting/QOS",
         "Ask for less time or a smaller job: 'sinfo -o \"%P %l\"' and 'sacctmgr show qos' list limits"),
    Rule(r"node configuration|Memory specification|CPU count|More proc|Node count",
         "Ask for less: 'sinfo -o \"%P %c %m %G\"' lists the nodes' CPUs, memory in MB and GPUs"),
    Rule(r"mutually exclusive",
         "hpc-agent asks for memory itself: take memory out of extra_flags; mem_per_cpu: true in clusters.yaml makes it per CPU"),
    Rule(r"mem-per-cpu|memory (by|per) (node|cpu|core)",
         "If the site takes memory per CPU only, set mem_per_cpu: true for the cluster in clusters.yaml, else correct what the "
         "message names"),
    Rule(r"unrecognized option|invalid option|Invalid -",
         "Correct the option that sbatch rejects, in extra_flags or the resources"),
    Rule(r"Batch job submission failed|^sbatch: (error: |fatal: )?(Unable to open|This does not look|Invalid|invalid)",
         "Correct the setting that the scheduler names"),
)  # fmt: skip


class Slurm(base.Scheduler):
    """Arrays are numbered 0..n-1; the array's name stands in the job name and in the comment."""

    submit_tool = "sbatch"
    job_id = re.compile(r"^\s*(?:Submitted batch job )?([0-9]+)(?:;\S+| on cluster \S+)?\s*$")
    prefix = re.compile(r"^(\w+: )?(error: |fatal: )?(Batch job submission failed: )?")
    refusals = _RULES
    unreachable = re.compile(
        r"Unable to contact slurm|configuration source|authentication error|Munge \w+ failed|timed out|Connection refused"
        r"|Zero Bytes were|Problem talking to the database|rate limit",
        re.IGNORECASE,
    )

    query_environment = _QUERY_ENVIRONMENT
    constraint_separator = "&"

    def __init__(self, placement: Optional[Dict[str, Any]] = None) -> None:
        self.placement = placement or {}

    @classmethod
    def for_site(cls, site: Dict[str, Any]) -> "Slurm":
        """Read ``placement``: the account, QOS and partition whose limits are asked for."""
        return cls(site.get("placement"))

    def submit_command(self, job: base.Job) -> List[str]:
        throttle = "%%%d" % job.max_running if job.max_running else ""
        argv = ["sbatch", "--parsable", "--array=0-%d%s" % (job.count - 1, throttle)]
        argv += ["--job-name=" + job.name, "--comment=" + job.name]
        argv += ["--output=" + os.path.join(job.log_folder.replace("%", "%%"), "%A_%a.out")]
        argv += ["--open-mode=append", "--export=ALL", "--chdir=" + job.working_directory]
        argv += _resource_flags(job.resources, bool(job.site.get("mem_per_cpu")))
        for name in ("partition", "account", "qos", "constraint"):
            if job.placement.get(name):
                argv.append("--%s=%s" % (name, job.placement[name]))
        if job.placement.get("exclude_nodes"):
            argv.append("--exclude=" + ",".join(job.placement["exclude_nodes"]))
        if job.after:
            argv.append("--dependency=afterany:" + ":".join(job.after))
        return argv + [str(word) for word in job.placement.get("extra_flags") or []] + [job.script]

    def change_command(self, job_id: str, waiting: str, job: base.Job, fields: Sequence[str]) -> List[str]:
        # The number of tasks stays. It is named because SLURM then refuses the whole change of an element that has started in
        # the meantime; beside the features it would refuse those, and still give the running element the new time limit.
        guard = "NumTasks=%d" % int(job.resources.get("nodes") or 1)
        words = {
            "constraint": "Features=%s" % (job.placement.get("constraint") or ""),
            "partition": "Partition=%s" % job.placement.get("partition"),
            "walltime_sec": "TimeLimit=" + _walltime(job.resources.get("walltime_sec") or 0),
        }
        return ["scontrol", "update", "JobId=%s_[%s]" % (job_id, waiting), guard] + [words[name] for name in fields]

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        # Not --jobs: squeue fails when the only job of the list is no longer there.
        form = "--format=%i|%T|%N|name=%j|%r"
        wanted = set(job_ids)
        try:
            with suppress(ValueError):  # an index list was cut short; the next query prints a row for each element
                return parse_queue(self._squeue(form), wanted)
            return parse_queue(self._squeue(form, "--array"), wanted)
        except ValueError as error:
            raise NodeError("remote_command_failed", "squeue: %s" % error) from error

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        if not job_ids:
            return []
        columns = "--format=JobID,State,ExitCode,Submit,ElapsedRaw,NodeList"
        return parse_accounting(self._sacct(since, "--jobs=" + ",".join(job_ids), columns), since)

    def submitted_elements(self) -> int:
        queued = parse_queued(self._squeue("--format=%i"))
        if queued is None:  # an index list was cut short; the next query prints a row for each element
            queued = parse_queued(self._squeue("--format=%i", "--array")) or []
        return sum(row.elements for row in queued)

    def usable_nodes(self) -> List[str]:
        argv = ["sinfo", "--noheader", "--Node", "--responding", "--format=%N|%t", "--states=idle,mixed,allocated"]
        return sorted({line.partition("|")[0] for line in self._query(argv).splitlines() if line})

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[Limit]]:
        return site.partitions(query), limits(query, pwd.getpwuid(os.getuid()).pw_name, self.placement)

    def find(self, name: str, since: float) -> List[str]:
        # All states: a short job ends before accounting has it, and stays in the queue for minutes (MinJobAge).
        queued = self._squeue("--states=all", "--name=" + name, "--format=%i|%T|%N|%V|%j")
        found = parse_named(queued, name, since)
        end = "--endtime=" + _local_time(time.time() + _DAY)
        options = ["--user=%d" % os.getuid(), "--name=" + name, end, "--state=" + _SEARCHED_STATES]
        try:
            ended = self._sacct(since, *options, "--format=JobID,State,NodeList,Submit,JobName")
            found.update(parse_named(ended, name, since))
        except NodeError as error:
            if not found and not error.details.get("no_accounting"):
                raise
        return sorted(found, key=lambda job: (found[job], int(job)))

    def _squeue(self, *options: str) -> str:
        return self._query(["squeue", "--noheader", "--all", "--user=%d" % os.getuid(), *options])

    def _sacct(self, since: float, *options: str) -> str:
        # --allocations leaves out steps and so MaxRSS: with steps a large array takes six times as long.
        # sacct refuses a start in the future, which ``since`` may be where clocks disagree.
        start = "--starttime=" + _local_time(min(since, time.time()) - base.CLOCK_SKEW)
        return self._query(["sacct", "--noheader", "--parsable2", "--allocations", start, *options])

    def _query(self, argv: List[str]) -> str:
        """Return the standard output of a query. Raises NodeError when the query failed, whatever its exit code."""
        code, out, err = run_command(argv, self.command_timeout, env=base.clean_environment(_QUERY_ENVIRONMENT))
        if code == 0 and not self.unreachable.search(err):
            return out
        error = self.query_error(argv[0], code, err)
        if "accounting storage is disabled" in err:
            error.code = "remote_command_failed"
            error.details["no_accounting"] = True
            error.remediation = "This cluster keeps no accounting: only the tasks' own records tell how they ended."
        raise error


def _resource_flags(resources: Dict[str, Any], mem_per_cpu: bool) -> List[str]:
    nodes = int(resources.get("nodes") or 1)
    flags = ["--nodes=%d" % nodes, "--ntasks=%d" % nodes]
    if resources.get("walltime_sec"):
        flags.append("--time=" + _walltime(resources["walltime_sec"]))
    if resources.get("mem_mb"):
        memory = float(resources["mem_mb"])
        per_cpu = "--mem-per-cpu=%dM" % math.ceil(memory / int(resources.get("cpus") or 1))
        flags.append(per_cpu if mem_per_cpu else "--mem=%dM" % math.ceil(memory))
    if resources.get("cpus"):
        flags.append("--cpus-per-task=%d" % int(resources["cpus"]))
    if resources.get("gpus"):
        kind = ":%s" % resources["gpu_type"] if resources.get("gpu_type") else ""
        flags.append("--gres=gpu%s:%d" % (kind, int(resources["gpus"])))
    return flags + (["--exclusive"] if resources.get("exclusive") else [])


def _walltime(seconds: float) -> str:
    """Return hours:minutes:00, in whole minutes."""
    return "%02d:%02d:00" % divmod(math.ceil(float(seconds) / 60), 60)


def parse_queue(text: str, wanted: Set[str]) -> List[QueueRow]:
    """Return the rows of ``squeue --format=%i|%T|%N|name=%j|%r``, with or without name. Raises ValueError for a cut list."""
    rows = []
    for line in text.splitlines():
        fields = line.split("|", 3)
        if len(fields) < 4 or fields[0].partition("_")[0] not in wanted or fields[1] in _CAUSES:
            continue
        match = ROW_ID.match(fields[0])
        if match is None:
            raise ValueError("not a job id: %r" % fields[0])
        named = fields[3].startswith("name=")
        name, reason = fields[3][5:].split("|", 1) if named else ("", fields[3])
        state, reason = _QUEUE_STATES.get(fields[1], "pending"), "" if reason == "None" else reason
        if state == "pending" and _HELD_REASON.search(reason):
            state = "held"
        indices = encode_ranges(elements(match))
        rows.append(QueueRow(match.group(1), indices, state, reason, fields[1], fields[2], name))
    return rows


def parse_accounting(text: str, since: float) -> List[AccountingRow]:
    """Return the rows of sacct: the newest of each element, none of a job submitted before ``since``."""
    newest: Dict[Tuple[str, int], Tuple[float, AccountingRow]] = {}
    for line in text.splitlines():
        fields = line.split("|")
        match = ROW_ID.match(fields[0])
        if match is None or len(fields) < 6 or fields[1].split(" ")[0] not in _CAUSES:
            continue
        submitted = base.epoch(fields[3], since)
        if submitted < since - base.CLOCK_SKEW:
            continue
        row = _accounting_row(match.group(1), fields)
        with suppress(ValueError):  # an index list was cut short
            for element in elements(match):
                key = (row.job, element)
                if key not in newest or newest[key][0] <= submitted:
                    newest[key] = (submitted, row._replace(element=element))
    return [row for _, row in newest.values()]


def _accounting_row(job: str, fields: List[str]) -> AccountingRow:
    """Return the row of element 0, from the columns JobID, State, ExitCode, Submit, ElapsedRaw and NodeList."""
    cause = _CAUSES[fields[1].split(" ")[0]]
    code, _, number = fields[2].partition(":")
    signal = int(number) if number.isdigit() and 0 < int(number) <= _HIGHEST_SIGNAL else None
    exit_code = int(code) if code.isdigit() and signal is None and cause in (None, "exit") else None
    started = fields[5] not in ("", "None assigned")
    if cause == "exit" and signal is not None:
        cause, signal = ("environment", None) if signal == _LAUNCH_SIGNAL else ("signal", signal)
    if cause in ("exit", "cancelled", "timeout") and not started:
        cause, exit_code = "never_started", None
    return AccountingRow(
        job, 0, cause, "%s %s" % (fields[1], fields[2]), exit_code, signal,
        host=fields[5] if started else "", seconds=float(fields[4]) if fields[4].isdigit() else None,
    )  # fmt: skip


def parse_named(text: str, name: str, since: float) -> Dict[str, float]:
    """Return the submit time by job id, from rows of id, state, nodes, submit time and name."""
    found: Dict[str, float] = {}
    for line in text.splitlines():
        fields = line.split("|")
        job = fields[0].partition("_")[0]
        if len(fields) != 5 or fields[4] != name or not job.isdigit():
            continue
        submitted = base.epoch(fields[3], since)
        # A refused submission may leave a FAILED record without nodes behind: that is no job.
        refused = fields[1] == "FAILED" and fields[2] in ("", "None assigned")
        if submitted >= since - base.CLOCK_SKEW and not refused:
            found[job] = submitted
    return found


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(max(0.0, seconds)))
