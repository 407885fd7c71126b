"""The steps of a campaign: tell what has ended, ask, submit, stop; each is written before the next one begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from hpc_agent.campaign.journal import Ask, CampaignJournal, Line, Submitted, Tell
from hpc_agent.campaign.manifest import Manifest, read_manifest
from hpc_agent.campaign.step import AskNow, Step, Stop, Submit, Wait, next_step, tell_of
from hpc_agent.campaign.stopping import Decision, remaining, spent_of
from hpc_agent.campaign.strategies import not_tried_again
from hpc_agent.contract.primitive import PartialError, Result
from hpc_agent.ops.campaign.known_campaign import KnownCampaign
from hpc_agent.ops.campaign.submission import check_submission
from hpc_agent.ops.flows.campaign_runs import CampaignRuns, RunLook
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

RUNS_SHOWN = 10


class CampaignDriverResult(Result, kw_only=True, omit_defaults=True):
    campaign_id: str
    decision: Annotated[str, doc("wait_in_flight, stop_converged, ..., or at_work: another driver has the campaign")]
    reason: Annotated[str, doc("of a stop: target, plateau, max_iters, budget, abort, exhausted")] = ""
    detail: str = ""
    told: Annotated[int, doc("ends of trials that were written now")] = 0
    asked: int = 0
    submitted: Annotated[list[str], doc("runs of this call, the last ten")] = []
    runs: Annotated[int, doc("number of the runs of this call")] = 0
    trials: Annotated[dict[str, int] | None, doc("of this campaign, number in each state")] = None
    earlier_trials: Annotated[int, doc("of the campaigns that it was begun from")] = 0
    best: Annotated[dict[str, Any] | None, doc("trial, run_id, task_id, params, values")] = None
    ticks: int = 0
    next_step: str = ""
    raise_command: Annotated[str, doc("raises the limit at which the campaign has stopped")] = ""
    notes: Annotated[list[str], doc("of submit, about the trials that were submitted now")] = []


class Driver:
    """A campaign with its journal, its history, and what this call has done."""

    def __init__(self, world: World, repo: RepoLayout, manifest: Manifest) -> None:
        self.world, self.repo, self.manifest = world, repo, manifest
        self.runs = CampaignRuns(world, repo, manifest)
        self.journal = CampaignJournal(world, repo, manifest.campaign_id)
        self.history = self.journal.history()
        self.auto_resubmit = False
        self.told = self.asked = 0
        self.submitted: list[str] = []
        self.problems: list[PartialError] = []
        self.notes: list[str] = []  # of submissions
        self.person_first = ""  # what a person has to do before the campaign can go on

    @property
    def acted(self) -> int:
        return self.told + self.asked + len(self.submitted)

    def next(self) -> Step:
        return next_step(self.manifest, self.history, self.world.now())

    def known(self) -> KnownCampaign:
        return KnownCampaign(self.repo, self.manifest, self.history, spent_of(self.history, self.world.now()))

    def tick(self) -> Step:
        """Tell what has ended, then do next steps until the campaign waits or stops. Return the last step."""
        self.manifest = read_manifest(self.repo, self.manifest.campaign_id)  # its limits may have changed
        for line in self.runs.begun(self.history):
            self._submitted(line)
        self._look()
        while True:
            step = self.next()
            if isinstance(step, AskNow):
                if not self.history.own:  # what is refused now can be begun anew
                    self.check([one.params for one in step.asks])
                self.ask(step.asks)
            elif isinstance(step, Submit):
                line, notes = self.runs.submit(step)
                self.add_notes(notes)
                self._submitted(line)
            else:
                if isinstance(step, Stop) and step.is_new(self.history):
                    self._write([step.line])
                return step

    def check(self, tasks: list[dict[str, Any]]) -> list[str]:
        """Return what submit would note about these tasks. Raises the errors with which submit would refuse them."""
        return check_submission(self.world, self.repo, self.manifest, tasks, begun=bool(self.history.own))

    def add_notes(self, notes: Sequence[str]) -> None:
        """Keep the notes of a submission, each once."""
        self.notes += [note for note in notes if note not in self.notes]

    def _write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self.journal.add(self.history, line)

    def ask(self, asks: list[Ask]) -> None:
        self._write(asks)
        self.asked += len(asks)

    def _submitted(self, line: Submitted) -> None:
        self._write([line])
        self.submitted.append(line.run_id)

    def _look(self) -> None:
        """Write the ends of trials in the order of their numbers, and submit arrays that were kept back."""
        self.problems, self.person_first = [], ""
        looks = self.runs.look(self.history)
        if self.auto_resubmit:
            looks = {run_id: self.runs.resubmit(run_id, seen) for run_id, seen in looks.items()}
        tells = [tell for run_id, seen in looks.items() for tell in self._tells(run_id, seen)]
        tells.sort(key=lambda tell: tell.trial)
        self._write(tells)
        self.told += len(tells)
        for run_id, seen in looks.items():
            if problem := self.runs.problem_of(run_id, seen):
                self.problems.append(problem)
            if seen.to_submit:
                self.runs.go_on(run_id, release_canary=False)
            elif seen.held:
                self._judge_canary(run_id)

    def _tells(self, run_id: str, seen: RunLook) -> Iterator[Tell]:
        trials = self.history.runs[run_id]
        for task, end in seen.ended.items():
            step = int(end.metrics["stopped_at"]) if end.state == "stopped" else None
            state, trial = "failed" if end.state == "failed" else "complete", self.history.trials[trials[task]]
            facts: dict[str, Any] = {"seconds": end.seconds, "cpus": end.cpus, "stopped_at": step}
            facts |= {"why": end.why, "wrote": end.wrote}
            yield tell_of(self.manifest, trial, state, end.metrics, **facts)
        nothing_comes = seen.code == "run_not_found" or (seen.held and not seen.counts.get("running"))
        if nothing_comes and self.runs.was_given_up(run_id):
            left = [self.history.trials[number] for task, number in enumerate(trials) if task not in seen.ended]
            yield from (tell_of(self.manifest, t, "failed", {}, why="its run was given up") for t in left if t.is_open)

    def _judge_canary(self, run_id: str) -> None:
        """Submit the other arrays of a run once the trial of its canary is complete; a person looks at a failed one."""
        canary = self.history.trials[self.history.runs[run_id][0]]
        if canary.state in ("complete", "stopped"):
            self.runs.go_on(run_id, release_canary=True)
        elif canary.state == "failed":
            self.person_first = f"hpc-agent verify-canary --run-id {run_id}"
            given_up = f"hpc-agent mark-run-terminal --run-id {run_id}"
            again = f"hpc-agent campaign-driver --retry-failed --campaign-id {self.manifest.campaign_id}"
            remedy = f"read '{self.person_first}', correct the cause, then run '{given_up}' and '{again}'"
            self.problems.append(PartialError("canary_failed", f"the canary of {run_id}: {canary.why}; {remedy}"))

    def failed_again(self) -> list[Ask]:
        """Return an ask for each failed trial of this campaign that was not asked again yet, within the budget."""
        left = remaining(self.manifest.budget, self.known().spent)
        failed = not_tried_again(self.history) if all(left.values()) else []
        first, iteration = len(self.history.trials), self.history.next_iteration
        return [
            Ask(trial=number, iteration=iteration, params=one.params, attrs=one.attrs, origin=f"again:{one.number}")
            for number, one in enumerate(failed[: int(left.get("max_tasks", len(failed)))], first)
        ]

    def look_within_sec(self) -> float | None:
        """Return the seconds after which a look would come late, by the mean time of the trials so far."""
        seconds = [trial.seconds for trial in self.history.trials if trial.seconds]
        # of async: half of the time in which the queue runs dry
        share = max(1, self.manifest.ahead) / self.manifest.width / 2 if self.manifest.mode == "async" else 1 / 10
        return share * sum(seconds) / len(seconds) if seconds else None

    def answer(self, step: Step, ticks: int) -> CampaignDriverResult:
        verdict = step.decision if isinstance(step, Stop | Wait) else Decision(decision="continue")
        known, campaign_id = self.known(), self.manifest.campaign_id
        verb = "driver" if not isinstance(step, Stop) else "health" if known.useless() else "status"
        return CampaignDriverResult(
            **known.standing(verdict),
            **known.trials(),
            told=self.told,
            asked=self.asked,
            submitted=self.submitted[-RUNS_SHOWN:],
            runs=len(self.submitted),
            ticks=ticks,
            next_step=self.person_first or f"hpc-agent campaign-{verb} --campaign-id {campaign_id}",
            notes=self.notes,
            partial_errors=self.problems,
        )
