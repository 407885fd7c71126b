"""The simulator itself: workload logs, the model behind them, simulated time, and the rules of its scheduler."""

import gzip
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator import lublin, swf
from simulator.clock import Clock
from simulator.cluster import Cluster, Limits, Machine, Work
from simulator.swf import SwfJob

LOG = """; Version: 2.2
; Computer: nowhere
; MaxProcs: 64
;   a line of a note: with a colon
2 100 -1 50 4 -1 -1 4 600 -1 1 3 1 1 1 -1 -1 -1

1 20.5 3 10.25 1
3 90 5 -1 -1 -1 -1 -1 -1 -1 5 3 1 1 1 -1 -1 -1
no numbers here
7
4 200 0 30 -1 -1 -1 16 -1 -1 1 4 1 1 1 -1 -1 -1 99 99
5 nan 0 30 1
"""


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_a_log_is_read_as_the_archive_has_them(tmp_path, pack):
    """Unsorted, with -1, short and long lines, fractions, and lines that are no jobs."""
    path = tmp_path / "log.swf"
    path.write_bytes(pack(LOG.encode()))
    log = swf.read_swf(path)
    assert [job.number for job in log.jobs] == [1, 3, 2, 4]
    assert log.header["Computer"] == "nowhere"
    assert (log.max_procs, log.skipped) == (64, 3)
    assert [job.number for job in log.jobs if job.is_usable] == [1, 2, 4]
    first, _, second, last = log.jobs
    assert (first.submit, first.run, first.size, first.limit, first.user) == (20.5, 10.25, 1, 10.25, -1)
    assert (second.limit, second.user) == (600, 3)
    assert (last.size, last.limit) == (16, 30), "it was given an unknown number of processors, and asked for 16"


WHOLE = st.integers(-1, 10**6)
JOBS = st.lists(
    st.builds(SwfJob, WHOLE.filter(lambda n: n >= 0), *[WHOLE] * 17).map(
        lambda job: job._replace(submit=abs(job.submit))
    ),
    max_size=20,
)


@given(JOBS, st.sampled_from(["log.swf", "log.swf.gz"]))
def test_a_written_log_is_read_again(tmp_path_factory, jobs, name):
    path = tmp_path_factory.mktemp("swf") / name
    swf.write_swf(path, jobs, {"MaxProcs": "8"})
    found = swf.read_swf(path)
    assert Counter(found.jobs) == Counter(jobs)
    assert [job.submit for job in found.jobs] == sorted(job.submit for job in jobs)
    assert found.max_procs == 8


def test_the_model_has_the_shares_of_its_paper():
    jobs = list(lublin.workload(seed=1, procs=256, days=30))
    assert jobs == list(lublin.workload(seed=1, procs=256, days=30))
    assert jobs != list(lublin.workload(seed=2, procs=256, days=30))
    assert all(job.is_usable and job.size <= 256 and job.limit >= job.run for job in jobs)
    assert [job.submit for job in jobs] == sorted(job.submit for job in jobs)
    serial = sum(job.size == 1 for job in jobs) / len(jobs)
    powers = sum(job.size & (job.size - 1) == 0 for job in jobs) / len(jobs)
    assert 0.2 < serial < 0.3
    assert 0.8 <= powers < 0.95
    by_hour = Counter(int(job.submit // 3600) % 24 for job in jobs)
    assert by_hour[14] > 2 * by_hour[3], "people work at day"
    assert "model" in lublin.header(256, 1)["Computer"]


def test_programs_sleep_in_turn():
    clock, said = Clock(1000.0), []

    def program(name, pauses):
        for pause in pauses:
            clock.sleep(pause)
            said.append((name, clock.monotonic()))
        return name

    assert clock.run([lambda: program("a", [5, 5]), lambda: program("b", [3, 3, 3]), lambda: 1 / 0])[:2] == ["a", "b"]
    assert said == [("b", 3), ("a", 5), ("b", 6), ("b", 9), ("a", 10)]


def ends(cores, jobs, **machine):
    """Start (name -> time) of jobs (cores, limit, run) that are submitted together, in this order, and the cluster."""
    clock = Clock(0.0)
    cluster = Cluster(clock, Machine(nodes=1, cores=cores, interval_sec=1.0, **machine), Limits())
    started = {}
    for name, (width, limit, run) in jobs.items():

        def element(number, attempt, start, name=name, run=run):
            started[name] = start
            return run

        cluster.submit(Work(cluster.new_number(), width, limit, name=name, element=element))
    clock.run_until(1e5)
    return started


def test_back_fill_never_delays_the_first_job_that_waits():
    """At 101 "long" reaches its limit. Before, "short" ends, "late" would not, and "thin" fits beside "wide"."""
    jobs = {"long": (6, 100, 50), "wide": (8, 10, 10), "late": (4, 200, 5), "short": (4, 90, 9), "thin": (2, 500, 5)}
    started = ends(10, jobs)
    assert (started["long"], started["short"]) == (1, 1)
    assert started["wide"] == 52, "when long has ended, before its limit"
    assert started["thin"] < started["wide"] <= started["late"]


def test_a_later_job_that_would_delay_the_first_one_waits():
    started = ends(4, {"long": (3, 100, 100), "wide": (4, 10, 10), "greedy": (1, 200, 1), "modest": (1, 60, 60)})
    assert started["modest"] == 1
    assert started["wide"] == 102
    assert started["greedy"] >= 112


def test_an_array_waits_for_others_and_keeps_its_throttle():
    clock = Clock(0.0)
    cluster = Cluster(clock, Machine(nodes=2, cores=8, interval_sec=1.0), Limits())
    first = Work(cluster.new_number(), 1, 60, 10, "first", throttle=3, element=lambda *_: 30.0)
    job = cluster.submit(first)
    second = Work(cluster.new_number(), 1, 60, 10, "second", after=[job], element=lambda *_: 30.0)
    cluster.submit(second)
    clock.run_until(20)
    assert (len(first.running), len(second.running)) == (3, 0)
    clock.run_until(140)
    assert (first.left, len(second.running)) == (0, 10)
    assert cluster.most["ready"] == 1


@pytest.mark.parametrize("requeue", [True, False])
def test_what_a_failed_node_ran_is_run_again_or_told(requeue):
    clock = Clock(0.0)
    machine = Machine(
        nodes=4, cores=4, node_mtbf_sec=2000, repair_sec=100, requeue=requeue, accounting_late_sec=0, seed=3
    )
    cluster = Cluster(clock, machine, Limits())
    work = Work(cluster.new_number(), 1, 1000, 200, "a", element=lambda *_: 300.0, ended=lambda *_: None)
    cluster.submit(work)
    clock.run_until(50_000)
    failed = sum(stop - start for start, stop in cluster.ranges(work, 3))
    assert cluster.failures > 3
    assert work.left == 0
    assert (failed == 0, cluster.requeued > 0) == (requeue, requeue)
    assert cluster.submitted == cluster.running == cluster.jobs == 0


def test_the_jobs_of_a_log_all_run():
    """So many of a loaded machine that the queue is never empty."""
    clock, jobs = Clock(0.0), list(lublin.workload(seed=5, procs=64, days=0.5, load=3.0))
    cluster = Cluster(clock, Machine(nodes=8, cores=8), Limits(), jobs)
    clock.run_until(40 * 86400)
    assert cluster.others_started == len(jobs) > 100
    assert (cluster.pool.free, cluster.other_cores) == (64, 0)


def test_a_clairvoyant_uses_what_others_leave():
    clock = Clock(0.0)
    other = SwfJob(1, 0, run=100, procs=3, time_asked=100)
    cluster = Cluster(clock, Machine(nodes=1, cores=4, interval_sec=1.0), Limits(), [other])
    clock.run_until(500)
    # one core until 101 (the other job starts at 1, after a second with four), then four
    assert cluster.earliest_end(4 + 100 + 40, since=0.0) == pytest.approx(111.0)
