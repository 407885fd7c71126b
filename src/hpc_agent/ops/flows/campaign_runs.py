"""The runs of a campaign on its cluster: submit trials, look at all open runs in one SSH command, find an interrupted one."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.campaign.journal import History, Submitted
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.step import Submit
from hpc_agent.contract.primitive import PartialError
from hpc_agent.errors import JournalCorrupt, PreconditionFailed, RunNotFound, SpecInvalid
from hpc_agent.infra.remote import root_of
from hpc_agent.node.shared.ranges import decode_ranges, encode_ranges
from hpc_agent.ops.campaign.known_campaign import campaign_command
from hpc_agent.ops.campaign.submission import for_campaign, submit_request
from hpc_agent.ops.run.known_run import KnownRun, RunScoped, known_run, node_of, node_of_record
from hpc_agent.ops.run.resubmission import limits_of, resubmit_failed
from hpc_agent.ops.run.run_request import SubmitRequest, Trials
from hpc_agent.ops.run.run_status import journal_status
from hpc_agent.ops.run.submission import advance
from hpc_agent.ops.submit.submit import submit
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import Sidecar, read_run_sidecar
from hpc_agent.world import World


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a task; ``seconds`` are those of all its attempts."""

    state: str  # complete, stopped (early, by itself) or failed
    metrics: dict[str, Any] = {}
    seconds: float = 0.0
    cpus: int = 1
    why: str = ""  # of a failed task, or of metrics that could not be read
    wrote: list[str] | None = None  # names of the numbers of a task that lacks a metric


class RunLook(msgspec.Struct, frozen=True, kw_only=True):
    """What one look shows of a run: the ends of tasks that were not told yet, or the error of the look."""

    ended: dict[int, TaskOutcome] = {}
    counts: dict[str, int] = {}
    lifecycle_state: str = "in_flight"
    to_submit: int = 0  # arrays that a limit on submitted jobs keeps back
    held: int = 0  # arrays that wait for the canary
    stale: str | None = None
    error: str = ""
    code: str = ""


class CampaignRuns:
    """The runs of one campaign."""

    def __init__(self, world: World, repo: RepoLayout, manifest: Manifest) -> None:
        self.world, self.repo, self.manifest = world, repo, manifest
        self.journal = Journal(world, repo)
        self.node = node_of(world, repo, self.request([], 0).cluster)

    def request(self, tasks: list[dict[str, Any]], iteration: int) -> SubmitRequest:
        """Return the submission of an iteration. Raises SpecInvalid for fields of the manifest that submit does not take."""
        return submit_request(self.repo, self.manifest, tasks, iteration)

    def submit(self, step: Submit) -> tuple[Submitted, list[str]]:
        """Submit trials as one run, exactly once: one SSH command where the code is on the cluster already.

        Return the line of the journal, and the notes of submit.
        """
        rule = msgspec.to_builtins(self.manifest.early_stop)
        trials = Trials(step.iteration, step.trials, rule, campaign_command(self.repo, self.manifest.campaign_id))
        try:
            sent = submit(self.request(step.tasks, step.iteration), self.world, trials)
        except SpecInvalid as error:
            raise for_campaign(self.repo, self.manifest, error)  # noqa: B904 - it is the same error
        jobs = int(sent.plan.get("arrays") or 1)
        return Submitted(iteration=step.iteration, run_id=sent.run_id, trials=step.trials, jobs=jobs), sent.notes

    def begun(self, history: History) -> list[Submitted]:
        """Return the runs that have trials without a run: a kill came between their submission and their line.

        Raises SubmissionUnknown while nobody knows if such a run has a job.
        """
        wanted = {trial.number for trial in history.unsubmitted}
        found = []
        for record in self.journal.all()[0] if wanted else []:
            if record.campaign_id != self.manifest.campaign_id or record.run_id in history.runs:
                continue
            sidecar = self._sidecar(record)
            if sidecar is None or wanted.isdisjoint(sidecar.trials):
                continue
            try:
                known_run(self.world, RunScoped(run_id=record.run_id, experiment_dir=str(self.repo.root)))
            except PreconditionFailed:  # it has no job
                continue
            iteration, jobs = history.trials[sidecar.trials[0]].iteration, int(sidecar.plan.get("arrays") or 1)
            found.append(Submitted(iteration=iteration, run_id=record.run_id, trials=sidecar.trials, jobs=jobs))
        return found

    def _sidecar(self, record: RunRecord) -> Sidecar | None:
        try:
            return read_run_sidecar(self.repo, record.run_id)
        except (RunNotFound, JournalCorrupt):
            return None

    def look(self, history: History) -> dict[str, RunLook]:
        """Look at every open run in one SSH command. Arrays that a limit kept back are submitted, where one may go now."""
        records = {run_id: self._record(run_id) for run_id in history.open_runs}
        if not records:
            return {}
        asked = []
        for run_id, record in records.items():
            told = [task for task, trial in enumerate(history.runs[run_id]) if not history.trials[trial].is_open]
            root = root_of(record.remote_path) or self.node.root
            asked.append({"root": root, "run_id": run_id, "known": encode_ranges(told)})
        names = [one.name for one in self.manifest.metrics] + [one.metric for one in self.manifest.constraints]
        question = {"runs": asked, "metrics": names, "site": self.node.site}
        answer = self.node.bootstrap("ended", question)["runs"]
        looks = {run_id: msgspec.convert(seen, RunLook, strict=False) for run_id, seen in answer.items()}
        for run_id, seen in looks.items():
            if seen.lifecycle_state in TERMINAL and not seen.error:
                journal_status(self.journal, records[run_id], answer[run_id])
        return looks

    def go_on(self, run_id: str, release_canary: bool) -> None:
        """Submit the arrays of a run that were kept back."""
        advance(self._known(run_id), release_canary)

    def resubmit(self, run_id: str, seen: RunLook) -> RunLook:
        """Submit failed tasks again, except those that need a person. Return the look without the ends of those."""
        failed = [task for task, end in seen.ended.items() if end.state == "failed"]
        if not failed:
            return seen
        run = self._known(run_id)
        groups = resubmit_failed(run, {"among": failed, "caps": limits_of(run)}).groups
        again = {task for group in groups for task in decode_ranges(group["tasks"])}
        return msgspec.structs.replace(seen, ended={task: end for task, end in seen.ended.items() if task not in again})

    def _known(self, run_id: str) -> KnownRun:
        record = self._record(run_id)
        return KnownRun(self.repo, self.journal, record, node_of_record(self.world, self.repo, record))

    def problem_of(self, run_id: str, look: RunLook) -> PartialError | None:
        """Return what a person has to know of a look at a run."""
        said = look.error or look.stale or ""
        if look.code == "run_not_found" and self.journal.find(run_id) is None:
            adopt = f"hpc-agent reconcile --remote --cluster {self.node.cluster.name} --run-id {run_id}"
            said = f"another machine submitted it: '{adopt}' adopts it"
        elif look.code == "run_not_found":
            said += f"; if it does not come back, 'hpc-agent mark-run-terminal --run-id {run_id}': its trials count as failed"
        return PartialError(look.code or "remote_command_failed", f"{run_id}: {said}") if said else None

    def was_given_up(self, run_id: str) -> bool:
        """Return True for a run that mark-run-terminal took off the list: a person says that nothing comes of it."""
        return self._record(run_id).status in ("failed", "abandoned")

    def _record(self, run_id: str) -> RunRecord:
        found = self.journal.find(run_id)
        return found or RunRecord(run_id=run_id, cluster=self.node.cluster.name)
