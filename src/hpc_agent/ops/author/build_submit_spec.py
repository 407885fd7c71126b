"""``build-submit-spec`` and ``suggest-setup-action``: a checked spec from resolved values, and what to do first."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.entries import find_entries
from hpc_agent.ops.submit.freeze import freeze
from hpc_agent.ops.submit.layout import plan_facts
from hpc_agent.ops.submit.planned import plan_run
from hpc_agent.ops.submit.spec import SubmitRequest
from hpc_agent.state.journal import TERMINAL, Journal
from hpc_agent.state.layout import experiment_root
from hpc_agent.world import World


class BuildSubmitSpecRequest(SubmitRequest):
    """The fields of submit."""


class BuildSubmitSpecResult(Result):
    spec: Annotated[dict[str, Any], Meta(description="every field that differs from its default; valid for submit")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], Meta(description="arrays, waves, resources, and where each number came from")]
    notes: list[str]


@primitive(stage="author", errors=[SpecInvalid, ExecutorNotFound, ClusterUnknown, ConfigInvalid])
def build_submit_spec(request: BuildSubmitSpecRequest, world: World) -> BuildSubmitSpecResult:
    """Values that somebody decided on, as a spec that submit accepts: tasks, files, limits and command are checked.

    Writes nothing and asks no cluster.
    """
    with freeze(world, request) as frozen:
        planned = plan_run(frozen, request)
        document = msgspec.to_builtins(request)
        default = msgspec.to_builtins(SubmitRequest(cluster=request.cluster, executor=request.executor))
        kept = {
            name: value for name, value in document.items() if value != default[name] or name in ("cluster", "executor")
        }
        return BuildSubmitSpecResult(
            spec={**kept, "experiment_dir": str(frozen.repo.root)},
            run_id=frozen.run_id(),
            total_tasks=frozen.tasks.total,
            plan=plan_facts(planned.plan, planned.ask),
            notes=frozen.notes,
        )


class SuggestSetupActionRequest(Request):
    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."


class SuggestSetupActionResult(Result):
    priority: Annotated[int, Meta(description="0: something is in flight ... 3: nothing is there yet")]
    action: Literal["monitor", "reuse", "interview", "fresh"]
    recommended_run_id: str | None
    candidates: Annotated[list[str], Meta(description="runs in flight, runs to reuse, or executors")]
    reason: str
    next_command: str


@primitive(stage="author", errors=[SpecInvalid])
def suggest_setup_action(request: SuggestSetupActionRequest, world: World) -> SuggestSetupActionResult:
    """What to do first in this repo: watch what is in flight, use the tasks that are there, make some, or start afresh."""
    repo = experiment_root(world.cwd, request.experiment_dir)
    records, problems = Journal(world, repo).all()
    errors = [PartialError(code="journal_corrupt", detail=problem) for problem in problems]
    live = [record.run_id for record in records if record.status not in TERMINAL]
    if live:
        return SuggestSetupActionResult(
            priority=0,
            action="monitor",
            recommended_run_id=live[0],
            candidates=live,
            reason=f"{len(live)} run{'s are' if len(live) > 1 else ' is'} in flight",
            next_command=f"hpc-agent monitor-flow --run-id {live[0]}",
            partial_errors=errors,
        )
    if repo.tasks.is_file():
        latest = records[0].run_id if records else None
        return SuggestSetupActionResult(
            priority=1,
            action="reuse",
            recommended_run_id=latest,
            candidates=[record.run_id for record in records[:10]],
            reason=".hpc/tasks.py is there"
            + (f"; its last run is {latest}" if latest else "; it was never run from here"),
            next_command="hpc-agent resolve-submit-inputs",
            partial_errors=errors,
        )
    names = [entry.name for entry in find_entries(repo.root)[0]]
    if names:
        return SuggestSetupActionResult(
            priority=2,
            action="interview",
            recommended_run_id=None,
            candidates=names[:50],
            reason=f"there are executors ({', '.join(names[:5])}), but no tasks yet",
            next_command=f"hpc-agent build-tasks-py --executors {names[0]} --axes '{{...}}'",
            partial_errors=errors,
        )
    return SuggestSetupActionResult(
        priority=3,
        action="fresh",
        recommended_run_id=None,
        candidates=[],
        reason="there is neither a task nor an executor",
        next_command="hpc-agent build-executor --name NAME",
        partial_errors=errors,
    )
