"""The side of tinyq that runs on the cluster: commands, and what their output means. Python 3.6, standard library only."""

import json
import re
from typing import Any, Dict, List, Sequence

from _hpc_runtime.schedulers.base import AccountingRow, Job, QueueRow, Rule, Scheduler, clean_environment
from _hpc_runtime.shared.commands import run_command


class Tinyq(Scheduler):
    submit_tool = "tinyq"
    job_id = re.compile(r"^queued job ([0-9]+)$")
    prefix = re.compile(r"^tinyq: ")
    unreachable = re.compile(r"does not answer")
    refusals = (
        # Words of the tool -> what a person does. Where waiting is the remedy: True; another error code: the fourth value.
        Rule(r"too many elements", "Set max_array_size of the cluster in clusters.yaml"),
        Rule(r"does not answer", "Wait a minute", True, "submission_unknown"),
    )

    def submit_command(self, job: Job) -> List[str]:
        words = ["tinyq", "submit", "--name", job.name, "--count", str(job.count), "--logs", job.log_folder]
        if job.after:
            words += ["--after", ",".join(job.after)]
        if job.resources.get("walltime_sec"):
            words += ["--seconds", str(job.resources["walltime_sec"])]
        return words + list(job.placement.get("extra_flags") or []) + [job.script]

    def queue(self, job_ids: Sequence[str]) -> List[QueueRow]:
        rows = []
        for row in self._ask("list"):
            if row["job"] in job_ids:
                rows.append(QueueRow(row["job"], row["elements"], row["state"], row["reason"], row["state"], "", row["name"]))
        return rows

    def accounting(self, job_ids: Sequence[str], since: float) -> List[AccountingRow]:
        rows = []
        for row in self._ask("ended", "--since", str(since)):
            if row["job"] in job_ids:
                code = row["exit_code"]
                cause = "timeout" if row["timeout"] else "exit" if code else None
                rows.append(AccountingRow(row["job"], row["element"], cause, "exit code %d" % code, code, seconds=row["seconds"]))
        return rows

    def find(self, name: str, since: float) -> List[str]:
        return [row["job"] for row in self._ask("jobs", "--since", str(since)) if row["name"] == name]

    def submitted_elements(self) -> int:
        return sum(row["count"] for row in self._ask("list"))

    def _ask(self, *words: str) -> List[Dict[str, Any]]:
        """Return the lines of JSON that a question gives. A question that fails is an error, never an empty answer."""
        code, out, err = run_command(["tinyq"] + list(words), self.command_timeout, env=clean_environment())
        if code:
            raise self.query_error("tinyq", code, err)
        return [json.loads(line) for line in out.splitlines()]


def scheduler(site: Dict[str, Any]) -> Scheduler:
    """Return the adapter; ``site`` has the settings of the cluster in clusters.yaml."""
    return Tinyq.for_site(site)
