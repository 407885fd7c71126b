"""Campaigns whose tasks.py asks: wait for the newest run, aggregate it, submit again, until tasks.py asks for nothing new."""

from __future__ import annotations

import msgspec

from hpc_agent.campaign.journal import Ask
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.step import Stop, Wait
from hpc_agent.campaign.stopping import decision, stop
from hpc_agent.contract.primitive import PartialError
from hpc_agent.errors import PreconditionFailed
from hpc_agent.ops.aggregate.aggregate import AggregateRequest, aggregate
from hpc_agent.ops.campaign.known_campaign import CampaignScoped, KnownCampaign, known_campaign
from hpc_agent.ops.flows.campaign_steps import Driver
from hpc_agent.ops.run.freeze import freeze
from hpc_agent.ops.run.known_run import RunScoped, known_run
from hpc_agent.ops.run.run_status import ask_status
from hpc_agent.ops.submit.submit import submit
from hpc_agent.state.journal import TERMINAL
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World


class OwnCampaign(Driver):
    """A campaign whose history is that of its runs; its tasks.py reads it with ``prior``."""

    def __init__(self, world: World, repo: RepoLayout, manifest: Manifest) -> None:
        super().__init__(world, repo, manifest)
        self._scope = CampaignScoped(campaign_id=manifest.campaign_id, experiment_dir=str(repo.root))
        self._aggregated: set[str] = set()

    def next(self) -> Stop | Wait:
        """Return what the files of this machine say of the campaign."""
        self._known = known = known_campaign(self.world, self._scope)
        self.manifest, self.history = known.manifest, known.history
        found = decision(self.manifest, self.history, known.spent)
        return Stop(found) if found.stops else Wait(found)

    def known(self) -> KnownCampaign:
        return self._known

    def tick(self) -> Stop | Wait:
        """Aggregate the run that has ended, and submit what tasks.py asks after it. Return the last step."""
        self.problems = []
        while True:
            step = self.next()
            if isinstance(step, Stop) or (step.decision.decision == "wait_in_flight" and not self._settle()):
                return step
            if step.decision.decision == "continue" and (repeated := self._submit()):
                return Stop(stop("exhausted", f"tasks.py asks for the trials of {repeated} again"))

    def _settle(self) -> bool:
        """Aggregate the first open run if it has ended. Return True when it is counted."""
        run_id = next(iter(self.history.open_runs))
        folder = self._scope.experiment_dir
        run = known_run(self.world, RunScoped(run_id=run_id, experiment_dir=folder))
        if ask_status(run).lifecycle_state not in TERMINAL:
            return False
        if run_id in self._aggregated:
            said = f"the table of {run_id} lacks tasks: see 'hpc-agent failures --run-id {run_id}'"
            self.problems.append(PartialError("outputs_missing", said))
            return False
        self._aggregated.add(run_id)
        counted = aggregate(AggregateRequest(run_id=run_id, experiment_dir=folder), self.world)
        self.told += counted.included_tasks
        return True

    def _submit(self) -> str:
        """Submit the next iteration, or return the ended run that has the same parameters."""
        request = msgspec.structs.replace(self.runs.request([], 0), tasks=None, run_name=None)
        with freeze(self.world, request) as frozen:  # the run id differs: the history is part of the pushed files
            cmd_sha = frozen.tasks.cmd_sha
        for record in self.runs.journal.all()[0]:
            mine = record.campaign_id == self.manifest.campaign_id and record.cmd_sha == cmd_sha
            if mine and record.status in TERMINAL:
                return record.run_id
        sent = submit(request, self.world)
        self.add_notes(sent.notes)
        self.submitted.append(sent.run_id)
        self.asked += sent.total_tasks
        return ""

    def failed_again(self) -> list[Ask]:
        """Raise PreconditionFailed: the failed tasks of its runs are submitted again by resubmit."""
        message = "the trials of this campaign are those of its tasks.py"
        remedy = "Submit the failed tasks of its newest run again with 'hpc-agent resubmit'."
        raise PreconditionFailed(message, field="retry_failed", remediation=remedy)
