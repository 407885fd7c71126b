"""``submit``: resolve, plan, journal the intent, push, submit every array once, journal the outcome."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent._version import __version__
from hpc_agent.contract.primitive import Effect, primitive
from hpc_agent.errors import (
    ClusterUnknown,
    ConfigInvalid,
    ExecutorNotFound,
    HpcError,
    PreconditionFailed,
    RemoteCommandFailed,
    SchedulerRefused,
    SpecInvalid,
    SshUnreachable,
    StorageFull,
    SubmissionUnknown,
)
from hpc_agent.experiment.reading.pushed_tree import Entry, shared_files
from hpc_agent.infra.extra_flags import check_extra_flags
from hpc_agent.ops.submit.answers import (
    SUBMIT_TIMEOUT_SEC,
    adopted_elsewhere,
    code_changed,
    journal_arrays,
    kept_back,
    owner,
    planned,
    replayed,
    waiting,
)
from hpc_agent.ops.submit.freeze import Frozen, freeze
from hpc_agent.ops.submit.layout import (
    canary_wanted,
    has_canary,
    ledger_entries,
    plan_facts,
    wave_map,
)
from hpc_agent.ops.submit.planned import Planned, plan_run
from hpc_agent.ops.submit.spec import SubmitRequest, SubmitResult
from hpc_agent.ops.validate.cheap import warnings_of
from hpc_agent.state.files import locked, save
from hpc_agent.state.journal import TERMINAL, Journal, RunRecord
from hpc_agent.state.runs import Sidecar, write_run_sidecar
from hpc_agent.world import World

LOCK_WAIT_SEC = 120.0
KEPT_MANIFESTS = 5


@primitive(
    stage="submit",
    effects=[Effect.FILES, Effect.JOURNAL, Effect.SSH, Effect.PUSH, Effect.SUBMIT],
    errors=[
        SpecInvalid,
        ExecutorNotFound,
        ClusterUnknown,
        ConfigInvalid,
        PreconditionFailed,
        SshUnreachable,
        SchedulerRefused,
        SubmissionUnknown,
        RemoteCommandFailed,
        StorageFull,
    ],
    aliases=["submit-flow"],
    progress=True,
)
def submit(request: SubmitRequest, world: World) -> SubmitResult:
    """Freeze and push the code, and submit every task of .hpc/tasks.py as job arrays, exactly once.

    The same request again finds the run that is there and returns it (``deduped``). Changed parameters, code or
    executor make a new run. A run that failed is only run again with ``rerun``. Killed at any point, the same command
    goes on where it stopped.
    """
    world.progress.update("resolving tasks")
    with freeze(world, request) as frozen:
        check_extra_flags(frozen.cluster.scheduler, request.extra_flags)
        planned_run = plan_run(frozen, request)
        ask, plan = planned_run.ask, planned_run.plan
        journal = Journal(world, frozen.repo)
        if request.dry_run:
            noticed = warnings_of(world, frozen, request, planned_run)
            return msgspec.structs.replace(planned(frozen, plan, ask), notes=[*frozen.notes, *noticed])
        with locked(journal.folder / ".submit_lock", LOCK_WAIT_SEC, "a submission from this repo"):
            run_id, earlier = _which_run(journal, frozen, request.rerun)
            if earlier and (earlier.submitted_at or adopted_elsewhere(frozen, earlier)):
                return replayed(world, journal, frozen, earlier, plan, ask)
            noticed = warnings_of(world, frozen, request, planned_run)
            return _Submission(world, journal, frozen, request, planned_run, run_id, noticed).go()


def preview(request: SubmitRequest, world: World) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Kwargs of the first and the last task, and whether this very run was submitted already."""
    with freeze(world, request) as frozen:
        journal = Journal(world, frozen.repo)
        _, earlier = _which_run(journal, frozen, request.rerun)
        kwargs = frozen.tasks.kwargs()
        first = next(kwargs)
        rest = collections.deque(kwargs, maxlen=1)
        return first, rest[0] if rest else first, bool(earlier and earlier.submitted_at)


def _which_run(journal: Journal, frozen: Frozen, rerun: bool) -> tuple[str, RunRecord | None]:
    """The run id of this request and what is known of it. With ``rerun`` the first free number after the ended ones."""
    adopted = [] if rerun else [r for r in journal.all()[0] if r.adopted and r.content_sha == frozen.content_sha]
    if adopted:
        return adopted[0].run_id, adopted[0]
    number = 0
    while True:
        run_id = frozen.run_id(number)
        record = journal.find(run_id)
        following = journal.path(frozen.run_id(number + 1)).exists()
        if record is None or (not rerun and not following):
            return run_id, record
        if rerun and not following and record.status not in TERMINAL:
            if record.submitted_at is None:
                return run_id, record
            raise PreconditionFailed(
                f"{run_id} is still {record.status}",
                field="rerun",
                remediation=f"Wait for it with 'hpc-agent monitor-flow --run-id {run_id}', then call again.",
            )
        number += 1


class _Submission:
    """One run on its way to the cluster."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        frozen: Frozen,
        request: SubmitRequest,
        planned_run: Planned,
        run_id: str,
        noticed: list[str],
    ) -> None:
        self.world, self.journal, self.frozen, self.request = world, journal, frozen, request
        self.plan, self.ask, self.run_id, self.noticed = planned_run.plan, planned_run.ask, run_id, noticed
        self.run_path = f"{frozen.node.root}/runs/{run_id}"

    def go(self) -> SubmitResult:
        frozen = self.frozen
        notes = [*frozen.notes, *self.noticed, *code_changed(frozen, self.run_id)]
        self.journal.append(
            self.run_id,
            "submitting",
            run_name=frozen.run_name,
            cluster=frozen.cluster.name,
            cmd_sha=frozen.tasks.cmd_sha,
            tree_sha=frozen.tree.sha,
            total_tasks=frozen.tasks.total,
            executor=self.request.executor,
            content_sha=frozen.content_sha,
            remote_path=self.run_path,
            campaign_id=self.request.campaign_id,
        )
        sidecar = self._sidecar()
        write_run_sidecar(frozen.repo, sidecar)
        self.world.progress.update("asking", cluster=frozen.cluster.name)
        there = self._prepare()
        pushed = self._push(there)
        self.world.progress.update("submitting", arrays=len(self.plan.arrays))
        try:
            answer = frozen.node.bootstrap("submit", self._submit_request(sidecar, there), SUBMIT_TIMEOUT_SEC)
        except HpcError as error:
            self._journal_outcome(error.details.get("arrays") or {})
            raise
        job_ids = self._journal_outcome(answer["arrays"], accepted=True)
        write_run_sidecar(frozen.repo, _with_jobs(sidecar, job_ids))
        self._remember_manifest()
        return SubmitResult(
            run_id=self.run_id,
            deduped=False,
            submitted=True,
            waiting=waiting(answer["arrays"]),
            cluster=frozen.cluster.name,
            job_ids=job_ids,
            total_tasks=frozen.tasks.total,
            cmd_sha=frozen.tasks.cmd_sha,
            tree_sha=frozen.tree.sha,
            remote_path=self.run_path,
            lifecycle_state="in_flight",
            plan=plan_facts(self.plan, self.ask),
            pushed_files=pushed,
            notes=[*notes, *kept_back(answer)],
            next_step="verify-canary" if has_canary(self.plan) else "monitor-flow",
        )

    def _prepare(self) -> dict[str, Any]:
        client = hashlib.sha256(f"{socket.gethostname()}:{self.world.home}".encode()).hexdigest()[:8]
        request = {
            "root": self.frozen.node.root,
            "run_id": self.run_id,
            "snapshot": self.frozen.snapshot,
            "bases": self._known_manifests(),
            "incoming": f"{self.frozen.snapshot[:16]}-{client}",
        }
        return self.frozen.node.bootstrap("prepare", request)

    def _push(self, there: dict[str, Any]) -> int:
        """Copy what the cluster lacks, in one go; the number of files."""
        files = [] if there["snapshot"] else self.frozen.tree.changed_since(self._manifest(there["base"]))
        shared = shared_files(
            self.frozen.repo.root, [name for name, path in self.frozen.shared.items() if path is None]
        )
        size = sum(self.frozen.tree.sizes[name] for name in files)
        if size > there["free_bytes"]:
            raise StorageFull(
                f"{size >> 20} MiB are to be pushed, but {there['root']} has {there['free_bytes'] >> 20} MiB left",
                remediation="Free some space there, or list what is not needed in .hpcignore; then 'hpc-agent submit' again.",
            )
        if files or shared:
            self.world.progress.update("pushing", files=len(files) + len(shared), mib=size >> 20)
            self.frozen.node.push(self.frozen.repo.root, files + shared, there["incoming"])
        return len(files) + len(shared)

    def _submit_request(self, sidecar: Sidecar, there: dict[str, Any]) -> dict[str, Any]:
        frozen, cluster = self.frozen, self.frozen.cluster
        node = frozen.node
        manifest = json.dumps(frozen.tree.entries).encode()
        environment = {
            "HPC_PYTHON": node.python,
            "HPC_SHELL_INIT": cluster.shell_init or "",
            "HPC_MODULES": " ".join(sidecar.modules),
            "HPC_CONDA_SOURCE": cluster.conda_source or "",
            "HPC_CONDA_ENV": sidecar.conda_env or "",
            "HPC_PREEMPT_GRACE_SEC": self.request.env.get("HPC_PREEMPT_GRACE_SEC", "10"),
        }
        return {
            "root": node.root,
            "run": _builtins(sidecar),
            "owner": owner(),
            "manifest": None if there["snapshot"] else base64.b64encode(zlib.compress(manifest)).decode(),
            "base": there["base"],
            "incoming": there["incoming"],
            "digests": frozen.tasks.digests(),
            "scheduler": cluster.scheduler,
            "site": node.site,
            "template": node.backend.template(self.ask.resources["gpus"]).name,
            "job_environment": environment,
            "arrays": ledger_entries(self.run_id, self.plan, self.ask, self._chain_mode),
            "shared_pushed": [name for name, path in frozen.shared.items() if path is None],
        }

    def _sidecar(self) -> Sidecar:
        frozen, request = self.frozen, self.request
        cluster = frozen.cluster
        root = frozen.node.root
        return Sidecar(
            run_id=self.run_id,
            run_name=frozen.run_name,
            cmd_sha=frozen.tasks.cmd_sha,
            tasks_py_sha=frozen.tasks.tasks_py_sha,
            tree_sha=frozen.tree.sha,
            snapshot=frozen.snapshot,
            hpc_agent_version=__version__,
            submitted_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.world.now())),
            executor=request.executor,
            result_dir_template=request.result_dir_template,
            task_count=frozen.tasks.total,
            executors=frozen.executors,
            wave_map=wave_map(self.plan),
            cluster=cluster.name,
            scheduler=cluster.scheduler,
            remote_path=self.run_path,
            campaign_id=request.campaign_id,
            resources=self.ask.resources,
            placement=self.ask.placement,
            env=request.env,
            modules=cluster.modules if request.modules is None else request.modules,
            conda_env=request.conda_env or next(iter(cluster.conda_envs), None),
            constraints=_builtins(frozen.constraints),
            results=_builtins(request.results),
            outputs=request.outputs,
            shared={name: path or f"{root}/shared/{name}" for name, path in frozen.shared.items()},
            nfs_data_dir=cluster.nfs_data_dir,
            content_sha=frozen.content_sha,
            chain={"mode": self._chain_mode, "segments": self.ask.segments} if self._chain_mode else None,
            canary=canary_wanted(frozen, request),
        )

    @property
    def _chain_mode(self) -> str | None:
        if not self.ask.chained:
            return None
        return "detect" if self.frozen.cluster.auto_daisy_chain == "detect" else "ahead"

    def _journal_outcome(self, arrays: dict[str, Any], accepted: bool = False) -> list[str]:
        return journal_arrays(self.journal, self.run_id, self.run_path, arrays, accepted)

    @property
    def _manifests(self) -> Path:
        return self.journal.folder / "trees" / self.frozen.cluster.name

    def _known_manifests(self) -> list[str]:
        paths = self._manifests.glob("*.json") if self._manifests.is_dir() else ()
        return [path.stem for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True)]

    def _manifest(self, tree_sha: str | None) -> list[Entry] | None:
        if tree_sha is None:
            return None
        try:
            entries: list[Entry] = json.loads((self._manifests / f"{tree_sha}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return entries

    def _remember_manifest(self) -> None:
        save(self._manifests / f"{self.frozen.snapshot}.json", self.frozen.tree.entries)
        for old in self._known_manifests()[KEPT_MANIFESTS:]:
            (self._manifests / f"{old}.json").unlink(missing_ok=True)


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _with_jobs(sidecar: Sidecar, job_ids: list[str]) -> Sidecar:
    return msgspec.structs.replace(sidecar, job_ids=job_ids)
