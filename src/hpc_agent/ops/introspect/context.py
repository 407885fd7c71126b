"""``load-context``: the state of a repo and the next command, from the journal."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.run_row import RunRow, run_row
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.repo_files import experiment_root
from hpc_agent.world import World

SHOWN = 10
Step = Literal["onboard", "submit", "monitor", "aggregate", "decide"]


class LoadContextRequest(Request):
    experiment_dir: ExperimentDir = "."


class LoadContextResult(Result):
    next_step_hint: Step
    next_command: Annotated[str, doc("the command that fits the hint")]
    experiment_dir: str
    repo_hash: str
    has_tasks_py: bool
    latest_run: RunRow | None
    in_flight: Annotated[list[RunRow], doc("the newest ten; list-in-flight has all")]
    in_flight_count: int
    campaigns: Annotated[dict[str, int], doc("campaign id -> number of runs")]


@primitive(
    stage="memory",
    brief="runs and next command",
    example={"experiment_dir": "."},
    next_verbs=["status", "submit"],
)
def load_context(request: LoadContextRequest, world: World) -> LoadContextResult:
    """Show the latest run, the runs in flight, the campaigns, and the next command. Asks no cluster."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    records, problems = Journal(world, repo).all(never_sent=True)
    latest = next(iter(records), None)
    in_flight = [record for record in records if record.status not in TERMINAL]
    searches = {manifest.parent.name for manifest in repo.hpc.glob("campaigns/*/manifest.json")}
    hint, command = _next(latest, in_flight, repo.tasks.is_file(), searches)
    return LoadContextResult(
        experiment_dir=str(repo.root),
        repo_hash=repo.repo_hash,
        has_tasks_py=repo.tasks.is_file(),
        latest_run=run_row(latest) if latest else None,
        in_flight=[run_row(record) for record in in_flight[:SHOWN]],
        in_flight_count=len(in_flight),
        campaigns=Counter(record.campaign_id for record in records if record.campaign_id and not record.never_sent),
        next_step_hint=hint,
        next_command=command,
        partial_errors=[PartialError(code="journal_corrupt", detail=problem) for problem in problems],
    )


def _next(
    latest: RunRecord | None, in_flight: list[RunRecord], has_tasks: bool, searches: set[str]
) -> tuple[Step, str]:
    if in_flight:
        if len(in_flight) == 1 and not in_flight[0].submitted_at:
            again = "the same 'hpc-agent submit' as before: it goes on where it stopped"
            return "submit", in_flight[0].command or again
        return "monitor", f"hpc-agent status --run-id {in_flight[0].run_id}"
    if latest is None and not has_tasks:
        return "onboard", "hpc-agent suggest-setup-action"
    if latest is None:
        return "submit", "hpc-agent resolve-submit-inputs"
    if latest.never_sent and latest.command:
        return "submit", latest.command
    if latest.status == "complete" and latest.output is None:
        return "aggregate", f"hpc-agent aggregate --run-id {latest.run_id}"
    if latest.status in ("failed", "abandoned"):
        return "decide", f"hpc-agent failures --run-id {latest.run_id}"
    if latest.campaign_id and latest.campaign_id in searches:  # its runs have tasks of their own, which tasks.py lacks
        return "decide", f"hpc-agent campaign-status --campaign-id {latest.campaign_id}"
    from hpc_agent.infra.transport import quote

    return "submit", f"hpc-agent submit --cluster {latest.cluster} --executor {quote([latest.executor])} --dry-run"
