"""``build-submit-spec`` and ``suggest-setup-action``: a checked spec from given values, and the first step in a repo."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.executors import all_executors
from hpc_agent.ops.author.build_tasks_py import BUILD_EXECUTOR, build_tasks_command
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.freeze import FREEZE_ERRORS, freeze
from hpc_agent.ops.run.known_run import journal_of
from hpc_agent.ops.run.planned_run import plan_run
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.state.journal import TERMINAL, RunRecord
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

Action = Literal["monitor", "reuse", "interview", "fresh"]


class BuildSubmitSpecRequest(SubmitRequest):
    """The fields of submit."""


class BuildSubmitSpecResult(Result):
    spec: Annotated[dict[str, Any], doc("every field that differs from its default; valid for submit")]
    run_id: str
    total_tasks: int
    plan: Annotated[dict[str, Any], doc("arrays, waves, resources, and where each number came from")]
    notes: list[str]


@primitive(stage="author", errors=FREEZE_ERRORS)
def build_submit_spec(request: BuildSubmitSpecRequest, world: World) -> BuildSubmitSpecResult:
    """Write given values as a spec for submit, after a check of tasks, files, limits and command.

    Writes nothing and asks no cluster.
    """
    with freeze(world, request) as frozen:
        document = msgspec.to_builtins(request)
        default = msgspec.to_builtins(SubmitRequest(cluster=request.cluster, executor=request.executor))
        kept = {
            name: value for name, value in document.items() if value != default[name] or name in ("cluster", "executor")
        }
        return BuildSubmitSpecResult(
            spec={**kept, "experiment_dir": str(frozen.repo.root)},
            run_id=frozen.run_id(),
            total_tasks=frozen.tasks.total,
            plan=plan_run(frozen, request).facts(),
            notes=frozen.notes,
        )


class SuggestSetupActionRequest(Request):
    experiment_dir: ExperimentDir = "."


class SuggestSetupActionResult(Result):
    priority: Annotated[int, doc("0: a run is in flight ... 3: the repo has no executor")]
    action: Action
    recommended_run_id: str | None
    candidates: Annotated[list[str], doc("runs in flight, runs to reuse, or executors")]
    reason: str
    next_command: str


@primitive(stage="author", errors=[SpecInvalid])
def suggest_setup_action(request: SuggestSetupActionRequest, world: World) -> SuggestSetupActionResult:
    """Suggest the first step in this repo: watch runs in flight, use the tasks, write tasks, or write an executor."""
    repo, journal = journal_of(world, request.experiment_dir)
    records, problems = journal.all()
    priority, action, candidates, reason, command = _suggestion(records, repo)
    return SuggestSetupActionResult(
        priority=priority,
        action=action,
        recommended_run_id=candidates[0] if action in ("monitor", "reuse") and candidates else None,
        candidates=candidates,
        reason=reason,
        next_command=command,
        partial_errors=[PartialError(code="journal_corrupt", detail=problem) for problem in problems],
    )


def _suggestion(records: list[RunRecord], repo: RepoLayout) -> tuple[int, Action, list[str], str, str]:
    """Return priority, action, candidates, reason and command of the first thing to do."""
    live = [record.run_id for record in records if record.status not in TERMINAL]
    if live:
        reason = f"{len(live)} run{'s are' if len(live) > 1 else ' is'} in flight"
        return 0, "monitor", live, reason, f"hpc-agent monitor-flow --run-id {live[0]}"
    if repo.tasks.is_file():
        last = f"; its last run is {records[0].run_id}" if records else "; it was never run from here"
        ids = [record.run_id for record in records[:10]]
        return 1, "reuse", ids, ".hpc/tasks.py is there" + last, "hpc-agent resolve-submit-inputs"
    names = [entry.name for entry in all_executors(repo.root)[0]]
    if names:
        reason = f"there are executors ({', '.join(names[:5])}), but no tasks yet"
        return 2, "interview", names[:50], reason, build_tasks_command(names[0])
    return 3, "fresh", [], "there is neither a task nor an executor", BUILD_EXECUTOR
