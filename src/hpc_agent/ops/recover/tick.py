"""What a monitor does for a run between two looks: send what waits, carry chains on, submit failures again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpc_agent.ops.monitor.status import StatusResult
from hpc_agent.ops.recover.resubmit import ResubmitResult, caps, send
from hpc_agent.ops.runs import KnownRun
from hpc_agent.ops.submit.answers import SUBMIT_TIMEOUT_SEC, journal_arrays, owner
from hpc_agent.state.runs import read_run_sidecar

# While other tasks still run, a few failures are not worth an array of their own.
WORTH_AN_ARRAY = 0.05


@dataclass
class Budget:
    """How much a monitor may submit again by itself; tasks are counted each time."""

    auto_resubmit: bool
    tasks_left: int
    max_attempts: int | None = None
    resubmitted: int = 0
    blocked: list[dict[str, Any]] = field(default_factory=list)
    refused_at: tuple[Any, ...] | None = None


def advance(run: KnownRun, release_canary: bool = False) -> int:
    """Submit what is planned and may go now; how many arrays were submitted."""
    question = {"owner": owner(), "release_canary": release_canary}
    answer = run.node.ask("advance", run.record.run_id, question, SUBMIT_TIMEOUT_SEC)
    before = set(run.record.job_ids)
    run.record.job_ids = journal_arrays(
        run.journal, run.record.run_id, run.record.remote_path, answer["arrays"], accepted=True
    )
    return len(set(run.record.job_ids) - before)


def act(run: KnownRun, seen: StatusResult, budget: Budget) -> bool:
    """Do what is due; whether anything was submitted."""
    if run.record.open_resubmit:
        return _submitted(run, budget, _policy(run, budget))
    if seen.to_submit and not seen.stale:
        return advance(run) > 0
    if not seen.last_status["failed"] or seen.stale:
        return False
    if seen.failures_by_cause.get("checkpointed") and _continue_chain(run, budget):
        return True
    return _resubmit(run, seen, budget)


def _continue_chain(run: KnownRun, budget: Budget) -> bool:
    """``auto_daisy_chain: detect``: the next segment, now that a checkpoint has been seen."""
    chain = read_run_sidecar(run.repo, run.record.run_id).chain
    if not chain or chain["mode"] != "detect":
        return False
    policy = {"classes": ["checkpointed"], "max_attempts": int(chain["segments"]) - 1, "caps": caps(run)}
    return _submitted(run, budget, policy)


def _resubmit(run: KnownRun, seen: StatusResult, budget: Budget) -> bool:
    if not budget.auto_resubmit or budget.tasks_left <= 0:
        return False
    status = seen.last_status
    live = status["running"] + status["pending"]
    if live and status["failed"] < WORTH_AN_ARRAY * seen.total_tasks:
        return False
    # What was refused is refused again until something changes.
    key = (status["failed"], tuple(sorted(seen.failures_by_cause.items())), bool(live))
    if key == budget.refused_at:
        return False
    if _submitted(run, budget, _policy(run, budget)):
        return True
    budget.refused_at = key
    return False


def _policy(run: KnownRun, budget: Budget) -> dict[str, Any]:
    return {"caps": caps(run), "max_attempts": budget.max_attempts, "max_tasks": budget.tasks_left}


def _submitted(run: KnownRun, budget: Budget, policy: dict[str, Any]) -> bool:
    answer: ResubmitResult = send(run, policy)
    run.record.open_resubmit = None
    budget.blocked = answer.blocked
    budget.resubmitted += answer.resubmitted
    budget.tasks_left -= answer.resubmitted
    return answer.resubmitted > 0
