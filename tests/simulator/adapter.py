"""The simulated cluster as a scheduler adapter of the node side: SLURM's words and refusals, and no process is started."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc_agent.node.schedulers.base import AccountingRow, Job, QueueRow
from hpc_agent.node.schedulers.slurm.adapter import Slurm
from hpc_agent.node.shared.errors import NodeError

from .cluster import CAUSES, PENDING, RUNNING, Cluster, Work
from .tasks import draw

# The longest word of a command line that Linux takes.
LONGEST_WORD = 128 << 10
_TOO_MANY = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS"
_TOO_LARGE = "sbatch: error: Batch job submission failed: Invalid job array specification"
_WORDS = {None: "COMPLETED 0:0", "exit": "FAILED 1:0", "timeout": "TIMEOUT 0:0", "node_failure": "NODE_FAIL 0:0"}


class Killed(BaseException):
    """The process on the login node dies at this moment."""


@dataclass
class Faults:
    """Shares of calls that go wrong. ``lost``: sbatch fails though the job is queued; ``killed``: our process dies then."""

    queries: float = 0.0
    lost: float = 0.0
    refused: float = 0.0  # sbatch says that the controller does not answer; nothing is queued
    killed: float = 0.0
    seed: int = 0


@dataclass
class Scheduler(Slurm):
    """One adapter for all calls of a session. ``attach`` is given each new job, so that its elements run our tasks."""

    cluster: Cluster
    attach: Callable[[Work, str, str], None]  # (job, array, run folder)
    flush: Callable[[], None]
    faults: Faults = field(default_factory=Faults)
    counts: dict[str, int] = field(default_factory=dict)
    rows: int = 0  # of queue and accounting, in all answers
    longest_command: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def _count(self, what: str) -> int:
        self.counts[what] = self.counts.get(what, 0) + 1
        return self.counts[what]

    def _query(self, what: str) -> None:  # type: ignore[override]
        self.flush()
        if draw(self.faults.seed, self._count(what), len(what), 11) < self.faults.queries:
            raise NodeError("cluster_timeout", "slurm_load_jobs error: Socket timed out on send/recv operation")

    def submit(self, job: Job) -> str:
        number = self._count("sbatch")
        argv = self.submit_command(job)
        self.longest_command = max(self.longest_command, sum(map(len, argv)) + len(argv))
        assert max(map(len, argv)) < LONGEST_WORD, "the kernel refuses a word of this length"
        chance = draw(self.faults.seed, number, 5)
        if chance < self.faults.refused:
            return self.parse_submit(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv")
        cluster, limits = self.cluster, self.cluster.limits
        if job.count > limits.array_size:
            return self.parse_submit(1, "", _TOO_LARGE)
        above = limits.submitted is not None and cluster.submitted + job.count > limits.submitted
        if above or (limits.jobs is not None and cluster.jobs >= limits.jobs):
            return self.parse_submit(1, "", _TOO_MANY)
        work = Work(
            cluster.new_number(), int(job.resources.get("cpus") or 1), float(job.resources.get("walltime_sec") or 86400),
            job.count, job.name, throttle=job.max_running, after=job.after,
        )  # fmt: skip
        self.attach(work, job.environment["HPC_ARRAY"], job.environment["HPC_RUN_DIR"])
        job_id = cluster.submit(work)
        chance -= self.faults.refused
        if chance < self.faults.lost:
            return self.parse_submit(1, "", "sbatch: error: Batch job submission failed: Zero Bytes were transmitted")
        if chance < self.faults.lost + self.faults.killed:
            raise Killed
        return self.parse_submit(0, job_id + "\n", "")

    def queue(self, job_ids: Sequence[str]) -> list[QueueRow]:
        """Return the rows that squeue prints: one for the waiting elements of an array, one for each that runs."""
        self._query("squeue")
        rows = []
        for job in job_ids:
            work = self.cluster.works.get(job)
            if work is None or not work.left:
                continue
            waiting = ",".join(_span(*span) for span in self.cluster.ranges(work, PENDING)) if work.pending else ""
            if waiting:
                depends = any(self.cluster.works[other].left for other in work.after)
                reason = "Dependency" if depends else "Priority"
                rows.append(QueueRow(job, waiting, "pending", reason, "PENDING", name=work.name))
            rows += [
                QueueRow(job, str(element), "running", "", "RUNNING", f"node{parts[0][0]}", work.name)
                for element, (_, parts) in work.running.items()
            ]
        self.rows += len(rows)
        return rows

    def accounting(self, job_ids: Sequence[str], since: float) -> list[AccountingRow]:
        if not job_ids:
            return []
        self._query("sacct")
        rows = []
        for job in job_ids:
            work = self.cluster.works.get(job)
            for element in range(work.count) if work else ():
                state = work.state[element]
                if state < RUNNING and work.known_at[element] <= self.cluster.clock.now:
                    cause = CAUSES[state]
                    code = {None: 0, "exit": 1}.get(cause)
                    rows.append(AccountingRow(job, element, cause, _WORDS[cause], code, host="node",
                                              seconds=round(work.lasted[element], 1)))  # fmt: skip
        self.rows += len(rows)
        return rows

    def find(self, name: str, since: float) -> list[str]:
        self._query("squeue --name")
        return list(self.cluster.by_name.get(name, []))

    def submitted_elements(self) -> int:
        self._query("squeue --me")
        return self.cluster.submitted

    def usable_nodes(self) -> list[str]:
        self._query("sinfo")
        return [f"node{node}" for node in range(self.cluster.machine.nodes) if node not in self.cluster.pool.down]

    def partitions_and_limits(self, query: Any) -> tuple[list[Any], list[Any]]:
        return [], []


def _span(start: int, stop: int) -> str:
    return str(start) if stop == start + 1 else f"{start}-{stop - 1}"


def plugin(folder: str) -> None:
    """Write an installed package's entry point below ``folder``: the scheduler is found as one of another package is."""
    info = os.path.join(folder, "hpc_agent_simulated-0.dist-info")
    os.makedirs(info, exist_ok=True)
    texts = {
        "METADATA": "Metadata-Version: 2.1\nName: hpc-agent-simulated\nVersion: 0\n",
        "entry_points.txt": "[hpc_agent.backends]\nsimulated = simulator.session:backend\n",
    }
    for name, text in texts.items():
        with open(os.path.join(info, name), "w") as handle:
            handle.write(text)
