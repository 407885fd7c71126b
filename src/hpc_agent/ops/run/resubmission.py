"""Submit failed tasks of a run again, exactly once."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any

from hpc_agent.contract.primitive import Result
from hpc_agent.errors import SchedulerRefused
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import KnownRun
from hpc_agent.ops.run.ledger_summary import owner
from hpc_agent.ops.run.planned_run import job_name
from hpc_agent.ops.run.run_status import stale_errors
from hpc_agent.ops.run.submission import SUBMIT_TIMEOUT_SEC
from hpc_agent.state.runs import read_run_sidecar


class ResubmitResult(Result):
    run_id: str
    request_id: str
    deduped: Annotated[bool, doc("true: this resubmission was begun before and finished now")]
    resubmitted: Annotated[int, doc("tasks that were submitted again")]
    groups: Annotated[list[dict[str, Any]], doc("tasks (ranges), classes, and the new resources")]
    blocked: Annotated[list[dict[str, Any]], doc("failed tasks that were left out: class, why, remedy, tasks, sample")]
    job_ids: list[str]
    lifecycle_state: str
    next_step: str
    waiting: Annotated[int, doc("arrays that a limit keeps back; monitor-flow submits them")] = 0


def limits_of(run: KnownRun) -> dict[str, Any]:
    """Return the largest memory and walltime of an element on the run's cluster."""
    cluster = run.node.cluster
    return {"mem_mb": cluster.max_node_mem_mb, "walltime_sec": cluster.max_walltime_sec}


def resubmit_failed(run: KnownRun, policy: dict[str, Any], dry_run: bool = False) -> ResubmitResult:
    """Journal the intent with its policy, decide and submit on the cluster, journal the outcome.

    An intent without an outcome is used again with its request id: where the cluster has its decision, that one is
    finished; else this policy takes its place. A dry run has a request id of its own and touches neither.
    """
    run_id = run.record.run_id
    policy_sha = hashlib.sha256(repr(sorted(policy.items())).encode()).hexdigest()[:8]
    begun = None if dry_run else run.record.open_resubmit
    request_id = begun or f"{policy_sha}-{secrets.token_hex(4)}"
    if not dry_run and not (begun and run.record.open_policy == policy):
        run.journal.append(run_id, "resubmitting", request_id=request_id, policy=policy)
        run.record.open_resubmit, run.record.open_policy = request_id, policy
    question = {
        "request_id": request_id,
        "owner": owner(),
        "policy": policy,
        "dry_run": dry_run,
        "job_prefix": job_name(run_id, ""),
        "max_array_size": max_array_size(run),
        "max_running": read_run_sidecar(run.repo, run_id).plan.get("max_running"),
    }
    try:
        answer = run.node.ask("resubmit", run_id, question, SUBMIT_TIMEOUT_SEC)
    except SchedulerRefused as error:  # the cluster withdrew what was refused: nothing is open
        known = [facts.get("job_id") for facts in error.details.get("arrays", {}).values()]
        accepted = [str(job) for job in known if job and str(job) not in run.record.job_ids]
        run.journal.append(run_id, "resubmitted", request_id=request_id, jobs=accepted)
        raise
    jobs = [str(job) for job in answer["jobs"].values() if job]
    if not dry_run:
        run.journal.append(run_id, "resubmitted", request_id=request_id, jobs=jobs, waiting=answer["waiting"])
        run.record.open_resubmit = run.record.open_policy = None
    for refusal in answer["blocked"]:
        refusal["remedy"] = run.remedy(refusal["remedy"], refusal["sample"]["task"])
    count = sum(group["count"] for group in answer["groups"])
    return ResubmitResult(
        run_id=run_id,
        request_id=request_id,
        resubmitted=0 if dry_run else count,
        job_ids=jobs,
        **{name: answer[name] for name in ("deduped", "groups", "blocked", "waiting")},
        lifecycle_state="in_flight" if count and not dry_run else answer["lifecycle_state"],
        partial_errors=stale_errors(answer.get("stale")),
        next_step=command_of(run_id, policy)
        if dry_run and count
        else f"hpc-agent {_next_verb(answer, count)} --run-id {run_id}",
    )


def _next_verb(answer: dict[str, Any], count: int) -> str:
    if not count:
        return "failures"
    return "verify-canary" if answer.get("held_for_canary") else "monitor-flow"


def command_of(run_id: str, policy: dict[str, Any]) -> str:
    """Return the resubmit command with this policy."""
    parts = [f"hpc-agent resubmit --run-id {run_id}"]
    parts += [f"--task-id {','.join(map(str, policy['tasks']))}"] if policy.get("tasks") else []
    parts += [f"--classes {','.join(policy['classes'])}"] if policy.get("classes") else []
    given = {**(policy.get("overrides") or {}), "max_attempts": policy.get("max_attempts")}
    parts += [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None]
    return " ".join([*parts, *(["--force"] if policy.get("force") else [])])


def max_array_size(run: KnownRun) -> int:
    """Return the largest array size as of the run's submission."""
    sidecar = read_run_sidecar(run.repo, run.record.run_id)
    return int(sidecar.constraints.get("max_array_size") or 1000)
