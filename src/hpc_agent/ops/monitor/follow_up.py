"""Follow up a look at a run: submit kept-back arrays, continue chains, submit failed tasks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.resubmission import limits_of, resubmit_failed
from hpc_agent.ops.run.run_status import StatusResult
from hpc_agent.ops.run.submission import advance
from hpc_agent.state.runs import read_run_sidecar

# While other tasks run, a smaller share of failed tasks gets no array of its own.
WORTH_AN_ARRAY = 0.05


@dataclass
class FollowUp:
    """The limits of a watch that submits tasks again, and the tasks that it has submitted."""

    run: KnownRun
    auto_resubmit: bool
    tasks_left: int
    max_attempts: int | None = None
    resubmitted: int = 0
    blocked: list[dict[str, Any]] = field(default_factory=list)
    _refused_at: tuple[Any, ...] | None = None

    def act(self, seen: StatusResult) -> bool:
        """Submit all that is due after a look. Return True when anything was submitted."""
        if self.run.record.open_resubmit:
            return self._submit(self._policy())
        if seen.to_submit and not seen.stale:
            return advance(self.run)[0] > 0
        if not seen.last_status["failed"] or seen.stale:
            return False
        if seen.failures_by_cause.get("checkpointed"):
            chain = read_run_sidecar(self.run.repo, self.run.record.run_id).chain
            if chain and chain["mode"] == "detect":  # the next segment follows the checkpoint
                attempts = int(chain["segments"]) - 1
                policy = {"classes": ["checkpointed"], "max_attempts": attempts, "caps": limits_of(self.run)}
                if self._submit(policy):
                    return True
        return self._resubmit(seen)

    def _resubmit(self, seen: StatusResult) -> bool:
        if not self.auto_resubmit or self.tasks_left <= 0:
            return False
        status = seen.last_status
        live = status["running"] + status["pending"]
        if live and status["failed"] < WORTH_AN_ARRAY * seen.total_tasks:
            return False
        # A refusal stands until the counts change.
        counts = (status["failed"], tuple(sorted(seen.failures_by_cause.items())), bool(live))
        if counts == self._refused_at:
            return False
        if self._submit(self._policy()):
            return True
        self._refused_at = counts
        return False

    def _policy(self) -> dict[str, Any]:
        return {"caps": limits_of(self.run), "max_attempts": self.max_attempts, "max_tasks": self.tasks_left}

    def _submit(self, policy: dict[str, Any]) -> bool:
        answer = resubmit_failed(self.run, policy)
        self.run.record.open_resubmit = None
        self.blocked = answer.blocked
        self.resubmitted += answer.resubmitted
        self.tasks_left -= answer.resubmitted
        return answer.resubmitted > 0
