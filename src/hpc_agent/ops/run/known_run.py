"""Find a run that was submitted before, and the node side of its cluster."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

from hpc_agent import errors
from hpc_agent.contract.primitive import Request
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.remote import Node, root_of
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.run.ledger_summary import all_accepted, arrays_left, job_ids_of, journal_ledger, keep_document, owner
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.state.task_samples import keep_samples, measured_as
from hpc_agent.world import World

RunId = Annotated[str, doc("as submit returned it; 'latest' is the newest run of the repo")]

# Errors of the verbs that ask a cluster about itself, and of those that ask it about a run.
_CONNECTION = (errors.SshUnreachable, errors.ClusterTimeout, errors.RemoteCommandFailed)
SITE_ERRORS = (errors.SpecInvalid, errors.ClusterUnknown, errors.ConfigInvalid, *_CONNECTION)
RUN_ERRORS = (
    errors.RunNotFound, errors.PreconditionFailed, errors.JournalCorrupt, errors.SubmissionUnknown, *_CONNECTION,
)  # fmt: skip


class RunScoped(Request):
    """A request about one run of the repo in ``experiment_dir``."""

    run_id: RunId = "latest"
    experiment_dir: ExperimentDir = "."


_LIMITS = re.compile(r" --(?:walltime-sec|mem-mb) \d+")
_BARE_SUBMIT = re.compile(r"\bhpc-agent submit\b(?! --|-)")


@dataclass(frozen=True)
class KnownRun:
    """A run of this repo with its journal and the node side of its cluster."""

    repo: RepoLayout
    journal: Journal
    record: RunRecord
    node: Node

    def remedy(self, text: str, task: int) -> str:
        """Return a remedy of the node side with this run's id, a failed task, and the command that submitted the run."""
        text = text.replace("RUN", self.record.run_id).replace("--task-id N", f"--task-id {task}")
        command = self.journal.submit_command(self.record.run_id)
        if command and self.record.resubmits:  # tasks needed more than that request: measurements say how much
            command = _LIMITS.sub("", command)
        return with_command(text, command) if command else text

    def refuse_unknown_tasks(self, tasks: list[int]) -> None:
        """Raise SpecInvalid for an id that no task of the run has."""
        run_id, total = self.record.run_id, self.record.total_tasks
        outside = [task for task in tasks if not 0 <= task < total]
        if total and outside:
            ids = "task 0 alone" if total == 1 else f"tasks 0 to {total - 1}"
            raise errors.SpecInvalid(
                f"there is no task {outside[0]}: {run_id} has {ids}",
                field="task_id",
                remediation=f"Name {ids}; 'hpc-agent failures --run-id {run_id}' tells which ones failed.",
            )

    def ask_this_version(self, verb: str, timeout: float | None = None, **question: Any) -> dict[str, Any]:
        """Ask about the run through this version's runtime, for runs of earlier versions too. Returns the answer."""
        node = self.node
        document = {"root": node.root, "run_id": self.record.run_id, "site": node.site, **question}
        return node.bootstrap(verb, document, timeout)


def with_command(text: str, command: str) -> str:
    """Return a remedy with a command in the place of the bare ``hpc-agent submit``."""
    return _BARE_SUBMIT.sub(lambda _: command, text)


def journal_of(world: World, experiment_dir: str) -> tuple[RepoLayout, Journal]:
    """Return the repo in a folder, and the journal of its runs."""
    repo = experiment_root(world.cwd, experiment_dir)
    return repo, Journal(world, repo)


def node_of(world: World, repo: RepoLayout, cluster: str, root: str | None = None) -> Node:
    """Return the node side of this repo on a cluster. Raises ClusterUnknown, ConfigInvalid."""
    return Node(get_cluster(cluster, world.env, world.home), world, repo.remote_name, root)


def node_of_record(world: World, repo: RepoLayout, record: RunRecord) -> Node:
    """Return the node side of a run: its folder may be another machine's."""
    return node_of(world, repo, record.cluster, root_of(record.remote_path) or None)


def known_run(world: World, request: RunScoped) -> KnownRun:
    """Find the run of a request. The jobs of a submission that was interrupted are looked up on its cluster first.

    Raises RunNotFound, JournalCorrupt, PreconditionFailed (no array is in the queue), SubmissionUnknown (nobody knows yet),
    ClusterUnknown, ConfigInvalid, and the errors of that look-up.
    """
    repo, journal = journal_of(world, request.experiment_dir)
    record = load_record(journal, repo, request.run_id)
    if not record.cluster:  # the journal was cut off before its first event
        message = f"the submission of {record.run_id} has not reached the scheduler, as far as the journal goes"
        remedy = "Run the same 'hpc-agent submit' again: it goes on where it stopped."
        raise errors.PreconditionFailed(message, field="run_id", remediation=remedy)
    _refuse_pruned(record)
    run = KnownRun(repo, journal, record, node_of_record(world, repo, record))
    return run if record.submitted_at else _look_up(run)


def _refuse_pruned(record: RunRecord) -> None:
    """Raise PreconditionFailed for a run that was removed on its cluster, or whose removal was interrupted."""
    if record.pruned_at is not None:
        remedy = "Run it anew with the same 'hpc-agent submit' and --rerun; "
        remedy += f"'hpc-agent status --run-id {record.run_id}' shows its end."
        raise errors.PreconditionFailed(pruned_note(record), field="run_id", remediation=remedy)
    if record.open_prune:
        message = f"a removal of {record.run_id} was interrupted"
        remedy = f"Look what is left of it: hpc-agent prune-runs --run-ids {record.run_id}"
        raise errors.PreconditionFailed(message, field="run_id", remediation=remedy)


def pruned_note(record: RunRecord) -> str:
    """Return the sentence about a run of which nothing is left on its cluster."""
    return f"{record.run_id} was pruned on {iso(record.pruned_at or 0.0)[:10]}: nothing of it is left on '{record.cluster}'"


def _look_up(run: KnownRun) -> KnownRun:
    """Look up an interrupted submission by the names of its jobs, and take over what the cluster has of it."""
    run_id = run.record.run_id
    found = run.ask_this_version("look_up", owner=owner())
    arrays = found["arrays"]
    keep_document(run.repo, found["run"], arrays)
    run = journal_run(run, arrays)
    if run.record.job_ids:
        return run
    if found["unknown"]:
        raise errors.SubmissionUnknown(
            f"nobody knows yet if jobs of {run_id} are in the queue: {found['unknown']}",
            remediation=f"Wait a minute, then run 'hpc-agent status --run-id {run_id}': it looks the jobs up first.",
            details={"arrays": arrays},
        )
    refused = next((facts["message"] for facts in arrays.values() if facts["state"] == "refused"), None)
    why = "it was interrupted before a job was accepted"
    if refused or not found["run"]:
        why = f"the scheduler refused it ({refused})" if refused else "the cluster has no folder of it"
    command = run.record.command or "the same 'hpc-agent submit' as before"
    raise errors.PreconditionFailed(
        f"no job of {run_id} is in the queue: {why}",
        field="run_id",
        remediation=f"{'Correct the request, then run' if refused else 'Go on with'}: {command}",
        details={"arrays": arrays} if arrays else {},
    )


def journal_run(run: KnownRun, arrays: dict[str, Any]) -> KnownRun:
    """Write the ledger of a run into the journal if it differs. Return the run with its record as it is then."""
    record = run.record
    accepted = bool(record.submitted_at) or all_accepted(arrays)
    same = record.job_ids == job_ids_of(arrays) and record.waiting == arrays_left(arrays)
    if not same or accepted != bool(record.submitted_at):
        journal_ledger(run.journal, record.run_id, record.remote_path, arrays, accepted)
    return replace(run, record=run.journal.load(record.run_id))


def load_record(journal: Journal, repo: RepoLayout, run_id: str) -> RunRecord:
    """Return the record of a run, or of the newest run for "latest".

    Raises RunNotFound, JournalCorrupt, and PreconditionFailed for "latest" in a repo without runs.
    """
    if run_id != "latest":
        return journal.load(run_id)
    records, problems = journal.all(never_sent=True)
    if problems and not records:
        raise errors.JournalCorrupt(problems[0], details={"problems": problems})
    if not records:
        message = f"no run has been submitted from {repo.root}"
        remedy = "See the first step in this repo: 'hpc-agent suggest-setup-action'."
        raise errors.PreconditionFailed(message, field="run_id", remediation=remedy)
    return records[0]


def ask_measured(run: KnownRun, verb: str, question: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Ask the cluster about a run; keep the time and memory of an ended run's tasks for the next plan.

    They are measured again when tasks of the run were run again since. Raises the errors of the connection and of the
    verb. An error of the measurements is ignored.
    """
    known = measured_as(run.repo, run.record.cluster, run.record.run_id)
    question = {**question, "measure": known is None, **({"measured_as": known} if known is not None else {})}
    answer = run.node.ask(verb, run.record.run_id, question, timeout)
    with contextlib.suppress(errors.HpcError, OSError):
        if rows := answer.get("measured"):
            sidecar = read_run_sidecar(run.repo, run.record.run_id)
            keep_samples(run.repo, sidecar, rows, answer.get("measured_as", ""))
    return answer
