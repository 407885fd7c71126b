"""OAR: oarsub, oarstat and oarnodes, checked against OAR 2.5.9 (tests/data/oar/README.md). Python 3.6, standard library only.

Each element of an array is a job of its own. What stays is the id of the array and the index, from 1: a resubmitted element
has another job id, and the greatest one is its newest attempt.
"""

import json
import math
import os
import pwd
import re
import shlex
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from _hpc_runtime.schedulers import base
from _hpc_runtime.schedulers.base import AccountingRow, Job, Partition, Query, QueueRow, Rule
from _hpc_runtime.shared.commands import run_command
from _hpc_runtime.shared.errors import NodeError
from _hpc_runtime.shared.ranges import encode_ranges

# The text of oarstat --array --format 2 (six to twelve times as fast as JSON): job, array, index, state, user, duration, message.
_TABLE = ("--array", "--format", "2")
_ROW = re.compile(r"^([0-9]+) +([0-9]+) +([0-9]+) +([A-Z-]) +\S+ +([0-9]+):([0-9]+):([0-9]+) ?(.*)$")
_HIGHEST_COUNT = 99999  # the text has five characters for the index
_STATES = {"W": "pending", "H": "held", "L": "running", "R": "running", "S": "suspended", "F": "completing"}
_REASONS = (("dependency with", "Dependency"), ("R=", "Resources"), ("matching resources", "Resources"))
_ENDED = "('Terminated', 'Error')"
_SAME = "n.array_id = jobs.array_id AND n.array_index = jobs.array_index"
_NEWEST = "NOT EXISTS (SELECT 1 FROM jobs n WHERE %s AND n.job_id > jobs.job_id)" % _SAME
# Events of a job that OAR ended, by precedence: what the walltime or a besteffort job's end is, is a request of root's too.
_CAUSES = (
    ("WALLTIME", "timeout"), ("BESTEFFORT_KILL", "preempted"), ("WORKING_DIRECTORY", "environment"),
    ("OUTPUT_FILES", "environment"), ("PING_CHECKER_NODE_SUSPECTED", "node_failure"), ("EXTERMINATE_JOB", "node_failure"),
)  # fmt: skip

# Options of oarsub that hpc-agent sets, or that change its answer. Perl takes any beginning of a long one.
_OWNED = tuple(
    "-n --name -O --stdout -E --stderr -d --directory -a --anterior --array --array-param-file -r --reservation -I --interactive "
    "-C --connect -S --scanscript --resubmit -J --json -X --xml -Y --yaml -D --dumper -h --help -V --version".split()
)

# The first process of each element. OAR names its own output by the job, which says nothing of the element; and it
# goes on in the file of an earlier attempt, which preamble.sh tells by RESTARTED. A reducer takes its job from JOB_ID.
_START = (
    'log="$HPC_OAR_LOGS/${OAR_ARRAY_ID}_$((OAR_ARRAY_INDEX - 1)).out"; [ ! -s "$log" ] || export RESTARTED=1; '
    'export JOB_ID="$OAR_ARRAY_ID"; exec >>"$log" 2>&1; exec /bin/bash "$0"'
)

_RULES = (
    Rule(r"cannot connect|connection (error|refused)", "OAR does not answer (try 'oarstat'): wait", True, "cluster_timeout"),
    Rule(r"not enough resources", "Ask for less: no set of nodes that 'oarnodes' on the cluster lists could ever run this"),
    Rule(r"queue \S+ does not exist", "Name a queue (partition) that the site's documentation lists; 'default' is one"),
    Rule(r"bad resource request",
         "Correct the constraint, such as cluster:a&mem:64: 'oarnodes' on the cluster lists the properties that there are"),
    Rule(r"unknown job type", "Name, as the QOS, a type of job that the site knows, such as besteffort"),
    Rule(r"unknown option", "Correct extra_flags: oarsub does not know one"),
    Rule(r"too many|maximum number", "Wait until some jobs have ended ('oarstat -u' lists them)", True),
    Rule(r"\[ADMISSION RULE\].*error|request syntax", "Correct the setting that the scheduler names"),
)  # fmt: skip


class Oar(base.Scheduler):
    submit_tool = "oarsub"
    job_id = re.compile(r"^OAR_(?:JOB|ARRAY)_ID=([1-9][0-9]*)$")
    prefix = re.compile(r"^(\[ERROR\] |ERROR ?: |\[ADMISSION RULE\] (Error: )?)")
    refusals = _RULES
    unreachable = re.compile(r"connect|database", re.IGNORECASE)

    def submit_command(self, job: Job) -> List[str]:
        _check(job)
        words = ["oarsub", "-n", job.name, "-l", _resources(job.resources), "-d", job.working_directory]
        words += ["-O", "/dev/null", "-E", "/dev/null"] + (["--array", "%d" % job.count] if job.count > 1 else [])
        # A type of job takes the place of a QOS (``besteffort``).
        for name, flag in (("partition", "-q"), ("account", "--project"), ("qos", "-t")):
            if job.placement.get(name):
                words += [flag, str(job.placement[name])]
        conditions = [_condition(job.placement["constraint"])] if job.placement.get("constraint") else []
        if job.placement.get("exclude_nodes"):
            conditions.append("network_address NOT IN (%s)" % _quoted(job.placement["exclude_nodes"]))
        words += ["-p", " AND ".join(conditions)] if conditions else []
        for other in self._jobs_to_wait_for(job):
            words += ["-a", other]
        return words + [str(word) for word in job.placement.get("extra_flags") or []] + [_command(job)]

    def parse_submit(self, code: int, out: str, err: str) -> str:
        # An array's line stands after those of its elements.
        arrays = [line for line in out.splitlines() if line.startswith("OAR_ARRAY_ID=")]
        return super().parse_submit(code, "\n".join(arrays) or out, err)

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        condition = "array_id IN (%s) AND state NOT IN %s" % (_quoted(job_ids), _ENDED)
        return parse_queue(self._ask(condition, *_TABLE), job_ids) if job_ids else []

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        if not job_ids:
            return []
        oldest = since - base.CLOCK_SKEW
        ended = "array_id IN (%s) AND submission_time >= %d AND %s AND " % (_quoted(job_ids), oldest, _NEWEST)
        well = self._ask(ended + "state = 'Terminated' AND exit_code = 0", *_TABLE)
        # Second, because the sentinel of the first may be a job that failed.
        failed = self._ask(ended + "state IN %s AND (exit_code IS NULL OR exit_code <> 0)" % _ENDED, "-J", "-f")
        rows = {(row.job, row.element): row for row in parse_ended(well) + parse_failed(failed)}
        return [row for row in rows.values() if row.job in job_ids]

    def find(self, name: str, since: float) -> List[str]:
        oldest = since - base.CLOCK_SKEW
        condition = "job_name = %s AND array_index = 1 AND submission_time >= %d" % (_quoted([name]), oldest)
        jobs = _parsed(self._ask(condition, "-J"))
        # A submission that was cut off leaves jobs without an array: they never start.
        return list(dict.fromkeys(str(job["array_id"]) for job in jobs if job["name"] == name and job["array_id"]))

    def submitted_elements(self) -> int:
        return sum(row[3] not in "TE" for row in _rows(self._ask("state NOT IN " + _ENDED, *_TABLE)))

    def usable_nodes(self) -> List[str]:
        code, out, err = run_command(["oarnodes", "-J"], self.command_timeout, env=base.clean_environment())
        if code:
            raise self.query_error("oarnodes", code, err)
        return sorted({str(core["network_address"]) for core in _parsed(out) if core["state"] == "Alive"})

    def partitions_and_limits(self, query: Query) -> Tuple[List[Partition], List[base.Limit]]:
        # A user cannot list the queues. This one is there unless a site took it out.
        cores = [core for core in _parsed(query("oarnodes", "-J")) if core["state"] == "Alive"]
        nodes = Counter(str(core["network_address"]) for core in cores)
        sizes = (len(nodes), len(cores), sum(not core.get("jobs") for core in cores), max(nodes.values(), default=None))
        return [Partition("default", "up", True, None, *sizes)] if nodes else [], []

    def _jobs_to_wait_for(self, job: Job) -> List[str]:
        if not job.after:
            return []
        rows = _rows(self._ask("array_id IN (%s)" % _quoted(job.after), *_TABLE))
        waiting = [row[0] for row in rows if row[1] in job.after and row[3] not in "TE"]
        if job.count == 1 or len(waiting) != 1:
            return waiting
        # For an array, oarsub 2.5.9 forgets the dependency if it is the only one: a job that has ended stands beside it.
        ended = "job_id = (SELECT max(job_id) FROM jobs WHERE state IN %s)" % _ENDED
        for row in _rows(self._ask(ended, *_TABLE)):
            if row[3] in "TE":
                return waiting + [row[0]]
        raise NodeError("scheduler_refused", "no job has ended yet that can stand beside job %s" % waiting[0])

    def _ask(self, condition: str, *options: str) -> str:
        """Return what oarstat prints of the user's jobs, and of the newest of all jobs.

        An SQL query that failed prints nothing and ends with exit code 0: the newest job shows that it did not.
        """
        user = pwd.getpwuid(os.getuid()).pw_name
        where = "job_id = (SELECT max(job_id) FROM jobs) OR (job_user = '%s' AND %s)" % (user, condition)
        argv = ["oarstat", *options, "--sql", where]
        code, out, err = run_command(argv, self.command_timeout, env=base.clean_environment())
        if code or not out.strip():
            raise self.query_error("oarstat", code, err or "no job at all is known: the database did not answer")
        return out


def scheduler(site: Dict[str, Any]) -> base.Scheduler:
    """Return the adapter; ``site`` has the settings of the cluster in clusters.yaml."""
    return Oar.for_site(site)


def _check(job: Job) -> None:
    """Raises NodeError ``scheduler_refused`` for what OAR would leave out, or could not start."""
    flags = [str(word).partition("=")[0] for word in job.placement.get("extra_flags") or []]
    owned = [flag for flag in flags if any(name.startswith(flag) or flag[:2] == name for name in _OWNED)]
    lacks = (
        (owned, "hpc-agent sets itself what extra_flags has: %s" % " ".join(owned), "Take it out of extra_flags"),
        (job.max_running, "OAR cannot limit the elements of an array that run at once", "Take out --max-running"),
        (job.count > _HIGHEST_COUNT, "oarstat lists no index above %d" % _HIGHEST_COUNT, "Lower max_array_size in clusters.yaml"),
        ("'" in job.working_directory, "OAR starts no job in a folder with an apostrophe", "Change scratch in clusters.yaml"),
    )  # fmt: skip
    for lack, why, remedy in lacks:
        if lack:
            raise NodeError("scheduler_refused", why, remedy + ", then run 'hpc-agent submit' again.")


def _resources(resources: Dict[str, Any]) -> str:
    """Return the argument of -l. HPC_OAR_RESOURCES has the form for sites whose nodes have no property ``core``."""
    form = os.environ.get("HPC_OAR_RESOURCES") or "nodes={nodes}/core={cpus}"
    counts = {name: int(resources.get(name) or 1) for name in ("nodes", "cpus")}
    text = ("nodes={nodes}" if resources.get("exclusive") else form).format(**counts)
    if resources.get("walltime_sec"):
        minutes, seconds = divmod(math.ceil(float(resources["walltime_sec"])), 60)
        text += ",walltime=%d:%02d:%02d" % (minutes // 60, minutes % 60, seconds)
    return text


def _condition(constraint: str) -> str:
    """Return ``cluster:a&(mem:64|!gpu:0)`` in SQL."""
    text = re.sub(r"(\w+):([\w.+/@-]+)", r"\1 = '\2'", constraint)
    return "(%s)" % text.replace("&", " AND ").replace("|", " OR ").replace("!", "NOT ")


def _command(job: Job) -> str:
    """Return the command of each element, for any login shell. OAR hands on no variable: they stand in it, the locale too."""
    variables = {name: value for name, value in os.environ.items() if name == "LANG" or name.startswith("LC_")}
    variables.update(job.environment, HPC_OAR_LOGS=job.log_folder)
    words = ["/usr/bin/env", *("%s=%s" % pair for pair in sorted(variables.items()))]
    return "exec " + " ".join(map(shlex.quote, [*words, "/bin/bash", "-c", _START, job.script]))


def parse_queue(text: str, wanted: Sequence[str]) -> List[QueueRow]:
    """Return the rows of ``oarstat --array --format 2``, one for the elements of an array that are in one state."""
    found: Dict[Tuple[str, str, str], List[int]] = {}
    for _, array, index, letter, _, message in _rows(text):
        if array in wanted and letter in _STATES:
            reason = next((reason for words, reason in _REASONS if words in message), message) if letter in "WH" else ""
            found.setdefault((array, letter, reason), []).append(int(index) - 1)
    return [
        QueueRow(array, encode_ranges(sorted(elements)), _STATES[letter], reason, letter)
        for (array, letter, reason), elements in found.items()
    ]


def parse_ended(text: str) -> List[AccountingRow]:
    """Return the elements that ended well, from ``oarstat --array --format 2``."""
    ended = (row for row in _rows(text) if row[3] == "T")
    return [AccountingRow(row[1], int(row[2]) - 1, None, "Terminated", 0, seconds=row[4]) for row in ended]


def parse_failed(text: str) -> List[AccountingRow]:
    """Return the elements that failed, from ``oarstat -J -f``: exit_code is the status that wait() gives."""
    return [
        _failed_row(job) for job in _parsed(text) if job["state"] in ("Terminated", "Error") and job["exit_code"] != 0
    ]


def _failed_row(job: Dict[str, Any]) -> AccountingRow:
    events = job.get("events") or []
    status: Optional[int] = job["exit_code"] if job["state"] == "Terminated" else None
    killed = None if status is None else status & 127 or None
    code = None if status is None or killed else status >> 8
    cause = _cause(job, events) if status is None else "signal" if killed else "exit"
    host = ",".join(job.get("assigned_network_address") or ())
    seconds = float(job["stopTime"] - job["startTime"]) if job["startTime"] and job["stopTime"] else None
    words = "; ".join([job["state"]] + ["%(type)s: %(description)s" % event for event in events])
    return AccountingRow(str(job["array_id"]), job["array_index"] - 1, cause, words[:500], code, killed, host, seconds)


def _cause(job: Dict[str, Any], events: List[Dict[str, Any]]) -> str:
    said = {event["type"]: event["description"] for event in events}
    cause = next((cause for event, cause in _CAUSES if event in said), "unknown")
    if cause != "unknown" or "FRAG_JOB_REQUEST" not in said:
        return cause
    if not job["startTime"]:
        return "never_started"
    return "node_failure" if said["FRAG_JOB_REQUEST"].startswith("User root ") else "cancelled"


def _rows(text: str) -> Iterable[Tuple[str, str, str, str, float, str]]:
    """Yield job, array, index, letter of the state, seconds and message of each line of ``oarstat --array --format 2``."""
    for match in filter(None, map(_ROW.match, text.splitlines())):
        job, array, index, letter, hours, minutes, seconds, message = match.groups()
        yield job, array, index, letter, int(hours) * 3600.0 + int(minutes) * 60 + int(seconds), message


def _parsed(text: str) -> List[Dict[str, Any]]:
    """Return the documents that ``-J`` prints, the newest job last. Raises NodeError where the text is cut short."""
    try:
        return [document for _, document in sorted(json.loads(text or "{}").items(), key=lambda pair: int(pair[0]))]
    except ValueError as error:
        raise NodeError("remote_command_failed", "OAR printed no JSON: %s" % error) from error


def _quoted(words: Iterable[str]) -> str:
    return ", ".join("'%s'" % word.replace("'", "''") for word in words)
