"""``campaign-driver``: do the next steps of a campaign, each written before the next one, one driver at a time."""

from __future__ import annotations

import contextlib
from typing import Annotated

from hpc_agent import errors
from hpc_agent.campaign.journal import counts_of
from hpc_agent.campaign.manifest import Manifest, campaign_folder, read_manifest
from hpc_agent.campaign.step import AskNow, Step, Stop, Submit
from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.ops.campaign.known_campaign import CampaignScoped
from hpc_agent.ops.flows.campaign_steps import CampaignDriverResult, Driver
from hpc_agent.ops.monitor.monitor_flow import PollInterval
from hpc_agent.ops.run.fields import PositiveFloat, doc
from hpc_agent.ops.run.outage import REPEATED
from hpc_agent.ops.submit.submit import SUBMIT_ERRORS
from hpc_agent.state.repo_files import RepoLayout, experiment_root, locked
from hpc_agent.world import World


class CampaignDriverRequest(CampaignScoped):
    """The campaign, and how long to drive it."""

    dry_run: Annotated[bool, doc("name the next step only: no SSH, nothing is written")] = False
    loop: Annotated[bool, doc("go on until the campaign has ended")] = False
    auto_resubmit: Annotated[
        bool, doc("submit failed tasks again as 'resubmit' does, before their trials count as failed")
    ] = False
    retry_failed: Annotated[bool, doc("ask every failed trial once more, within the budget, also after a stop")] = False
    poll_interval_sec: Annotated[PositiveFloat | None, doc("with loop: first pause between looks")] = None
    wall_clock_budget_sec: Annotated[float, doc("with loop: stop driving after so long; the jobs go on", gt=0)] = (
        86400.0
    )


@primitive(
    stage="campaign",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=[*SUBMIT_ERRORS, errors.JournalCorrupt, errors.NeedsResolution, errors.SchemaIncompat],
    positional="campaign_id",
    progress=True,
    brief="the campaign's next steps",
    example={"campaign_id": "horizons"},
    next_verbs=["campaign-status", "report"],
)
def campaign_driver(request: CampaignDriverRequest, world: World) -> CampaignDriverResult:
    """Tell the ends of trials, ask for new ones, submit them, or stop: until there is nothing to do but wait.

    Safe under cron: a step is written before the next one begins, and after a kill the same command goes on. A second
    driver of the campaign does nothing. One SSH command looks at all open runs; a submission is one more.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    manifest = read_manifest(repo, request.campaign_id)
    if request.dry_run:
        return _dry_run(_driver_of(world, repo, manifest), request)
    with contextlib.ExitStack() as stack:
        try:
            lock = campaign_folder(repo, manifest.campaign_id) / "driver.lock"
            stack.enter_context(locked(lock, 0.0, "this campaign"))
        except errors.PreconditionFailed:
            detail = "another driver is at work on this campaign"
            return CampaignDriverResult(campaign_id=manifest.campaign_id, decision="at_work", detail=detail)
        driver = _driver_of(world, repo, manifest)
        driver.auto_resubmit = request.auto_resubmit
        if request.retry_failed:
            driver.ask(driver.failed_again())
        return _loop(driver, request) if request.loop else driver.answer(driver.tick(), 1)


def _driver_of(world: World, repo: RepoLayout, manifest: Manifest) -> Driver:
    if not manifest.is_own:
        return Driver(world, repo, manifest)
    from hpc_agent.ops.flows.own_campaign import OwnCampaign

    return OwnCampaign(world, repo, manifest)


def _dry_run(driver: Driver, request: CampaignDriverRequest) -> CampaignDriverResult:
    step = driver.next()
    if isinstance(step, AskNow | Submit):
        driver.notes = driver.check([one.params for one in step.asks] if isinstance(step, AskNow) else step.tasks)
    answer = driver.answer(step, 0)
    again = driver.failed_again() if request.retry_failed else []
    if again:
        answer.decision, answer.detail = "continue", f"next: ask {len(again)} failed trials again, and submit them"
    elif open_runs := driver.history.open_runs:
        answer.detail = f"next: one look at {len(open_runs)} open runs"
    elif isinstance(step, AskNow):
        answer.detail = f"next: ask and submit {len(step.asks)} trials"
    elif isinstance(step, Submit):
        answer.detail = f"next: submit {len(step.trials)} trials that were asked"
    return answer


def _loop(driver: Driver, request: CampaignDriverRequest) -> CampaignDriverResult:
    """Tick until the campaign stops, a person is needed, or the time is used up."""
    world = driver.world
    pace = PollInterval(driver.runs.node.cluster, request.poll_interval_sec)
    started, ticks = world.awake(), 0
    while True:
        before = driver.acted
        step: Step | None = None
        try:
            step = driver.tick()
            pace.saw(driver.acted > before, driver.look_within_sec())
            counts = counts_of(driver.history.own)
            world.progress.update("campaign", total=sum(counts.values()), **counts)
        except REPEATED as error:
            if not pace.outage.goes_on(error, answered=ticks > 0):
                raise
            world.progress.update("unreachable", error=error.message)
        ticks += 1
        elapsed = world.awake() - started
        if isinstance(step, Stop) or driver.person_first or elapsed >= request.wall_clock_budget_sec:
            return driver.answer(step or driver.next(), ticks)
        world.sleep(min(pace.seconds(), max(0.1, request.wall_clock_budget_sec - elapsed)))
