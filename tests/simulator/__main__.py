"""Run planner, submission and monitor against a simulated cluster, and print what they cost as one line of JSON.

    python tests/simulator one --tasks 1000000 --task-sec 5 --nodes 64          one run
    python tests/simulator many --runs 1000 --tasks 20                          runs of one user, each with its own watch
    python tests/simulator parts                                                planning, submission, the journal by themselves
    python tests/simulator log --procs 1024 --days 30 --out model.swf.gz        a workload log, made by a model

``--swf FILE`` lets the users of a workload log (Standard Workload Format, also gzipped) work on the cluster beside the run;
``--model-days N`` those of the model of Lublin and Feitelson. A run leaves its files in ``--folder`` (by default a
temporary folder, which is removed); /dev/shm is the fastest place.
"""

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "src")]

from simulator import lublin, parts, swf  # noqa: E402
from simulator.adapter import Faults  # noqa: E402
from simulator.cluster import Limits, Machine, utilisation  # noqa: E402
from simulator.session import Run, Session  # noqa: E402
from simulator.tasks import TaskModel  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/simulator", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("one", "many"):
        _options(verbs.add_parser(name))
    log = verbs.add_parser("log")
    log.add_argument("--procs", type=int, default=1024)
    log.add_argument("--days", type=float, default=7)
    log.add_argument("--seed", type=int, default=0)
    log.add_argument("--out", type=Path, required=True)
    verbs.add_parser("parts").add_argument("--folder", type=Path)
    wanted = parser.parse_args()
    if wanted.verb == "parts":
        for row in itertools.chain(parts.planning(), parts.submission(wanted.folder), parts.journal(wanted.folder)):
            print(json.dumps(row))
        return 0
    if wanted.verb == "log":
        jobs = lublin.workload(wanted.seed, wanted.procs, wanted.days)
        swf.write_swf(wanted.out, jobs, lublin.header(wanted.procs, wanted.seed))
        return 0
    with tempfile.TemporaryDirectory(dir=wanted.folder, prefix="simulator-") as folder:
        session = _session(Path(folder), wanted)
        begun = time.process_time()
        found = _one(session, wanted) if wanted.verb == "one" else _many(session, wanted)
        found["cpu_sec"] = round(time.process_time() - begun, 1)
        found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps(found))
    return 0 if found["complete"] == found["tasks"] else 1


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tasks", type=int, default=10_000, help="of a run")
    add("--runs", type=int, default=1000, help="of 'many'")
    add("--task-sec", type=float, default=60.0, help="mean seconds of a task")
    add("--pack", type=int, help="tasks to an element; by default as submit chooses")
    add("--nodes", type=int, default=16)
    add("--cores", type=int, default=64, help="of a node")
    add("--mtbf-hours", type=float, help="mean time between failures of a node")
    add("--no-requeue", action="store_true", help="elements of a failed node end as node failures")
    add("--array-size", type=int, default=1000)
    add("--arrays-at-once", type=int, default=10)
    add("--max-submitted", type=int)
    add("--max-running", type=int)
    add("--walltime-sec", type=int, default=14400)
    add("--query-failures", type=float, default=0.0, help="share of the scheduler's queries that fail")
    add("--lost-answers", type=float, default=0.0, help="share of sbatch that fail though the job is queued")
    add("--swf", type=Path, help="workload log of other users")
    add("--model-days", type=float, default=0.0, help="other users by the model, for so many days")
    add("--load", type=float, default=1.0, help="of the model: how fast they come")
    add("--seed", type=int, default=0)
    add("--combine", action="store_true", help="of 'one': fold the records into partials at the end")
    add("--folder", type=Path)


def _session(folder: Path, wanted: argparse.Namespace) -> Session:
    others: Iterable[swf.SwfJob] = ()
    if wanted.swf:
        others = swf.read_swf(wanted.swf).jobs
    elif wanted.model_days:
        others = lublin.workload(wanted.seed, wanted.nodes * wanted.cores, wanted.model_days, wanted.load)
    machine = Machine(wanted.nodes, wanted.cores, requeue=not wanted.no_requeue, seed=wanted.seed,
                      node_mtbf_sec=wanted.mtbf_hours * 3600 if wanted.mtbf_hours else float("inf"))  # fmt: skip
    constraints = {"max_array_size": wanted.array_size, "max_concurrent_jobs": wanted.arrays_at_once}
    if wanted.max_submitted:
        constraints["max_submitted"] = wanted.max_submitted
    faults = Faults(wanted.query_failures, wanted.lost_answers, seed=wanted.seed)
    limits = Limits(wanted.array_size, wanted.max_submitted)
    return Session(folder, machine, limits, constraints, others, faults, seed=wanted.seed)


def _one(session: Session, wanted: argparse.Namespace) -> dict[str, Any]:
    with session.running():
        run = session.submit("run", wanted.tasks, TaskModel(wanted.task_sec, seed=wanted.seed), wanted.pack,
                             wanted.max_running, wanted.walltime_sec)  # fmt: skip
        session.watch("run")
        if wanted.combine:
            session.node.ask("combine", "run", {})
    assert run.result is not None
    work = run.records.model.work(run.total)
    found = _facts(session, [run])
    found["makespan_sec"] = round(run.ended_at - run.submitted_at)
    found["bound_sec"] = round(session.cluster.earliest_end(work, run.submitted_at) - run.submitted_at)
    found["plan"] = {"arrays": len(run.plan.arrays), "elements": run.plan.total_elements, "pack": run.plan.pack,
                     "waves": run.plan.n_waves, "est_sec": run.plan.est_total_wall_sec}  # fmt: skip
    return found


def _many(session: Session, wanted: argparse.Namespace) -> dict[str, Any]:
    names = [f"run{number}" for number in range(wanted.runs)]
    with session.running():
        for number, name in enumerate(names):
            session.submit(name, wanted.tasks, TaskModel(wanted.task_sec, seed=wanted.seed + number), wanted.pack,
                           wanted.max_running, wanted.walltime_sec)  # fmt: skip
        session.refresh()  # one look at all of them
        for failed in session.clock.run([partial(session.watch, name) for name in names]):
            if isinstance(failed, BaseException):
                raise failed
    return _facts(session, list(session.runs.values()))


def _facts(session: Session, runs: list[Run]) -> dict[str, Any]:
    results = [run.result for run in runs if run.result]
    files = sum(len(names) for run in runs for _, _, names in os.walk(run.folder.path))
    journals = [session.journal.path(run.run_id).stat().st_size for run in runs]
    return {
        "runs": len(runs), "tasks": sum(run.total for run in runs),
        "complete": sum(result.last_status["complete"] for result in results),
        "states": sorted({result.lifecycle_state for result in results}),
        "elapsed_sec": round(max(result.elapsed_seconds for result in results)),
        "looks": sum(result.ticks for result in results), "most_looks": max(result.ticks for result in results),
        "scheduler": session.scheduler.counts, "rows": session.scheduler.rows,
        "longest_sbatch": session.scheduler.longest_command,
        "calls": {verb: {"count": calls.count, "received": calls.received, "longest": calls.longest,
                         "cpu_sec": round(calls.cpu, 2), "slowest_cpu_sec": round(calls.slowest, 3)}
                  for verb, calls in session.transport.calls.items()},
        "files": files, "journal_bytes": sum(journals), "longest_journal": max(journals),
        "sidecar_bytes": max(session.repo.sidecar(run.run_id).stat().st_size for run in runs),
        **utilisation(session.cluster),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
