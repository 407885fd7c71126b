"""What submit answers and remembers, beside sending: outcomes in the journal, replays, notes."""

from __future__ import annotations

import getpass
import socket
from typing import Any

from hpc_agent.infra.remote import Node, root_of
from hpc_agent.infra.throughput import SubmissionPlan
from hpc_agent.ops.plan.resources import Ask
from hpc_agent.ops.submit.freeze import Frozen
from hpc_agent.ops.submit.layout import plan_facts
from hpc_agent.ops.submit.spec import SubmitResult
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.runs import find_run_by_cmd_sha
from hpc_agent.world import World

SUBMIT_TIMEOUT_SEC = 900.0


def journal_arrays(journal: Journal, run_id: str, run_path: str, arrays: dict[str, Any], accepted: bool) -> list[str]:
    """Write down what the ledger says; ``accepted``: nothing is left to do but what waits by itself."""
    job_ids = job_ids_of(arrays)
    if job_ids or accepted:
        facts = {"job_ids": job_ids, "remote_path": run_path, "whole": accepted, "waiting": waiting(arrays)}
        journal.append(run_id, "submitted", **facts)
    return job_ids


def job_ids_of(arrays: dict[str, Any]) -> list[str]:
    """Job ids of a ledger's summary, in the order of submission."""
    ordered = sorted(arrays.values(), key=lambda entry: int(entry.get("order") or 0))
    return [str(entry["job_id"]) for entry in ordered if entry.get("job_id")]


def waiting(arrays: dict[str, Any]) -> int:
    return sum(1 for entry in arrays.values() if not entry.get("job_id"))


def kept_back(answer: dict[str, Any]) -> list[str]:
    if not answer.get("waiting"):
        return []
    return [
        f"{answer['waiting']} arrays wait: {answer['message']}; 'hpc-agent monitor-flow' submits them when there is room"
    ]


def adopted_elsewhere(frozen: Frozen, record: RunRecord) -> bool:
    """A run that another machine began under its own folder goes on there, never beside it."""
    return bool(record.remote_path) and not record.remote_path.startswith(frozen.node.root + "/")


def owner() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def code_changed(frozen: Frozen, run_id: str) -> list[str]:
    """A note when the same parameters ran before under another id."""
    twin = find_run_by_cmd_sha(frozen.repo, frozen.tasks.cmd_sha)
    if twin is None or twin.run_id == run_id or twin.cluster != frozen.cluster.name:
        return []
    if twin.run_id.startswith(frozen.run_id()):
        return [f"the same as {twin.run_id}, run again as asked"]
    changed = "the code" if twin.tree_sha != frozen.tree.sha else "the command or its settings"
    return [f"same parameters as {twin.run_id}, but {changed} changed: this is a new run"]


def replayed(
    world: World, journal: Journal, frozen: Frozen, record: RunRecord, plan: SubmissionPlan, ask: Ask
) -> SubmitResult:
    notes = [*frozen.notes, f"{record.run_id} was submitted already; nothing was submitted now"]
    if record.waiting or not record.submitted_at:
        node = Node(frozen.cluster, world.env, world.home, frozen.repo.remote_name, root=root_of(record.remote_path))
        answer = node.ask("advance", record.run_id, {"owner": owner()}, SUBMIT_TIMEOUT_SEC)
        before = set(record.job_ids)
        record.job_ids = journal_arrays(journal, record.run_id, record.remote_path, answer["arrays"], accepted=True)
        record.waiting = waiting(answer["arrays"])
        record.status = journal.load(record.run_id).status
        fresh = len(set(record.job_ids) - before)
        notes = [*frozen.notes, f"{record.run_id} goes on: {fresh} arrays were submitted now", *kept_back(answer)]
    if record.status in ("failed", "abandoned"):
        notes.append(f"it is {record.status}: --rerun runs it again as a new run")
    return SubmitResult(
        run_id=record.run_id,
        deduped=True,
        submitted=True,
        waiting=record.waiting,
        cluster=record.cluster,
        job_ids=record.job_ids,
        total_tasks=record.total_tasks,
        cmd_sha=record.cmd_sha,
        tree_sha=record.tree_sha,
        remote_path=record.remote_path,
        lifecycle_state=record.status,
        plan=plan_facts(plan, ask),
        notes=notes,
        next_step="aggregate" if record.status == "complete" else "monitor-flow",
    )


def planned(frozen: Frozen, plan: SubmissionPlan, ask: Ask) -> SubmitResult:
    return SubmitResult(
        run_id=frozen.run_id(),
        deduped=False,
        submitted=False,
        cluster=frozen.cluster.name,
        job_ids=[],
        total_tasks=frozen.tasks.total,
        cmd_sha=frozen.tasks.cmd_sha,
        tree_sha=frozen.tree.sha,
        remote_path=f"{frozen.node.root}/runs/{frozen.run_id()}",
        lifecycle_state="planned",
        plan=plan_facts(plan, ask),
        notes=[*frozen.notes, "dry run: nothing was pushed or submitted"],
        next_step="submit",
    )
