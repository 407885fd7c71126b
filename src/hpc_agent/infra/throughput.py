"""The shape of a submission: tasks -> elements -> arrays -> waves. Cost follows the number of arrays, never of tasks."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.constraints import ClusterConstraints

TARGET_ELEMENT_SEC = 300
SHORT_TASK_SEC = 60
BUSY_ELEMENTS = 100
# A shorter element costs more to start than it works.
LEAST_ELEMENT_SEC = 30
# An estimate may be twice too low before a packed element runs into its walltime.
WALLTIME_SHARE = 0.5


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a run. ``est_task_sec`` is the duration of a task in seconds; without a duration, no time is estimated."""

    total_tasks: int
    est_task_sec: float | None = None
    pack: Annotated[int, Meta(description="tasks that one element runs")] = 1
    at_once: Annotated[int, Meta(description="those of them that it runs at the same time")] = 1
    cpus: Annotated[int, Meta(description="cores of a task")] = 1
    max_running: Annotated[int | None, Meta(description="elements of the whole run that may run at once")] = None
    first_task: Annotated[int, Meta(description="id of the first of them; 1 where task 0 is the canary")] = 0
    cores: Annotated[int | None, Meta(description="cores that there are, where they are known; for estimates")] = None

    def room(self, elements: int) -> int:
        """Return how many of the elements the cores let run at once."""
        return min(elements, max(1, self.cores // (self.cpus * self.at_once))) if self.cores else elements

    def element_sec(self, tasks: int, task_sec: float) -> float:
        """Return how long an element of so many tasks lasts."""
        return turns(min(self.pack, tasks), self.at_once) * task_sec


class ArrayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One scheduler array: tasks ``first_task`` .. ``first_task + task_count - 1``, the last element has the remainder."""

    name: str
    first_task: int
    task_count: int
    elements: int
    pack: int
    at_once: int = 1
    wave: int
    max_running: Annotated[int | None, Meta(description="the array's throttle (%N, -tc N); null: none")] = None

    @property
    def tasks(self) -> str:
        """Return the array's task ids as a range, ``0-999``."""
        return _span(self.first_task, self.first_task + self.task_count - 1)


class SubmissionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The arrays in the order of submission; ``strategy`` explains their shape. Times are in seconds."""

    total_tasks: int
    total_elements: int
    pack: int
    at_once: int = 1
    arrays: tuple[ArrayPlan, ...]
    n_waves: int
    strategy: str
    est_total_wall_sec: float | None = None
    lower_bound_sec: Annotated[float | None, Meta(description="the same limits without the waits between waves")] = None
    est_core_hours: float | None = None


def compute_submission_plan(workload: WorkloadSpec, constraints: ClusterConstraints) -> SubmissionPlan:
    """Spread the tasks evenly over as few arrays as the limits allow, and the arrays over waves.

    Raises SpecInvalid when there is nothing to run, when there are more tasks than ``max_tasks``, or when an element's
    estimated time and the spin-up do not fit into ``max_walltime_sec``.
    """
    _check(workload, constraints)
    elements = -(-workload.total_tasks // workload.pack)
    n_arrays = -(-elements // constraints.max_array_size)
    width = min(constraints.max_concurrent_jobs, workload.max_running or n_arrays)
    arrays = _arrays(workload, elements, n_arrays, width)
    n_waves = -(-n_arrays // width)
    return SubmissionPlan(
        total_tasks=workload.total_tasks,
        total_elements=elements,
        pack=workload.pack,
        at_once=workload.at_once,
        arrays=arrays,
        n_waves=n_waves,
        strategy=_strategy(workload, constraints, elements, n_arrays, n_waves),
        **_estimates(workload, constraints, arrays, width),
    )


def build_wave_map(plan: SubmissionPlan) -> dict[str, str]:
    """Return the task ids of each wave as a range: ``{"0": "0-999", "1": "1000-1999"}``."""
    spans: dict[int, tuple[int, int]] = {}
    for array in plan.arrays:
        first, _ = spans.get(array.wave, (array.first_task, 0))
        spans[array.wave] = (first, array.first_task + array.task_count - 1)
    return {str(wave): _span(first, last) for wave, (first, last) in spans.items()}


def turns(pack: int, at_once: int) -> int:
    """Return the number of tasks that an element runs one after the other, where ``at_once`` of them run together."""
    return -(-pack // at_once)


def choose_pack(
    total_tasks: int, est_task_sec: float | None, walltime_sec: int, max_elements: int, at_once: int = 1
) -> int:
    """Return the number of tasks that one element runs, so that an element lasts about five minutes.

    An element that runs several tasks at once has as many times more: at least ``at_once``, as far as there are tasks.
    """
    in_turn = _tasks_in_turn(turns(total_tasks, at_once), est_task_sec, walltime_sec, max_elements)
    return min(total_tasks, in_turn * at_once)


def _tasks_in_turn(total_tasks: int, est_task_sec: float | None, walltime_sec: int, max_elements: int) -> int:
    """Return the pack of elements that run one task at a time.

    The number is 1 when a task lasts a minute or longer, or for an unknown time. Otherwise at least 100 elements stay
    (so that the cluster is not idle) as long as each has half a minute of work, at most ``max_elements`` are made, and,
    above all, an element fills at most half of ``walltime_sec``. Elements are as even as their number allows.
    """
    if est_task_sec is None or est_task_sec >= SHORT_TASK_SEC:
        return 1
    seconds = max(est_task_sec, 0.001)
    pack = max(total_tasks // BUSY_ELEMENTS, math.ceil(LEAST_ELEMENT_SEC / seconds))
    pack = min(pack, int(TARGET_ELEMENT_SEC / seconds), total_tasks)
    pack = max(pack, -(-total_tasks // max_elements))
    pack = max(1, min(pack, int(walltime_sec * WALLTIME_SHARE / seconds)))
    elements = -(-total_tasks // pack)
    return -(-total_tasks // elements)  # 3 + 3, not 5 + 1


def _check(workload: WorkloadSpec, constraints: ClusterConstraints) -> None:
    for field in ("total_tasks", "pack", "at_once", "cpus", "max_running"):
        value = getattr(workload, field)
        if value is not None and value < 1:
            raise _invalid(field, f"{field} is {value}: it must be at least 1", f"Correct {field}")
    if workload.at_once > workload.pack:
        message = f"an element of {counted(workload.pack, 'task')} cannot run {workload.at_once:,} of them at once"
        raise _invalid(
            "at_once", message, f"Ask for at most --at-once {workload.pack}, or for --pack {workload.at_once} or more"
        )
    if workload.total_tasks > constraints.max_tasks:
        raise SpecInvalid(
            f"{workload.total_tasks:,} tasks are more than the {constraints.max_tasks:,} that one run may have",
            field="total_tasks",
            remediation="Split the experiment, or raise constraints.max_tasks in clusters.yaml; "
            "'hpc-agent clusters-list' names the files.",
        )
    if workload.est_task_sec is not None:
        _check_walltime(workload, workload.est_task_sec, constraints)


def _check_walltime(workload: WorkloadSpec, task_sec: float, constraints: ClusterConstraints) -> None:
    if not 0 <= task_sec < math.inf:
        message = f"est_task_sec is {task_sec}: it must be a number of seconds, zero or more"
        raise _invalid("est_task_sec", message, "Correct est_task_sec")
    limit, spin_up = constraints.max_walltime_sec, constraints.est_spin_up_sec
    pack, seconds = min(workload.pack, workload.total_tasks), workload.element_sec(workload.total_tasks, task_sec)
    if seconds + spin_up <= limit:
        return
    if task_sec + spin_up > limit:
        field, subject, needed = "est_task_sec", "a task", task_sec + spin_up
        advice = "Divide the task into shorter ones, or raise constraints.max_walltime in clusters.yaml"
    else:
        field, subject, needed = "pack", f"an element of {pack} tasks", seconds + spin_up
        advice = f"Set pack to at most {int((limit - spin_up) / task_sec) * workload.at_once}"
    about, end = format_duration(needed), format_duration(limit)
    message = f"{subject} needs about {about} with the spin-up; the cluster's walltime ends at {end}"
    raise _invalid(field, message, advice, needed_sec=needed, max_walltime_sec=limit, est_spin_up_sec=spin_up)


def _invalid(field: str, message: str, advice: str, **details: float) -> SpecInvalid:
    remedy = f"{advice}, then run 'hpc-agent plan-throughput' again."
    return SpecInvalid(message, field=field, remediation=remedy, details=details)


def _arrays(workload: WorkloadSpec, elements: int, n_arrays: int, width: int) -> tuple[ArrayPlan, ...]:
    size, larger = divmod(elements, n_arrays)
    arrays = []
    first = workload.first_task
    for index in range(n_arrays):
        count = size + (index < larger)
        tasks = min(count * workload.pack, workload.first_task + workload.total_tasks - first)
        throttle = None
        if workload.max_running is not None:
            # The scheduler throttles each array, and the arrays of a wave run together: each has its share.
            share, more = divmod(workload.max_running, min(width, n_arrays - index // width * width))
            throttle = share + (index % width < more)
        array = ArrayPlan(name=f"a{index}", first_task=first, task_count=tasks, elements=count, pack=workload.pack,
                          at_once=workload.at_once, wave=index // width, max_running=throttle)  # fmt: skip
        arrays.append(array)
        first += tasks
    return tuple(arrays)


def _estimates(
    workload: WorkloadSpec, constraints: ClusterConstraints, arrays: tuple[ArrayPlan, ...], width: int
) -> dict[str, float]:
    """Return makespan, its lower bound (seconds) and core hours. A wave waits for the slowest array of the one before."""
    if workload.est_task_sec is None:
        return {}
    waves: dict[int, float] = {}
    in_wave: dict[int, int] = {}
    room = workload.room(sum(array.elements for array in arrays))
    for array in arrays:
        in_wave[array.wave] = in_wave.get(array.wave, 0) + array.elements
        rounds = -(-array.elements // (array.max_running or array.elements))
        rounds = max(rounds, math.ceil(in_wave[array.wave] / room))
        seconds = rounds * workload.element_sec(array.task_count, workload.est_task_sec)
        waves[array.wave] = max(waves.get(array.wave, 0.0), seconds)
    total = sum(waves.values()) + len(waves) * constraints.est_spin_up_sec
    at_once = workload.at_once * min(workload.max_running or math.inf, width * constraints.max_array_size, room)
    work = workload.total_tasks * workload.est_task_sec
    longest = workload.element_sec(workload.total_tasks, workload.est_task_sec)
    bound = min(constraints.est_spin_up_sec + max(longest, work / at_once), total)
    hours = work * workload.cpus / 3600
    return {"est_total_wall_sec": total, "lower_bound_sec": bound, "est_core_hours": hours}


def _strategy(
    workload: WorkloadSpec, constraints: ClusterConstraints, elements: int, n_arrays: int, n_waves: int
) -> str:
    limit, room = workload.max_running, workload.room(elements)
    head = f"{counted(workload.total_tasks, 'task')} in {counted(n_arrays, 'array')}"
    if workload.pack > 1:
        some = f", {workload.at_once:,} at once" if workload.at_once > 1 else ""
        head += f", {workload.pack:,} tasks to an element{some} ({counted(elements, 'element')})"
    parts = [head]
    if n_arrays > 1:
        parts.append(f"an array may have {constraints.max_array_size:,} elements, so the tasks are spread evenly")
    if n_waves > 1:
        cause = f"{constraints.max_concurrent_jobs:,} arrays may be queued at once"
        if limit and limit < constraints.max_concurrent_jobs:
            cause = f"no more than {counted(limit, 'element')} may run at once"
        parts.append(
            f"{n_waves:,} waves, because {cause}; an array waits until its predecessor in the wave before has ended, "
            "whatever its outcome"
        )
    else:
        parts.append("one wave" if room < elements else "one wave, nothing waits")
    if room < elements:
        parts.append(f"{counted(room, 'element')} of {counted(workload.cpus * workload.at_once, 'core')} can run at once: "
                     f"there {'is' if workload.cores == 1 else 'are'} {counted(workload.cores or 1, 'core')}")  # fmt: skip
    if limit:
        parts.append(f"the scheduler's throttle allows {counted(limit, 'element')} to run at once")
    return "; ".join(parts) + "."


def counted(number: int, noun: str) -> str:
    """Return ``1 task``, ``1,200 tasks``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def format_duration(seconds: float) -> str:
    """Return hours:minutes:seconds, rounded up to a second."""
    whole = math.ceil(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
