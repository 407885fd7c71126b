"""Plans keep every limit and lose no task, at a cost that follows the number of arrays."""

import json
import math
import random
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import cluster_keys
from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints, parse_duration
from hpc_agent.infra.throughput import WorkloadSpec, build_wave_map, choose_pack, compute_submission_plan
from hpc_agent.node.shared.ranges import decode_ranges, slice_ranges
from hpc_agent.ops.run.planned_run import PlannedRun, ledger_entries
from hpc_agent.ops.run.resources import ResolvedResources

workloads = st.builds(
    WorkloadSpec,
    total_tasks=st.integers(1, 3000),
    est_task_sec=st.none() | st.floats(0, 60),
    pack=st.integers(1, 40),
    cpus=st.integers(1, 8),
    max_running=st.none() | st.integers(1, 200),
)
limits = st.builds(
    ClusterConstraints,
    max_array_size=st.integers(1, 500),
    max_concurrent_jobs=st.integers(1, 12),
    max_walltime_sec=st.just(86400),
    est_spin_up_sec=st.integers(1, 600),
)


def plan_of(total, constraints=None, **fields):
    return compute_submission_plan(WorkloadSpec(total_tasks=total, **fields), parse_constraints(constraints))


@given(workloads, limits)
def test_every_task_is_in_exactly_one_element(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    seen = []
    for array in plan.arrays:
        for element in range(array.elements):
            tasks = slice_ranges(array.tasks, element * array.pack, array.pack)
            assert tasks, "an element without a task"
            assert len(tasks) == array.pack or (array is plan.arrays[-1] and element == array.elements - 1)
            seen += tasks
    assert seen == list(range(workload.total_tasks))
    assert plan.total_elements == sum(array.elements for array in plan.arrays)


@given(workloads, limits)
def test_limits_are_kept_and_the_spread_is_even(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    sizes = [array.elements for array in plan.arrays]
    assert max(sizes) <= constraints.max_array_size
    assert max(sizes) - min(sizes) <= 1
    assert [array.name for array in plan.arrays] == [f"a{index}" for index in range(len(plan.arrays))]
    waves = [array.wave for array in plan.arrays]
    assert waves == sorted(waves)
    assert set(waves) == set(range(plan.n_waves))
    width = min(constraints.max_concurrent_jobs, workload.max_running or constraints.max_concurrent_jobs)
    assert waves == [index // width for index in range(len(waves))]


@given(workloads, limits)
def test_arrays_are_as_few_as_possible(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    assert (len(plan.arrays) - 1) * constraints.max_array_size < math.ceil(workload.total_tasks / workload.pack)


@given(workloads, limits)
def test_a_limit_on_running_elements_is_shared_by_the_arrays_of_a_wave(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    for wave in range(plan.n_waves):
        throttles = [array.max_running for array in plan.arrays if array.wave == wave]
        if workload.max_running is None:
            assert set(throttles) == {None}
        else:
            assert min(throttles) >= 1
            assert sum(throttles) == workload.max_running


@given(workloads, limits)
def test_the_wave_map_holds_every_task_once(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    waves = build_wave_map(plan)
    assert list(waves) == [str(wave) for wave in range(plan.n_waves)]
    assert [task for text in waves.values() for task in decode_ranges(text)] == list(range(workload.total_tasks))


@given(workloads, limits)
def test_the_estimate_is_never_below_its_bound(workload, constraints):
    plan = compute_submission_plan(workload, constraints)
    if workload.est_task_sec is None:
        assert (plan.est_total_wall_sec, plan.lower_bound_sec, plan.est_core_hours) == (None, None, None)
    else:
        assert constraints.est_spin_up_sec <= plan.lower_bound_sec <= plan.est_total_wall_sec


def test_a_plan_by_hand():
    plan = plan_of(2501, {"max_array_size": 1000, "max_concurrent_jobs": 2, "est_spin_up": "5m"}, est_task_sec=60)
    shape = [(a.name, a.first_task, a.task_count, a.elements, a.wave) for a in plan.arrays]
    assert shape == [("a0", 0, 834, 834, 0), ("a1", 834, 834, 834, 0), ("a2", 1668, 833, 833, 1)]
    assert build_wave_map(plan) == {"0": "0-1667", "1": "1668-2500"}
    assert plan.est_total_wall_sec == 2 * (300 + 60)
    assert plan.lower_bound_sec == 300 + 2501 * 60 / 2000
    assert plan.est_core_hours == pytest.approx(2501 / 60)


def test_the_last_element_has_the_remainder():
    plan = plan_of(25, pack=10)
    assert [(a.elements, a.task_count) for a in plan.arrays] == [(3, 25)]
    assert build_wave_map(plan) == {"0": "0-24"}
    assert build_wave_map(plan_of(1)) == {"0": "0"}


def test_a_throttle_adds_rounds_to_the_estimate():
    plan = plan_of(100, {"est_spin_up": 10}, est_task_sec=60, max_running=30)
    assert plan.arrays[0].max_running == 30
    assert plan.est_total_wall_sec == 10 + 4 * 60


def test_the_strategy_says_what_and_why():
    assert plan_of(6).strategy == "6 tasks in 1 array; one wave, nothing waits."
    text = plan_of(30_000, {"max_array_size": 1000, "max_concurrent_jobs": 10}).strategy
    for words in ("30,000 tasks in 30 arrays", "1,000 elements", "3 waves", "10 arrays may be queued at once"):
        assert words in text
    assert "20 tasks to an element (5 elements)" in plan_of(100, pack=20).strategy
    throttled = plan_of(5000, max_running=2).strategy
    assert "no more than 2 elements may run at once" in throttled
    assert "allows 2 elements to run at once" in throttled


@pytest.mark.parametrize("field", ["total_tasks", "pack", "cpus", "max_running"])
@pytest.mark.parametrize("value", [0, -3])
def test_nothing_to_do_is_refused(field, value):
    with pytest.raises(SpecInvalid, match=f"{field} is {value}") as caught:
        compute_submission_plan(WorkloadSpec(**{"total_tasks": 10, field: value}), ClusterConstraints())
    assert caught.value.field == field


def test_more_tasks_than_allowed_are_refused():
    with pytest.raises(SpecInvalid, match="1,000,001 tasks are more than the 1,000,000"):
        plan_of(1_000_001)


def test_a_task_that_cannot_fit_the_walltime_is_refused():
    hour = {"max_walltime": "1:00:00", "est_spin_up": "5m"}
    plan_of(1, hour, est_task_sec=3300)
    with pytest.raises(SpecInvalid, match="a task needs about 1:00:01") as caught:
        plan_of(1, hour, est_task_sec=3301)
    assert caught.value.field == "est_task_sec"


def test_a_pack_that_cannot_fit_the_walltime_names_the_one_that_does():
    hour = {"max_walltime": "1:00:00", "est_spin_up": "5m"}
    with pytest.raises(SpecInvalid, match="an element of 40 tasks") as caught:
        plan_of(100, hour, est_task_sec=100, pack=40)
    assert caught.value.field == "pack"
    assert "at most 33" in caught.value.remediation
    plan_of(100, hour, est_task_sec=100, pack=33)
    plan_of(33, hour, est_task_sec=100, pack=40)
    with pytest.raises(SpecInvalid) as caught:
        plan_of(100, hour, est_task_sec=3300, pack=2)
    assert caught.value.field == "pack"
    assert "at most 1" in caught.value.remediation


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_an_estimate_that_is_no_duration_is_refused(seconds):
    with pytest.raises(SpecInvalid) as caught:
        plan_of(10, est_task_sec=seconds)
    assert caught.value.field == "est_task_sec"


def test_the_plan_of_a_million_tasks_is_small():
    tracemalloc.start()
    plan = plan_of(1_000_000, est_task_sec=1.0)
    waves = json.dumps(build_wave_map(plan))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert len(plan.arrays) == 1000
    assert len(waves) < 4096


packs = {
    "total_tasks": st.integers(1, 10**6),
    "est_task_sec": st.floats(0, 59.9),
    "walltime_sec": st.integers(60, 86400),
    "max_elements": st.integers(1, 10**5),
}


@given(**packs)
@example(total_tasks=1001, est_task_sec=1.0, walltime_sec=86400, max_elements=50)
def test_a_pack_keeps_its_promises_in_their_order(total_tasks, est_task_sec, walltime_sec, max_elements):
    pack = choose_pack(total_tasks, est_task_sec, walltime_sec, max_elements)
    elements = math.ceil(total_tasks / pack)
    forced = math.ceil(total_tasks / max_elements)
    assert 1 <= pack <= total_tasks
    if pack > 1:
        assert pack * est_task_sec <= walltime_sec / 2 + 1e-6
        assert elements >= 100 or pack <= forced or (pack - 1) * est_task_sec <= 30
        assert pack * est_task_sec <= 300 + 1e-6 or pack <= forced
    if elements > max_elements:
        assert elements == -(-total_tasks // max(1, int(walltime_sec * 0.5 / max(est_task_sec, 0.001))))
    assert elements * (pack - 1) < total_tasks, "as even as the number of elements allows"


def test_packs_by_hand():
    assert choose_pack(100_000, 3.0, 14400, 10_000) == 100
    assert choose_pack(100_000, 3.0, 300, 10_000) == 50
    assert choose_pack(1_000, 3.0, 14400, 10_000) == 10
    assert choose_pack(100, 1.0, 14400, 10_000) == 25
    assert choose_pack(6, 6.0, 14400, 10_000) == 3
    assert choose_pack(99, 29.0, 14400, 10_000) == 2
    assert choose_pack(10, 0.1, 14400, 10_000) == 10
    assert choose_pack(99, 59.0, 14400, 10_000) == 1
    assert choose_pack(1_000_000, 1.0, 14400, 1_000) == 1_000
    assert choose_pack(1_000_000, None, 14400, 1_000) == 1
    assert choose_pack(1_000_000, 60.0, 14400, 1_000) == 1


@pytest.mark.parametrize(
    ("cores", "cpus", "seconds"), [(None, 1, 65), (2, 1, 305), (4, 2, 305), (1, 2, 605), (40, 1, 65)]
)
def test_the_estimate_knows_the_cores_where_they_are_known(cores, cpus, seconds):
    workload = WorkloadSpec(total_tasks=10, est_task_sec=60.0, cpus=cpus, cores=cores)
    plan = compute_submission_plan(workload, parse_constraints({"est_spin_up": "5s"}))
    assert (plan.est_total_wall_sec, plan.lower_bound_sec) == (seconds, seconds)
    assert ("can run at once" in plan.strategy) == (seconds > 65)


def test_constraints_have_the_documented_defaults():
    assert parse_constraints() == parse_constraints({}) == ClusterConstraints(
        max_array_size=1000, max_walltime_sec=86400, max_concurrent_jobs=10, est_spin_up_sec=300, max_tasks=1_000_000
    )  # fmt: skip


def test_constraints_are_read_as_people_write_them():
    written = {"max_array_size": 500, "max_walltime": "1-00:00:00", "est_spin_up": "90s", "max_tasks": 7}
    expected = ClusterConstraints(max_array_size=500, max_walltime_sec=86400, est_spin_up_sec=90, max_tasks=7)
    assert parse_constraints(written) == expected
    assert parse_constraints({**written, "max_walltime": 86400}) == expected
    del written["max_walltime"]
    assert parse_constraints({**written, "max_walltime_sec": "24:00:00"}) == expected


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ({"max_aray_size": 10}, "constraints.max_aray_size", "did you mean max_array_size?"),
        ({"max_waltime": 10}, "constraints.max_waltime", "did you mean max_walltime?"),
        ({"zzz": 10}, "constraints.zzz", "the keys are max_array_size"),
        ({"max_array_size": "many"}, "constraints.max_array_size", "whole number, not str 'many'"),
        ({"max_array_size": 1.5}, "constraints.max_array_size", "whole number, not float"),
        ({"max_array_size": True}, "constraints.max_array_size", "whole number, not bool"),
        ({"max_concurrent_jobs": 0}, "constraints.max_concurrent_jobs", "at least 1"),
        ({"max_tasks": -5}, "constraints.max_tasks", "at least 1"),
        ({"max_walltime": "soon"}, "constraints.max_walltime", "write seconds, 24:00:00"),
        ({"est_spin_up": 5, "est_spin_up_sec": 6}, "constraints.est_spin_up_sec", "given twice"),
        (["max_tasks"], "constraints", "must be a mapping"),
    ],
)
def test_a_wrong_constraint_is_refused_by_name(document, field, words):
    with pytest.raises(SpecInvalid) as caught:
        parse_constraints(document)
    assert caught.value.field == field
    assert words in caught.value.message
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("24:00:00", 86400), ("1-00:00:00", 86400), ("1-12", 129600), ("1-12:30", 131400), ("5m", 300),
        ("1h30m", 5400), ("2d", 172800), ("90s", 90), (" 3600 ", 3600), (3600, 3600), ("100:00:00", 360000),
    ],
)  # fmt: skip
def test_durations(written, seconds):
    assert parse_duration(written, "walltime") == seconds


@pytest.mark.parametrize(
    "written", ["", "30:00", "1.5h", "h", "5 m", "-5m", "1:2:3", "24:60:00", "0s", "9" * 5000, None]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(SpecInvalid) as caught:
        parse_duration(written, "walltime")
    assert caught.value.field == "walltime"


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_every_spelling_of_a_duration_agrees(days, hours, minutes, seconds):
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    spellings = [f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}", f"{days}d{hours}h{minutes}m{seconds}s"]
    spellings += [f"{days * 24 + hours}:{minutes:02d}:{seconds:02d}", str(total)]
    assert [parse_duration(text, "x") for text in spellings] == [total] * 4


def test_every_constraint_is_listed_under_the_key_that_is_accepted():
    rows = [row for row in cluster_keys() if row.key.startswith("constraints.")]
    for row in rows:
        key = row.key.removeprefix("constraints.")
        assert parse_constraints({key: row.default}) == ClusterConstraints()
    assert len(rows) == len(ClusterConstraints.__struct_fields__)


@given(workloads, limits)
def test_no_more_arrays_are_ready_than_the_limit_and_their_throttles_keep_to_theirs(workload, constraints):
    """Whatever arrays have ended, in any order that their dependencies allow."""
    plan = compute_submission_plan(workload, constraints)
    asked = ResolvedResources({}, {}, {})
    entries = ledger_entries("r", PlannedRun(None, None, asked, plan, None))
    after = {entry["array"]: set(entry["after"]) for entry in entries if entry["array"] != "c0"}
    throttle = {entry["array"]: entry["max_running"] or 0 for entry in entries}
    ended, order = set(), random.Random(len(entries))
    while after.keys() - ended:
        ready = sorted(name for name in after.keys() - ended if after[name] <= ended)
        assert 0 < len(ready) <= constraints.max_concurrent_jobs
        assert sum(throttle[name] for name in ready) <= (workload.max_running or 0)
        ended.add(order.choice(ready))
