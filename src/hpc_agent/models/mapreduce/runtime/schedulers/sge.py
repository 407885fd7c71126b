"""Grid Engine: qsub, qstat and qacct, checked against Son of Grid Engine 8.1.9 (tests/data/sge/README.md).

Array tasks count from 1 there. Meanings of states and of "failed" codes are those of the sge_status manual page.
"""

import math
import os
import pwd
import re
import time
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple
from xml.etree import ElementTree

from .. import common
from . import base

_JOB_ID = re.compile(
    r"^\s*([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?\s*$|^\s*Your job(?:-array)? ([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)? \("
)
_NOT_FOUND = re.compile(r"job (id|name) \S+ not found")
_NO_ANSWER = re.compile(r"commlib|unable to (send message to|contact) qmaster|gdi request|got (send|read) error")
_BLOCK_FIELD = re.compile(
    r"^(={20,}|(?:jobname|jobnumber|taskid|hostname|qsub_time|failed|exit_status|ru_wallclock|ru_maxrss|maxvmem"
    r"|category)(?=[ \t]))[ \t]*(.*)$",
    re.MULTILINE,
)
_DETAIL = re.compile(r"^(job_number|error reason +[0-9]+|jid_predecessor_list|scheduling info): *(.*)$", re.MULTILINE)
_REASON_STAMP = re.compile(r"^[0-9/]+ [0-9:.]+ \[[0-9:]+\]: *(error: *)?")
_SIZE = re.compile(r"^([0-9.]+)([KMGT]?)B?$", re.IGNORECASE)
_UNITS = {"": 1.0, "K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4}
_TIME_FORMATS = ("%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S")

# qacct's "failed" codes: the job goes back to the queue; it ran, and the clean-up failed; the shepherd or node died;
# a limit; a signal. The rest failed to start the job (sge_status manual page).
_REQUEUED = (24, 25)
_AFTERWARDS = (12, 13, 14, 15, 16)
_NODE_DIED = (18, 19)
_LIMIT = 37
_SIGNALLED = (17, 100)

# Words of a pending reason do not matter enough to wait for them.
_DETAIL_TIMEOUT = 15.0

_THEN = ", then run 'hpc-agent submit' again."
_RULES: Tuple[base.Rule, ...] = (
    (r"got read error|receiving gdi request|no response|timeout", "submission_unknown", True,
     "Run the same 'hpc-agent submit' again in a minute: it looks the job up before it acts."),
    (r"unable to (send message to|contact) qmaster|commlib error|got send error", "cluster_timeout", True,
     "The qmaster does not answer ('qstat' on the cluster tells): wait" + _THEN),
    (r"only [0-9]+ jobs are allowed", "scheduler_refused", True,
     "The limit on jobs is reached: wait until some have ended ('qstat' lists them), or lower "
     "max_concurrent_jobs in clusters.yaml" + _THEN),
    (r"more than [0-9]+ tasks", "scheduler_refused", False,
     "Set max_array_size in clusters.yaml to that number" + _THEN),
    (r"unknown queue", "scheduler_refused", False, "Name a queue that 'qconf -sql' on the cluster lists" + _THEN),
    (r"parallel environment", "scheduler_refused", False,
     "Set parallel_environment in clusters.yaml to one that 'qconf -spl' on the cluster lists" + _THEN),
    (r"unknown resource|is not a \w+ value", "scheduler_refused", False,
     "Ask for resources that 'qconf -sc' on the cluster lists (sge_memory_resource and sge_gpu_request in "
     "clusters.yaml name those for memory and GPUs)" + _THEN),
    (r"requested project", "scheduler_refused", False,
     "Name a project, as the account, that 'qconf -sprjl' on the cluster lists" + _THEN),
    (r"no suitable queues", "scheduler_refused", False, "Ask for less: no queue could ever run this" + _THEN),
    (r"invalid option", "scheduler_refused", False, "Correct extra_flags: qsub does not know one" + _THEN),
    (r"Unable to (run job|read script)|denied|(?m)^qsub: |rejected", "scheduler_refused", False,
     "Correct what the scheduler names" + _THEN),
)  # fmt: skip


class GridEngine(base.Scheduler):
    """Arrays are numbered 1..n; the job's name must begin with a letter."""

    name = "sge"

    def submit_command(self, job: base.Job) -> List[str]:
        argv = ["qsub", "-terse", "-t", "1-%d" % job.count, "-N", job.name]
        # The colon keeps one inside the path from being read as the end of a host's name.
        argv += ["-o", ":" + job.log_folder, "-j", "y", "-S", "/bin/bash", "-wd", job.working_directory]
        if job.max_running:
            argv += ["-tc", "%d" % job.max_running]
        if job.environment:
            # Names only: qsub takes the values from its own environment; written here, they would end at a comma.
            argv += ["-v", ",".join(sorted(job.environment))]
        argv += _resource_flags(job.resources, job.site) + _placement_flags(job.placement)
        if job.after:
            argv += ["-hold_jid", ",".join(job.after)]
        return argv + [str(word) for word in job.placement.get("extra_flags") or []] + [job.script]

    def parse_submit(self, code: int, out: str, err: str) -> str:
        ids = {match.group(1) or match.group(2) for match in map(_JOB_ID.match, out.splitlines()) if match}
        if code == 0 and len(ids) == 1:
            return ids.pop()
        said = err.strip() or out.strip()
        if code == 0 or ids:
            outcome = "qsub ended with exit code %d and named %d jobs" % (code, len(ids))
            raise common.NodeError("submission_unknown", "%s: %s" % (outcome, _sentence(said)))
        error = base.refusal(_RULES, said)
        error.message = "qsub: %s" % (_sentence(said) or "exit code %d and not a word" % code)
        raise error

    def queue(self, job_ids: Sequence[str]) -> List[Dict[str, Any]]:
        out, _ = _ask(["qstat", "-u", _user(), "-xml"], self.command_timeout)
        rows = parse_queue(out, set(job_ids))
        running = {row["job"] for row in rows if row["state"] == "running"}
        # Why a job waits is asked for only while none of it runs: with running tasks the answer is long.
        waiting = {row["job"] for row in rows if row["state"] == "pending"} - running
        puzzling = waiting | {row["job"] for row in rows if row["state"] in ("held", "error")}
        if puzzling:
            explain(rows, _details(sorted(puzzling)))
        return rows

    def accounting(self, job_ids: Sequence[str], since: float) -> List[Dict[str, Any]]:
        rows: List[Dict[str, Any]] = []
        deadline = time.monotonic() + self.command_timeout
        for job in job_ids:
            left = deadline - time.monotonic()
            if left <= 0:
                raise common.NodeError("cluster_timeout", "qacct did not answer for %s in time" % job)
            out, _ = _ask(["qacct", "-j", job], left, missing=_NOT_FOUND)
            rows += parse_accounting(out, job, since)
        return rows

    def find(self, name: str, since: float) -> List[str]:
        out, _ = _ask(["qstat", "-u", _user(), "-r", "-xml"], self.command_timeout)
        found = {job: when for job, when in parse_named(out, name) if when >= since - base.CLOCK_SKEW}
        try:
            out, _ = _ask(["qacct", "-o", _user(), "-j", name], self.command_timeout, missing=_NOT_FOUND)
        except common.NodeError:
            if not found:
                raise
        ended = [(b["jobnumber"], _epoch(b.get("qsub_time", ""))) for b in _blocks(out) if b.get("jobname") == name]
        found.update({job: when for job, when in ended if when is None or when >= since - base.CLOCK_SKEW})
        return sorted(found, key=lambda job: (found[job], int(job)))
