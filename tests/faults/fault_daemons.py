"""Daemons of the schedulers, stopped and started again: before a submission, in its middle, and under running tasks."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Iterator

from fault_bench import Bench, Experiment, until
from fault_kills import STEPS
from fault_processes import end_tree
from fault_scheduler import ask, bring_back, jobs_of, pid_file
from faults import Outcome, fault

SITE = {"slurmctld": "slurm-ssh", "slurmdbd": "slurm-ssh", "munged": "slurm-ssh", "sge_qmaster": "sge-ssh"}


def stop(daemon: str, kind: int = signal.SIGTERM) -> None:
    pid = int(pid_file(daemon).read_text())
    os.kill(pid, kind)
    until(lambda: not running(pid), 40)


def running(pid: int) -> bool:
    """A zombie has ended, whenever it is reaped."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as facts:
        return facts.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextlib.contextmanager
def without(bench: Bench, daemon: str) -> Iterator[None]:
    """The daemon is down inside the block, and up again after it, whatever happens."""
    try:
        stop(daemon)
        yield
    finally:
        bring_back(bench.site.scheduler)


def down_before(daemon: str, bench: Bench) -> Outcome:
    exp = bench.experiment()
    with without(bench, daemon):
        answer = bench.submit(exp)
        if answer.code == 1:
            bench.found.wrong.append(f"the user is blamed: {answer}")
        bench.status(exp)
    bench.submit_until(exp)
    return bench.judge(exp)


def down_in_the_middle(daemon: str, bench: Bench) -> Outcome:
    exp = bench.experiment(tasks=8)
    client = bench.client(exp, *bench.submit_words(exp))
    until(lambda: STEPS["the first intent is written"](bench, exp), 20, 0.001)
    with without(bench, daemon):
        client.wait(120)
    bench.submit_until(exp)
    return bench.judge(exp)


def down_while_running(daemon: str, bench: Bench) -> Outcome:
    """Tasks end while the daemon is away; looks before, meanwhile and after."""
    exp = bench.experiment(middle="sleep 4")
    bench.submit_until(exp)
    until(lambda: len(exp.lines("start")) == exp.tasks, 30)
    bench.status(exp)
    with without(bench, daemon):
        bench.status(exp)
        until(lambda: exp.done == exp.tasks, 30)
        bench.status(exp)
    return bench.judge(exp)


for _daemon, _site in SITE.items():
    _quick = _daemon in ("slurmdbd", "sge_qmaster")
    fault(f"{_daemon} is down when submit comes", (_site,), 2, stops_daemons=True, in_tests=_quick)(
        functools.partial(down_before, _daemon)
    )
    fault(f"{_daemon} goes down in the middle of submit", (_site,), 2, stops_daemons=True, in_tests=False)(
        functools.partial(down_in_the_middle, _daemon)
    )
    fault(f"{_daemon} is down while tasks run and end", (_site,), 2, stops_daemons=True, in_tests=False)(
        functools.partial(down_while_running, _daemon)
    )


# -- nodes -----------------------------------------------------------------------------------------------------------

ON_NODE4 = ("--exclude-nodes", "node1,node2,node3")


def node_daemon(bench: Bench) -> str:
    return "node4" if bench.slurm else "sge_execd"


@fault("the node's daemon is killed, its tasks go on and end", tries=2, stops_daemons=True, in_tests=False)
def node_daemon_killed(bench: Bench) -> Outcome:
    exp = bench.experiment(middle="sleep 4", flags=ON_NODE4 if bench.slurm else ())
    bench.submit_until(exp)
    until(lambda: len(exp.lines("start")) == exp.tasks, 30)
    try:
        stop(node_daemon(bench), signal.SIGKILL)
        bench.status(exp)
        until(lambda: exp.done == exp.tasks, 30)
        bench.status(exp)
    finally:
        bring_back(bench.site.scheduler)
    return bench.judge(exp)


@fault("the node dies with its tasks: again or failed, never complete, never two at once", tries=2, stops_daemons=True,
       in_tests=False)  # fmt: skip
def node_dies(bench: Bench) -> Outcome:
    """The first attempt is killed with its daemon; a second one, if the scheduler makes it, ends quickly."""
    middle = "[ -e {0}.$X ] || {{ : >{0}.$X; sleep 60; }}"
    exp = bench.experiment(flags=ON_NODE4 if bench.slurm else (), may_fail=range(4))
    first = exp.witness.with_name("first")
    work = exp.repo / "work.sh"
    work.write_text(work.read_text().replace("\n:\n", f"\n{middle.format(first)}\n"))
    bench.submit_until(exp)
    until(lambda: len(exp.lines("start")) == exp.tasks, 30)
    try:
        stop(node_daemon(bench), signal.SIGKILL)
        for pid in _keepers(bench, exp.repo.name):
            end_tree(pid)
        bench.status(exp)
    finally:
        bring_back(bench.site.scheduler)
    return _ended_honestly(bench, exp)


def _keepers(bench: Bench, prefix: str) -> list[int]:
    """slurmstepd and sge_shepherd of our jobs."""
    ids = {job for jobs in jobs_of(bench.site.scheduler, prefix).values() for job in jobs}
    if bench.slurm:
        ids = set(ask("squeue", "-h", "-r", "-j", ",".join(ids), "-o", "%A").split())
        pattern = rf"slurmstepd: \[({'|'.join(ids)})[.]"
    else:
        pattern = rf"sge_shepherd-({'|'.join(ids)})[.]"
    return [int(pid) for pid in ask("pgrep", "-f", pattern).split()]


def _ended_honestly(bench: Bench, exp: Experiment) -> Outcome:
    data = bench.finish(exp, 330).data  # SLURM lets what it requeued wait for two minutes
    outcome = Outcome()
    counts = data.get("last_status", {})
    if data.get("lifecycle_state") not in ("complete", "failed"):
        outcome.wrong.append(f"the run never ended: {data}")
    unexplained = {name: n for name, n in data.get("failures_by_cause", {}).items() if name != "node_failure"}
    if unexplained:
        outcome.wrong.append(f"causes {unexplained}: {data.get('samples')}")
    if counts.get("complete", 0) + counts.get("failed", 0) != exp.tasks:
        outcome.losses.append(f"{counts}")
    outcome.duplicates += [f"task {x} ran {n} times" for x, n in exp.lines("start").items() if n > 2]
    outcome.duplicates += [f"task {x} ran twice at the same time" for x in exp.lines("overlap")]
    return outcome
