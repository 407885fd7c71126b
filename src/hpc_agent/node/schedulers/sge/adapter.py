"""Grid Engine: qsub, qstat and qacct, checked against Son of Grid Engine 8.1.9 (tests/data/sge/README.md).

Array tasks count from 1 there. Meanings of states are those of the sge_status manual page.
"""

import math
import os
import pwd
import re
import time
from typing import Any, Dict, List, Sequence, Set, Tuple
from xml.etree import ElementTree

from ...shared.commands import run_command
from ...shared.errors import NodeError
from ...shared.ranges import decode_ranges, encode_ranges
from .. import base
from . import qacct

_JOB_ID = re.compile(
    r"^\s*([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?\s*$|^\s*Your job(?:-array)? ([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)? \("
)
_NOT_FOUND = re.compile(r"job (id|name) \S+ not found")
_NO_ANSWER = re.compile(r"commlib|unable to (send message to|contact) qmaster|gdi request|got (send|read) error")
_DETAIL = re.compile(r"^(job_number|error reason +[0-9]+|jid_predecessor_list|scheduling info): *(.*)$", re.MULTILINE)
# The letters of a state, by precedence: "Eqw" is an error though it waits, "dr" a deletion though it runs.
_STATES = (
    ({"E"}, "error"), ({"d"}, "completing"), ({"s", "S", "T"}, "suspended"), ({"r", "t"}, "running"), ({"h"}, "held"),
)  # fmt: skip
# The last column of qstat -f: unreachable, in error, disabled, alarm, suspended.
_UNUSABLE = re.compile(r" [a-zA-Z]*[uEdaADs][a-zA-Z]*\s*$")
_REASON_STAMP = re.compile(r"^[0-9/]+ [0-9:.]+ \[[0-9:]+\]: *(error: *)?")

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
    (r"Unable to (run job|read script)|denied|^qsub: |rejected", "scheduler_refused", False,
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
            raise NodeError("submission_unknown", "%s: %s" % (outcome, _sentence(said)))
        message = "qsub: %s" % (_sentence(said) or "exit code %d and not a word" % code)
        raise base.refusal(_RULES, said, message)

    def queue(self, job_ids: Sequence[str]) -> List[Dict[str, Any]]:
        rows = parse_queue(_ask(["qstat", "-u", _user(), "-xml"], self.command_timeout), set(job_ids))
        running = {row["job"] for row in rows if row["state"] == "running"}
        # Why a job waits is asked for only while none of it runs: qstat -j has a line for every running task.
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
                raise NodeError("cluster_timeout", "qacct took too long to reach job %s" % job)
            rows += qacct.parse(_ask(["qacct", "-j", job], left), job, since)
        return rows

    def submitted_elements(self) -> int:
        return sum(
            len(base.parse_indices(entry.findtext("tasks") or "1", first=1))
            for entry in _job_list(_ask(["qstat", "-u", _user(), "-xml"], self.command_timeout))
        )

    def usable_nodes(self) -> List[str]:
        found = set()
        for line in _ask(["qstat", "-f"], self.command_timeout).splitlines():
            queue, _, host = line.partition(" ")[0].partition("@")
            if queue and host and not _UNUSABLE.search(line):
                found.add(host)
        return sorted(found)

    def find(self, name: str, since: float) -> List[str]:
        found = parse_named(_ask(["qstat", "-u", _user(), "-r", "-xml"], self.command_timeout), name, since)
        try:
            ended = _ask(["qacct", "-o", _user(), "-j", name], self.command_timeout)
        except NodeError:
            if not found:
                raise
            ended = ""
        for block in qacct.blocks(ended):
            submitted = qacct.epoch(block.get("qsub_time", ""), since)
            if block.get("jobname") == name and submitted >= since - base.CLOCK_SKEW:
                found[block["jobnumber"]] = submitted
        return sorted(found, key=lambda job: (found[job], int(job)))


def _resource_flags(ask: Dict[str, Any], site: Dict[str, Any]) -> List[str]:
    cpus = int(ask.get("cpus") or 1)
    flags: List[str] = []
    if ask.get("walltime_sec"):
        flags += ["-l", "h_rt=%d" % math.ceil(float(ask["walltime_sec"]))]
    if ask.get("mem_mb"):
        # Grid Engine counts memory per slot, and there is a slot for each core.
        resource = site.get("sge_memory_resource") or "h_data"
        flags += ["-l", "%s=%dM" % (resource, math.ceil(float(ask["mem_mb"]) / cpus))]
    if cpus > 1:
        flags += ["-pe", str(site.get("parallel_environment") or "shared"), "%d" % cpus]
    if ask.get("gpus"):
        flags += ["-l", _gpu_request(site.get("sge_gpu_request") or "cuda={count}", ask)]
    return flags + (["-l", "exclusive=true"] if ask.get("exclusive") else [])


def _gpu_request(template: str, ask: Dict[str, Any]) -> str:
    """The site's request for GPUs, such as ``gpu,{type},cuda={count}``; a type that it has no place for is a resource."""
    kind = ask.get("gpu_type")
    parts = [part for part in template.split(",") if kind or "{type}" not in part]
    if kind and "{type}" not in template:
        parts.append("{type}")
    return ",".join(parts).replace("{type}", str(kind)).replace("{count}", "%d" % int(ask["gpus"]))


def _placement_flags(placement: Dict[str, Any]) -> List[str]:
    """Queue, project and resources. There is no QOS here: a resource stands for it (``highp`` on some sites)."""
    names = (("partition", "-q"), ("account", "-P"), ("qos", "-l"), ("constraint", "-l"))
    flags: List[str] = []
    for name, flag in names:
        if placement.get(name):
            flags += [flag, str(placement[name])]
    if placement.get("exclude_nodes"):
        flags += ["-l", "h=!(%s)" % "|".join(placement["exclude_nodes"])]
    return flags


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _sentence(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip() not in ("", "Exiting.")]
    return "; ".join(re.sub(r"^(Unable to run job: |qsub: |error: )", "", line) for line in lines)[:500]


def _ask(argv: List[str], timeout: float) -> str:
    """Standard output of a query; empty for a job that is not known. Raises NodeError when the query failed."""
    code, out, err = run_command(argv, timeout, env=base.clean_environment())
    if code == 0:
        return out
    if _NOT_FOUND.search(err):
        return ""
    kind = "cluster_timeout" if _NO_ANSWER.search(err) else "remote_command_failed"
    said = "%s: %s" % (argv[0], _sentence(err) or "exit code %d" % code)
    raise NodeError(kind, said, None, {"command": argv[0], "stderr_tail": err[-2000:]})


def _job_list(text: str) -> List[ElementTree.Element]:
    """The jobs in ``qstat -xml``. Raises NodeError where the document is cut short or is none."""
    start, end = text.find("<?xml"), text.rfind("</job_info>")
    document = text[max(0, start) : end + len("</job_info>")]
    try:
        # The document is the scheduler's own, not a stranger's.
        return list(ElementTree.fromstring(document).iter("job_list"))  # noqa: S314
    except ElementTree.ParseError as error:
        raise NodeError("remote_command_failed", "qstat -xml printed no document: %s" % error) from error


def parse_queue(text: str, wanted: Set[str]) -> List[Dict[str, Any]]:
    """Rows of ``qstat -xml``; reasons are empty. Raises NodeError where it cannot be read."""
    rows = []
    for entry in _job_list(text):
        job, raw, tasks = (entry.findtext(tag) or "" for tag in ("JB_job_number", "state", "tasks"))
        if job not in wanted:
            continue
        try:
            elements = base.parse_indices(tasks or "1", first=1)
        except ValueError as error:
            raise NodeError("remote_command_failed", "qstat -xml: job %s: %s" % (job, error)) from error
        rows.append({
            "job": job, "elements": encode_ranges(elements), "state": _state(raw), "reason": "", "raw": raw,
            "host": (entry.findtext("queue_name") or "").partition("@")[2], "name": entry.findtext("JB_name") or "",
        })  # fmt: skip
    return rows


def _state(letters: str) -> str:
    """``Eqw``, ``hqw``, ``Rr``, ``dt``, ``tS`` ... as one of QUEUE_STATES."""
    return next((state for signs, state in _STATES if not signs.isdisjoint(letters)), "pending")


def _details(jobs: List[str]) -> Dict[str, Dict[str, str]]:
    """What ``qstat -j`` says of the jobs; nothing where it does not answer, for only reasons depend on it."""
    try:
        _, out, _ = run_command(["qstat", "-j", ",".join(jobs)], _DETAIL_TIMEOUT, env=base.clean_environment())
    except NodeError:
        return {}
    return parse_details(out)


def parse_details(text: str) -> Dict[str, Dict[str, str]]:
    """Job id -> {"error reason N", "jid_predecessor_list", "scheduling info"}, from ``qstat -j``."""
    found: Dict[str, Dict[str, str]] = {}
    job: Dict[str, str] = {}
    for key, value in _DETAIL.findall(text):
        if key == "job_number":
            job = found.setdefault(value.strip(), {})
        else:
            job.setdefault(" ".join(key.split()), value.strip())
    return found


def explain(rows: List[Dict[str, Any]], details: Dict[str, Dict[str, str]]) -> None:
    """Fill in the reasons. A hold that only waits for other jobs is no hold for a person to release: pending."""
    for row in rows:
        words = details.get(row["job"], {})
        if row["state"] == "error":
            first = decode_ranges(row["elements"])[0] + 1
            row["reason"] = _REASON_STAMP.sub("", words.get("error reason %d" % first, ""))
        elif row["state"] == "held" and words.get("jid_predecessor_list"):
            row.update(state="pending", reason="waits for job %s" % words["jid_predecessor_list"])
        elif row["state"] in ("held", "pending"):
            row["reason"] = words.get("scheduling info", "")


def parse_named(text: str, name: str, since: float) -> Dict[str, float]:
    """Job id -> time of submission (of start, once it runs) of the jobs called ``name`` in ``qstat -r -xml``."""
    found: Dict[str, float] = {}
    for entry in _job_list(text):
        stamp = entry.findtext("JB_submission_time") or entry.findtext("JAT_start_time") or ""
        submitted = qacct.epoch(stamp, since)
        named = name in (entry.findtext("full_job_name"), entry.findtext("JB_name"))
        if named and submitted >= since - base.CLOCK_SKEW:
            found.setdefault(str(entry.findtext("JB_job_number")), submitted)
    return found
