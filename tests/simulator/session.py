"""The product around a simulated cluster, all in this process: plan, submit and watch runs in simulated time.

The planner (infra/throughput.py), the ledger's entries, the node side's submission, its looks, and ``monitor-flow`` are the
product's own. Left out is what freezes a repo and pushes it; and SSH, in whose place a call costs ``LATENCY_SEC``.
"""

import base64
import json
import os
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import msgspec
import yaml

from hpc_agent.errors import ClusterTimeout, HpcError, RemoteCommandFailed, SshUnreachable, SubmissionUnknown
from hpc_agent.infra import remote
from hpc_agent.infra.backends import RUNTIME_TEMPLATES, Backend
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.infra.throughput import SubmissionPlan, WorkloadSpec, choose_pack, compute_submission_plan
from hpc_agent.infra.transport import Completed
from hpc_agent.node import entry
from hpc_agent.node.look import patience
from hpc_agent.node.shared.files import make_folder
from hpc_agent.node.shared.ledger import read_array
from hpc_agent.node.shared.run_folder import LAYOUT, RunFolder
from hpc_agent.ops.monitor.list_in_flight import ListInFlightRequest, ListInFlightResult, list_in_flight
from hpc_agent.ops.monitor.monitor_flow import MonitorFlowRequest, MonitorFlowResult, monitor_flow
from hpc_agent.ops.run.ledger_summary import identity_of, owner
from hpc_agent.ops.run.planned_run import PlannedRun, ledger_entries
from hpc_agent.ops.run.resources import ResolvedResources
from hpc_agent.ops.run.run_request import SubmitRequest
from hpc_agent.ops.run.submission import keep_outcome
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import Sidecar, write_run_sidecar
from hpc_agent.world import World

from .adapter import Faults, Killed, Scheduler, plugin
from .clock import Clock
from .cluster import Cluster, Limits, Machine, Work
from .records import RunRecords
from .swf import SwfJob
from .tasks import TaskModel, draw

NAME, SNAPSHOT = "sim", "snapshot"
LATENCY_SEC = 0.5
AGAIN_SEC = 60.0
SUBMISSIONS_TRIED = 500
_LOST = (ClusterTimeout, RemoteCommandFailed, SshUnreachable, SubmissionUnknown)


def backend() -> Backend:
    return Backend("simulated", RUNTIME_TEMPLATES / "slurm")


@dataclass
class Calls:
    """The calls of one verb: bytes on the wire, and seconds of CPU that the node side used."""

    count: int = 0
    sent: int = 0
    received: int = 0
    longest: int = 0
    cpu: float = 0.0
    slowest: float = 0.0


@dataclass
class InProcess:
    """A transport whose commands run in this process, at the simulated time."""

    session: "Session"
    drops: float = 0.0  # share of connections that break, half of them after the command
    calls: dict[str, Calls] = field(default_factory=dict)
    made: int = 0

    def run(self, words: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        del timeout
        self.session.clock.sleep(LATENCY_SEC)
        self.made += 1
        chance = draw(self.session.seed, self.made, 21)
        if chance < self.drops / 2:
            raise SshUnreachable("simulated: the connection broke before the command")
        verb, nonce = words[-2:]
        sent = len(stdin)
        if words[1] == "-c":
            stdin = zlib.decompress(base64.b64decode(stdin)).partition(b"\n")[2]
        request = json.loads(stdin)
        self.session.flush()
        simulated, thread = self.session.listener.cpu, threading.get_ident()
        begun = time.thread_time() - simulated[thread]
        try:
            answer = entry.framed(verb, nonce, request)
        except Killed:
            return Completed(137, b"", b"Killed")
        self._count(verb, sent, len(answer), time.thread_time() - simulated[thread] - begun)
        if chance < self.drops:
            raise SshUnreachable("simulated: the connection broke before the answer")
        return Completed(0, answer, b"")

    def _count(self, verb: str, sent: int, received: int, cpu: float) -> None:
        calls = self.calls.setdefault(verb, Calls())
        calls.count += 1
        calls.sent += sent
        calls.received += received
        calls.longest = max(calls.longest, received)
        calls.cpu += cpu
        calls.slowest = max(calls.slowest, cpu)


@dataclass
class Listener:
    """Stands for the client's connection while a look waits on the cluster: simulated time passes, and nobody hangs up."""

    session: "Session"
    cpu: Counter[int] = field(default_factory=Counter)  # thread -> what the simulation itself used meanwhile

    def poll(self, milliseconds: float) -> list[Any]:
        begun = time.thread_time()
        self.session.clock.sleep(milliseconds / 1000)
        self.session.flush()
        self.cpu[threading.get_ident()] += time.thread_time() - begun
        return []


@dataclass
class Run:
    """A run of the session: its plan, its tasks, and what the watch answered."""

    run_id: str
    total: int
    plan: SubmissionPlan
    records: RunRecords
    folder: RunFolder
    submitted_at: float
    result: MonitorFlowResult | None = None
    ended_at: float = 0.0


class Session:
    """One user on one simulated cluster. Use as a context: simulated time holds inside only."""

    def __init__(
        self,
        path: Path,
        machine: Machine,
        limits: Limits,
        constraints: dict[str, Any],
        others: Iterator[SwfJob] | Sequence[SwfJob] = (),
        faults: Faults | None = None,
        drops: float = 0.0,
        records_late_sec: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.seed, self.records_late_sec = seed, records_late_sec
        self.clock = Clock(float(int(time.time())))
        self.cluster = Cluster(self.clock, machine, limits, others)
        self.scheduler = Scheduler(self.cluster, self._attach, self.flush, faults or Faults())
        self.transport, self.listener = InProcess(self, drops), Listener(self)
        self.runs: dict[str, Run] = {}
        self._records: dict[str, RunRecords] = {}  # by the run's folder
        self._path = path
        self.repo = RepoLayout(path / "repo")
        for folder in (self.repo.hpc, path / "home", path / "packages", path / "scratch"):
            folder.mkdir(parents=True)
        plugin(str(path / "packages"))
        # a host, so that the cluster is not this machine: nothing connects to it
        config = {"scheduler": "simulated", "host": "simulated.invalid", "scratch": str(path / "scratch"),
                  "constraints": constraints}  # fmt: skip
        (path / "clusters.yaml").write_text(yaml.safe_dump({NAME: config}))
        env = {"HOME": str(path / "home"), "HPC_CLUSTERS_CONFIG": str(path / "clusters.yaml"),
               "HPC_JOURNAL_DIR": str(path / "journal"), "USER": "simulated"}  # fmt: skip
        self.world = World(cwd=self.repo.root, env=env, now=self.clock.time, awake=self.clock.monotonic,
                           sleep=self.clock.sleep)  # fmt: skip
        self.journal = Journal(self.world, self.repo)

    @contextmanager
    def running(self) -> Iterator["Session"]:
        """Let this process live in simulated time, with the simulated scheduler as its adapter."""
        adapter = ModuleType("_hpc_backend")
        adapter.__spec__ = ModuleSpec("_hpc_backend", None)
        adapter.scheduler = lambda site: self.scheduler  # type: ignore[attr-defined]
        with (
            mock.patch.dict(sys.modules, {"_hpc_backend": adapter}),
            mock.patch.object(sys, "path", [str(self._path / "packages"), *sys.path]),
            mock.patch.object(remote, "make_transport", return_value=self.transport),
            mock.patch.object(patience, "_listener", return_value=self.listener),
            self.clock.installed(),
        ):
            self.node = remote.Node(
                get_cluster(NAME, self.world.env, self.world.home), self.world, self.repo.remote_name
            )
            make_folder(os.path.join(self.node.root, "snapshots", SNAPSHOT, ".hpc"))
            yield self

    def flush(self) -> None:
        """Write what the tasks of all runs have left by now."""
        for records in self._records.values():
            records.flush()

    def _attach(self, work: Work, array: str, run_folder: str) -> None:
        found = read_array(RunFolder(run_folder), array)
        assert found is not None, "an array is submitted that the ledger does not have"
        self._records[run_folder].attach(work, found)

    def submit(
        self, run_id: str, total: int, model: TaskModel, pack: int | None = None, max_running: int | None = None,
        walltime_sec: int = 14400, cpus: int = 1, est_task_sec: float | None = None,
    ) -> Run:  # fmt: skip
        """Plan a run as ``submit`` does, and submit it; after a lost answer the same request is sent again."""
        run = self._planned(run_id, total, model, pack, max_running, walltime_sec, cpus, est_task_sec)
        question = {
            "run": msgspec.to_builtins(self._sidecar),
            "template": "cpu_array.slurm",
            "job_environment": {},
            "arrays": ledger_entries(run_id, self._plan),
            "root": self.node.root,
            "owner": owner(),
            "site": self.node.site,
            "digests": base64.b64encode(zlib.compress(bytes(4 * total))).decode(),
            "incoming": "",
            "manifest": None,
        }
        for _ in range(SUBMISSIONS_TRIED):
            try:
                keep_outcome(self.repo, self.journal, run_id, run.folder.path,
                             lambda: self.node.bootstrap("submit", question, 900.0))  # fmt: skip
                return run
            except _LOST:
                self.clock.sleep(AGAIN_SEC)
        raise AssertionError("the submission never came to its end")

    def _planned(
        self, run_id: str, total: int, model: TaskModel, pack: int | None, max_running: int | None, walltime_sec: int,
        cpus: int, est_task_sec: float | None,
    ) -> Run:  # fmt: skip
        cluster = self.node.cluster
        limits = msgspec.convert(cluster.constraints, type(self._constraints()))
        seconds = est_task_sec or model.mean_sec
        most = limits.max_array_size * limits.max_concurrent_jobs
        pack = pack or choose_pack(total, seconds, walltime_sec, most)
        spec = WorkloadSpec(total_tasks=total, est_task_sec=seconds, pack=pack, cpus=cpus, max_running=max_running)
        arrays = compute_submission_plan(spec, limits)
        asked = {"walltime_sec": walltime_sec, "mem_mb": 1000, "cpus": cpus, "gpus": 0, "nodes": 1, "exclusive": False}
        resolved = ResolvedResources(asked, {}, dict.fromkeys(asked, "request"))
        request = SubmitRequest(cluster=NAME, executor="true", max_running=max_running)
        self._plan = PlannedRun(None, request, resolved, arrays, None)  # type: ignore[arg-type]
        folder = RunFolder(f"{self.node.root}/runs/{run_id}")
        self._sidecar = Sidecar(
            run_id=run_id, run_name=run_id, cmd_sha="0" * 64, tasks_py_sha="0" * 64, tree_sha="0" * 64, snapshot=SNAPSHOT,
            hpc_agent_version="0", submitted_at="2000-01-01T00:00:00Z", executor="true",
            result_dir_template="results/{task_id}", task_count=total, wave_map=self._plan.wave_map(), cluster=NAME,
            scheduler="simulated", remote_path=folder.path, resources=asked, constraints=cluster.constraints,
            plan=self._plan.shape(), layout=LAYOUT,
        )  # fmt: skip
        facts = identity_of(self._sidecar)
        self.journal.append(run_id, "submitting", **facts, command="hpc-agent submit")
        write_run_sidecar(self.repo, self._sidecar)
        records = RunRecords(self.clock, folder, model, total, self.records_late_sec)
        self._records[folder.path] = records
        self.runs[run_id] = Run(run_id, total, arrays, records, folder, self.clock.now)
        return self.runs[run_id]

    @staticmethod
    def _constraints() -> Any:
        from hpc_agent.infra.constraints import ClusterConstraints

        return ClusterConstraints()

    def refresh(self) -> ListInFlightResult:
        """Run ``list-in-flight --refresh``: one look at all runs that have not ended."""
        return list_in_flight(ListInFlightRequest(refresh=True), self.world)

    def watch(self, run_id: str, **wanted: Any) -> MonitorFlowResult:
        """Run ``monitor-flow`` until it ends; one that ends by an error is begun again, as a person would."""
        request = MonitorFlowRequest(run_id=run_id, **{"wall_clock_budget_sec": 1e9, "auto_resubmit": True, **wanted})
        run = self.runs[run_id]
        for _ in range(SUBMISSIONS_TRIED):
            try:
                run.result = monitor_flow(request, self.world)
            except HpcError as error:
                if isinstance(error, _LOST):
                    self.clock.sleep(AGAIN_SEC)
                    continue
                raise
            run.ended_at = self.clock.now
            return run.result
        raise AssertionError("the watch never came to its end")
