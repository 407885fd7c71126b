"""Submit a new run: journal the intent, push the files, submit the arrays, journal the outcome."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import socket
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hpc_agent._version import __version__
from hpc_agent.errors import HpcError, StorageFull
from hpc_agent.experiment.reading.git_state import git_state
from hpc_agent.experiment.reading.pushed_tree import TreeEntry, shared_files
from hpc_agent.infra.remote import answer_in
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.run.ledger_summary import identity_of, owner
from hpc_agent.ops.run.planned_run import PlannedRun, ledger_entries
from hpc_agent.ops.run.run_request import saved_command, submit_command
from hpc_agent.ops.run.submission import SUBMIT_TIMEOUT_SEC, keep_outcome
from hpc_agent.state.journal import Journal, RunRecord
from hpc_agent.state.repo_files import save
from hpc_agent.state.runs import Sidecar, write_run_sidecar
from hpc_agent.world import World

KEPT_MANIFESTS = 5
# A push of at most so much travels with the request: one round trip in place of three.
FILES_SENT_AT_ONCE, BYTES_SENT_AT_ONCE = 400, 1 << 20
# How the records of new runs lie in their folder: those of a packed element in a few files of its own.
LAYOUT = 2
# Parts of a run's identity that its sidecar records under the same names.
AS_FROZEN = "cluster cmd_sha tasks_py_sha tree_sha executor result_dir_template env outputs campaign_id".split()


class Submitted(NamedTuple):
    """The record of a run after its submission, the answer of the cluster, and the number of pushed files."""

    record: RunRecord
    answer: dict[str, Any]
    pushed_files: int


class NewRun:
    """A planned run and its place on the cluster."""

    def __init__(
        self, world: World, journal: Journal, planned: PlannedRun, run_id: str, notes: Sequence[str] = ()
    ) -> None:
        self.notes = notes
        self.world, self.journal, self.planned, self.run_id = world, journal, planned, run_id
        self.frozen, self.request = planned.frozen, planned.request
        self.sidecar = self._sidecar()
        self.pushed_shared = [name for name, path in self.frozen.shared.items() if path is None]
        self.shared_files = shared_files(self.frozen.repo.root, self.pushed_shared)
        self.manifests = Manifests(journal.folder / "trees" / self.frozen.cluster.name)

    def announce(self) -> None:
        """Write the intent of the submission into the journal, and the sidecar."""
        before = self.journal.find(self.run_id)
        self.is_new = before is None or before.never_sent
        self.journal.append(self.run_id, "submitting", **identity_of(self.sidecar), command=self._command())
        write_run_sidecar(self.frozen.repo, self.sidecar)

    def conclude(self, document: dict[str, Any], pushed: int) -> Submitted | HpcError:
        """Write the cluster's answer into journal and sidecar. Return the outcome; of an error the accepted arrays are kept."""
        frozen = self.frozen
        try:
            submitted = functools.partial(answer_in, document, frozen.cluster.name)
            answer = keep_outcome(frozen.repo, self.journal, self.run_id, self.sidecar.remote_path, submitted)
        except HpcError as error:
            self.failed(error, error.details.get("arrays") or {})
            return error
        self.manifests.keep(frozen.snapshot, frozen.tree.entries)
        record = self.journal.load(self.run_id)
        record.status = "in_flight"
        return Submitted(record, answer, pushed)

    def failed(self, error: HpcError, arrays: dict[str, Any]) -> None:
        """Take a submission that has no job off the list of runs; after an unclear error it stays there, to be looked up."""
        sent = any(array["state"] not in ("planned", "refused") for array in arrays.values())
        if sent or error.error_code == "submission_unknown" or not (arrays or self.is_new):
            return
        self.journal.append(self.run_id, "marked", status="abandoned", reason=f"not submitted: {error.message}")
        self.frozen.repo.sidecar(self.run_id).unlink(missing_ok=True)

    def _command(self) -> str:
        """Return the command that goes on with this submission."""
        if self.frozen.trials:
            return self.frozen.trials.command
        if self.request.tasks is None:
            return submit_command(self.request, self.world.cwd)
        return saved_command(self.request, self.world.cwd, self.journal.folder / "specs" / f"{self.run_id}.json")

    def expected_there(self) -> dict[str, Any] | None:
        """Return what the cluster has, as far as this machine knows, and the other files with their content.

        None where the cluster is asked first: files are shared with other runs, or there is much to push.
        """
        tree, known = self.frozen.tree, self.manifests.names()
        if self.pushed_shared:
            return None
        if self.frozen.snapshot in known:
            return {"snapshot": True, "base": None, "incoming": None}
        base = next(iter(known), None)
        entries = self.manifests.entries(base)
        names = tree.changed_since(entries)
        if len(names) > FILES_SENT_AT_ONCE or sum(tree.sizes[name] for name in names) > BYTES_SENT_AT_ONCE:
            return None
        try:
            files = {name: base64.b64encode((self.frozen.repo.root / name).read_bytes()).decode() for name in names}
        except OSError:  # a file has vanished: a push tells which
            return None
        there = {"snapshot": False, "base": base if entries is not None else None, "incoming": None}
        return {**there, "files": files, "incoming_name": self._incoming_name()}

    def _incoming_name(self) -> str:
        """Return the name of the folder that receives this machine's push."""
        client = hashlib.sha256(f"{socket.gethostname()}:{self.world.home}".encode()).hexdigest()[:8]
        return f"{self.frozen.snapshot[:16]}-{client}"

    def place(self) -> tuple[str, ...]:
        """Return what runs must have in common to be submitted together: the repo's folder, the snapshot, shared folders."""
        return (self.frozen.node.root, self.frozen.snapshot, *self.pushed_shared)

    def push(self) -> tuple[dict[str, Any], int]:
        """Ask what the cluster has, and push the rest: one SSH command and one rsync at most.

        Return what is there, and the number of pushed files. Raises StorageFull.
        """
        frozen = self.frozen
        self.world.progress.update("asking", cluster=frozen.cluster.name)
        # The cluster names the snapshot that the push can build on, and the free room.
        question = {
            "root": frozen.node.root,
            "run_id": self.run_id,
            "snapshot": frozen.snapshot,
            "bases": self.manifests.names(),
            "incoming": self._incoming_name(),
            "shared": self.shared_files,
        }
        there = frozen.node.bootstrap("prepare", question)
        files = [] if there["snapshot"] else frozen.tree.changed_since(self.manifests.entries(there["base"]))
        shared = list(self.shared_files)
        size = sum(frozen.tree.sizes[name] for name in files) + there["shared_bytes"]
        if size > there["free_bytes"]:
            raise StorageFull(
                f"{size >> 20} MiB are to be pushed, but {there['root']} has {there['free_bytes'] >> 20} MiB left",
                remediation="Free some space there, or list in .hpcignore what is not needed; then 'hpc-agent submit' again.",
            )
        if files or shared:
            self.world.progress.update("pushing", files=len(files) + len(shared), mib=size >> 20)
            frozen.node.push(frozen.repo.root, files + shared, there["incoming"], bool(shared))
        return there, len(files) + len(shared)

    def plan_question(self) -> dict[str, Any]:
        """Return the part of a request to the cluster that has the plan: the run's document and its arrays."""
        cluster, node, sidecar = self.frozen.cluster, self.frozen.node, self.sidecar
        environment = {
            "HPC_PYTHON": node.python,
            "HPC_SHELL_INIT": cluster.shell_init or "",
            "HPC_MODULES": " ".join(sidecar.modules),
            "HPC_CONDA_SOURCE": cluster.conda_source or "",
            "HPC_CONDA_ENV": sidecar.conda_env or "",
            "HPC_PREEMPT_GRACE_SEC": self.request.env.get("HPC_PREEMPT_GRACE_SEC", "10"),
        }
        return {
            "run": msgspec.to_builtins(sidecar),
            "template": node.backend.template(self.planned.resolved.resources["gpus"]).name,
            "job_environment": environment,
            "arrays": ledger_entries(self.run_id, self.planned),
        }

    def _sidecar(self) -> Sidecar:
        frozen, request, planned = self.frozen, self.request, self.planned
        cluster, resolved, mode = frozen.cluster, planned.resolved, planned.chain_mode
        return Sidecar(
            **{name: frozen.identity[name] for name in AS_FROZEN},
            run_id=self.run_id,
            run_name=frozen.run_name,
            snapshot=frozen.snapshot,
            hpc_agent_version=__version__,
            submitted_at=iso(self.world.now()),
            task_count=frozen.tasks.total,
            executors=frozen.executors,
            wave_map=planned.wave_map(),
            scheduler=cluster.scheduler,
            remote_path=f"{frozen.node.root}/runs/{self.run_id}",
            resources=resolved.resources,
            placement=resolved.placement,
            modules=cluster.modules if request.modules is None else request.modules,
            conda_env=request.conda_env or next(iter(cluster.conda_envs), None),
            constraints=msgspec.to_builtins(frozen.constraints),
            results=msgspec.to_builtins(request.results),
            shared={name: path or f"{frozen.node.root}/shared/{name}" for name, path in frozen.shared.items()},
            nfs_data_dir=cluster.nfs_data_dir,
            content_sha=frozen.content_sha,
            chain={"mode": mode, "segments": resolved.segments} if mode else None,
            canary=planned.has_canary,
            plan=planned.shape(),
            inline_tasks=request.tasks is not None,
            trials=frozen.trials.numbers if frozen.trials else [],
            early_stop=(frozen.trials and frozen.trials.early_stop) or msgspec.to_builtins(frozen.request.early_stop),
            git=git_state(frozen.repo.root, self.world.env, frozen.tree.files()),
            inputs=frozen.inputs,
            layout=LAYOUT,
            isolate=request.isolate,
            at_once=planned.arrays.at_once,
        )


def submit_together(runs: list[NewRun]) -> list[Submitted | HpcError]:
    """Submit runs of one place (see NewRun.place): one round trip for all, where much is to be pushed three. Return each run's
    outcome.

    Raises the errors of the connection, and StorageFull: the same call goes on after them.
    """
    for run in runs:
        run.announce()
    if expected := runs[0].expected_there():
        answers = _ask_submit(runs, expected)
        if not any((answer.get("details") or {}).get("snapshot") == "missing" for answer in answers):
            pushed = max(int((answer.get("data") or {}).get("received") or 0) for answer in answers)
            return [run.conclude(answer, pushed) for run, answer in zip(runs, answers, strict=True)]
    try:
        there, pushed = runs[0].push()
    except HpcError as error:
        for run in runs:
            run.failed(error, {})
        raise
    answers = _ask_submit(runs, there)
    return [run.conclude(answer, pushed) for run, answer in zip(runs, answers, strict=True)]


def _ask_submit(runs: list[NewRun], there: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answer of the cluster to each run's submission; ``there`` is what the cluster has of their place."""
    first, frozen = runs[0], runs[0].frozen
    first.world.progress.update("submitting", arrays=sum(len(run.planned.arrays.arrays) for run in runs))
    manifest = json.dumps(frozen.tree.with_sizes()).encode()
    common = {
        "root": frozen.node.root,
        "owner": owner(),
        "manifest": None if there["snapshot"] else base64.b64encode(zlib.compress(manifest)).decode(),
        **{name: there.get(name) for name in ("base", "incoming", "files", "incoming_name")},
        "site": frozen.node.site,
        "shared_pushed": first.pushed_shared,
    }
    requests = [
        {**run.plan_question(), "digests": run.frozen.tasks.digests(), "tasks": run.frozen.tasks.inline()}
        for run in runs
    ]
    request = {"verb": "submit", "common": common, "requests": requests}
    return list(frozen.node.bootstrap("many", request, SUBMIT_TIMEOUT_SEC * len(runs))["answers"])


class Manifests:
    """The manifests of the last snapshots on a cluster: a push copies only the files that are not in one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the snapshots, the newest first."""
        paths = self.folder.glob("*.json")
        return [path.stem for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True)]

    def entries(self, snapshot: str | None) -> list[TreeEntry] | None:
        """Return the files of a snapshot; None for a snapshot that is not known here."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return list(json.loads((self.folder / f"{snapshot}.json").read_bytes()))
        return None

    def keep(self, snapshot: str, entries: list[TreeEntry]) -> None:
        """Remember a snapshot, and drop the oldest ones."""
        save(self.folder / f"{snapshot}.json", entries)
        for old in self.names()[KEPT_MANIFESTS:]:
            (self.folder / f"{old}.json").unlink(missing_ok=True)
