"""Grid Engine: qsub, qstat and qacct, checked against Son of Grid Engine 8.1.9 (tests/data/sge/README.md).

Array tasks count from 1 there. Meanings of states are those of the sge_status manual page.
"""

import math
import os
import pwd
import re
import time
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple
from xml.etree import ElementTree

from ...shared.commands import run_command
from ...shared.errors import NodeError
from ...shared.ranges import decode_ranges, encode_ranges
from .. import base
from ..base import AccountingRow, Limit, Partition, Query, QueueRow, Rule
from . import qacct, site

_NOT_FOUND = re.compile(r"job (id|name) \S+ not found")
_NO_ACCOUNTING = re.compile(r"accounting\S*: No such file|no jobs running since startup")
_DETAIL = re.compile(r"^(job_number|error reason +[0-9]+|jid_predecessor_list|scheduling info): *(.*)$", re.MULTILINE)
# The letters of a state, by precedence: "Eqw" is an error though it waits, "dr" a deletion though it runs.
_STATES = (
    ({"E"}, "error"), ({"d"}, "completing"), ({"s", "S", "T"}, "suspended"), ({"r", "t"}, "running"), ({"h"}, "held"),
)  # fmt: skip
# The last column of qstat -f: unreachable, in error, disabled, alarm, suspended.
_UNUSABLE = re.compile(r" [a-zA-Z]*[uEdaADs][a-zA-Z]*\s*$")
_REASON_STAMP = re.compile(r"^[0-9/]+ [0-9:.]+ \[[0-9:]+\]: *(error: *)?")

# A pending job's reason is not worth a longer wait.
_DETAIL_TIMEOUT = 15.0

_RULES = (
    Rule(r"got read error|receiving gdi request|no response|timeout",
         "The job may have been submitted: wait a minute", True, "submission_unknown"),
    Rule(r"unable to (send message to|contact) qmaster|commlib error|got send error",
         "The qmaster does not answer (see 'qstat' on the cluster): wait", True, "cluster_timeout"),
    Rule(r"only [0-9]+ jobs are allowed",
         "The limit on jobs is reached: wait until some have ended ('qstat' lists them), or lower max_concurrent_jobs in "
         "clusters.yaml", True),
    Rule(r"more than [0-9]+ tasks", "Set max_array_size in clusters.yaml to that number"),
    Rule(r"unknown queue", "Name a queue that 'qconf -sql' on the cluster lists"),
    Rule(r"parallel environment",
         "Set parallel_environment in clusters.yaml to one that 'qconf -spl' on the cluster lists"),
    Rule(r"unknown resource|is not a \w+ value",
         "Ask for resources that 'qconf -sc' on the cluster lists (sge_memory_resource and sge_gpu_request in "
         "clusters.yaml name those for memory and GPUs)"),
    Rule(r"requested project", "Name a project, as the account, that 'qconf -sprjl' on the cluster lists"),
    Rule(r"no suitable queues", "Ask for less: no queue could ever run this"),
    Rule(r"invalid option", "Correct extra_flags: qsub does not know one"),
    Rule(r"Unable to (run job|read script)|denied|^qsub: |rejected", "Correct the setting that the scheduler names"),
)  # fmt: skip


class GridEngine(base.Scheduler):
    """Arrays are numbered 1..n; the job's name must begin with a letter."""

    submit_tool = "qsub"
    job_id = re.compile(
        r"^\s*([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?\s*$|^\s*Your job(?:-array)? ([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)? \("
    )
    prefix = re.compile(r"^(Unable to run job: |qsub: |error: |Exiting\.$)")
    refusals = _RULES
    constraint_separator = ","
    changes_whole_jobs = True
    query_environment = {"SGE_LONG_QNAMES": "-1"}  # else qstat -g c cuts the names of queues
    unreachable = re.compile(r"commlib|unable to (send message to|contact) qmaster|gdi request|got (send|read) error")

    def submit_command(self, job: base.Job) -> List[str]:
        argv = ["qsub", "-terse", "-t", "1-%d" % job.count, "-N", job.name]
        # The colon keeps one inside the path from being read as the end of a host's name.
        argv += ["-o", ":" + job.log_folder, "-j", "y", "-S", "/bin/bash", "-wd", job.working_directory]
        if job.max_running:
            argv += ["-tc", "%d" % job.max_running]
        # Names only: qsub takes the values from its own environment; written here, they would end at a comma.
        argv += ["-v", ",".join(sorted(job.environment) + _locale())]
        argv += _resource_flags(job.resources, job.site)
        # A resource takes the place of a QOS (``highp`` on some sites).
        for name, flag in (("partition", "-q"), ("account", "-P"), ("qos", "-l"), ("constraint", "-l")):
            if job.placement.get(name):
                argv += [flag, str(job.placement[name])]
        if job.placement.get("exclude_nodes"):
            argv += ["-l", "h=!(%s)" % "|".join(job.placement["exclude_nodes"])]
        if job.after:
            argv += ["-hold_jid", ",".join(job.after)]
        return argv + [str(word) for word in job.placement.get("extra_flags") or []] + [job.script]

    def change_command(self, job_id: str, waiting: str, job: base.Job, fields: Sequence[str]) -> List[str]:
        # qalter changes the whole job, and all of its resources: those that do not change are named again.
        del waiting
        words = self.submit_command(job)
        kept = {"-l"} if {"constraint", "walltime_sec"} & set(fields) else set()
        kept |= {"-q"} if "partition" in fields else set()
        pairs = [pair for pair in zip(words, words[1:]) if pair[0] in kept]  # noqa: RUF007 - Python 3.6
        return ["qalter", *(word for pair in pairs for word in pair), job_id]

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        rows = parse_queue(self._query(["qstat", "-u", _user(), "-xml"]), set(job_ids))
        running = {row.job for row in rows if row.state == "running"}
        # A pending job is explained only while none of its elements run: qstat -j has a line for every running task.
        waiting = {row.job for row in rows if row.state == "pending"} - running
        unexplained = waiting | {row.job for row in rows if row.state in ("held", "error")}
        if not unexplained:
            return rows
        argv = ["qstat", "-j", ",".join(sorted(unexplained))]
        try:
            _, out, _ = run_command(argv, _DETAIL_TIMEOUT, env=base.clean_environment())
        except NodeError:
            return rows
        return explain(rows, parse_details(out))

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        rows: List[AccountingRow] = []
        deadline = time.monotonic() + self.command_timeout
        for job in job_ids:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NodeError("cluster_timeout", "qacct took too long to reach job %s" % job)
            rows += qacct.parse(self._query(["qacct", "-j", job], left), job, since)
        return rows

    def submitted_elements(self) -> int:
        return sum(
            len(base.parse_indices(entry.findtext("tasks") or "1", first=1))
            for entry in _job_list(self._query(["qstat", "-u", _user(), "-xml"]))
        )

    def usable_nodes(self) -> List[str]:
        found = set()
        for line in self._query(["qstat", "-f"]).splitlines():
            queue, _, host = line.partition(" ")[0].partition("@")
            if queue and host and not _UNUSABLE.search(line):
                found.add(host)
        return sorted(found)

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[Limit]]:
        return site.queues(query), site.limits(query, _user())

    def find(self, name: str, since: float) -> List[str]:
        found = parse_named(self._query(["qstat", "-u", _user(), "-r", "-xml"]), name, since)
        try:
            ended = self._query(["qacct", "-o", _user(), "-j", name])
        except NodeError as error:
            # Without an accounting file the queue alone answers, and the claims of tasks that ran.
            if not found and not _NO_ACCOUNTING.search(error.details.get("stderr_tail", "")):
                raise
            ended = ""
        for block in qacct.blocks(ended):
            submitted = base.epoch(block.get("qsub_time", ""), since)
            if block.get("jobname") == name and submitted >= since - base.CLOCK_SKEW:
                found[block["jobnumber"]] = submitted
        return sorted(found, key=lambda job: (found[job], int(job)))

    def _query(self, argv: List[str], timeout: Optional[float] = None) -> str:
        """Return the standard output of a query; empty for an unknown job. Raises NodeError when the query failed."""
        code, out, err = run_command(argv, timeout or self.command_timeout, env=base.clean_environment())
        if code == 0:
            return out
        if _NOT_FOUND.search(err):
            return ""
        raise self.query_error(argv[0], code, err)


def _resource_flags(resources: Dict[str, Any], settings: Dict[str, Any]) -> List[str]:
    cpus = int(resources.get("cpus") or 1)
    flags: List[str] = []
    if resources.get("walltime_sec"):
        flags += ["-l", "h_rt=%d" % math.ceil(float(resources["walltime_sec"]))]
    if resources.get("mem_mb"):
        # Grid Engine counts memory per slot, and there is a slot for each core.
        resource = settings.get("sge_memory_resource") or "h_data"
        flags += ["-l", "%s=%dM" % (resource, math.ceil(float(resources["mem_mb"]) / cpus))]
    if cpus > 1:
        flags += ["-pe", str(settings.get("parallel_environment") or "shared"), "%d" % cpus]
    if resources.get("gpus"):
        flags += ["-l", _gpu_request(settings.get("sge_gpu_request") or "cuda={count}", resources)]
    return flags + (["-l", "exclusive=true"] if resources.get("exclusive") else [])


def _locale() -> List[str]:
    """Return the caller's locale as words for ``-v``. Without a word for LC_ALL a job would have the daemon's."""
    names = sorted(name for name in os.environ if name in ("LANG", "LANGUAGE") or name.startswith("LC_"))
    return names if "LC_ALL" in names else names + ["LC_ALL="]


def _gpu_request(template: str, resources: Dict[str, Any]) -> str:
    """Return the site's request for GPUs, such as ``gpu,{type},cuda={count}``; without ``{type}`` the type is added."""
    kind = resources.get("gpu_type")
    parts = [part for part in template.split(",") if kind or "{type}" not in part]
    if kind and "{type}" not in template:
        parts.append("{type}")
    return ",".join(parts).replace("{type}", str(kind)).replace("{count}", "%d" % int(resources["gpus"]))


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _job_list(text: str) -> List[ElementTree.Element]:
    """Return the jobs in ``qstat -xml``. Raises NodeError where the document is cut short or missing."""
    start, end = text.find("<?xml"), text.rfind("</job_info>")
    document = text[max(0, start) : end + len("</job_info>")]
    try:
        # The document is the scheduler's own, not a stranger's.
        return list(ElementTree.fromstring(document).iter("job_list"))  # noqa: S314
    except ElementTree.ParseError as error:
        raise NodeError("remote_command_failed", "qstat -xml printed no document: %s" % error) from error


def parse_queue(text: str, wanted: Set[str]) -> List[QueueRow]:
    """Return the rows of ``qstat -xml``, without reasons. Raises NodeError where the document cannot be read."""
    rows = []
    for entry in _job_list(text):
        job, raw, tasks = (entry.findtext(tag) or "" for tag in ("JB_job_number", "state", "tasks"))
        if job not in wanted:
            continue
        try:
            elements = base.parse_indices(tasks or "1", first=1)
        except ValueError as error:
            raise NodeError("remote_command_failed", "qstat -xml: job %s: %s" % (job, error)) from error
        host = (entry.findtext("queue_name") or "").partition("@")[2]
        name = entry.findtext("JB_name") or ""
        rows.append(QueueRow(job, encode_ranges(elements), _state(raw), "", raw, host, name))
    return rows


def _state(letters: str) -> str:
    """Return ``Eqw``, ``hqw``, ``Rr``, ``dt``, ``tS`` ... as one of QUEUE_STATES."""
    return next((state for signs, state in _STATES if not signs.isdisjoint(letters)), "pending")


def parse_details(text: str) -> Dict[str, Dict[str, str]]:
    """Return {"error reason N", "jid_predecessor_list", "scheduling info"} by job id, from ``qstat -j``."""
    found: Dict[str, Dict[str, str]] = {}
    job: Dict[str, str] = {}
    for key, value in _DETAIL.findall(text):
        if key == "job_number":
            job = found.setdefault(value.strip(), {})
        else:
            job.setdefault(" ".join(key.split()), value.strip())
    return found


def explain(rows: List[QueueRow], details: Dict[str, Dict[str, str]]) -> List[QueueRow]:
    """Return the rows with their reasons; a job that is held only until other jobs end is pending."""
    return [_explained(row, details.get(row.job, {})) for row in rows]


def _explained(row: QueueRow, details: Dict[str, str]) -> QueueRow:
    if row.state == "error":
        first = decode_ranges(row.elements)[0] + 1
        return row._replace(reason=_REASON_STAMP.sub("", details.get("error reason %d" % first, "")))
    if row.state == "held" and details.get("jid_predecessor_list"):
        return row._replace(state="pending", reason="waits for job %s" % details["jid_predecessor_list"])
    return row._replace(reason=details.get("scheduling info", "")) if row.state in ("held", "pending") else row


def parse_named(text: str, name: str, since: float) -> Dict[str, float]:
    """Return the time of submission (of start, once it runs) by id of the jobs ``name`` in ``qstat -r -xml``."""
    found: Dict[str, float] = {}
    for entry in _job_list(text):
        stamp = entry.findtext("JB_submission_time") or entry.findtext("JAT_start_time") or ""
        submitted = base.epoch(stamp, since)
        named = name in (entry.findtext("full_job_name"), entry.findtext("JB_name"))
        if named and submitted >= since - base.CLOCK_SKEW:
            found.setdefault(str(entry.findtext("JB_job_number")), submitted)
    return found
