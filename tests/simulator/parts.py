"""What each part of the product costs by itself, as the numbers grow: planning, submission, the journal."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc_agent.infra.constraints import parse_constraints
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, compute_submission_plan

from .cluster import Limits, Machine
from .session import Session
from .tasks import TaskModel

COUNTS = {"complete": 123456, "running": 1024, "pending": 875520, "failed": 0, "unknown": 0}


def planning() -> Iterator[dict[str, Any]]:
    """Plan 10^4 to 10^7 tasks, one to an element: the most arrays that the defaults give."""
    limits = parse_constraints({"max_tasks": 10**8})
    for tasks in (10**4, 10**5, 10**6, 10**7):
        begun = time.process_time()
        plan = compute_submission_plan(WorkloadSpec(total_tasks=tasks, est_task_sec=60), limits)
        waves = json.dumps(build_wave_map(plan))
        yield {"part": "planning", "tasks": tasks, "arrays": len(plan.arrays), "cpu_ms": _ms(time.process_time() - begun),
               "wave_map_bytes": len(waves)}  # fmt: skip


def submission(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Submit a run of so many arrays, then look at it before anything has started."""
    for arrays in (10, 100, 1000, 5000):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            constraints = {"max_array_size": 10, "max_concurrent_jobs": 10}
            session = Session(Path(place), Machine(), Limits(), constraints)
            with session.running():
                wall = time.perf_counter()
                run = session.submit("run", arrays * 10, TaskModel(), pack=1)
                wall = time.perf_counter() - wall
                session.watch("run", wall_clock_budget_sec=0.1)
            submit, report = session.transport.calls["submit"], session.transport.calls["report"]
            yield {"part": "submission", "arrays": arrays, "cpu_ms": _ms(submit.cpu), "wall_ms": _ms(wall),
                   "answer_bytes": submit.longest, "longest_sbatch": session.scheduler.longest_command,
                   "look_cpu_ms": _ms(report.slowest), "look_bytes": report.longest, "waves": run.plan.n_waves}  # fmt: skip


def journal(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Append looks to the journal of a run, and read the run from it."""
    for events in (100, 1000, 10_000):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            session = Session(Path(place), Machine(), Limits(), {})
            begun, wall = time.process_time(), time.perf_counter()
            for number in range(events):
                session.journal.append(
                    "run", "status", lifecycle_state="in_flight", counts={**COUNTS, "failed": number}
                )
            appended, wall = time.process_time() - begun, time.perf_counter() - wall
            begun = time.process_time()
            session.journal.load("run")
            loaded = time.process_time() - begun
            yield {"part": "journal", "events": events, "bytes": session.journal.path("run").stat().st_size,
                   "append_cpu_us": round(appended / events * 1e6), "append_wall_us": round(wall / events * 1e6),
                   "load_cpu_ms": _ms(loaded)}  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
